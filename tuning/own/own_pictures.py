"""A person's own labelled pictures: read, checked, split, and varied a little for training."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from edge_et.errors import ImageError, TuningError
from edge_et.image import load_image

_SUFFIXES = (".bmp", ".gif", ".heic", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_LABEL = re.compile(r"[^\W_][\w '.&+/-]{0,39}")
_HELD_OUT = 5
_LONGEST_SIDE = 640


@dataclass(frozen=True, slots=True, eq=False)
class OwnPicture:
    """A picture of one thing.

    Attributes:
        label: what it shows, in words.
        path: its file.
        picture: RGB, at most 640 pixels a side.
    """

    label: str
    path: Path
    picture: Image.Image


@dataclass(frozen=True, slots=True)
class OwnPictures:
    """The pictures of a folder.

    Attributes:
        training: to learn from.
        held_out: to be asked about before and after, never learnt from: one in five of each label,
            chosen by the files' names.
        broken: files that are no pictures, with what is wrong.
    """

    training: tuple[OwnPicture, ...]
    held_out: tuple[OwnPicture, ...]
    broken: tuple[tuple[Path, str], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({picture.label for picture in self.training}))


def read_own_pictures(folder: Path) -> OwnPictures:
    """Read `folder/LABEL/PICTURE`; underscores in the names of labels stand for spaces.

    Args:
        folder: holds a folder for each label.

    Raises:
        TuningError: there are fewer than two labels, a label has fewer than two pictures, or its
            name is not a few plain words.
    """
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as err:
        raise TuningError(f"{folder} cannot be read: {err.strerror}") from err
    if len(folders) < 2:
        raise TuningError(f"{folder} holds {len(folders)} folders; it takes one for each label")
    training: list[OwnPicture] = []
    held_out: list[OwnPicture] = []
    broken: list[tuple[Path, str]] = []
    for path in folders:
        pictures = _read_label(path, broken)
        if len(pictures) < 2:
            raise TuningError(
                f"{path} holds {len(pictures)} pictures that can be read; "
                "a label takes two or more, ten make a good start"
            )
        ordered = sorted(pictures, key=lambda p: hashlib.sha256(p.path.name.encode()).digest())
        kept = max(1, len(ordered) // _HELD_OUT)
        held_out += ordered[:kept]
        training += ordered[kept:]
    return OwnPictures(tuple(training), tuple(held_out), tuple(broken))


def vary(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a picture slightly turned, cropped, and lighter or darker."""
    turned = picture.rotate(
        float(rng.uniform(-15, 15)), Image.Resampling.BICUBIC, fillcolor=_border_colour(picture)
    )
    share = rng.uniform(0.82, 1.0)
    width, height = int(turned.width * share), int(turned.height * share)
    left = int(rng.integers(turned.width - width + 1))
    top = int(rng.integers(turned.height - height + 1))
    part = turned.crop((left, top, left + width, top + height))
    return ImageEnhance.Brightness(part).enhance(float(rng.uniform(0.75, 1.25)))


def _read_label(folder: Path, broken: list[tuple[Path, str]]) -> list[OwnPicture]:
    label = folder.name.replace("_", " ").strip()
    if not _LABEL.fullmatch(label):
        raise TuningError(
            f"{folder}: a label is a few plain words of at most 40 characters, not {label!r}"
        )
    pictures = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        try:
            picture = load_image(path)
        except ImageError as err:
            broken.append((path, str(err)))
            continue
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        pictures.append(OwnPicture(label, path, picture))
    return pictures


def _border_colour(picture: Image.Image) -> tuple[int, int, int]:
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = (int(value) for value in border.mean(axis=0))
    return red, green, blue
