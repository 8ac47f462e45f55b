"""Pictures of single things, as packages hold them, without their empty borders."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image


@functools.lru_cache(maxsize=1536)
def open_cropped(path: Path, pixels: int) -> Image.Image:
    """Return what a picture shows, RGBA, `pixels` at most on its longer side."""
    picture = Image.open(path).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    return picture
