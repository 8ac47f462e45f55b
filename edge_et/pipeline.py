"""The pipeline: a picture and a question in, events and an answer out.

It holds an image encoder and one or two speakers; it decides what has to run.
How models are opened is not known here: see `edge_et.loading`.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, Unpack

from edge_et.bundle import Bundle
from edge_et.cost import Calibration, ImageCost, image_cost
from edge_et.encoder import AnyImage, Encoded, ImageEncoder
from edge_et.errors import ClosedError, OptionError, PromptTooLongError
from edge_et.image import ImageSource
from edge_et.manifest import Manifest
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    ImageOptionValues,
    OptionValues,
    parse_image_options,
)
from edge_et.prompt import count_positions
from edge_et.request import Request
from edge_et.results import (
    Answer,
    AnswerToken,
    Event,
    Extraction,
    ExtractionToken,
    PhaseUsage,
    ReasoningToken,
    Thought,
)
from edge_et.stages import (
    Speaker,
    answer_at_once,
    drain,
    extract,
    forced_marker,
    image_prompt,
    think,
    thinking_prompt,
    timed,
)
from edge_et.turns import Turn
from edge_et.vision import ImageTokens, Tower


class ExtractThink:
    """A loaded bundle. Several threads may share it; they take turns."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        tower: Tower,
        perceiver: Speaker,
        reasoner: Speaker | None,
        bundle: Bundle | None = None,
        resources: AbstractContextManager[object] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
    ) -> None:
        """Put the parts together; `edge_et.load` does it for a bundle.

        Args:
            manifest: prompts, budgets and image processing.
            tower: makes image tokens.
            perceiver: reads them.
            reasoner: thinks; None lets the perceiver do it, in the same cache.
            bundle: where it all comes from.
            resources: left when the pipeline is closed.
            max_pixels: most pixels of a picture.
            image_cache_bytes: most bytes of image tokens that are remembered.
        """
        self.manifest = manifest
        self.bundle = bundle
        self._encoder = ImageEncoder(
            manifest.vision, tower, max_pixels=max_pixels, cache_bytes=image_cache_bytes
        )
        self._perceiver = perceiver
        self._reasoner = reasoner
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
        return self._stream(image, Request.of(question, options, self.manifest))

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
            _check_length(self._perceiver, len(tokens.rows) + 1)

        parsed = parse_image_options(options)
        with self._turn:
            self._check_open()
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
            calibration: from `edge_et.loading.measure`; None: seconds are not estimated.
            options: as for `encode_image`.

        Raises:
            EdgeETError: as for `encode_image`.
        """
        context = self._perceiver.context
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
        with self._turn:
            self._check_open()
            tokens, _ = self._encode(image, request)
            return drain(self._extract(tokens, request))

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
        request = Request.of(question, options, self.manifest)
        with self._turn:
            self._check_open()
            return drain(self._think(extraction, request))

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
        budget = request.direct_tokens(direct)

        def check(tokens: ImageTokens) -> None:
            prompt = image_prompt(self._perceiver, direct.prompt, tokens, request.question)
            _check_length(self._perceiver, count_positions(prompt) + budget)

        with self._turn:
            self._check_open()
            tokens, usage = self._encoder.encode(image, request.options, check)
            prompt = image_prompt(self._perceiver, direct.prompt, tokens, request.question)
            stage = answer_at_once(self._perceiver, prompt, budget, request.think_sampling)
            thought = drain(timed(stage))
        usage |= {"extract": PhaseUsage(), "think": thought.usage}
        return Answer(text=thought.text, extraction="", reasoning="", usage=usage)

    def clear(self) -> None:
        """Forget all that was remembered: KV caches and image tokens.

        Raises:
            BusyError: a stream that this thread began is not finished.
            ClosedError: the pipeline was closed.
        """
        with self._turn:
            self._check_open()
            self._encoder.clear()
            for speaker in (self._perceiver, self._reasoner):
                if speaker is not None:
                    speaker.context.clear()

    def close(self) -> None:
        """Free models and caches; may be called again.

        Waits until other threads have finished; an unfinished stream of this thread ends with a
        `ClosedError`.
        """
        with self._turn.or_own():
            if not self._closed:
                self._closed = True
                self._encoder.clear()
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

    def _stream(self, image: AnyImage, request: Request) -> Generator[Event, None, None]:
        with self._turn:
            self._check_open()
            tokens, usage = self._encode(image, request)
            extraction = yield from self._extract(tokens, request)
            thought = yield from self._think(extraction, request)
        usage |= {"extract": extraction.usage, "think": thought.usage}
        yield Answer(
            text=thought.text,
            extraction=extraction.text,
            reasoning=thought.reasoning,
            usage=usage,
        )

    def _encode(self, image: AnyImage, request: Request) -> Encoded:
        return self._encoder.encode(
            image, request.options, lambda tokens: self._check_fits(tokens, request)
        )

    def _extract(
        self, tokens: ImageTokens, request: Request
    ) -> Generator[ExtractionToken, None, Extraction]:
        prompt = image_prompt(
            self._perceiver, self.manifest.extract.prompt, tokens, request.question
        )
        return timed(
            extract(self._perceiver, prompt, request.extraction_tokens, request.extract_sampling)
        )

    def _think(
        self, extraction: Extraction, request: Request
    ) -> Generator[ReasoningToken | AnswerToken, None, Thought]:
        spec = self.manifest.think
        speaker = self._reasoner or self._perceiver
        earlier = extraction.conversation if self._reasoner is None else None
        prompt = thinking_prompt(speaker, spec.prompt, request.question, extraction.text, earlier)
        _check_length(speaker, count_positions(prompt) + self._thinking_positions(request))
        return timed(
            think(speaker, prompt, spec.answer_marker, request.budget, request.think_sampling)
        )

    def _check_fits(self, tokens: ImageTokens, request: Request) -> None:
        """Refuse a question before anything is evaluated if its stages may not fit.

        Raises:
            PromptTooLongError: a context is too short for the prompts and budgets.
        """
        prompt = image_prompt(
            self._perceiver, self.manifest.extract.prompt, tokens, request.question
        )
        first = count_positions(prompt) + request.extraction_tokens
        template = self.manifest.think.prompt
        speaker = self._reasoner or self._perceiver
        earlier = () if self._reasoner is None else None
        second = count_positions(
            thinking_prompt(speaker, template, request.question, "", earlier)
        ) + self._thinking_positions(request)
        if "{extraction}" in template:
            # Tokens of one model; the other may need some more, and is asked again in stage 2.
            second += request.extraction_tokens
        if self._reasoner is None:
            _check_length(self._perceiver, first + second)
        else:
            _check_length(self._perceiver, first)
            _check_length(self._reasoner, second)

    def _thinking_positions(self, request: Request) -> int:
        """Return the most positions that stage 2 takes behind its prompt."""
        speaker = self._reasoner or self._perceiver
        marker = forced_marker(self.manifest.think.answer_marker, "reasoning")
        return (
            request.budget.thinking + len(speaker.tokenizer.encode(marker)) + request.budget.answer
        )


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


def _check_length(speaker: Speaker, positions: int) -> None:
    if positions > speaker.context.context_length:
        raise PromptTooLongError(positions, speaker.context.context_length)
