"""One call, stage after stage: hint, extraction, thinking, answer; and whether they fit.

In: a bundle's manifest, its models, a request and a deadline. Out: hint, extraction and thought.
Pictures, callers and what is told to them are not known here.
"""

import copy
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from edge_et.bundle import Manifest
from edge_et.generation import Deadline, Watch
from edge_et.image import EncodedImages, ImageTokens
from edge_et.llm import ROW_GROUP, Segment, count_positions, in_a_row
from edge_et.pipeline.context_fit import (
    asks_for_hint,
    check_fits,
    check_fits_at_once,
    check_length,
    given_hint,
    stage_2_positions,
    with_lower_budget,
)
from edge_et.pipeline.control import Written, without_extraction, without_picture
from edge_et.pipeline.further_looks import FurtherLooks
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.results import (
    Answer,
    Extraction,
    ExtractionToken,
    PhaseUsage,
    StageEvent,
    Thought,
)
from edge_et.stages import (
    RESERVED_EXTRACTION_TOKENS,
    Hint,
    answer_at_once,
    ask_for_hint,
    confidence_of,
    extract,
    extract_each,
    extraction_prompt,
    fit_hint,
    image_prompt,
    think,
    thinking_prompt,
    timed,
    told_alone,
    told_conversation,
)


class TwoStageCall:
    """One call on its way.

    Attributes:
        request: what the caller wants.
    """

    def __init__(
        self, manifest: Manifest, models: Models, request: Request, deadline: Deadline
    ) -> None:
        """Begin before the first stage.

        Args:
            manifest: prompts and budgets.
            models: who takes part; see `using`.
            request: what the caller wants.
            deadline: when the answer has to be there.
        """
        self._manifest = manifest
        self._models = models
        self._deadline = deadline
        self._written = 0
        self._without_thinking = request.thinking.without_thinking(request.plain_sampling)
        self._deadline_hit = False
        self._rest = stage_2_positions(manifest, models, request, request.thinking)
        self.request = with_lower_budget(manifest, models, request, self._rest)
        self._answer_steps = request.thinking.answer_cost(models.thinking_model.tokenizer).steps

    def check_fits(self, images: Sequence[ImageTokens]) -> None:
        """Refuse the question before anything is evaluated; see `edge_et.pipeline.context_fit`.

        Args:
            images: the picture; of several, those up to the one that is asked about.

        Raises:
            PromptTooLongError: a context is too short for the prompts and budgets.
        """
        in_prompt = images[-1:] if self.request.are_apart else images
        check_fits(self._manifest, self._models, self.request, in_prompt, self._rest)

    def check_fits_at_once(self, image: ImageTokens, template: str, budget: int) -> None:
        """Refuse the question for the one-stage baseline before anything is evaluated.

        Args:
            image: the picture.
            template: the user's turn.
            budget: most tokens of the answer.

        Raises:
            PromptTooLongError: prompt and budget do not fit.
        """
        check_fits_at_once(self._models, self.request, image, template, budget)

    def using(self, models: Models) -> Self:
        """Return the call over models with other KV caches, which are its own from now on.

        Args:
            models: of the same bundle.
        """
        call = copy.copy(self)
        call._models = models
        return call

    def answer(self, images: EncodedImages) -> Generator[StageEvent, None, Answer]:
        """Run all stages, one after the other: hint, extraction, thinking and answer.

        Args:
            images: the pictures, and what they took.
        """
        tokens, usage = images
        hint = yield from self.find_hint()
        extraction = yield from self.extract(tokens, hint)
        thought = yield from self.think(extraction)
        return complete_answer(usage, hint, extraction, thought)

    def extract_alone(self, images: EncodedImages) -> Generator[StageEvent, None, Extraction]:
        """Run the hint and stage 1.

        Args:
            images: as for `answer`.
        """
        hint = yield from self.find_hint()
        return (yield from self.extract(images[0], hint))

    def find_hint(self) -> Generator[StageEvent, None, Hint]:
        """Return what stage 1 is to pay attention to, asking for it if need be."""
        asked = asks_for_hint(self._manifest, self._models, self.request)
        if asked is None:
            return Hint(text=given_hint(self._manifest, self.request))
        hint_model, spec = asked
        hint = yield from timed(
            ask_for_hint(
                hint_model,
                spec,
                self._manifest.think,
                self.request.question,
                deadline=self._deadline,
                should_stop=self._should_stop,
            )
        )
        return replace(hint, text=fit_hint(self._manifest.extract, hint.text))

    def extract(
        self, images: Sequence[ImageTokens], hint: Hint
    ) -> Generator[StageEvent, None, Extraction]:
        """Run stage 1.

        Args:
            images: the pictures.
            hint: from `find_hint`.
        """
        extract = self._extract_each if self.request.are_apart else self._extract_together
        watch = self.request.new_watch()
        extraction = yield from self._counted(extract(images, hint, watch))
        if self.request.looks and extraction.finish_reasons["extract"] != "deadline":
            looks = self._further_looks(images, hint, extraction, watch)
            extraction = yield from self._counted(looks)
        reasons = extraction.finish_reasons
        if hint.finish_reason is not None:
            reasons = {"hint": hint.finish_reason, **reasons}
        certainty = None if watch is None else watch.certainties.get("extract")
        return replace(extraction, hint=hint.text, finish_reasons=reasons, certainty=certainty)

    def _extract_together(
        self, images: Sequence[ImageTokens], hint: Hint, watch: Watch | None
    ) -> Generator[StageEvent, None, Extraction]:
        extraction = yield from timed(
            extract(
                self._models.perceiver,
                self._stage_1_prompt(images, hint),
                self.request.extraction_tokens,
                self.request.extract_sampling,
                deadline=self._deadline,
                should_stop=self._should_stop,
                watch=watch,
            )
        )
        usage = replace(extraction.usage, pictures=len(images))
        extraction = replace(extraction, usage=usage)
        return replace(extraction, extractions=(told_alone(extraction),))

    def _further_looks(
        self,
        images: Sequence[ImageTokens],
        hint: Hint,
        extraction: Extraction,
        watch: Watch | None,
    ) -> Generator[StageEvent, None, Extraction]:
        looks = FurtherLooks(
            self._manifest, self._models, self.request, self._deadline, self._should_stop, watch
        )
        return (yield from looks.take(images, hint, extraction))

    def _extract_each(
        self, images: Sequence[ImageTokens], hint: Hint, watch: Watch | None
    ) -> Generator[StageEvent, None, Extraction]:
        extraction = yield from extract_each(
            self._models.perceiver,
            [self._stage_1_prompt([image], hint) for image in images],
            self.request.extraction_tokens,
            self.request.extract_sampling,
            self._manifest.think.pictures,
            deadline=self._deadline,
            seconds_left=lambda: self._deadline.seconds_left() - self._stage_2_s(),
            should_stop=self._should_stop,
            watch=watch,
        )
        return replace(extraction, conversation=self._told(extraction.text, hint.text))

    def _counted(
        self, events: Generator[StageEvent, None, Extraction]
    ) -> Generator[StageEvent, None, Extraction]:
        """Pass stage 1 on, and count the tokens that it writes."""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                extraction: Extraction = end.value
                return extraction
            self._written += isinstance(event, ExtractionToken)
            yield event

    def _stage_1_prompt(self, images: Sequence[ImageTokens], hint: Hint) -> tuple[Segment, ...]:
        chat_model, spec = self._models.perceiver, self._manifest.extract
        row = in_a_row(images, spec.between_pictures)
        prompt = extraction_prompt(chat_model, spec, row, self.request.question, hint.text)
        check_length(chat_model, count_positions(prompt) + self.request.extraction_tokens)
        return prompt

    def _told(self, text: str, hint: str) -> tuple[Segment, ...]:
        """Return a conversation without pictures that holds an extraction; none where none is."""
        if self._models.reasoner is not None:
            return ()
        spec = self._manifest.extract
        return told_conversation(self._models.perceiver, spec, self.request.question, hint, text)

    def retell(self, text: str) -> Extraction:
        """Return an extraction from elsewhere as if stage 1 had written it, but for the picture.

        Args:
            text: without white space around it.
        """
        hint = "" if self._models.reasoner else given_hint(self._manifest, self.request)
        conversation = self._told(text, hint)
        return Extraction(
            text=text, tokens=(), conversation=conversation, usage=PhaseUsage(), hint=hint
        )

    def think(self, extraction: Extraction) -> Generator[StageEvent, None, Thought]:
        """Run stage 2; without thinking if the time is up.

        Args:
            extraction: what stage 1 wrote.

        Raises:
            PromptTooLongError: extraction, prompts and budgets do not fit.
        """
        request, chat_model = self.request, self._models.thinking_model
        thinking = request.thinking
        if self._deadline_hit or self._should_stop():
            thinking = self._without_thinking
        earlier = extraction.conversation if self._models.reasoner is None else None
        prompt = thinking_prompt(chat_model, thinking, request.question, extraction.text, earlier)
        check_length(chat_model, count_positions(prompt) + thinking.positions(chat_model.tokenizer))
        watch = request.new_watch()
        thought = yield from timed(think(chat_model, prompt, thinking, self._deadline, watch))
        if thinking is self._without_thinking and request.thinking.budget.thinking:
            thought = replace(
                thought, finish_reasons={**thought.finish_reasons, "think": "deadline"}
            )
        if watch is None:
            return thought
        told = None if self._models.reasoner else self._told("", extraction.hint)
        written = Written(shown=earlier or (), watch=watch, answer=thought.answer)
        control = yield from without_extraction(
            chat_model, request, self._without_thinking, told, written, self._deadline
        )
        sure = confidence_of(thought, watch, extraction.certainty, control)
        return replace(thought, confidence=sure)

    def rethink(self, extraction: Extraction) -> Generator[StageEvent, None, Answer]:
        """Run stage 2 on an extraction from elsewhere.

        Args:
            extraction: from `retell`.
        """
        thought = yield from self.think(extraction)
        usage = {"image": PhaseUsage(), "vision": PhaseUsage()}
        return complete_answer(usage, Hint(text=extraction.hint), extraction, thought)

    def answer_at_once(
        self, images: EncodedImages, template: str, budget: int
    ) -> Generator[StageEvent, None, Answer]:
        """Run the one-stage baseline.

        Args:
            images: as for `answer`; one picture.
            template: the user's turn.
            budget: most tokens of the answer.
        """
        chat_model, request = self._models.perceiver, self.request
        prompt = image_prompt(chat_model, template, images[0], request.question)
        thought = yield from timed(
            answer_at_once(
                chat_model,
                prompt,
                budget,
                request.plain_sampling,
                self._deadline,
                request.form,
                request.thinking.free,
                watch := request.new_watch(),
            )
        )
        if watch is not None:
            written = Written(shown=prompt, watch=watch, answer=thought.answer)
            control = yield from without_picture(
                chat_model, request, template, budget, written, self._deadline
            )
            thought = replace(thought, confidence=confidence_of(thought, watch, control=control))
        nothing = Extraction(text="", tokens=(), conversation=(), usage=PhaseUsage())
        return complete_answer(images[1], Hint(text=""), nothing, thought)

    def _should_stop(self, kept_s: float = 0.0) -> bool:
        """Return whether stage 2 has to begin now if it is to end in time.

        Args:
            kept_s: seconds that are kept for what else comes before stage 2.
        """
        stage_2_s = self._stage_2_s()
        self._deadline_hit |= self._deadline.passed(stage_2_s)
        return self._deadline.passed(stage_2_s + kept_s)

    def _stage_2_s(self) -> float:
        """Return the seconds that are kept for stage 2.

        They are to read its prompt, with what is written of the extraction by now where a reasoner
        of its own reads it, and what closes thoughts, and to write some of the answer. What is told
        anew of several pictures is taken to be as long as the time that is kept for each allows,
        and as much around it.
        """
        positions = self._rest + 2 * ROW_GROUP
        if self._models.reasoner is not None:
            positions += self._written
        if self.request.are_apart and self._models.reasoner is None:
            each = min(self.request.extraction_tokens, RESERVED_EXTRACTION_TOKENS)
            positions += 2 * each * self.request.pictures
        return self._models.stage_2_seconds(positions, self._answer_steps)


def complete_answer(
    usage: Mapping[str, PhaseUsage], hint: Hint, extraction: Extraction, thought: Thought
) -> Answer:
    """Put the outcomes of both stages together.

    Args:
        usage: of what came before the stages.
        hint: what stage 1 was to pay attention to.
        extraction: of stage 1.
        thought: of stage 2.
    """
    if hint.usage is not None:
        usage = {**usage, "hint": hint.usage}
    if extraction.asking is not None:
        usage = {**usage, "look_again": extraction.asking}
    return Answer(
        text=thought.answer,
        extraction=extraction.text,
        reasoning=thought.reasoning,
        usage={**usage, "extract": extraction.usage, "think": thought.usage},
        hint=extraction.hint,
        finish_reasons={**extraction.finish_reasons, **thought.finish_reasons},
        extractions=extraction.extractions,
        value=thought.value,
        shares=thought.shares,
        logprobs=thought.logprobs,
        details=extraction.details,
        confidence=thought.confidence,
    )
