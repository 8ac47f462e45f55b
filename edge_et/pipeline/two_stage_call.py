"""The course of one call: which stages it goes through, with what prompts, and whether they fit.

In: a bundle's manifest, its speakers, a request and a deadline. Out: hint, extraction and thought.
Pictures, turns of callers and what is told to them are the pipeline's.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

from edge_et.bundle import HintSpec, Manifest
from edge_et.errors import PromptTooLongError
from edge_et.generation import Deadline, Speaker
from edge_et.image import ImageTokens
from edge_et.llm import ROW_GROUP, count_positions
from edge_et.pipeline.request import Request
from edge_et.results import (
    AnswerToken,
    Cut,
    Extraction,
    ExtractionToken,
    PhaseUsage,
    ReasoningToken,
    Thought,
)
from edge_et.stages import (
    PLACE,
    RESERVED_ANSWER_TOKENS,
    Hint,
    ReadAhead,
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
class Cast:
    """Who takes part.

    Attributes:
        perceiver: reads image tokens.
        reasoner: thinks, in a cache of its own; None lets the perceiver do it, behind stage 1.
        hinter: is asked for hints, in a cache of its own; None where the bundle has none written.
    """

    perceiver: Speaker
    reasoner: Speaker | None
    hinter: Speaker | None

    @property
    def thinker(self) -> Speaker:
        """Who runs stage 2."""
        return self.reasoner or self.perceiver


class Course:
    """One call on its way."""

    def __init__(
        self, manifest: Manifest, cast: Cast, request: Request, deadline: Deadline
    ) -> None:
        """Begin before the first stage.

        Args:
            manifest: prompts and budgets.
            cast: who takes part.
            request: what the caller wants.
            deadline: when the answer has to be there.
        """
        self._manifest = manifest
        self._cast = cast
        self._request = request
        self._deadline = deadline
        self._ahead: ReadAhead | None = None
        self._hurried = request.thinking.hurried(request.plain_sampling)
        self._was_late = False
        self._rest = self._rest_positions(request.thinking)

    def check_fits(self, image: ImageTokens) -> None:
        """Refuse a question before anything is evaluated if its stages may not fit.

        Args:
            image: the picture.

        Raises:
            PromptTooLongError: a context is too short for the prompts and budgets.
        """
        request, cast = self._request, self._cast
        asked = self._asks_for_hint()
        if asked is not None:
            hinter, spec = asked
            prompt = hint_prompt(hinter, spec, self._manifest.think, request.question)
            check_length(hinter, count_positions(prompt) + spec.max_hint_tokens)
        hint = "" if asked else self._given_hint()
        template = self._manifest.extract.prompt
        prompt = image_prompt(cast.perceiver, template, image, request.question, hint)
        first = count_positions(prompt) + request.extraction_tokens
        if asked is not None:
            first += asked[1].max_hint_tokens * template.count(PLACE)
        # Tokens of one model; the other may need some more, and is asked again in stage 2.
        second = max(
            self._rest + request.thinking.budget.thinking, self._rest_positions(self._hurried)
        )
        second += request.thinking.budget.answer
        second += request.extraction_tokens * request.thinking.template.count("{extraction}")
        if cast.reasoner is None:
            check_length(cast.perceiver, first + second)
        else:
            check_length(cast.perceiver, first)
            check_length(cast.reasoner, second)

    def find_hint(self) -> Hint:
        """Return what stage 1 is to pay attention to, asking for it if need be."""
        asked = self._asks_for_hint()
        if asked is None:
            return Hint(text=self._given_hint())
        hinter, spec = asked
        hint = ask_for_hint(
            hinter,
            spec,
            self._manifest.think,
            self._request.question,
            deadline=self._deadline,
            late=self._is_late,
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
        request, cast = self._request, self._cast
        template = self._manifest.extract.prompt
        prompt = image_prompt(cast.perceiver, template, image, request.question, hint.text)
        check_length(cast.perceiver, count_positions(prompt) + request.extraction_tokens)
        if read_ahead and cast.reasoner is not None:
            self._ahead = ReadAhead(
                cast.reasoner, request.thinking, request.question, self._deadline
            )
        extraction = yield from timed(
            extract(
                cast.perceiver,
                prompt,
                request.extraction_tokens,
                request.extract_sampling,
                deadline=self._deadline,
                late=self._is_late,
                ahead=self._ahead,
            )
        )
        return replace(extraction, hint=hint.text, cuts=(*hint.cuts, *extraction.cuts))

    def retell(self, text: str) -> Extraction:
        """Return an extraction from elsewhere as if stage 1 had written it, but for the picture.

        Args:
            text: without white space around it.
        """
        if self._cast.reasoner is not None:
            return Extraction(text=text, tokens=(), conversation=(), usage=PhaseUsage())
        hint = self._given_hint()
        conversation = told_conversation(
            self._cast.perceiver,
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
        request, speaker = self._request, self._cast.thinker
        thinking = request.thinking
        if self._was_late or self._is_late():
            thinking = self._hurried
        earlier = extraction.conversation if self._cast.reasoner is None else None
        prompt = thinking_prompt(speaker, thinking, request.question, extraction.text, earlier)
        check_length(speaker, count_positions(prompt) + thinking.positions(speaker.tokenizer))
        thought = yield from timed(think(speaker, prompt, thinking, self._deadline))
        if thinking is self._hurried and request.thinking.budget.thinking:
            thought = replace(thought, cuts=(Cut("think", "deadline"), *thought.cuts))
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
        speaker = self._cast.perceiver
        prompt = image_prompt(speaker, template, image, self._request.question)
        check_length(speaker, count_positions(prompt) + budget)

    def answer_at_once(
        self, image: ImageTokens, template: str, budget: int
    ) -> Generator[AnswerToken, None, Thought]:
        """Run the one-stage baseline.

        Args:
            image: the picture.
            template: the user's turn.
            budget: most tokens of the answer.
        """
        speaker, request = self._cast.perceiver, self._request
        prompt = image_prompt(speaker, template, image, request.question)
        return timed(
            answer_at_once(speaker, prompt, budget, request.plain_sampling, self._deadline)
        )

    def _asks_for_hint(self) -> tuple[Speaker, HintSpec] | None:
        """Return who is asked for a hint, and how; None where nobody has to be."""
        spec, hinter = self._manifest.extract.hint, self._cast.hinter
        placed = PLACE in self._manifest.extract.prompt
        if spec is None or hinter is None or self._request.hint is not None or not placed:
            return None
        return hinter, spec

    def _given_hint(self) -> str:
        hint = self._request.hint or self._request.question
        return fit_hint(self._manifest.extract.prompt, hint)

    def _rest_positions(self, thinking: Thinking) -> int:
        """Return the positions of stage 2 that have to be read, but for the extraction."""
        speaker = self._cast.thinker
        earlier = () if self._cast.reasoner is None else None
        prompt = thinking_prompt(speaker, thinking, self._request.question, "", earlier)
        return count_positions(prompt) + thinking.closing_positions(speaker.tokenizer)

    def _is_late(self) -> bool:
        """Return whether stage 2 has to begin now if it is to end in time.

        Time is kept to read the prompt of stage 2 but for the extraction, most of which was read
        ahead, and what closes thoughts, and to write some of the answer.
        """
        positions = self._rest + 2 * ROW_GROUP
        tokens = min(self._request.thinking.budget.answer, RESERVED_ANSWER_TOKENS)
        late = self._deadline.passed(self._cast.thinker.pace.needs(positions, tokens))
        self._was_late |= late
        return late


def check_length(speaker: Speaker, positions: int) -> None:
    """Refuse what a speaker's cache cannot hold.

    Args:
        speaker: whose cache.
        positions: the most that are needed.

    Raises:
        PromptTooLongError: the cache is too short.
    """
    if positions > speaker.context.context_length:
        raise PromptTooLongError(positions, speaker.context.context_length)
