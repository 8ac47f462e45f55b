"""Colours: from the pixels that Pillow decodes, of any mode, to RGB of 8 bits on white.

In: a PIL image. Out: one of mode RGB. Files and orientation are not known here.

Pillow's own conversions are right for modes of 8 bits. What it leaves open is what integers of more
bits mean, and which colour of a PNG is transparent:

- Unsigned samples of up to 16 bits have the range that their number of bits gives, as PNG, PGM and
  TIFF have it; modes I;16 hold 16 bits unless the file says 12. In a TIFF zero may be white.
- Signed samples, those of 32 bits and floating point have no range that files or programs agree on.
  Any guess would make black or white pictures of some, so they are refused.
"""

from typing import Any

import numpy as np
from PIL import Image

from edge_et.errors import ImageInputError

# TIFF 6.0, section 8 and 19.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0
_SIGNED = 2

# What Pillow multiplies grey samples of fewer bits with; the transparent one in `info` it does not.
_PNG_GREY_SCALES = {"L;2": 85, "L;4": 17}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture to RGB of 8 bits; what is transparent becomes white.

    Args:
        image: of any mode; it is loaded if it was not.

    Returns:
        An image of mode RGB that shares no memory with the other.

    Raises:
        ImageInputError: it is not known which of its values are black and white.
        Exception: whatever Pillow raises about a damaged file.
    """
    raw_mode = _raw_mode(image)  # forgotten by loading
    image.load()
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        return _on_white(_from_16_bits(image), image, raw_mode)
    signed = _SIGNED in _tags(image, _SAMPLE_FORMAT)
    if signed or mode in ("I", "F"):
        kind = "signed" if signed else "32-bit" if mode == "I" else "floating-point"
        raise ImageInputError(
            f"a picture of {kind} values, which have no known range,",
            "scale them to 0 to 255 and convert it to 8 bits, in PIL to mode L",
        )
    if mode == "RGB":
        return _on_white(image.copy(), image, raw_mode)
    if mode in ("1", "L"):
        return _on_white(Image.merge("RGB", [image.convert("L")] * 3), image, raw_mode)
    if mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "P", "RGBA", "RGBa") and image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
    bits = 12 if _tags(image, _BITS_PER_SAMPLE) == (12,) else 16
    values = np.asarray(image).astype(np.uint32)
    most = np.uint32(2**bits - 1)
    grey = ((values * 510 + most) // (2 * most)).astype(np.uint8)
    if _WHITE_IS_ZERO in _tags(image, _PHOTOMETRIC):  # which Pillow minds up to 8 bits
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")


def _on_white(rgb: Image.Image, image: Image.Image, raw_mode: str) -> Image.Image:
    """Make those pixels white whose value says that they are transparent.

    Args:
        rgb: to be changed.
        image: the same before its conversion.
        raw_mode: its own, before it was loaded.
    """
    key = _color_key(image, raw_mode)
    if key is not None:
        transparent = np.asarray(image) == key
        if transparent.ndim > 2:
            transparent = transparent.all(axis=2)
        rgb.paste((255, 255, 255), mask=Image.fromarray(transparent))
    return rgb


def _color_key(image: Image.Image, raw_mode: str) -> Any:
    """Return the value of transparent pixels as arrays of the image have it; None: all are opaque.

    In `info` Pillow leaves a PNG's value as it is in the file (PNG, tRNS), of the bits there.
    """
    key = image.info.get("transparency")
    if image.mode == "RGB":
        if not isinstance(key, tuple):
            return None
        # Pillow keeps the upper half of samples of 16 bits.
        return tuple(value >> 8 for value in key) if raw_mode == "RGB;16B" else key
    if not isinstance(key, int):
        return None
    if image.mode == "1":
        return bool(key)
    return key * _PNG_GREY_SCALES.get(raw_mode, 1)


def _raw_mode(image: Image.Image) -> str:
    """Return how the file of an image that is not loaded yet holds its pixels, if a PNG's."""
    tiles = getattr(image, "tile", ())
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def _tags(image: Image.Image, tag: int) -> tuple[Any, ...]:
    """Return a TIFF's values of a tag, none where there are none."""
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)
