"""The pipeline: pictures and a question in, events and an answer out.

It holds an image encoder and one or more contexts of one or two chat models, and lets calls use
them. How models are opened is not known here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter
from typing import Self, Unpack

from edge_et.bundle import Bundle, Manifest
from edge_et.cancellation import CancelToken
from edge_et.generation import Clock
from edge_et.image import (
    DEFAULT_IMAGE_LIMITS,
    AnyImage,
    AnyImages,
    ImageEncoder,
    ImageLimits,
    ImageSource,
    ImageTokens,
    Tower,
    list_pictures,
)
from edge_et.keywords import OptionValues, with_options
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WAITING,
    parse_options,
)
from edge_et.pipeline.asynchronous import AsyncStream
from edge_et.pipeline.context_fit import check_alone
from edge_et.pipeline.image_cost import Calibration, ImageCost, image_cost
from edge_et.pipeline.job import Jobs
from edge_et.pipeline.memory_plan import MemoryPlan
from edge_et.pipeline.model_pool import ModelPool
from edge_et.pipeline.models import Models
from edge_et.pipeline.progress import OnProgress
from edge_et.pipeline.runner import Caller, Runner
from edge_et.pipeline.scheduler import Scheduler
from edge_et.pipeline.session import Session
from edge_et.pipeline.stream import Stream
from edge_et.pipeline.text_session import TextSession
from edge_et.results import Answer, Extraction, Thought
from edge_et.store import Snapshots


class ExtractThink:
    """A loaded bundle. Any number of threads may share it; see `edge_et.pipeline.scheduler`."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        tower: Tower,
        contexts: Sequence[Models],
        bundle: Bundle | None = None,
        resources: AbstractContextManager[object] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
        image_limits: ImageLimits = DEFAULT_IMAGE_LIMITS,
        max_waiting: int = DEFAULT_MAX_WAITING,
        snapshots: Snapshots | None = None,
        memory_plan: MemoryPlan | None = None,
        after_answer: Callable[[], object] | None = None,
        clock: Clock = perf_counter,
    ) -> None:
        """Put the parts together; `edge_et.load` does it for a bundle.

        Args:
            manifest: prompts, budgets and image processing.
            tower: makes image tokens.
            contexts: read them, think, and are asked for hints; as many as calls may be inside.
            bundle: where it all comes from.
            resources: left when the pipeline is closed.
            max_pixels: most pixels of a picture.
            image_cache_bytes: most bytes of image tokens that are remembered.
            image_limits: for the pictures of one question.
            max_waiting: most calls that wait to get inside.
            snapshots: what is kept on disk; None: nothing is.
            memory_plan: how it was opened within `max_memory_bytes`; None: there was no limit.
            after_answer: is called behind every call; None: nothing is.
            clock: tells the time for deadlines.
        """
        self.bundle = bundle
        self.memory_plan = memory_plan
        self._encoder = ImageEncoder(
            manifest.vision,
            tower,
            max_pixels=max_pixels,
            cache_bytes=image_cache_bytes,
            snapshots=snapshots,
        )
        self._snapshots, self._limits = snapshots, image_limits
        self._models = contexts[0]  # for questions that all contexts answer alike
        self._jobs = Jobs(manifest, contexts[0], image_limits, clock)
        self._resources = resources
        self._scheduler = Scheduler(len(contexts), max_waiting)
        self._runner = Runner(
            self._scheduler,
            self._encoder,
            ModelPool(contexts),
            snapshots,
            after_answer,
        )

    @property
    def manifest(self) -> Manifest:
        """Prompts and budgets.

        Calls of this object that begin later go by another one that is set; a copy of it (`copy`)
        may have one of its own.
        """
        return self._jobs.manifest

    @manifest.setter
    def manifest(self, manifest: Manifest) -> None:
        self._jobs = self._jobs.going_by(manifest)

    @with_options
    def answer(
        self,
        image: AnyImages,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[OptionValues],
    ) -> Answer:
        """Answer a question about a picture.

        Args:
            image: as for `edge_et.answer`; or what `encode_image` returned, also in a list.
            question: one or more sentences.
            priority: calls of a higher one go first, between two steps of this one too where the
                bundle was loaded with more contexts than one.
            cancel: ends the call when it is cancelled, by another thread or a signal handler.
            on_progress: is called with `edge_et.Progress`, before every tile, batch of a prompt,
                and eighth token. What it raises ends the call.
            options: as for `edge_et.answer`.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: the question is empty, or an option is wrong.
            PromptTooLongError: picture and question do not fit into the context with all budgets.
            DecodeError: the language model failed.
            VisionRunError: the vision tower failed.
            CancelledError: the call was cancelled; the pipeline is as if it had not begun, but for
                what it has read of the picture.
            QueueFullError: too many calls wait already.
            BusyError: a stream is unfinished, and nobody continues it.
            ClosedError: the pipeline was closed.
            ForkedError: the pipeline was opened before this process was forked.
        """
        caller = Caller(priority=priority, cancel=cancel, on_progress=on_progress)
        return self._runner.run(self._jobs.answer(image, question, options), caller)

    @with_options
    async def aanswer(
        self,
        image: AnyImages,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[OptionValues],
    ) -> Answer:
        """Answer a question about a picture in an asyncio program, whose loop goes on meanwhile.

        A task that is cancelled ends the call. `on_progress` is called by the loop's thread, and
        what it raises is told to the loop. All else is as for `answer`.

        Raises:
            EdgeETError: as for `answer`.
            asyncio.CancelledError: the task was cancelled.
        """
        caller = Caller(priority=priority, cancel=cancel, on_progress=on_progress)
        return await self._runner.run_async(self._jobs.answer(image, question, options), caller)

    @with_options
    def stream(
        self,
        image: AnyImages,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[OptionValues],
    ) -> Stream:
        """Answer a question about a picture, and tell what happens meanwhile.

        Nothing runs before the first event is asked for. Any thread may go on with the stream, or
        close it at any moment. Until it is exhausted, closed or forgotten it has one context of
        the pipeline; where there is no other, further calls wait. Arguments are those of `answer`.

        Returns:
            How far it is, and the text of the extraction, of the reasoning and of the answer as it
            is written; last the `Answer`.

        Raises:
            EdgeETError: as for `answer`; those about arguments come at once, others on the way.
        """
        caller = Caller(priority=priority, cancel=cancel)
        return self._runner.stream(self._jobs.answer(image, question, options), caller)

    @with_options
    def astream(
        self,
        image: AnyImages,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[OptionValues],
    ) -> AsyncStream:
        """Do as `stream` does in an asyncio program, for ``async for``.

        A task that is cancelled while it waits for an event ends the call. A stream that is left
        early ends with its ``aclose()``, or the block of ``async with``.

        Raises:
            EdgeETError: as for `stream`.
        """
        caller = Caller(priority=priority, cancel=cancel)
        return self._runner.stream_async(self._jobs.answer(image, question, options), caller)

    def session(
        self, image: AnyImages, *, max_tiles: int | None = None, pooling: int | None = None
    ) -> Session:
        """Encode a picture, or several, for several questions.

        Args:
            image: as for `answer`.
            max_tiles: most tiles of the picture; None is the bundle's default.
            pooling: 2 makes blocks of 2x2 of a tile's tokens one; None is the bundle's default.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        return Session(self, self._encode(list_pictures(image, self._limits), max_tiles, pooling))

    def text_session(self, extraction: str | None = None) -> TextSession:
        """Return what answers questions without a picture; nothing is read for that yet.

        Where one model does both stages in one cache, such a question takes the picture's place.

        Args:
            extraction: what stage 2 reads, as in `rethink`; None: the question is all there is.
        """
        return TextSession(self._runner, self._jobs, extraction)

    def encode_image(
        self, image: AnyImage, *, max_tiles: int | None = None, pooling: int | None = None
    ) -> ImageTokens:
        """Turn a picture into image tokens, which can be used instead of it from then on.

        Args:
            image: as for `answer`, but one.
            max_tiles: as for `session`.
            pooling: as for `session`.

        Raises:
            PromptTooLongError: the picture alone fills the context.
            EdgeETError: as for `answer`.
        """
        return self._encode((image,), max_tiles, pooling)[0]

    def image_cost(
        self,
        image: ImageSource,
        calibration: Calibration | None = None,
        *,
        max_tiles: int | None = None,
        pooling: int | None = None,
    ) -> ImageCost:
        """Tell what a picture would cost; no model runs.

        Args:
            image: a picture that is not encoded yet.
            calibration: from `edge_et.pipeline.measure`; None: seconds are not estimated.
            max_tiles: as for `session`.
            pooling: as for `session`.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        self._scheduler.check()
        options = parse_options({"max_tiles": max_tiles, "pooling": pooling})
        plan, cache = self._encoder.plan(image, options), self._models.perceiver.kv_cache
        return image_cost(plan, cache.shape, cache.kv_type, calibration)

    @with_options
    def extract(
        self, image: AnyImages, question: str, **options: Unpack[OptionValues]
    ) -> Extraction:
        """Run stage 1 alone: write down what matters for a question.

        Args:
            image: as for `answer`.
            question: as for `answer`.
            options: as for `answer`.

        Raises:
            EdgeETError: as for `answer`.
        """
        return self._runner.run(self._jobs.extract(image, question, options))

    @with_options
    def think(
        self, question: str, extraction: Extraction, **options: Unpack[OptionValues]
    ) -> Thought:
        """Run stage 2 alone: reason over an extraction and answer.

        Args:
            question: as for `answer`.
            extraction: what `extract` of this pipeline returned.
            options: as for `answer`.

        Raises:
            EdgeETError: as for `answer`.
        """
        return self._runner.run(self._jobs.think(question, extraction, options))

    @with_options
    def rethink(self, question: str, extraction: str, **options: Unpack[OptionValues]) -> Answer:
        """Run stage 2 alone on an extraction that was edited, or comes from elsewhere.

        Where the perceiver is the reasoner and goes on behind stage 1, it is told the extraction as
        if it had written it, in a conversation without the picture; that takes the picture's place
        in the cache.

        Args:
            question: as for `answer`.
            extraction: plain text, possibly empty.
            options: as for `answer`; nobody is asked for a hint.

        Raises:
            EdgeETError: as for `answer`.
        """
        return self._runner.run(self._jobs.rethink(question, extraction, options))

    @with_options
    def answer_directly(
        self, image: AnyImage, question: str, **options: Unpack[OptionValues]
    ) -> Answer:
        """Answer in one stage, without extraction: the baseline that quality is compared with.

        Its usage is told under ``think``.

        Args:
            image: as for `answer`, but one.
            question: as for `answer`.
            options: as for `answer`; the sampling defaults are those of stage 2.

        Raises:
            OptionError: the bundle has no prompt for it; otherwise as for `answer`.
            EdgeETError: as for `answer`.
        """
        return self._runner.run(self._jobs.answer_directly(image, question, options))

    def clear(self) -> None:
        """Forget image tokens and the KV caches of contexts that no call has; not what is on disk.

        Raises:
            BusyError: a stream is unfinished, and nobody continues it.
            ClosedError: the pipeline was closed.
        """
        self._runner.clear()

    def close(self) -> None:
        """Free models and caches; may be called again.

        Waits for calls that other threads run, and for the step that one of them takes in a stream.
        An unfinished stream ends with a `ClosedError` when it is continued.
        """
        self._scheduler.close(self._free)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _encode(
        self, images: Sequence[AnyImage], max_tiles: int | None, pooling: int | None
    ) -> tuple[ImageTokens, ...]:
        options = parse_options({"max_tiles": max_tiles, "pooling": pooling})
        return self._runner.encode(images, options, partial(check_alone, self._models))

    def _free(self) -> None:
        self._encoder.clear()
        if self._snapshots is not None:
            self._snapshots.close()
        if self._resources is not None:
            self._resources.__exit__(None, None, None)
