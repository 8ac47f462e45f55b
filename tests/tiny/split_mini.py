"""The mini as two conversations: its reasoner reads the extraction alone, in a cache of its own."""

from pathlib import Path

import msgspec

import edge_et
from edge_et.bundle import find_bundle, save_manifest


def build_split_mini(folder: Path) -> None:
    """Write a bundle that has the mini's models, and keeps its stages apart.

    Args:
        folder: is made.
    """
    mini = edge_et.load_bundle(find_bundle(None))
    folder.mkdir()
    for file in mini.folder.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    (folder / "bundle.json").unlink()
    think = msgspec.structs.replace(
        mini.manifest.think,
        sees="extraction",
        prompt="Description: {extraction}\nThink step by step, then answer: {question}",
    )
    save_manifest(msgspec.structs.replace(mini.manifest, name="split", think=think), folder)
