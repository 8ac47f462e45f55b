"""Pictures: from whatever a caller has to an upright RGB image.

In: a path, bytes, a file object, a PIL image or an array. Out: an image of mode RGB. Neither tiles
nor models are known here.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from edge_et.errors import (
    ImageDecodeError,
    ImageError,
    ImageFileError,
    ImageInputError,
    ImageTooLargeError,
)
from edge_et.foreign_errors import raised_by
from edge_et.image.heif import is_heic, open_heic
from edge_et.image.pillow_log import metadata_unlogged
from edge_et.image.rgb import to_rgb
from edge_et.options import DEFAULT_MAX_PIXELS

ImageSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
)

# Formats whose decoders are part of Pillow. Others are left out on purpose: EPS, for one, would
# start Ghostscript. HEIC is decoded by an extra.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# What makes a picture upright, by the value of its EXIF orientation (TIFF 6.0, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@metadata_unlogged()
def load_image(source: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Load a picture as upright RGB.

    The EXIF orientation is applied, transparency is put on white. 16-bit greyscale is scaled to
    8 bits; its values go from 0 to 65535, or to 4095 where a TIFF file says 12 bits. Of an
    animation the first frame is taken, of a PIL image the current one. Whoever turned a PIL image
    has to take the orientation out of its metadata: `ImageOps.exif_transpose` does, `rotate` and
    `transpose` do not.

    Args:
        source: a path (a string is always a path, never a URL), the bytes of a file, a binary file
            object, a PIL image, or an array of shape [height, width, 3], uint8, red green blue.
        max_pixels: most pixels that are accepted; checked before anything is decoded. Pillow's
            own limit for files, twice `PIL.Image.MAX_IMAGE_PIXELS`, holds as well.

    Returns:
        An image of mode RGB that shares no memory with the source.

    Raises:
        ImageFileError: the path cannot be read.
        ImageInputError: the source is none of these, or its values have no known range: 32-bit,
            signed or floating-point pixels.
        ImageTooLargeError: the picture has more pixels than the limit.
        ImageDecodeError: the bytes are no picture, or a damaged one; or HEIC, and the extra that
            decodes it is missing.
        Exception: whatever a file object of the caller's own raises.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _decode(source, max_pixels)
    if isinstance(source, str | os.PathLike):
        return _from_path(_path_of(source), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(_bytes_of(source)), max_pixels)
    if hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        return _from_file(source, max_pixels)
    if isinstance(source, list | tuple):
        raise ImageInputError(f"a {type(source).__name__}", "give one picture here")
    raise ImageInputError(f"a {type(source).__name__}")


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ImageInputError(f"an array of shape {list(array.shape)} and type {array.dtype}")
    _check_pixels(array.shape[0] * array.shape[1], max_pixels)
    return Image.fromarray(np.array(array, order="C"))


def _path_of(source: str | os.PathLike[Any]) -> str:
    try:
        return os.fsdecode(source)  # some paths are bytes
    except TypeError as err:
        raise ImageInputError(f"a {type(source).__name__} that is no path ({err})") from err


def _bytes_of(source: bytes | bytearray | memoryview) -> bytes | bytearray:
    if not isinstance(source, memoryview):
        return source
    try:
        return source.tobytes()  # whatever its strides
    except ValueError as err:
        raise ImageInputError(f"a memoryview that cannot be read ({err})") from err


def _from_path(path: str, max_pixels: int) -> Image.Image:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as err:  # ValueError: a null character in the path
        if not raised_by(err):
            raise
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        if "://" in path:
            reason = "URLs are not fetched; fetch it yourself and pass the bytes"
        raise ImageFileError(path, reason) from err
    with file:
        return _from_file(file, max_pixels)


def _from_file(file: BinaryIO, max_pixels: int) -> Image.Image:
    with _wrapped_errors(max_pixels, "pillow_heif"):
        try:
            file.seek(0)
        except (AttributeError, io.UnsupportedOperation):
            file = io.BytesIO(file.read())
        image = open_heic(file) if is_heic(file) else Image.open(file, formats=_FORMATS)
    return _decode(image, max_pixels)


def _decode(image: Image.Image, max_pixels: int) -> Image.Image:
    _check_pixels(image.width * image.height, max_pixels)
    if image.width == 0 or image.height == 0:
        raise ImageInputError(f"an image of {image.width} x {image.height} pixels")
    with _wrapped_errors(max_pixels, type(image).__module__.partition(".")[0]):
        upright = to_rgb(image)
        # Read behind that: Pillow's TIFF reader turns a picture upright while it loads, and takes
        # the orientation out of the metadata; what PNG has behind the pixels is known then, too.
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    upright.info = {}  # the orientation in it holds no longer
    return upright


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageTooLargeError(pixels, max_pixels)


@contextmanager
def _wrapped_errors(max_pixels: int, plugin: str = "PIL") -> Iterator[None]:
    """Make what Pillow raises about a picture ours.

    Args:
        max_pixels: most pixels that are accepted.
        plugin: the package whose decoder it is.
    """
    try:
        yield
    except ImageError:
        raise
    # Damaged files make decoders raise nearly anything: OSError, SyntaxError, ValueError,
    # struct.error, zlib.error, IndexError.
    except Exception as err:
        if not raised_by(err, "PIL", "numpy", plugin):
            raise
        if isinstance(err, UnidentifiedImageError):
            formats = ", ".join((*_FORMATS, "HEIC"))
            raise ImageDecodeError(f"none of the formats {formats}, or damaged") from err
        if isinstance(err, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise _too_large(str(err), max_pixels) from err
        raise ImageDecodeError(str(err) or type(err).__name__) from err


def _too_large(message: str, max_pixels: int) -> ImageTooLargeError:
    # "Image size (400000000 pixels) exceeds limit of 178956970 pixels, ..."
    pixels, limit = (int(number) for number in re.findall(r"(\d+) pixels", message))
    if pixels > max_pixels:
        return ImageTooLargeError(pixels, max_pixels)
    return ImageTooLargeError(pixels, limit, "raise Pillow's own PIL.Image.MAX_IMAGE_PIXELS")
