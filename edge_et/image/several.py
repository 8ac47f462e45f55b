"""Several pictures of one question: prepared all before the tower runs for the first one.

In: pictures, and whether they fit. Out: the image tokens of each, and what they took together.
Questions and language models are not known here.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from edge_et.cancellation import CancelToken
from edge_et.image.encoder import ImageEncoder, PreparedImage
from edge_et.image.picture_list import AnyImage, told_apart
from edge_et.image.vision_tower import ImageTokens
from edge_et.options import AnswerOptions
from edge_et.results import PhaseUsage, Progress

CheckAll = Callable[[Sequence[ImageTokens]], None]
"""Given the pictures up to one of them, raises `PromptTooLongError` if that one does not fit."""

EncodedImages = tuple[tuple[ImageTokens, ...], dict[str, PhaseUsage]]
"""The image tokens of each picture, and what the phases ``image`` and ``vision`` took."""


def prepare_each(
    encoder: ImageEncoder, images: Sequence[AnyImage], options: AnswerOptions, check: CheckAll
) -> tuple[PreparedImage, ...]:
    """Do all that comes before the tower, for each picture; see `ImageEncoder.prepare`.

    Args:
        encoder: the bundle's.
        images: the pictures.
        options: `max_tiles` and `pooling` of them.
        check: called with as many rows of zeros as there will be.

    Raises:
        EdgeETError: as for `ImageEncoder.prepare`; one about a picture tells which.
    """
    prepared: list[PreparedImage] = []
    known: list[ImageTokens] = []
    for number, image in enumerate(images):
        with told_apart(number, len(images)):
            one = encoder.prepare(image, options, lambda tokens: check((*known, tokens)))
        prepared.append(one)
        known.append(encoder.stand_in(one))
    return tuple(prepared)


def encode_each(
    encoder: ImageEncoder, images: Sequence[PreparedImage], cancel: CancelToken
) -> Generator[Progress, None, EncodedImages]:
    """Turn pictures into image tokens, one after the other; see `ImageEncoder.encode`.

    Args:
        encoder: the bundle's.
        images: from `prepare_each`.
        cancel: ends it early.

    Yields:
        Before each tile how far it is with its picture.

    Raises:
        EdgeETError: as for `ImageEncoder.encode`.
    """
    tokens: list[ImageTokens] = []
    usage = {"image": PhaseUsage(), "vision": PhaseUsage()}
    for number, image in enumerate(images):
        steps = encoder.encode(image, cancel)
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                made, took = stop.value
                break
            yield replace(progress, picture=number)
        tokens.append(made)
        for phase in usage:
            usage[phase] += replace(took[phase], pictures=1)
    return tuple(tokens), usage
