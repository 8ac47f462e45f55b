"""One call, stage after stage: hint, extraction, thinking, answer; and whether they fit.

In: a bundle's manifest, its models, a request and a deadline. Out: hint, extraction and thought.
Pictures, callers and what is told to them are not known here.
"""

import copy
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Self

from edge_et.bundle import Manifest
from edge_et.generation import Deadline
from edge_et.image import Encoded, ImageTokens
from edge_et.llm import ROW_GROUP, count_positions
from edge_et.pipeline.context_fit import (
    asks_for_hint,
    check_fits,
    check_length,
    given_hint,
    stage_2_positions,
)
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.results import (
    Answer,
    Extraction,
    PhaseUsage,
    StageEvent,
    Thought,
)
from edge_et.stages import (
    Hint,
    IncrementalPrefill,
    answer_at_once,
    ask_for_hint,
    extract,
    fit_hint,
    image_prompt,
    think,
    thinking_prompt,
    timed,
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
        self.request = request
        self._deadline = deadline
        self._ahead: IncrementalPrefill | None = None
        self._without_thinking = request.thinking.without_thinking(request.plain_sampling)
        self._deadline_hit = False
        self._rest = stage_2_positions(models, request, request.thinking)
        self._answer_steps = request.thinking.answer_cost(models.thinking_model.tokenizer).steps

    def check_fits(self, image: ImageTokens) -> None:
        """Refuse the question before anything is evaluated; see `edge_et.pipeline.context_fit`.

        Args:
            image: the picture.

        Raises:
            PromptTooLongError: a context is too short for the prompts and budgets.
        """
        check_fits(self._manifest, self._models, self.request, image, self._rest)

    def using(self, models: Models) -> Self:
        """Return the call over models with other KV caches, which are its own from now on.

        Args:
            models: of the same bundle.
        """
        call = copy.copy(self)
        call._models = models
        return call

    def answer(self, image: Encoded) -> Generator[StageEvent, None, Answer]:
        """Run all stages, one after the other: hint, extraction, thinking and answer.

        Args:
            image: the picture, and what it took.
        """
        tokens, usage = image
        hint = yield from self.find_hint()
        extraction = yield from self.extract(tokens, hint, read_ahead=True)
        thought = yield from self.think(extraction)
        return complete_answer(usage, hint, extraction, thought)

    def extract_alone(self, image: Encoded) -> Generator[StageEvent, None, Extraction]:
        """Run the hint and stage 1.

        Args:
            image: as for `answer`.
        """
        hint = yield from self.find_hint()
        return (yield from self.extract(image[0], hint, read_ahead=False))

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
        return replace(hint, text=fit_hint(self._manifest.extract.prompt, hint.text))

    def extract(
        self, image: ImageTokens, hint: Hint, *, read_ahead: bool
    ) -> Generator[StageEvent, None, Extraction]:
        """Run stage 1.

        Args:
            image: the picture.
            hint: from `find_hint`.
            read_ahead: whether a reasoner of its own is to read what is written; stage 2 follows.
        """
        request, models = self.request, self._models
        template = self._manifest.extract.prompt
        prompt = image_prompt(models.perceiver, template, image, request.question, hint.text)
        check_length(models.perceiver, count_positions(prompt) + request.extraction_tokens)
        if read_ahead and models.reasoner is not None:
            self._ahead = IncrementalPrefill(
                models.reasoner, request.thinking, request.question, self._deadline
            )
        extraction = yield from timed(
            extract(
                models.perceiver,
                prompt,
                request.extraction_tokens,
                request.extract_sampling,
                deadline=self._deadline,
                should_stop=self._should_stop,
                ahead=self._ahead,
            )
        )
        reasons = extraction.finish_reasons
        if hint.finish_reason is not None:
            reasons = {"hint": hint.finish_reason, **reasons}
        return replace(extraction, hint=hint.text, finish_reasons=reasons)

    def retell(self, text: str) -> Extraction:
        """Return an extraction from elsewhere as if stage 1 had written it, but for the picture.

        Args:
            text: without white space around it.
        """
        if self._models.reasoner is not None:
            return Extraction(text=text, tokens=(), conversation=(), usage=PhaseUsage())
        hint = given_hint(self._manifest, self.request)
        conversation = told_conversation(
            self._models.perceiver,
            self._manifest.extract.prompt,
            self.request.question,
            hint,
            text,
        )
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
        thought = yield from timed(think(chat_model, prompt, thinking, self._deadline))
        if thinking is self._without_thinking and request.thinking.budget.thinking:
            thought = replace(
                thought, finish_reasons={**thought.finish_reasons, "think": "deadline"}
            )
        if self._ahead is None:
            return thought
        ahead, usage = self._ahead.evaluated, thought.usage
        usage = replace(
            usage,
            evaluated_tokens=usage.evaluated_tokens + ahead,
            reused_tokens=max(usage.reused_tokens - ahead, 0),
            overlapped_tokens=ahead,
        )
        return replace(thought, usage=usage)

    def answer_at_once(
        self, image: Encoded, template: str, budget: int
    ) -> Generator[StageEvent, None, Answer]:
        """Run the one-stage baseline.

        Args:
            image: as for `answer`.
            template: the user's turn.
            budget: most tokens of the answer.
        """
        chat_model, request = self._models.perceiver, self.request
        prompt = image_prompt(chat_model, template, image[0], request.question)
        thought = yield from timed(
            answer_at_once(
                chat_model,
                prompt,
                budget,
                request.plain_sampling,
                self._deadline,
                request.thinking.form,
            )
        )
        nothing = Extraction(text="", tokens=(), conversation=(), usage=PhaseUsage())
        return complete_answer(image[1], Hint(text=""), nothing, thought)

    def _should_stop(self) -> bool:
        """Return whether stage 2 has to begin now if it is to end in time.

        Time is kept to read the prompt of stage 2 but for the extraction, most of which was read
        ahead, and what closes thoughts, and to write some of the answer.
        """
        positions = self._rest + 2 * ROW_GROUP
        should_stop = self._deadline.passed(
            self._models.thinking_model.throughput.seconds_for(positions, self._answer_steps)
        )
        self._deadline_hit |= should_stop
        return should_stop


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
    return Answer(
        text=thought.answer,
        extraction=extraction.text,
        reasoning=thought.reasoning,
        usage={**usage, "extract": extraction.usage, "think": thought.usage},
        hint=extraction.hint,
        finish_reasons={**extraction.finish_reasons, **thought.finish_reasons},
        value=thought.value,
        shares=thought.shares,
    )
