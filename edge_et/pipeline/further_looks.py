"""Further looks at a picture for what the reasoner misses in the extraction.

In: the picture's image tokens, and the extraction of the first look. Out: an extraction of all
looks. The picture is still in the perceiver's KV cache, if the prompt shows it first, so that
another look takes the rest of a prompt and what it writes; where the perceiver reasons too, it
reads in stage 2 what it wrote of all looks behind the first one's prompt.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from edge_et.bundle import Manifest
from edge_et.generation import Deadline, Watch
from edge_et.image import ImageTokens
from edge_et.llm import (
    Segment,
    common_prefix,
    count_positions,
    in_a_row,
    positions_of,
    to_segments,
    told_reply,
)
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.results import Extraction, ExtractionToken, PhaseUsage, StageEvent
from edge_et.stages import (
    BETWEEN_LOOKS,
    RESERVED_EXTRACTION_TOKENS,
    Hint,
    ask_for_missing,
    extract,
    extraction_prompt,
    fit_hint,
    missing_prompt,
    timed,
    with_further_look,
)


class FurtherLooks:
    """The looks of one call behind the first one."""

    def __init__(
        self,
        manifest: Manifest,
        models: Models,
        request: Request,
        deadline: Deadline,
        should_stop: Callable[[float], bool],
        watch: Watch | None,
    ) -> None:
        """Keep what they go by.

        Args:
            manifest: prompts and budgets.
            models: who takes part.
            request: what the caller wants; its pictures share a prompt.
            deadline: lends its clock.
            should_stop: says whether stage 2 has to begin if so many seconds are kept before it.
            watch: sees what is written of the picture; None: nobody does.
        """
        self._manifest = manifest
        self._models = models
        self._request = request
        self._deadline = deadline
        self._should_stop = should_stop
        self._watch = watch

    def take(
        self, images: Sequence[ImageTokens], hint: Hint, extraction: Extraction
    ) -> Generator[StageEvent, None, Extraction]:
        """Look again as long as the reasoner names a detail that was not looked for yet.

        Where there is no time to read another prompt and to write a short sentence, or the detail
        takes more room than there is, it is not looked again.

        Args:
            images: the pictures.
            hint: of the first look.
            extraction: of the first look.
        """
        asking = PhaseUsage()
        for _ in range(self._request.looks):
            missing = yield from timed(self._ask(images, hint, extraction))
            asking += missing.usage or PhaseUsage()
            if not missing.text or missing.text in extraction.details:
                break
            seen = yield from self._look(images, missing.text, hint, extraction)
            if seen is None:
                break
            extraction = with_further_look(extraction, seen, missing.text)
            if not seen.text:
                break
        if extraction.details and self._models.reasoner is None:
            extraction = replace(extraction, conversation=self._told(images, hint, extraction))
        return replace(extraction, asking=asking)

    def _ask(
        self, images: Sequence[ImageTokens], hint: Hint, extraction: Extraction
    ) -> Generator[StageEvent, None, Hint]:
        chat_model, think = self._models.thinking_model, self._manifest.think
        conversation = None
        if self._models.reasoner is None:
            conversation = extraction.conversation
            if extraction.details:
                conversation = self._told(images, hint, extraction)
        prompt = missing_prompt(
            chat_model, think, self._request.question, extraction.text, conversation
        )
        missing = chat_model.kv_cache.missing(prompt)
        if self._should_stop(chat_model.throughput.seconds_for(missing, 1)):
            return Hint(text="")
        return (
            yield from ask_for_missing(
                chat_model,
                prompt,
                think,
                deadline=self._deadline,
                should_stop=lambda: self._should_stop(0.0),
            )
        )

    def _look(
        self, images: Sequence[ImageTokens], detail: str, hint: Hint, extraction: Extraction
    ) -> Generator[StageEvent, None, Extraction | None]:
        """Return what is seen of a detail; None where there is no time or no room.

        Args:
            images: the pictures.
            detail: what is looked for.
            hint: of the first look.
            extraction: of the looks before.
        """
        chat_model, budget = self._models.perceiver, self._request.extraction_tokens
        looked_for = Hint(text=fit_hint(self._manifest.extract, detail))
        prompt = self._prompt(images, looked_for, about=detail)
        if count_positions(prompt) + budget > chat_model.kv_cache.context_length:
            return None
        missing, written = chat_model.kv_cache.missing(prompt), RESERVED_EXTRACTION_TOKENS
        look_s = chat_model.throughput.seconds_for(missing, min(budget, written))
        told_s = self._told_s(prompt, self._told(images, hint, extraction))
        if self._should_stop(look_s + told_s):
            return None
        yield ExtractionToken(BETWEEN_LOOKS)
        return (
            yield from timed(
                extract(
                    chat_model,
                    prompt,
                    budget,
                    self._request.extract_sampling,
                    deadline=self._deadline,
                    should_stop=lambda: self._should_stop(told_s),
                    watch=self._watch,
                )
            )
        )

    def _told_s(self, prompt: tuple[Segment, ...], told: tuple[Segment, ...]) -> float:
        """Return the seconds that stage 2 takes to read the conversation behind one more look.

        Args:
            prompt: of that look.
            told: the conversation of the looks before.
        """
        if self._models.reasoner is not None:
            return 0.0
        held = common_prefix(positions_of(prompt), positions_of(told))
        behind = count_positions(told) - held + self._request.extraction_tokens
        return self._models.perceiver.throughput.seconds_for(behind, 0)

    def _told(
        self, images: Sequence[ImageTokens], hint: Hint, extraction: Extraction
    ) -> tuple[Segment, ...]:
        """Return the conversation of the first look as if all looks had been written there."""
        chat_model = self._models.perceiver
        prompt = self._prompt(images, hint, about=self._request.question)
        said = to_segments(told_reply(chat_model.chat, extraction.text), chat_model.tokenizer)
        return (*prompt, *said)

    def _prompt(
        self, images: Sequence[ImageTokens], hint: Hint, *, about: str
    ) -> tuple[Segment, ...]:
        spec = self._manifest.extract
        question = self._request.question if spec.hint_places else about
        row = in_a_row(images, spec.between_pictures)
        return extraction_prompt(self._models.perceiver, spec, row, question, hint.text)
