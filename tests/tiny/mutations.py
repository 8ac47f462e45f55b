"""Damaged files, given to the runtime one after the other: `python -m tiny.mutations FOLDER`.

Reads lines ``KIND SEED`` and writes one for each: ``answered``, ``refused ERROR``, or ``wrong`` and
what happened. What kills this process, or keeps it busy for ever, is seen by whoever started it.
"""

import contextlib
import io
import json
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import edge_et
from edge_et.bundle import loading
from edge_et.errors import EdgeETError
from edge_et.image import load_image
from tiny.bundle import build_bundle

QUESTION = "Which colour?"
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Mutations:
    """A sound bundle, its answer, and ways to damage it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound = folder / "sound"
        build_bundle(self._sound)
        self._expected = self._ask(self._sound)
        # As a large file is loaded: its size is compared, and nobody knows the head of a GGUF.
        loading.HASH_AT_LOAD_BYTES = 0
        manifest = json.loads((self._sound / "bundle.json").read_text())
        manifest["perceiver"]["weights"].pop("head", None)
        (self._sound / "bundle.json").write_text(json.dumps(manifest, indent=1))
        self._ways: dict[str, Callable[[np.random.Generator], object]] = {
            "manifest": lambda random: self._json("bundle.json", random),
            "tokenizer": lambda random: self._json("tokenizer.json", random),
            "text": lambda random: self._bytes("tokenizer.json", random),
            "weights": lambda random: self._bytes("perceiver.gguf", random),
            "graph": lambda random: self._bytes("vision.onnx", random),
            "snapshot": self._snapshot,
            "picture": self._picture,
        }

    def run(self, kind: str, seed: int) -> str:
        """Damage something, use it, and tell what came of it."""
        try:
            self._ways[kind](np.random.default_rng(seed))
        except EdgeETError as err:
            lines = len(str(err).splitlines())
            return f"refused {type(err).__name__}" if lines == 1 else f"wrong: {lines} lines"
        except Exception:
            return f"wrong: {' '.join(traceback.format_exc().splitlines()[-3:])}"
        left = [path.name for path in self._folder.rglob(".edge-et-partial-*")]
        return f"wrong: {left} left" if left else "answered"

    def _damaged(self) -> Path:
        shutil.rmtree(self._folder / "damaged", ignore_errors=True)
        shutil.copytree(self._sound, self._folder / "damaged")
        return self._folder / "damaged"

    def _ask(self, bundle: Path, cache_dir: Path | None = None) -> tuple[str, str]:
        with edge_et.load(bundle, threads=1, use_profile=False, cache_dir=cache_dir) as pipe:
            answer = pipe.answer(PICTURE, QUESTION, max_extraction_tokens=6, max_answer_tokens=4)
            return answer.extraction, answer.text

    def _json(self, name: str, random: np.random.Generator) -> None:
        bundle = self._damaged()
        document = json.loads((bundle / name).read_text())
        change_json(document, random)
        (bundle / name).write_text(json.dumps(document))
        if name != "bundle.json":  # the size is compared before anything is read
            manifest = json.loads((bundle / "bundle.json").read_text())
            manifest["perceiver"]["tokenizer"]["size_bytes"] = (bundle / name).stat().st_size
            (bundle / "bundle.json").write_text(json.dumps(manifest))
        self._ask(bundle)

    def _bytes(self, name: str, random: np.random.Generator) -> None:
        bundle = self._damaged()
        (bundle / name).write_bytes(mutated((bundle / name).read_bytes(), random))
        self._ask(bundle)

    def _snapshot(self, random: np.random.Generator) -> None:
        cache = self._folder / "cache"
        if not cache.exists():
            self._ask(self._sound, cache)
        entries = sorted(cache.rglob("*.snapshot"))
        entry = entries[random.integers(len(entries))]
        entry.write_bytes(mutated(entry.read_bytes(), random))
        if self._ask(self._sound, cache) != self._expected:
            raise ValueError("a damaged snapshot changed the answer")

    def _picture(self, random: np.random.Generator) -> None:
        file = io.BytesIO()
        Image.fromarray(PICTURE).save(file, FORMATS[random.integers(len(FORMATS))])
        load_image(mutated(file.getvalue(), random), max_pixels=10**6)


def change_json(document: dict[str, Any], random: np.random.Generator) -> None:
    """Replace or remove one thing somewhere in a document."""
    values: list[object] = [None, 0, -1, 2**70, 0.5, "", "../x", "\0", [], {}, True]
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[random.integers(len(keys))]
        if isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
            place = place[key]
        else:
            break
    if random.random() < 0.2:
        del place[key]
    else:
        place[key] = values[random.integers(len(values))]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Change some bytes, mostly near the beginning; the size stays."""
    changed = bytearray(data)
    end = len(data) if random.random() < 0.3 else min(len(data), 4096)
    for _ in range(random.integers(1, 9)):
        place = random.integers(end)
        count = min(int(random.choice([1, 1, 4, 8])), len(data) - place)
        values = (random.bytes(count), bytes(count), b"\xff" * count)
        changed[place : place + count] = values[random.integers(len(values))]
    return bytes(changed)


def main() -> None:
    mutations = Mutations(Path(sys.argv[1]))
    told = sys.stdout
    print("ready", file=told, flush=True)
    for line in sys.stdin:
        kind, seed = line.split()
        with contextlib.redirect_stdout(sys.stderr):
            outcome = mutations.run(kind, int(seed))
        print(outcome, file=told, flush=True)


if __name__ == "__main__":
    main()
