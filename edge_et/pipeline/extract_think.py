"""The pipeline: a picture and a question in, events and an answer out.

It holds an image encoder and one or two speakers; it decides what has to run.
How models are opened is not known here: see `edge_et.pipeline.factory`.
"""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import TracebackType
from typing import Self, Unpack

from edge_et.bundle import Bundle, Manifest
from edge_et.errors import ClosedError, OptionError
from edge_et.generation import Clock, Deadline, Speaker
from edge_et.image import AnyImage, ImageEncoder, ImageSource, ImageTokens, Tower
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    ImageOptionValues,
    OptionValues,
    parse_image_options,
)
from edge_et.pipeline.image_cost import Calibration, ImageCost, image_cost
from edge_et.pipeline.lock import Turn
from edge_et.pipeline.request import Request, check_text
from edge_et.pipeline.two_stage_call import Cast, Course, check_length
from edge_et.results import Answer, Event, Extraction, PhaseUsage, Thought
from edge_et.stages import drain
from edge_et.store import Snapshots


class ExtractThink:
    """A loaded bundle. Several threads may share it; they take turns."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        tower: Tower,
        perceiver: Speaker,
        reasoner: Speaker | None,
        hinter: Speaker | None = None,
        bundle: Bundle | None = None,
        resources: AbstractContextManager[object] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
        snapshots: Snapshots | None = None,
        clock: Clock = perf_counter,
    ) -> None:
        """Put the parts together; `edge_et.load` does it for a bundle.

        Args:
            manifest: prompts, budgets and image processing.
            tower: makes image tokens.
            perceiver: reads them.
            reasoner: thinks, in a cache of its own; None lets the perceiver do it, in the same
                cache.
            hinter: is asked for hints, in a cache of its own; None: the question is the hint.
            bundle: where it all comes from.
            resources: left when the pipeline is closed.
            max_pixels: most pixels of a picture.
            image_cache_bytes: most bytes of image tokens that are remembered.
            snapshots: what is kept on disk; None: nothing is.
            clock: tells the time for deadlines.
        """
        self.manifest = manifest
        self.bundle = bundle
        self._encoder = ImageEncoder(
            manifest.vision,
            tower,
            max_pixels=max_pixels,
            cache_bytes=image_cache_bytes,
            snapshots=snapshots,
        )
        self._snapshots = snapshots
        self._cast = Cast(perceiver=perceiver, reasoner=reasoner, hinter=hinter)
        self._clock = clock
        self._resources = resources
        self._turn = Turn()
        self._closed = False

    def answer(self, image: AnyImage, question: str, **options: Unpack[OptionValues]) -> Answer:
        """Answer a question about a picture.

        Args:
            image: see `edge_et.image.load_image`; or what `encode_image` returned.
            question: one or more sentences.
            options: see `edge_et.options.AnswerOptions`.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: the question is empty, or an option is wrong.
            PromptTooLongError: picture and question do not fit into the context with all budgets.
            DecodeError: the language model failed.
            VisionRunError: the vision tower failed.
            BusyError: a stream that this thread began is not finished.
            ClosedError: the pipeline was closed.
        """
        *_, answer = self.stream(image, question, **options)
        assert isinstance(answer, Answer)
        return answer

    def stream(
        self, image: AnyImage, question: str, **options: Unpack[OptionValues]
    ) -> Generator[Event, None, None]:
        """Answer a question about a picture, and tell what happens meanwhile.

        Nothing runs before the first event is asked for. Other threads wait until the stream is
        exhausted, closed or forgotten.

        Args:
            image: as for `answer`.
            question: as for `answer`.
            options: as for `answer`.

        Returns:
            Text of the extraction, of the reasoning and of the answer as it is written; last the
            `Answer`.

        Raises:
            EdgeETError: as for `answer`; those about arguments come at once, others on the way.
        """
        self._check_open()
        request = Request.of(question, options, self.manifest)
        return self._stream(image, request, self._course(request))

    def session(self, image: AnyImage, **options: Unpack[ImageOptionValues]) -> "Session":
        """Encode a picture for several questions.

        Args:
            image: as for `answer`.
            options: as for `encode_image`.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        return Session(self, self.encode_image(image, **options))

    def encode_image(self, image: AnyImage, **options: Unpack[ImageOptionValues]) -> ImageTokens:
        """Turn a picture into image tokens, which can be used instead of it from then on.

        Args:
            image: as for `answer`.
            options: `max_tiles` and `pooling` of `edge_et.options.AnswerOptions`.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: an option is wrong.
            PromptTooLongError: the picture alone fills the context.
            VisionRunError: the vision tower failed.
            BusyError: a stream that this thread began is not finished.
            ClosedError: the pipeline was closed.
        """

        def check(tokens: ImageTokens) -> None:
            check_length(self._cast.perceiver, len(tokens.rows) + 1)

        parsed = parse_image_options(options)
        with self._call():
            return self._encoder.encode(image, parsed, check)[0]

    def image_cost(
        self,
        image: ImageSource,
        calibration: Calibration | None = None,
        **options: Unpack[ImageOptionValues],
    ) -> ImageCost:
        """Tell what a picture would cost; no model runs.

        Args:
            image: a picture that is not encoded yet.
            calibration: from `edge_et.pipeline.api.measure`; None: seconds are not estimated.
            options: as for `encode_image`.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        context = self._cast.perceiver.context
        plan = self._encoder.plan(image, parse_image_options(options))
        return image_cost(plan, context.shape, context.kv_type, calibration)

    def extract(
        self, image: AnyImage, question: str, **options: Unpack[OptionValues]
    ) -> Extraction:
        """Run stage 1 alone: write down what matters for a question.

        Args:
            image: as for `answer`.
            question: as for `answer`.
            options: as for `answer`.

        Raises:
            EdgeETError: as for `answer`.
        """
        request = Request.of(question, options, self.manifest)
        course = self._course(request)
        with self._call():
            tokens, _ = self._encoder.encode(image, request.options, course.check_fits)
            return drain(course.extract(tokens, course.find_hint(), read_ahead=False))

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
        course = self._course(Request.of(question, options, self.manifest))
        with self._call():
            return drain(course.think(extraction))

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
        course = self._course(Request.of(question, options, self.manifest))
        told = course.retell(check_text("extraction", extraction))
        with self._call():
            thought = drain(course.think(told))
        return _answer({"image": PhaseUsage(), "vision": PhaseUsage()}, told, thought)

    def answer_directly(
        self, image: AnyImage, question: str, **options: Unpack[OptionValues]
    ) -> Answer:
        """Answer in one stage, without extraction: the baseline that quality is compared with.

        Its usage is told under ``think``.

        Args:
            image: as for `answer`.
            question: as for `answer`.
            options: as for `answer`; the sampling defaults are those of stage 2.

        Raises:
            OptionError: the bundle has no prompt for it; otherwise as for `answer`.
            EdgeETError: as for `answer`.
        """
        direct = self.manifest.direct
        if direct is None:
            raise OptionError("direct", None, "a bundle whose manifest has `direct`")
        request = Request.of(question, options, self.manifest)
        course = self._course(request)
        budget = request.direct_tokens(direct)

        def check(tokens: ImageTokens) -> None:
            course.check_fits_at_once(tokens, direct.prompt, budget)

        with self._call():
            tokens, usage = self._encoder.encode(image, request.options, check)
            thought = drain(course.answer_at_once(tokens, direct.prompt, budget))
        nothing = Extraction(text="", tokens=(), conversation=(), usage=PhaseUsage())
        return _answer(usage, nothing, thought)

    def clear(self) -> None:
        """Forget KV caches and image tokens, but not what is kept on disk.

        Raises:
            BusyError: a stream that this thread began is not finished.
            ClosedError: the pipeline was closed.
        """
        with self._call():
            self._encoder.clear()
            for speaker in (self._cast.perceiver, self._cast.reasoner, self._cast.hinter):
                if speaker is not None:
                    speaker.forget()

    def close(self) -> None:
        """Free models and caches; may be called again.

        Waits until other threads have finished; an unfinished stream of this thread ends with a
        `ClosedError`.
        """
        with self._turn.or_own():
            if not self._closed:
                self._closed = True
                self._encoder.clear()
                if self._snapshots is not None:
                    self._snapshots.close()
                if self._resources is not None:
                    self._resources.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("pipeline")

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Take the turn; when the work is done or given up, have snapshots written."""
        with self._turn:
            self._check_open()
            try:
                yield
            finally:
                if self._snapshots is not None and not self._closed:
                    self._snapshots.settle()

    def _stream(
        self, image: AnyImage, request: Request, course: Course
    ) -> Generator[Event, None, None]:
        with self._call():
            tokens, usage = self._encoder.encode(image, request.options, course.check_fits)
            hint = course.find_hint()
            if hint.usage is not None:
                usage |= {"hint": hint.usage}
            extraction = yield from course.extract(tokens, hint, read_ahead=True)
            thought = yield from course.think(extraction)
        yield _answer(usage, extraction, thought)

    def _course(self, request: Request) -> Course:
        deadline = Deadline(request.options.deadline_s, self._clock)
        return Course(self.manifest, self._cast, request, deadline)


class Session:
    """Questions about one picture."""

    def __init__(self, pipeline: ExtractThink, image: ImageTokens) -> None:
        """Keep the picture; `ExtractThink.session` encodes it."""
        self.image = image
        self._pipeline = pipeline

    def answer(self, question: str, **options: Unpack[OptionValues]) -> Answer:
        """Answer a question; see `ExtractThink.answer`."""
        return self._pipeline.answer(self.image, question, **options)

    def stream(
        self, question: str, **options: Unpack[OptionValues]
    ) -> Generator[Event, None, None]:
        """Answer a question and tell what happens meanwhile; see `ExtractThink.stream`."""
        return self._pipeline.stream(self.image, question, **options)


def _answer(usage: dict[str, PhaseUsage], extraction: Extraction, thought: Thought) -> Answer:
    return Answer(
        text=thought.text,
        extraction=extraction.text,
        reasoning=thought.reasoning,
        usage=usage | {"extract": extraction.usage, "think": thought.usage},
        hint=extraction.hint,
        cuts=(*extraction.cuts, *thought.cuts),
    )
