"""Changes to the bundle.json of a bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def change(folder: Path, edit: Change) -> None:
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def tiled(tiling: dict[str, Any], arrangement: str = "flat", **processing: Any) -> Change:
    def edit(content: dict[str, Any]) -> None:
        content["vision"]["arrangement"] = arrangement
        content["vision"]["processing"].update(tiling=tiling, **processing)

    return edit


def marked(markup: dict[str, Any], arrangement: str = "flat") -> Change:
    """Put marks between the tiles of grids up to 2 x 2."""

    def edit(content: dict[str, Any]) -> None:
        tiled({"grids": [[2, 2]]}, arrangement)(content)
        content["vision"]["markup"] = markup

    return edit
