"""What tests of every kind share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny.anyres import build_tiled_bundle
from tiny.bundle import build_bundle
from tiny.engine import ON_PREBUILT, hide_llama_cpp


def pytest_configure() -> None:
    """Keep ONNX Runtime, which some tests import by themselves, from reporting them."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(autouse=True, scope="session")
def no_profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what was tuned or cached on this machine out of the tests.

    A file stands where weights would be made for the next program, so that the same test reads the
    same weights however often it runs. An engine that needs them has them at once.
    """
    caches = tmp_path_factory.mktemp("caches")
    (caches / "edge-et").mkdir()
    if not ON_PREBUILT:
        (caches / "edge-et" / "weights").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches))
        yield


@pytest.fixture(autouse=True, scope="session")
def only_the_engine_asked_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide llama.cpp where EDGE_ET_TEST_ENGINE is prebuilt."""
    with pytest.MonkeyPatch.context() as patch:
        if ON_PREBUILT:
            hide_llama_cpp(patch, tmp_path_factory.mktemp("hidden"))
        yield


@pytest.fixture
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process believe that it may use 64 CPUs."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("edge_et.threads.cpu_quota", lambda *_: None)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for both stages, with an adapter if the engine applies it. Not to be written to."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    build_bundle(folder, adapter=not ON_PREBUILT)
    return folder


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceiver and a reasoner of its own. Not to be written to."""
    folder = tmp_path_factory.mktemp("bundles") / "pair"
    build_bundle(folder, two_models=True)
    return folder


@pytest.fixture(scope="session")
def tiny_tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, and pictures cut into tiles. Not to be written to."""
    folder = tmp_path_factory.mktemp("bundles") / "tiled"
    build_tiled_bundle(folder)
    return folder
