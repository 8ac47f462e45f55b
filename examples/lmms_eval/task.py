"""What the local task of lmms-eval needs beside its YAML file."""

from pathlib import Path

from PIL import Image


def pictures(document: dict[str, str]) -> list[Image.Image]:
    """Return the picture of a question."""
    with Image.open(Path(__file__).parents[1] / document["image"]) as picture:
        return [picture.convert("RGB")]
