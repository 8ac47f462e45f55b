"""What calls do with pictures: both stages, the first alone, or the baseline of one stage.

In: a call and its pictures. Out: a `Job` for the runner. Who runs it is not known here.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_et.bundle import DirectSpec
from edge_et.image import AnyImage, CheckAll, EncodedImages, ImageTokens
from edge_et.pipeline.two_stage_call import TwoStageCall
from edge_et.results import Answer, Extraction, StageEvent

R = TypeVar("R")
Steps = Generator[StageEvent, None, R]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[R]):
    """What a call does with one or more pictures.

    Attributes:
        images: the pictures, at least one.
        call: the stages.
        work: runs them, given the call over models that are its own meanwhile, and the pictures.
        check: see `edge_et.image.prepare_each`.
    """

    images: Sequence[AnyImage]
    call: TwoStageCall
    work: Callable[[TwoStageCall, EncodedImages], Steps[R]]
    check: CheckAll


def to_answer(images: Sequence[AnyImage], call: TwoStageCall) -> Job[Answer]:
    """Run both stages."""
    return Job(images=images, call=call, work=TwoStageCall.answer, check=call.check_fits)


def to_extract(images: Sequence[AnyImage], call: TwoStageCall) -> Job[Extraction]:
    """Run stage 1 alone."""
    return Job(images=images, call=call, work=TwoStageCall.extract_alone, check=call.check_fits)


def to_answer_directly(image: AnyImage, call: TwoStageCall, direct: DirectSpec) -> Job[Answer]:
    """Run the one-stage baseline."""
    budget = call.request.direct_tokens(direct)

    def check(images: Sequence[ImageTokens]) -> None:
        call.check_fits_at_once(images[0], direct.prompt, budget)

    def work(call: TwoStageCall, encoded: EncodedImages) -> Steps[Answer]:
        return call.answer_at_once(encoded, direct.prompt, budget)

    return Job(images=(image,), call=call, work=work, check=check)
