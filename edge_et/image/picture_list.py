"""The pictures of one question: how many there are, and whether that is too much.

In: a picture, or a list of them, as a caller gives it. Out: a tuple of pictures within limits,
before any of them is opened. What is in them is not known here.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from edge_et.errors import (
    ImageError,
    ImageInputError,
    ImagesTooLargeError,
    TooManyImagesError,
)
from edge_et.foreign_errors import raised_by
from edge_et.image.load import ImageSource
from edge_et.image.vision_tower import ImageTokens
from edge_et.options import DEFAULT_MAX_IMAGES, DEFAULT_MAX_IMAGES_BYTES

AnyImage = ImageSource | ImageTokens
"""A picture, or what it was encoded to."""

AnyImages = AnyImage | Sequence[AnyImage]
"""A picture, or a list or tuple of one or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What the pictures of one question may be together.

    Attributes:
        images: most pictures, at least 1.
        size_bytes: most bytes of several pictures together.
    """

    images: int = DEFAULT_MAX_IMAGES
    size_bytes: int = DEFAULT_MAX_IMAGES_BYTES


DEFAULT_IMAGE_LIMITS = ImageLimits()


def list_pictures(images: AnyImages, limits: ImageLimits) -> tuple[AnyImage, ...]:
    """Return the pictures of a question; one alone is taken as it is.

    Bytes are those of files, of bytes and arrays, of the pixels of PIL images, and of the rows of
    image tokens. What cannot be told
    counts as none: a path that is not there, a file object that cannot seek.

    Args:
        images: a picture, or a list or tuple of pictures.
        limits: for all of them.

    Raises:
        TooManyImagesError: there are more pictures, or none.
        ImagesTooLargeError: they have more bytes.
        ImageInputError: one of them is no kind of picture.
        Exception: whatever a file object of the caller's own raises.
    """
    if not isinstance(images, list | tuple):
        return (cast(AnyImage, images),)
    pictures = tuple(images)
    if not 1 <= len(pictures) <= limits.images:
        raise TooManyImagesError(len(pictures), limits.images)
    for number, picture in enumerate(pictures):
        with told_apart(number, len(pictures)):
            _check_kind(picture)
    if len(pictures) > 1:
        size_bytes = sum(map(_size_of, pictures))
        if size_bytes > limits.size_bytes:
            raise ImagesTooLargeError(size_bytes, limits.size_bytes)
    return pictures


@contextmanager
def told_apart(number: int, count: int) -> Iterator[None]:
    """Let errors tell which one of several pictures they are about.

    Args:
        number: of the picture, counted from 0.
        count: of all pictures; where there is one alone, errors come as they are.
    """
    try:
        yield
    except ImageError as err:
        if count > 1:
            err.at(number, count)
        raise


def _check_kind(picture: object) -> None:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray, Image.Image, ImageTokens)
    if isinstance(picture, kinds):
        return
    if not hasattr(picture, "read") or isinstance(picture, io.TextIOBase):
        raise ImageInputError(f"a {type(picture).__name__}")


def _size_of(picture: AnyImage) -> int:
    try:
        if isinstance(picture, Image.Image):
            return picture.width * picture.height * len(picture.getbands())
        if isinstance(picture, str | os.PathLike):
            return os.stat(picture).st_size
        if isinstance(picture, np.ndarray | memoryview):
            return picture.nbytes
        if isinstance(picture, ImageTokens):
            return picture.rows.nbytes
        if isinstance(picture, bytes | bytearray):
            return len(picture)
        picture.seek(0, os.SEEK_END)
        return picture.tell()
    except (AttributeError, io.UnsupportedOperation):
        return 0
    except (OSError, TypeError, ValueError) as err:
        if not raised_by(err):
            raise
        return 0  # what is wrong with it is told when it is opened
