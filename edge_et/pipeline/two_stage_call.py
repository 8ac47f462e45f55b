"""One call, stage after stage: hint, extraction, thinking, answer; and whether they fit.

In: a bundle's manifest, its models, a request and a deadline. Out: hint, extraction and thought.
Pictures, callers and what is told to them are not known here.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from edge_et.bundle import HintSpec, Manifest
from edge_et.errors import PromptTooLongError
from edge_et.generation import ChatModel, Deadline
from edge_et.image import ImageTokens
from edge_et.llm import ROW_GROUP, count_positions
from edge_et.pipeline.request import Request
from edge_et.results import (
    Answer,
    AnswerToken,
    Extraction,
    ExtractionToken,
    PhaseUsage,
    ReasoningToken,
    Thought,
)
from edge_et.stages import (
    HINT_PLACEHOLDER,
    RESERVED_ANSWER_TOKENS,
    Hint,
    IncrementalPrefill,
    Thinking,
    answer_at_once,
    ask_for_hint,
    extract,
    fit_hint,
    hint_prompt,
    image_prompt,
    think,
    thinking_prompt,
    timed,
    told_conversation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who takes part.

    Attributes:
        perceiver: reads image tokens.
        reasoner: thinks, in a cache of its own; None lets the perceiver do it, behind stage 1.
        hint_model: is asked for hints, in a cache of its own; None where the bundle has none
            written.
    """

    perceiver: ChatModel
    reasoner: ChatModel | None = None
    hint_model: ChatModel | None = None

    @property
    def thinking_model(self) -> ChatModel:
        """Who runs stage 2."""
        return self.reasoner or self.perceiver

    def forget(self) -> None:
        """Empty all caches."""
        for chat_model in (self.perceiver, self.reasoner, self.hint_model):
            if chat_model is not None:
                chat_model.forget()


class TwoStageCall:
    """One call on its way."""

    def __init__(
        self, manifest: Manifest, models: Models, request: Request, deadline: Deadline
    ) -> None:
        """Begin before the first stage.

        Args:
            manifest: prompts and budgets.
            models: who takes part.
            request: what the caller wants.
            deadline: when the answer has to be there.
        """
        self._manifest = manifest
        self._models = models
        self._request = request
        self._deadline = deadline
        self._ahead: IncrementalPrefill | None = None
        self._without_thinking = request.thinking.without_thinking(request.plain_sampling)
        self._deadline_hit = False
        self._rest = self._rest_positions(request.thinking)

    def check_fits(self, image: ImageTokens) -> None:
        """Refuse a question before anything is evaluated if its stages may not fit.

        Args:
            image: the picture.

        Raises:
            PromptTooLongError: a context is too short for the prompts and budgets.
        """
        request, models = self._request, self._models
        asked = self._asks_for_hint()
        if asked is not None:
            hint_model, spec = asked
            prompt = hint_prompt(hint_model, spec, self._manifest.think, request.question)
            check_length(hint_model, count_positions(prompt) + spec.max_hint_tokens)
        hint = "" if asked else self._given_hint()
        template = self._manifest.extract.prompt
        prompt = image_prompt(models.perceiver, template, image, request.question, hint)
        first = count_positions(prompt) + request.extraction_tokens
        if asked is not None:
            first += asked[1].max_hint_tokens * template.count(HINT_PLACEHOLDER)
        # Tokens of one model; the other may need some more, and is asked again in stage 2.
        second = max(
            self._rest + request.thinking.budget.thinking,
            self._rest_positions(self._without_thinking),
        )
        second += request.thinking.budget.answer
        second += request.extraction_tokens * request.thinking.template.count("{extraction}")
        if models.reasoner is None:
            check_length(models.perceiver, first + second)
        else:
            check_length(models.perceiver, first)
            check_length(models.reasoner, second)

    def run(
        self, image: ImageTokens
    ) -> Generator[
        ExtractionToken | ReasoningToken | AnswerToken, None, tuple[Hint, Extraction, Thought]
    ]:
        """Run all stages, one after the other: hint, extraction, thinking and answer.

        Args:
            image: the picture.
        """
        hint = self.find_hint()
        extraction = yield from self.extract(image, hint, read_ahead=True)
        thought = yield from self.think(extraction)
        return hint, extraction, thought

    def find_hint(self) -> Hint:
        """Return what stage 1 is to pay attention to, asking for it if need be."""
        asked = self._asks_for_hint()
        if asked is None:
            return Hint(text=self._given_hint())
        hint_model, spec = asked
        hint = ask_for_hint(
            hint_model,
            spec,
            self._manifest.think,
            self._request.question,
            deadline=self._deadline,
            should_stop=self._should_stop,
        )
        return replace(hint, text=fit_hint(self._manifest.extract.prompt, hint.text))

    def extract(
        self, image: ImageTokens, hint: Hint, *, read_ahead: bool
    ) -> Generator[ExtractionToken, None, Extraction]:
        """Run stage 1.

        Args:
            image: the picture.
            hint: from `find_hint`.
            read_ahead: whether a reasoner of its own is to read what is written; stage 2 follows.
        """
        request, models = self._request, self._models
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
        hint = self._given_hint()
        conversation = told_conversation(
            self._models.perceiver,
            self._manifest.extract.prompt,
            self._request.question,
            hint,
            text,
        )
        return Extraction(
            text=text, tokens=(), conversation=conversation, usage=PhaseUsage(), hint=hint
        )

    def think(
        self, extraction: Extraction
    ) -> Generator[ReasoningToken | AnswerToken, None, Thought]:
        """Run stage 2; without thinking if the time is up.

        Args:
            extraction: what stage 1 wrote.

        Raises:
            PromptTooLongError: extraction, prompts and budgets do not fit.
        """
        request, chat_model = self._request, self._models.thinking_model
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

    def check_fits_at_once(self, image: ImageTokens, template: str, budget: int) -> None:
        """Refuse a question for the one-stage baseline before anything is evaluated.

        Args:
            image: the picture.
            template: the user's turn.
            budget: most tokens of the answer.

        Raises:
            PromptTooLongError: prompt and budget do not fit.
        """
        chat_model = self._models.perceiver
        prompt = image_prompt(chat_model, template, image, self._request.question)
        check_length(chat_model, count_positions(prompt) + budget)

    def answer_at_once(
        self, image: ImageTokens, template: str, budget: int
    ) -> Generator[AnswerToken, None, Thought]:
        """Run the one-stage baseline.

        Args:
            image: the picture.
            template: the user's turn.
            budget: most tokens of the answer.
        """
        chat_model, request = self._models.perceiver, self._request
        prompt = image_prompt(chat_model, template, image, request.question)
        return timed(
            answer_at_once(chat_model, prompt, budget, request.plain_sampling, self._deadline)
        )

    def _asks_for_hint(self) -> tuple[ChatModel, HintSpec] | None:
        """Return who is asked for a hint, and how; None where nobody has to be."""
        spec, hint_model = self._manifest.extract.hint, self._models.hint_model
        placed = HINT_PLACEHOLDER in self._manifest.extract.prompt
        if spec is None or hint_model is None or self._request.hint is not None or not placed:
            return None
        return hint_model, spec

    def _given_hint(self) -> str:
        hint = self._request.hint or self._request.question
        return fit_hint(self._manifest.extract.prompt, hint)

    def _rest_positions(self, thinking: Thinking) -> int:
        """Return the positions of stage 2 that have to be read, but for the extraction."""
        chat_model = self._models.thinking_model
        earlier = () if self._models.reasoner is None else None
        prompt = thinking_prompt(chat_model, thinking, self._request.question, "", earlier)
        return count_positions(prompt) + thinking.closing_positions(chat_model.tokenizer)

    def _should_stop(self) -> bool:
        """Return whether stage 2 has to begin now if it is to end in time.

        Time is kept to read the prompt of stage 2 but for the extraction, most of which was read
        ahead, and what closes thoughts, and to write some of the answer.
        """
        positions = self._rest + 2 * ROW_GROUP
        tokens = min(self._request.thinking.budget.answer, RESERVED_ANSWER_TOKENS)
        should_stop = self._deadline.passed(
            self._models.thinking_model.throughput.seconds_for(positions, tokens)
        )
        self._deadline_hit |= should_stop
        return should_stop


def check_length(chat_model: ChatModel, positions: int) -> None:
    """Refuse what a chat model's cache cannot hold.

    Args:
        chat_model: whose cache.
        positions: the most that are needed.

    Raises:
        PromptTooLongError: the cache is too short.
    """
    if positions > chat_model.kv_cache.context_length:
        raise PromptTooLongError(positions, chat_model.kv_cache.context_length)


def complete_answer(
    usage: Mapping[str, PhaseUsage], extraction: Extraction, thought: Thought
) -> Answer:
    """Put the outcomes of both stages together.

    Args:
        usage: of what came before the stages.
        extraction: of stage 1.
        thought: of stage 2.
    """
    return Answer(
        text=thought.answer,
        extraction=extraction.text,
        reasoning=thought.reasoning,
        usage={**usage, "extract": extraction.usage, "think": thought.usage},
        hint=extraction.hint,
        finish_reasons={**extraction.finish_reasons, **thought.finish_reasons},
    )
