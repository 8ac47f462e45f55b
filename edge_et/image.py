"""Pictures: from whatever a caller has to the pixel values that a vision tower reads.

In: a path, bytes, a file object, a PIL image or an array. Out: an upright RGB image, and from it
``pixel_values [N,3,H,W] float32``. Models are not known here.
"""

import io
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from edge_et.errors import ImageDecodeError, ImageFileError, ImageInputError, ImageTooLargeError
from edge_et.manifest import Processing
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

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

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


def to_pixel_values(image: Image.Image, processing: Processing) -> NDArray[np.float32]:
    """Turn a picture into what the vision tower reads.

    Resizing works on 8-bit values; then each value is multiplied by `rescale` in double precision,
    rounded to single, the mean subtracted and the difference divided by the deviation: the order
    and the precisions of the Hugging Face image processors.

    Args:
        image: mode RGB.
        processing: the bundle's rules.

    Returns:
        pixel_values [N,3,H,W] float32, C-contiguous; N is the number of tiles.
    """
    # Every result depends on one 8-bit value alone, so 256 of them for each channel are enough.
    values = (np.arange(256, dtype=np.float64) * processing.rescale).astype(np.float32)
    mean = np.asarray(processing.mean, np.float32)[:, None]
    std = np.asarray(processing.std, np.float32)[:, None]
    table = (values[None, :] - mean) / std
    tiles = np.stack([np.asarray(tile) for tile in split_tiles(image, processing)])
    pixel_values = np.empty((len(tiles), 3, processing.height, processing.width), np.float32)
    for channel in range(3):
        pixel_values[:, channel] = table[channel][tiles[..., channel]]
    return pixel_values


def split_tiles(image: Image.Image, processing: Processing) -> list[Image.Image]:
    """Cut a picture into tiles of the tower's size; format version 1 knows a single one.

    Args:
        image: mode RGB.
        processing: the bundle's rules.

    Returns:
        Tiles of mode RGB, W pixels wide and H high.
    """
    size = (processing.width, processing.height)
    resample = _RESAMPLE[processing.resample]
    if processing.fit == "squash":
        return [image.resize(size, resample)]
    if processing.fit == "crop":
        return [image.resize(size, resample, box=_centred_box(image.size, size))]
    scaled = image.resize(_fitting_size(image.size, size), resample)
    tile = Image.new("RGB", size, processing.pad_color)
    tile.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2))
    return [tile]


def _centred_box(
    image_size: tuple[int, int], tile_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the largest centred box of a tile's shape, in the image's pixels."""
    (width, height), (tile_width, tile_height) = image_size, tile_size
    scale = min(width / tile_width, height / tile_height)
    left = (width - tile_width * scale) / 2
    top = (height - tile_height * scale) / 2
    return (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))


def _fitting_size(image_size: tuple[int, int], tile_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the image when it is scaled to touch the tile from inside."""
    (width, height), (tile_width, tile_height) = image_size, tile_size
    # Whole numbers: a quotient of floats could be rounded up past the tile.
    if width * tile_height >= height * tile_width:
        return tile_width, min(-(-height * tile_width // width), tile_height)
    return min(-(-width * tile_height // height), tile_width), tile_height


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
