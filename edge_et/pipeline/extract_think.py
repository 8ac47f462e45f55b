"""The pipeline: a picture and a question in, events and an answer out.

It holds an image encoder and one or two chat models, and lets one caller after the other use them.
How models are opened is not known here.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any, Self, Unpack

from edge_et.bundle import Bundle, Manifest
from edge_et.errors import OptionError
from edge_et.generation import Clock, Deadline
from edge_et.image import AnyImage, ImageEncoder, ImageSource, ImageTokens, Tower
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    AnswerKind,
    OptionValues,
    parse_options,
    with_options,
)
from edge_et.pipeline.context_fit import check_fits_at_once, check_length
from edge_et.pipeline.image_cost import Calibration, ImageCost, image_cost
from edge_et.pipeline.models import Models
from edge_et.pipeline.pipeline_lock import Access, PipelineLock
from edge_et.pipeline.request import Request, check_text
from edge_et.pipeline.session import Session
from edge_et.pipeline.two_stage_call import TwoStageCall, complete_answer
from edge_et.results import Answer, Event, Extraction, PhaseUsage, Thought
from edge_et.stages import Hint, drain
from edge_et.store import Snapshots


class ExtractThink:
    """A loaded bundle. Several threads may share it; one after the other uses it."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        tower: Tower,
        models: Models,
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
            models: read them, think, and are asked for hints.
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
        self._models = models
        self._clock = clock
        self._resources = resources
        self._lock = PipelineLock()

    def answer(
        self,
        image: AnyImage,
        question: str,
        *,
        max_tiles: int | None = None,
        pooling: int | None = None,
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
        """Answer a question about a picture.

        The picture is what `edge_et.image.load_image` takes, or what `encode_image` returned; the
        other arguments are those of `edge_et.answer`.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: the question is empty, or an option is wrong.
            MissingExtraError: there is a `schema`, and llguidance is not installed.
            AnswerValueError: the answer fits the `schema`, and its class refuses it.
            PromptTooLongError: picture and question do not fit into the context with all budgets.
            DecodeError: the language model failed.
            VisionRunError: the vision tower failed.
            BusyError: a stream is unfinished, and nobody continues it.
            ClosedError: the pipeline was closed.
            ForkedError: the pipeline was opened before this process was forked.
        """
        request = self._request(
            question,
            max_tiles=max_tiles,
            pooling=pooling,
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
        call = self._new_call(request)
        with self._access():
            tokens, usage = self._encoder.encode(image, request.options, call.check_fits)
            return complete_answer(usage, *drain(call.run(tokens)))

    def stream(
        self,
        image: AnyImage,
        question: str,
        *,
        max_tiles: int | None = None,
        pooling: int | None = None,
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
        """Answer a question about a picture, and tell what happens meanwhile.

        Nothing runs before the first event is asked for. Any thread may go on with the stream;
        other calls wait until it is exhausted, closed or forgotten. Arguments are those of
        `answer`.

        Returns:
            Text of the extraction, of the reasoning and of the answer as it is written; last the
            `Answer`.

        Raises:
            EdgeETError: as for `answer`; those about arguments come at once, others on the way.
        """
        self._lock.check()
        request = self._request(
            question,
            max_tiles=max_tiles,
            pooling=pooling,
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
        return self._stream(image, request, self._new_call(request))

    def session(
        self, image: AnyImage, *, max_tiles: int | None = None, pooling: int | None = None
    ) -> Session:
        """Encode a picture for several questions.

        Args:
            image: as for `answer`.
            max_tiles: most tiles of the picture; None is the bundle's default.
            pooling: 2 makes blocks of 2x2 of a tile's tokens one; None is the bundle's default.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        return Session(self, self.encode_image(image, max_tiles=max_tiles, pooling=pooling))

    def encode_image(
        self, image: AnyImage, *, max_tiles: int | None = None, pooling: int | None = None
    ) -> ImageTokens:
        """Turn a picture into image tokens, which can be used instead of it from then on.

        Args:
            image: as for `answer`.
            max_tiles: as for `session`.
            pooling: as for `session`.

        Raises:
            ImageError: the picture cannot be used; a child says why.
            OptionError: an option is wrong.
            PromptTooLongError: the picture alone fills the context.
            VisionRunError: the vision tower failed.
            BusyError: a stream is unfinished, and nobody continues it.
            ClosedError: the pipeline was closed.
            ForkedError: the pipeline was opened before this process was forked.
        """

        def check(tokens: ImageTokens) -> None:
            check_length(self._models.perceiver, len(tokens.rows) + 1, helps=())

        options = parse_options({"max_tiles": max_tiles, "pooling": pooling})
        with self._access():
            return self._encoder.encode(image, options, check)[0]

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
        self._lock.check()
        options = parse_options({"max_tiles": max_tiles, "pooling": pooling})
        context = self._models.perceiver.kv_cache
        plan = self._encoder.plan(image, options)
        return image_cost(plan, context.shape, context.kv_type, calibration)

    @with_options
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
        request = self._request(question, **options)
        call = self._new_call(request)
        with self._access():
            tokens, _ = self._encoder.encode(image, request.options, call.check_fits)
            return drain(call.extract(tokens, call.find_hint(), read_ahead=False))

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
        if not isinstance(extraction, Extraction):
            raise OptionError("extraction", extraction, "what `extract` returned; see `rethink`")
        call = self._new_call(self._request(question, **options))
        with self._access():
            return drain(call.think(extraction))

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
        call = self._new_call(self._request(question, **options))
        told = call.retell(check_text("extraction", extraction))
        with self._access():
            thought = drain(call.think(told))
        usage = {"image": PhaseUsage(), "vision": PhaseUsage()}
        return complete_answer(usage, Hint(text=told.hint), told, thought)

    @with_options
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
        request = self._request(question, **options)
        call = self._new_call(request, in_one_stage=True)
        budget = request.direct_tokens(direct)
        if (form := request.thinking.form) is not None:
            form.check(self._models.perceiver.tokenizer, "", budget)

        def check(tokens: ImageTokens) -> None:
            check_fits_at_once(self._models, request, tokens, direct.prompt, budget)

        with self._access():
            tokens, usage = self._encoder.encode(image, request.options, check)
            thought = drain(call.answer_at_once(tokens, direct.prompt, budget))
        nothing = Extraction(text="", tokens=(), conversation=(), usage=PhaseUsage())
        return complete_answer(usage, Hint(text=""), nothing, thought)

    def clear(self) -> None:
        """Forget KV caches and image tokens, but not what is kept on disk.

        Raises:
            BusyError: a stream is unfinished, and nobody continues it.
            ClosedError: the pipeline was closed.
        """
        with self._access():
            self._encoder.clear()
            self._models.forget()

    def close(self) -> None:
        """Free models and caches; may be called again.

        Waits for calls that other threads run, and for the step that one of them takes in a stream.
        An unfinished stream ends with a `ClosedError` when it is continued.
        """
        self._lock.close(self._free)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def _access(self) -> Iterator[Access]:
        """Have the pipeline; when the work is done or given up, have snapshots written."""
        with self._lock.access() as access:
            try:
                yield access
            finally:
                if access.regain() and self._snapshots is not None:
                    self._snapshots.settle()

    def _stream(
        self, image: AnyImage, request: Request, call: TwoStageCall
    ) -> Generator[Event, None, None]:
        with self._access() as access:
            tokens, usage = self._encoder.encode(image, request.options, call.check_fits)
            outcome = yield from access.lend_events(call.run(tokens))
        yield complete_answer(usage, *outcome)

    def _request(self, question: str, **options: Unpack[OptionValues]) -> Request:
        return Request.of(question, parse_options(options), self.manifest)

    def _new_call(self, request: Request, *, in_one_stage: bool = False) -> TwoStageCall:
        if not in_one_stage:
            request.thinking.check_form(self._models.thinking_model.tokenizer)
        deadline = Deadline(request.options.deadline_s, self._clock)
        return TwoStageCall(self.manifest, self._models, request, deadline)

    def _free(self) -> None:
        self._encoder.clear()
        if self._snapshots is not None:
            self._snapshots.close()
        if self._resources is not None:
            self._resources.__exit__(None, None, None)
