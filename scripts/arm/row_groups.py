"""Computes with weights of all types in batches of many sizes: `row_groups.py ENGINE FOLDER OUT`.

Runs in the emulated Python and in that of the host alike. In: a folder of GGUFs, and the manifest
of one of them. Out: logits in OUT.npz, and OUT.json, which tells for each file in batches of how
many rows each row has the bits of that row alone, and those that it has among many.
"""

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.errors import EdgeETError
from edge_et.llm import KVCacheSettings, LanguageModel, default_engine

SIZES = (*range(1, 18), 24, 31, 32, 33, 40, 48, 56, 63, 64, 65, 72, 80, 128)
MANY = 128
IDS = np.random.default_rng(0).integers(20, 300, MANY).astype(np.int32)


def main(engine: str, folder: Path, out: Path) -> None:
    """Compute, and write both files.

    Args:
        engine: as `load` takes it.
        folder: holds `TYPE.gguf`, any number, and `model.json`, a `LanguageModelSpec`.
        out: where they go, without a suffix.
    """
    spec = msgspec.json.decode((folder / "model.json").read_bytes(), type=LanguageModelSpec)
    found, logits = {}, {}
    for weights in sorted(folder.glob("*.gguf")):
        try:
            by_size = compute(engine, weights, spec)
        except EdgeETError as err:
            found[weights.stem] = {"error": str(err)}
            continue
        found[weights.stem] = {
            "as_one": same_as(by_size, 1),
            "as_many": same_as(by_size, MANY),
        }
        logits[f"{weights.stem} one"] = by_size[1]
        logits[f"{weights.stem} many"] = by_size[MANY]
    np.savez(out.with_suffix(".npz"), **logits)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1))


def compute(engine: str, weights: Path, spec: LanguageModelSpec) -> dict[int, NDArray[np.float32]]:
    """Return the logits [128, V] by the number of rows that are evaluated at once."""
    model = LanguageModel(
        weights,
        spec,
        adapter=None,
        token_count=spec.vocabulary_size,
        engine=default_engine(engine),
    )
    settings = KVCacheSettings(context_length=256, threads=1)
    try:
        return {size: model.all_logits(IDS, settings, batch_positions=size) for size in SIZES}
    finally:
        model.close()


def same_as(by_size: dict[int, NDArray[np.float32]], size: int) -> list[int]:
    """Return the sizes of whole batches in which every row has the bits that it has in another."""
    return [
        other
        for other, logits in by_size.items()
        if np.array_equal(logits[: MANY // other * other], by_size[size][: MANY // other * other])
    ]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
