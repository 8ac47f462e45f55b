"""Bounds of the machine, and what a bundle's files say about the cost of a token."""

import sys
from pathlib import Path

import pytest
from gguf import GGUFReader

from edge_et.benchmarks.bounds import describe_bundle, measure_bounds
from edge_et.bundle import load_bundle
from edge_et.errors import BenchError
from edge_et.llm import read_shape


def test_a_bundle_tells_what_a_token_reads(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    info = describe_bundle(bundle)
    assert (info.name, info.version) == (bundle.manifest.name, bundle.manifest.version)
    assert len(info.sha256) == 64
    (model,) = info.models
    spec = bundle.manifest.perceiver
    assert spec.adapter is not None
    tensors = {t.name: int(t.n_bytes) for t in GGUFReader(bundle.path(spec.weights)).tensors}
    read = sum(tensors.values()) + spec.adapter.size_bytes
    if "output.weight" in tensors:  # one row of the input embeddings is read, not the table
        read -= tensors["token_embd.weight"]
    assert (model.role, model.weight_bytes) == ("perceiver", read)
    assert model.shape["layers"] == read_shape(bundle.path(spec.weights)).layers


def test_a_reasoner_of_its_own_is_the_last_model(tiny_pair: Path):
    assert [model.role for model in describe_bundle(load_bundle(tiny_pair)).models] == [
        "perceiver",
        "reasoner",
    ]


def test_the_machine_is_measured_in_a_process_of_its_own():
    found = measure_bounds(1)
    assert found.memory_bytes_per_s > 1e7
    assert found.gemm_flops_per_s > 1e7


def test_a_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Traceback >&2\necho MemoryError >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(BenchError, match="bounds cannot be measured: MemoryError"):
        measure_bounds(1)
