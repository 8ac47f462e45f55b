"""What scripts/fetch_cpp_parts.py asks for before it fetches anything."""

import importlib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tiny.places import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("fetch_cpp_parts")


def test_it_is_told_how_llama_cpp_is_installed(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(script, "KEYS", str(tmp_path))
    monkeypatch.setattr(script.importlib.metadata, "distribution", missing)
    with pytest.raises(SystemExit, match=r"no llama-cpp-python: .*pip install '\.\[mini\]'"):
        script.main(tmp_path / "parts", "amd64")
    assert not (tmp_path / "parts").exists()


def test_it_is_told_which_package_has_the_keys(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "KEYS", str(tmp_path / "none.gpg"))
    with pytest.raises(SystemExit, match=r"none\.gpg is missing.*debian-archive-keyring"):
        script.main(tmp_path / "parts", "amd64")
    assert not (tmp_path / "parts").exists()
