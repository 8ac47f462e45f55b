"""Everything that scenes are drawn with, in one place."""

from __future__ import annotations

from pathlib import Path

from edge_et.tuning.mini.assets.backgrounds import BackgroundLibrary
from edge_et.tuning.mini.assets.clip_art import ClipArt
from edge_et.tuning.mini.assets.fonts import FontLibrary
from edge_et.tuning.mini.assets.icons import IconLibrary
from edge_et.tuning.mini.assets.stamps import StampLibrary
from edge_et.tuning.mini.concepts import HELD_OUT_STYLE, TRAINING_STYLES
from edge_et.tuning.mini.scenes.draw_scene import SceneKit


def scene_kit(assets: Path, *, held_out: bool = False) -> SceneKit:
    """Gather what scenes are drawn with, fetching what is not there yet.

    Args:
        assets: folder of downloads.
        held_out: whether to take the drawing style, fonts, words and pairs that training never
            sees.

    Raises:
        AssetError: something cannot be fetched.
    """
    styles = (HELD_OUT_STYLE,) if held_out else TRAINING_STYLES
    return SceneKit(
        icons=[IconLibrary(style, assets) for style in styles],
        fonts=FontLibrary(assets).fonts(held_out=held_out),
        stamps=None if held_out else StampLibrary(assets),
        clip_art=None if held_out else ClipArt(assets),
        backgrounds=BackgroundLibrary(assets),
        held_out=held_out,
    )
