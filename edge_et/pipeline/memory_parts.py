"""What each part of an opened bundle takes in memory, known before it is opened.

In: sizes of files, shapes of models, how they are opened. Out: bytes, resident ones: what cannot be
given back, and the pages of mapped weights, all of which every token reads. What is chosen by them
is not known here.

KV caches are exact. The rest are estimates, fitted to the peaks of the mini and of Qwen3-0.6B with
SigLIP so400m (synthetic), with ONNX Runtime 1.32, llama-cpp-python 0.3.36 and ik-llama-cpp-python
0.1.5 on x86-64 Linux; and, for tiles of many sizes, to int8 towers of random weights with the
dimensions of Qwen3.5-0.8B and 2B, which took 498 and 594 bytes a pixel of 1024 x 1024.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_et.bundle import VisionSpec
from edge_et.llm import ModelShape
from edge_et.options import EngineName

LIBRARY_BYTES = 18_000_000
"""What ONNX Runtime and an engine take beyond being imported, once they have computed."""

PICTURE_PIXEL_BYTES = 9
"""Of a picture while it is decoded, turned upright and hashed: three copies in RGB."""

LEAST_PIXELS = 1_000_000
"""A smaller limit would refuse the pictures of most cameras."""

_TOWER_BYTES = 20_000_000  # its graph, opened
_TOWER_PIXEL_BYTES = 520  # of a tile, while it runs
_SIZED_TOWER_PIXEL_BYTES = 600  # the same where tiles are of many sizes, and some large
_TOKEN_BYTES = 360  # of a tokenizer, for each of its tokens
_MODEL_BYTES = 6_000_000  # opened, beside its weights
_CONTEXT_BYTES = {"llama": 12_000_000, "prebuilt": 29_000_000}  # beside what a batch needs
_LEAST_ROWS = {"llama": 1, "prebuilt": 128}  # two groups of an image's, of `BatchRules`


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """What is known of a language model that is to be opened.

    Attributes:
        engine: opens it.
        file_bytes: of the weights that it reads, adapter included.
        shape: its sizes.
        vocabulary_size: rows of its embedding table.
    """

    engine: EngineName
    file_bytes: int
    shape: ModelShape
    vocabulary_size: int

    @property
    def weights_bytes(self) -> int:
        """Bytes of the opened weights, mapped or not, and of what the engine keeps beside them."""
        return self.file_bytes + _MODEL_BYTES

    @property
    def tokenizer_bytes(self) -> int:
        """Bytes of its tokenizer."""
        return self.vocabulary_size * _TOKEN_BYTES

    def batch_bytes(self, rows: int, positions: int) -> int:
        """Return what one context needs to compute with.

        Args:
            rows: of its largest batch.
            positions: that the context holds, of which attention may look at all.
        """
        # Scores of attention in float32, and as the other factor of a product in F16; a row of the
        # feed-forward block, twice, and of what goes in and comes out.
        row = 6 * self.shape.heads * positions + 8 * (self.shape.feed_forward + self.shape.width)
        return max(rows, _LEAST_ROWS[self.engine]) * row + _CONTEXT_BYTES[self.engine]


def tower_bytes(spec: VisionSpec) -> int:
    """Return the most that a vision tower takes, while it runs for a tile."""
    weights = sum(file.size_bytes for file in spec.files)
    has_one_size = spec.processing.whole_size is None
    pixel_bytes = _TOWER_PIXEL_BYTES if has_one_size else _SIZED_TOWER_PIXEL_BYTES
    return weights + _TOWER_BYTES + pixel_bytes * spec.processing.most_tile_pixels


def process_bytes() -> int | None:
    """Return what this process holds already; None: this system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return next((int(number) * 1024 for number in kilobytes), None)
