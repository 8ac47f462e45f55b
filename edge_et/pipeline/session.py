"""Questions about one picture, or several, which are encoded once."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from edge_et.cancellation import CancelToken
from edge_et.image import ImageTokens
from edge_et.keywords import QuestionValues, with_options
from edge_et.pipeline.asynchronous import AsyncStream
from edge_et.pipeline.progress import OnProgress
from edge_et.pipeline.stream import Stream
from edge_et.results import Answer

if TYPE_CHECKING:
    from edge_et.pipeline.extract_think import ExtractThink


class Session:
    """Questions about one picture, or about several together.

    Attributes:
        images: the pictures, encoded.
    """

    def __init__(self, pipeline: "ExtractThink", images: Iterable[ImageTokens]) -> None:
        """Keep the pictures; `ExtractThink.session` encodes them.

        Args:
            pipeline: answers.
            images: the pictures, encoded by it, at least one.
        """
        self.images = tuple(images)
        self._pipeline = pipeline

    @property
    def image(self) -> ImageTokens:
        """The picture; of several, the first."""
        return self.images[0]

    @with_options
    def answer(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[QuestionValues],
    ) -> Answer:
        """Answer a question; see `ExtractThink.answer`."""
        return self._pipeline.answer(
            self.images,
            question,
            priority=priority,
            cancel=cancel,
            on_progress=on_progress,
            **options,
        )

    @with_options
    async def aanswer(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[QuestionValues],
    ) -> Answer:
        """Answer a question in an asyncio program; see `ExtractThink.aanswer`."""
        return await self._pipeline.aanswer(
            self.images,
            question,
            priority=priority,
            cancel=cancel,
            on_progress=on_progress,
            **options,
        )

    @with_options
    def stream(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[QuestionValues],
    ) -> Stream:
        """Answer a question and tell what happens meanwhile; see `ExtractThink.stream`."""
        return self._pipeline.stream(
            self.images, question, priority=priority, cancel=cancel, **options
        )

    @with_options
    def astream(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[QuestionValues],
    ) -> AsyncStream:
        """Do as `stream` does in an asyncio program; see `ExtractThink.astream`."""
        return self._pipeline.astream(
            self.images, question, priority=priority, cancel=cancel, **options
        )
