"""A llama.cpp whose kernels are in libraries of their own, one for each kind of CPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_et.errors import EngineError
from edge_et.llm.batch_rules import IN_EVEN_CHUNKS, IN_GROUPS, BatchRules
from edge_et.llm.engines.llama_cpp import LlamaCpp


class Library:
    """libllama: how many kinds of kernels are loaded, and from where."""

    def __init__(self, folder: Path, loaded: int, found: int) -> None:
        self._name = str(folder / "libllama.so")
        self._loaded, self._found = loaded, found
        self.calls: list[Any] = []

    def ggml_backend_reg_count(self) -> int:
        return self._loaded

    def ggml_backend_load_all_from_path(self, folder: bytes) -> None:
        self.calls.append(folder)
        self._loaded += self._found


def open_it(library: Library) -> None:
    bindings = SimpleNamespace(
        llama_cpp=SimpleNamespace(_lib=library),
        llama_backend_init=lambda: library.calls.append("init"),
    )
    log: Any = SimpleNamespace(attach=lambda _: library.calls.append("log"))
    LlamaCpp(bindings, log)


def test_they_are_taken_from_beside_the_library_before_llama_cpp_looks_elsewhere(
    tmp_path: Path,
) -> None:
    library = Library(tmp_path, loaded=0, found=1)
    open_it(library)
    assert library.calls == ["log", bytes(tmp_path), "init"]


def test_those_that_are_built_in_are_enough(tmp_path: Path) -> None:
    library = Library(tmp_path, loaded=1, found=1)
    open_it(library)
    assert library.calls == ["log", "init"]


@pytest.mark.parametrize(
    ("told", "rules"),
    [("NEON = 1 | MATMUL_INT8 = 1", IN_EVEN_CHUNKS), ("NEON = 1 | DOTPROD = 1", IN_GROUPS)],
)
def test_batches_are_cut_as_the_kernels_round(tmp_path: Path, told: str, rules: BatchRules) -> None:
    bindings = SimpleNamespace(
        llama_cpp=SimpleNamespace(_lib=Library(tmp_path, loaded=1, found=1)),
        llama_backend_init=lambda: None,
        llama_print_system_info=told.encode,
    )
    log: Any = SimpleNamespace(attach=lambda _: None)
    assert LlamaCpp(bindings, log).rules_here(IN_GROUPS) == rules


def test_where_none_fits_it_is_told_what_to_do(tmp_path: Path) -> None:
    library = Library(tmp_path, loaded=0, found=0)
    with pytest.raises(EngineError, match=r"no kernels for this CPU in .*libggml-cpu\*\.so"):
        open_it(library)
    assert "init" not in library.calls
