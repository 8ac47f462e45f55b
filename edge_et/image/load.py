"""Pictures: from whatever a caller has to an upright RGB image.

In: a path, bytes, a file object, a PIL image or an array. Out: an image of mode RGB. Neither tiles
nor models are known here.
"""

import io
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from edge_et.errors import ImageDecodeError, ImageFileError, ImageInputError, ImageTooLargeError
from edge_et.image.pillow_log import metadata_unlogged
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
# start Ghostscript.
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

    The EXIF orientation is applied, transparency is put on white, 16-bit greyscale is scaled to
    8 bits. Of an animation the first frame is taken.

    Args:
        source: a path (a string is always a path, never a URL), the bytes of a file, a binary file
            object, a PIL image, or an array of shape [height, width, 3], uint8, red green blue.
        max_pixels: most pixels that are accepted; checked before anything is decoded.

    Returns:
        An image of mode RGB that shares no memory with the source.

    Raises:
        ImageFileError: the path cannot be read.
        ImageInputError: the source is none of these.
        ImageTooLargeError: the picture has more pixels than the limit.
        ImageDecodeError: the bytes are no picture, or a damaged one.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _decode(source, max_pixels)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(source), max_pixels)
    if hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        return _from_file(source, max_pixels)
    raise ImageInputError(f"a {type(source).__name__}")


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ImageInputError(f"an array of shape {list(array.shape)} and type {array.dtype}")
    _check_pixels(array.shape[0] * array.shape[1], max_pixels)
    return Image.fromarray(np.array(array, order="C"))


def _from_path(path: str, max_pixels: int) -> Image.Image:
    try:
        with open(path, "rb") as file:
            return _from_file(file, max_pixels)
    except (OSError, ValueError) as err:  # ValueError: a null character in the path
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        if "://" in path:
            reason = "URLs are not fetched; fetch it yourself and pass the bytes"
        raise ImageFileError(path, reason) from err


def _from_file(file: BinaryIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise ImageTooLargeError(_claimed_pixels(str(err)), max_pixels) from err
    except UnidentifiedImageError as err:
        raise ImageDecodeError(f"none of the formats {', '.join(_FORMATS)}, or damaged") from err
    except Exception as err:  # as in _decode
        raise ImageDecodeError(str(err) or type(err).__name__) from err
    return _decode(image, max_pixels)


def _decode(image: Image.Image, max_pixels: int) -> Image.Image:
    _check_pixels(image.width * image.height, max_pixels)
    if image.width == 0 or image.height == 0:
        raise ImageInputError(f"an image of {image.width} x {image.height} pixels")
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        upright = _to_rgb(image)
    # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, ValueError,
    # struct.error, zlib.error, IndexError.
    except Exception as err:
        raise ImageDecodeError(str(err) or type(err).__name__) from err
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    upright.info = {}  # the orientation in it holds no longer
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels have no known range")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageTooLargeError(pixels, max_pixels)


def _claimed_pixels(message: str) -> int:
    # "Image size (400000000 pixels) exceeds limit of 178956970 pixels, ..."
    return int(message.partition("(")[2].partition(" ")[0])
