"""What a bundle says about thoughts and hints, and bundles that say it."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edge_et.bundle import HintSpec, Manifest, Sampling, ThoughtSpec, read_manifest, save_manifest

THOUGHTS = ThoughtSpec(
    start="<think>",
    end="</think>",
    skip="<think>\n\n</think>\n\n",
    closing="So the answer is.\n",
    default=False,
    prompt="Description: {extraction}\nThink: {question}",
    max_thinking_tokens=12,
    sampling=Sampling(),
)
HINT = HintSpec(prompt="What matters for this? {question}", max_hint_tokens=6)
HINTED = "{image}Describe. Especially, pay attention to {hint}."


def change_bundle(folder: Path, **changes: dict[str, Any]) -> Manifest:
    """Change fields of a bundle's manifest, by the name of the struct that holds them."""
    manifest = read_manifest(folder / "bundle.json")
    for name, fields in changes.items():
        manifest = replace(manifest, **{name: replace(getattr(manifest, name), **fields)})
    save_manifest(manifest, folder)
    return manifest
