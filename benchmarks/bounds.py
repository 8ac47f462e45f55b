"""Measure what the machine can do at most: reading memory, and multiplying matrices.

``python -m edge_et.benchmarks.bounds THREADS`` prints a `Bounds` as JSON. It is a process of its
own because numpy's BLAS reads its number of threads when it is loaded. That number is one; the
module starts the threads itself.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Literal

import msgspec
import numpy as np

from edge_et.benchmarks.document import Bounds, BundleInfo, Model
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import BenchError
from edge_et.export.steps import needing_extra
from edge_et.llm import ModelShape, read_shape
from edge_et.pipeline import kv_cache_bytes, manifest_sha256

_READ_BYTES = 256 * 2**20  # of one pass, all threads together; more than the caches of a server
_MATRIX_SIDE = 1024
_PASSES = 5


def measure_bounds(threads: int) -> Bounds:
    """Measure what this machine can do with some threads.

    Args:
        threads: at least 1.

    Raises:
        BenchError: the process failed.
    """
    one = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edge_et.benchmarks.bounds", str(threads)]
    done = subprocess.run(
        command, capture_output=True, env=os.environ | one | {"VECLIB_MAXIMUM_THREADS": "1"}
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BenchError(f"the machine's bounds cannot be measured: {reason}")
    return msgspec.json.decode(done.stdout, type=Bounds)


def describe_bundle(bundle: Bundle) -> BundleInfo:
    """Return what a bundle's files say about the cost of its language models.

    Args:
        bundle: a bundle.

    Raises:
        ModelFileError: a GGUF does not tell its sizes.
    """
    manifest = bundle.manifest

    def describe(role: Literal["perceiver", "reasoner"], spec: LanguageModelSpec) -> Model:
        weights = bundle.path(spec.weights)
        adapter = None if spec.adapter is None else bundle.path(spec.adapter)
        return Model(
            role=role,
            weight_bytes=token_bytes(weights, adapter),
            shape={
                name: size for name, size in asdict(read_shape(weights)).items() if size is not None
            },
        )

    models = [describe("perceiver", manifest.perceiver)]
    if manifest.reasoner is not None:
        models.append(describe("reasoner", manifest.reasoner))
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest_sha256(bundle),
        models=tuple(models),
        tower_bytes=sum(
            file.ref.size_bytes for file in bundle.files if file.role.startswith("vision.")
        ),
        kv_cache_bytes=kv_cache_bytes(bundle, "f16"),
    )


def decode_bound(
    bounds: Bounds, model: Model, positions: float, weight_bytes: int | None = None
) -> float:
    """Return the tokens a second at which memory limits decoding.

    Args:
        bounds: of the machine.
        model: its weights and the keys and values of every position are read for each token.
        positions: in the cache, on average.
        weight_bytes: read for one token where other weights were opened; None: the model's.
    """
    kv_bytes = msgspec.convert(model.shape, ModelShape).kv_bytes(1, "f16") * positions
    weight_bytes = model.weight_bytes if weight_bytes is None else weight_bytes
    return bounds.memory_bytes_per_s / (weight_bytes + kv_bytes)


def prefill_bound(bounds: Bounds, model: Model, reused: int, evaluated: int) -> float:
    """Return the tokens a second at which matrix products limit a prefill.

    Args:
        bounds: of the machine; its rate is that of float32, which kernels for quantized weights
            may exceed.
        model: the model.
        reused: positions that are in the cache already.
        evaluated: positions behind them, at least 1.
    """
    shape = msgspec.convert(model.shape, ModelShape)
    flops = shape.prefill_flops(reused + evaluated) - shape.prefill_flops(reused)
    return evaluated * bounds.gemm_flops_per_s / flops


def token_bytes(weights: Path, adapter: Path | None) -> int:
    """Return the bytes that a language model reads for every token.

    Args:
        weights: GGUF file.
        adapter: LoRA that is read beside it; None: there is none.
    """
    with needing_extra("bench"):
        from gguf import GGUFReader

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(weights).tensors}
    if "output.weight" in sizes:  # then of the input embeddings one row alone is read
        sizes.pop("token_embd.weight", None)
    return sum(sizes.values()) + (0 if adapter is None else adapter.stat().st_size)


def _main(threads: int) -> None:
    count = _READ_BYTES // 4 // threads
    vectors = [np.ones(count, np.float32) for _ in range(threads)]
    matrices = [np.ones((_MATRIX_SIDE, _MATRIX_SIDE), np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def rate(work: float, job: Callable[[int], object]) -> float:
            """Return the best rate of some passes in which each thread does the job once."""
            best = 0.0
            for _ in range(_PASSES):
                start = perf_counter()
                list(pool.map(job, range(threads)))
                best = max(best, work / (perf_counter() - start))
            return best

        bounds = Bounds(
            memory_bytes_per_s=rate(
                4.0 * count * threads, lambda index: np.dot(vectors[index], vectors[index])
            ),
            gemm_flops_per_s=rate(
                2.0 * _MATRIX_SIDE**3 * threads, lambda index: matrices[index] @ matrices[index]
            ),
        )
    print(msgspec.json.encode(bounds).decode())


if __name__ == "__main__":
    _main(int(sys.argv[1]))
