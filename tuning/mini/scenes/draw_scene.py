"""Draw one scene for every seed: which family it is of, what it is drawn with, and its wear."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from edge_et.tuning.mini.scenes.canvas import Backgrounds, background, wear
from edge_et.tuning.mini.scenes.charts import render_chart
from edge_et.tuning.mini.scenes.objects import render_objects, render_photograph
from edge_et.tuning.mini.scenes.printed import render_print
from edge_et.tuning.mini.scenes.restyle import painted, restyle
from edge_et.tuning.mini.scenes.scene import Scene

Family = Literal["objects", "photograph", "print", "chart"]
FAMILIES: tuple[Family, ...] = ("objects", "photograph", "print", "chart")

_FAMILY_SHARES = (0.54, 0.06, 0.14, 0.26)
_CLIP_ART_SHARE = 0.2


class Icons(Protocol):
    """Drawings of one style; `assets.icons.IconLibrary` is one.

    Attributes:
        lines: whether they are lines and shadows of one colour.
    """

    lines: bool

    def slugs(self, thing: str) -> Sequence[str]:
        """List the icons of a thing."""

    def icon(self, slug: str) -> Image.Image:
        """Return an RGBA drawing."""


class Stamps(Protocol):
    """Photographs of things, cut out; `assets.stamps.StampLibrary` is one."""

    def names(self) -> Collection[str]:
        """List the things there are."""

    def cutout(self, name: str, rng: np.random.Generator) -> Image.Image:
        """Return one of the RGBA pictures of a thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneKit:
    """What scenes are drawn with.

    Attributes:
        icons: drawing styles. A scene keeps to one, as far as that one can draw its things.
        fonts: Font files.
        stamps: cut-out photographs of things; None for drawings alone.
        stamp_share: how often a thing that stamps have is a stamp.
        clip_art: drawings by many hands, for any scene; None for those of the styles alone.
        backgrounds: photographs to put things on; None for textures alone.
        held_out: whether words and pairs of things are those kept from training, and drawings stay
            as they are.
    """

    icons: Sequence[Icons]
    fonts: Sequence[Path]
    stamps: Stamps | None = None
    stamp_share: float = 0.45
    clip_art: Icons | None = None
    backgrounds: Backgrounds | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class _OneStyle:
    """The looks of one scene's things."""

    kit: SceneKit
    style: Icons

    def drawing(self, name: str, rng: np.random.Generator) -> Image.Image:
        """Return a cut-out photograph of a thing, or its drawing, perhaps in another style."""
        stamps = self.kit.stamps
        as_photograph = rng.random() < self.kit.stamp_share
        if stamps is not None and as_photograph and name in stamps.names():
            return stamps.cutout(name, rng)
        clip_art = self.kit.clip_art
        if clip_art is not None and rng.random() < _CLIP_ART_SHARE and clip_art.slugs(name):
            return drawn_otherwise(rng, clip_art, _one_of(rng, clip_art.slugs(name)))
        others = (self.kit.icons[i] for i in rng.permutation(len(self.kit.icons)))
        for icons in (self.style, *others):
            slugs = icons.slugs(name)
            if slugs:
                slug = _one_of(rng, slugs)
                return icons.icon(slug) if self.kit.held_out else drawn_otherwise(rng, icons, slug)
        assert stamps is not None, f"no style draws {name!r}"
        return stamps.cutout(name, rng)


def _one_of(rng: np.random.Generator, slugs: Sequence[str]) -> str:
    return slugs[int(rng.integers(len(slugs)))]


def drawn_otherwise(rng: np.random.Generator, icons: Icons, slug: str) -> Image.Image:
    """Return an icon, RGBA, as training shows it: perhaps as other hands would have drawn it."""
    icon = icons.icon(slug)
    return painted(rng, icon) if icons.lines else restyle(rng, icon)


def render_scene(
    seed: int, kit: SceneKit, family: Family | None = None, composition: str | None = None
) -> Scene:
    """Render the scene of a seed.

    Args:
        seed: any number from 0; equal seeds give equal scenes of one kit.
        kit: what to draw with.
        family: which kind of picture; by default the seed chooses. Without stamps there are
            objects where photographs would be.
        composition: of a scene of objects, one of `objects.COMPOSITIONS`; by default the seed
            chooses.
    """
    rng = np.random.default_rng(seed)
    drawn = FAMILIES[int(rng.choice(len(FAMILIES), p=_FAMILY_SHARES))]
    family = family or drawn
    style = kit.icons[int(rng.integers(len(kit.icons)))]
    canvas = background(rng, kit.backgrounds)
    if family == "photograph" and kit.stamps is not None:
        name = _one_of(rng, sorted(kit.stamps.names()))
        scene = render_photograph(rng, canvas, name, kit.stamps.cutout(name, rng))
    elif family in ("objects", "photograph"):
        looks = _OneStyle(kit, style)
        scene = render_objects(rng, canvas, looks, composition, held_out=kit.held_out)
    elif family == "print":
        scene = render_print(rng, canvas, kit.fonts, held_out=kit.held_out)
    else:
        scene = render_chart(rng, kit.fonts)
    return Scene(wear(rng, scene.picture), scene.facts, scene.labels, scene.coverage)
