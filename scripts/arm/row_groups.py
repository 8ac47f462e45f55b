"""Computes with weights of all types in batches of many sizes: `row_groups.py ENGINE FOLDER OUT`.

Runs in the emulated Python and in that of the host alike. In: a folder of GGUFs, and what a
manifest says of any of them. Out: for each, in the folder OUT, logits in TYPE.npz, and TYPE.json,
which tells in batches of how many rows each row has the bits of that row alone, those that it has
in a group of eight, and those that it has among many. What is there already is not computed again.
"""

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.llm import KVCacheSettings, LanguageModel, default_engine

SIZES = (1, 2, 4, 7, 8, 9, 12, 15, 16, 24, 32, 48, 64, 72)
MANY = 72
ALIKE = {"as_one": 1, "as_eight": 8, "as_many": MANY}
IDS = np.random.default_rng(0).integers(20, 300, MANY).astype(np.int32)


def main(engine: str, folder: Path, out: Path) -> None:
    """Compute, and write both files of each.

    Args:
        engine: as `load` takes it.
        folder: holds `TYPE.gguf`, any number, and `model.json`, a `LanguageModelSpec`.
        out: where they go.
    """
    out.mkdir(parents=True, exist_ok=True)
    spec = msgspec.json.decode((folder / "model.json").read_bytes(), type=LanguageModelSpec)
    for weights in sorted(folder.glob("*.gguf")):
        told = out / f"{weights.stem}.json"
        if told.exists():
            continue
        by_size = compute(engine, weights, spec)
        found = {name: same_as(by_size, size) for name, size in ALIKE.items()}
        np.savez(out / f"{weights.stem}.npz", one=by_size[1], many=by_size[MANY])
        told.write_text(json.dumps(found))
        print(f"{weights.stem}: {found}", flush=True)


def compute(engine: str, weights: Path, spec: LanguageModelSpec) -> dict[int, NDArray[np.float32]]:
    """Return the logits [72, V] by the number of rows that are evaluated at once."""
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
