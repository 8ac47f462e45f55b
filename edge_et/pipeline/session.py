"""Questions about one picture, which is encoded once."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from edge_et.image import ImageTokens
from edge_et.options import AnswerKind
from edge_et.results import Answer, Event

if TYPE_CHECKING:
    from edge_et.pipeline.extract_think import ExtractThink


class Session:
    """Questions about one picture."""

    def __init__(self, pipeline: "ExtractThink", image: ImageTokens) -> None:
        """Keep the picture; `ExtractThink.session` encodes it.

        Args:
            pipeline: answers.
            image: the picture, encoded by it.
        """
        self.image = image
        self._pipeline = pipeline

    def answer(
        self,
        question: str,
        *,
        max_extraction_tokens: int | None = None,
        max_thinking_tokens: int | None = None,
        max_answer_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        hint: str | None = None,
        thinking: bool | None = None,
        deadline_s: float | None = None,
        choices: Sequence[str] | None = None,
        kind: AnswerKind | None = None,
        schema: Any = None,
    ) -> Answer:
        """Answer a question; see `ExtractThink.answer`."""
        return self._pipeline.answer(
            self.image,
            question,
            max_extraction_tokens=max_extraction_tokens,
            max_thinking_tokens=max_thinking_tokens,
            max_answer_tokens=max_answer_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            hint=hint,
            thinking=thinking,
            deadline_s=deadline_s,
            choices=choices,
            kind=kind,
            schema=schema,
        )

    def stream(
        self,
        question: str,
        *,
        max_extraction_tokens: int | None = None,
        max_thinking_tokens: int | None = None,
        max_answer_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        hint: str | None = None,
        thinking: bool | None = None,
        deadline_s: float | None = None,
        choices: Sequence[str] | None = None,
        kind: AnswerKind | None = None,
        schema: Any = None,
    ) -> Generator[Event, None, None]:
        """Answer a question and tell what happens meanwhile; see `ExtractThink.stream`."""
        return self._pipeline.stream(
            self.image,
            question,
            max_extraction_tokens=max_extraction_tokens,
            max_thinking_tokens=max_thinking_tokens,
            max_answer_tokens=max_answer_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            hint=hint,
            thinking=thinking,
            deadline_s=deadline_s,
            choices=choices,
            kind=kind,
            schema=schema,
        )
