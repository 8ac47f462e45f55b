"""Kinds of drawings that no question is about, for the closer look to learn to tell apart besides.

Sets of emoji draw many more kinds than scenes show, each in the hand of its set. What these hands
have in common can be learnt from all of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_et.tuning.mini.assets.icons import ICON_SETS, IconLibrary
from edge_et.tuning.mini.concepts import THINGS, TRAINING_STYLES

# Kinds that fewer sets have say little about hands.
_FEWEST_SETS = 4
# Variations of people, and signs that differ in what is written on them.
_PASSED_OVER = re.compile(
    r"^flag-|skin-tone|oclock|thirty|-button|family|keycap|^regional|arrow|couple|kiss-"
    r"|-holding-hands|^(wo)?m[ae]n-|^person-|^(light|dark|medium)"
)


def other_kinds(assets: Path) -> Mapping[str, Sequence[IconLibrary]]:
    """List slugs that are no thing's, and the sets of emoji that have them.

    Args:
        assets: folder of downloads; see `kit.scene_kit`.

    Raises:
        AssetError: a set cannot be fetched.
    """
    things = {slug for thing in THINGS for slug in thing.icons}
    styles = [style for style in TRAINING_STYLES if not ICON_SETS[style].plain]
    libraries = [IconLibrary(style, assets) for style in styles]
    shared = Counter(slug for library in libraries for slug in library.all_slugs)
    return {
        slug: [library for library in libraries if slug in library.all_slugs]
        for slug, count in sorted(shared.items())
        if count >= _FEWEST_SETS and slug not in things and not _PASSED_OVER.search(slug)
    }
