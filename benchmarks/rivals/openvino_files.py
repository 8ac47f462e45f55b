"""Name the files of models for OpenVINO GenAI, for converter and benchmark alike."""

from pathlib import Path

WEIGHTS = ("int8", "int4")
"""How the matrices of the language model may be stored."""

IMAGE_TOKEN = "<image>"
"""Stands for the picture in a prompt."""


def converted_folder(bundle: Path, weights: str) -> Path:
    """Return where a model is, in the folder of the bundle that it imitates."""
    return bundle / f"openvino-{weights}"
