"""What callers ask of a bundle, as work for the runner.

In: a question, pictures or none, options. Out: a `Job`. Who runs it is not known here.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from edge_et.bundle import DirectSpec, Manifest
from edge_et.errors import OptionError
from edge_et.generation import Clock, Deadline
from edge_et.image import (
    AnyImage,
    AnyImages,
    CheckAll,
    EncodedImages,
    ImageLimits,
    ImageTokens,
    list_pictures,
)
from edge_et.keywords import OptionValues
from edge_et.options import AnswerOptions, parse_options
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request, check_text
from edge_et.pipeline.text_call import TextCall
from edge_et.pipeline.two_stage_call import TwoStageCall
from edge_et.results import Answer, Extraction, StageEvent, Thought

_OF_TWO_STAGES: Final = (
    "hint",
    "thinking",
    "max_extraction_tokens",
    "max_thinking_tokens",
    "look_again",
    "history",
    "choices",
    "kind",
    "schema",
)
"""Options that one stage has no place for, or no words."""
_NOTHING = (None, False, ())

R = TypeVar("R")
Steps = Generator[StageEvent, None, R]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[R]):
    """What a call does.

    Attributes:
        options: `max_tiles` and `pooling` of its pictures.
        work: does it, given models that are the call's own meanwhile, and its pictures.
        images: the pictures; none where none is looked at.
        check: see `edge_et.image.prepare_each`; called once where there are no pictures.
    """

    options: AnswerOptions
    work: Callable[[Models, EncodedImages], Steps[R]]
    images: Sequence[AnyImage] = ()
    check: CheckAll = lambda images: None


class Jobs:
    """Makes the jobs over one loaded bundle.

    All of its methods raise an `OptionError` for what a caller may not say.

    Attributes:
        manifest: prompts and budgets.
    """

    def __init__(
        self, manifest: Manifest, models: Models, limits: ImageLimits, clock: Clock
    ) -> None:
        """Keep what questions are checked by.

        Args:
            manifest: prompts and budgets.
            models: those of any context.
            limits: for the pictures of one question.
            clock: tells the time for deadlines.
        """
        self.manifest = manifest
        self._models = models
        self._limits = limits
        self._clock = clock

    def going_by(self, manifest: Manifest) -> "Jobs":
        """Return what makes jobs that go by another manifest."""
        return Jobs(manifest, self._models, self._limits, self._clock)

    def answer(self, image: AnyImages, question: str, options: OptionValues) -> Job[Answer]:
        """Run both stages, or the one where the bundle prefers it and the options allow it."""
        pictures = list_pictures(image, self._limits)
        direct = self.manifest.direct
        asked = parse_options(options)
        asks_for_two = len(pictures) > 1 or any(
            getattr(asked, name) not in _NOTHING for name in _OF_TWO_STAGES
        )
        if direct is not None and direct.default and not asks_for_two:
            return self._directly(pictures[0], question, options, direct)
        call = self._new_call(question, options, len(pictures))
        return Job(
            images=pictures,
            options=call.request.options,
            work=lambda models, encoded: call.using(models).answer(encoded),
            check=call.check_fits,
        )

    def extract(self, image: AnyImages, question: str, options: OptionValues) -> Job[Extraction]:
        """Run stage 1 alone."""
        pictures = list_pictures(image, self._limits)
        call = self._new_call(question, options, len(pictures))
        return Job(
            images=pictures,
            options=call.request.options,
            work=lambda models, encoded: call.using(models).extract_alone(encoded),
            check=call.check_fits,
        )

    def think(self, question: str, extraction: Extraction, options: OptionValues) -> Job[Thought]:
        """Run stage 2 alone, on what stage 1 wrote."""
        if not isinstance(extraction, Extraction):
            raise OptionError("extraction", extraction, "what `extract` returned; see `rethink`")
        call = self._new_thought(question, options)
        return Job(
            options=call.request.options,
            work=lambda models, _: call.using(models).think(extraction),
        )

    def rethink(self, question: str, extraction: str, options: OptionValues) -> Job[Answer]:
        """Run stage 2 alone, on a text from elsewhere."""
        call = self._new_thought(question, options)
        told = call.retell(check_text("extraction", extraction))
        return Job(
            options=call.request.options,
            work=lambda models, _: call.using(models).rethink(told),
        )

    def answer_directly(self, image: AnyImage, question: str, options: OptionValues) -> Job[Answer]:
        """Run the one-stage baseline."""
        direct = self.manifest.direct
        if direct is None:
            raise OptionError("direct", None, "a bundle whose manifest has `direct`")
        return self._directly(image, question, options, direct)

    def _directly(
        self, image: AnyImage, question: str, options: OptionValues, direct: DirectSpec
    ) -> Job[Answer]:
        call = self._new_call(question, options, direct=True)
        budget = call.request.direct_tokens(direct)

        def check(images: Sequence[ImageTokens]) -> None:
            call.check_fits_at_once(images[0], direct.prompt, budget)

        return Job(
            images=(image,),
            options=call.request.options,
            work=lambda models, encoded: call.using(models).answer_at_once(
                encoded, direct.prompt, budget
            ),
            check=check,
        )

    def answer_text(self, question: str, options: OptionValues) -> Job[Answer]:
        """Answer a question without a picture."""
        request, deadline = self._read(question, options)
        call = TextCall(request.without_picture(), deadline)
        call.request.check_form(self._models)
        return Job(
            options=request.options,
            work=lambda models, _: call.answer(models),
            check=lambda _: call.check_fits(self._models),
        )

    def _new_call(
        self, asked: str, options: OptionValues, pictures: int = 1, *, direct: bool = False
    ) -> TwoStageCall:
        request, deadline = self._read(asked, options, pictures)
        request.check_form(self._models, self.manifest.direct if direct else None)
        return TwoStageCall(self.manifest, self._models, request, deadline)

    def _new_thought(self, asked: str, options: OptionValues) -> TwoStageCall:
        call = self._new_call(asked, options)
        if call.request.looks:
            raise OptionError("look_again", call.request.looks, "0 where stage 2 runs alone")
        return call

    def _read(
        self, asked: str, options: OptionValues, pictures: int = 1
    ) -> tuple[Request, Deadline]:
        request = Request.of(asked, parse_options(options), self.manifest, pictures)
        return request, Deadline(request.options.deadline_s, self._clock)
