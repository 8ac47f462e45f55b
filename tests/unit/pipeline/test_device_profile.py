import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.alarms import check_handlers_pass
from tiny.profiles import write_profile

from edge_et.bundle import Bundle, FileRef, file_ref, load_bundle
from edge_et.llm import default_engine
from edge_et.pipeline import (
    PROFILE_NAME,
    apply_profile,
    device_name,
    device_profile,
    library_versions,
    profile_folder,
)
from edge_et.pipeline.device_profile import cache_fingerprint


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def made_weights(bundle: Bundle, name: str = "made.gguf") -> FileRef:
    folder = profile_folder(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"weights of " + name.encode())
    return file_ref(folder / name)


def is_passed_over(bundle: Bundle, caplog: pytest.LogCaptureFixture, told: str) -> None:
    """Check that nothing changes, and that one warning says why and what to do."""
    with caplog.at_level(logging.DEBUG, logger="edge_et"):
        assert apply_profile(bundle) == (bundle, None)
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING
    assert str(profile_folder(bundle) / PROFILE_NAME) in message
    assert told in message
    assert "edge-et autotune makes a new one" in message


def test_where_there_is_no_profile_nothing_is_said(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert apply_profile(bundle) == (bundle, None)
    assert caplog.records == []


def test_a_profile_that_fits_is_used(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    profile = write_profile(bundle)
    assert apply_profile(bundle) == (bundle, profile)
    assert caplog.records == []


def test_bundles_have_profiles_of_their_own(bundle: Bundle, tiny_pair: Path, caches: Path) -> None:
    pair = load_bundle(tiny_pair)
    write_profile(bundle)
    assert profile_folder(bundle).is_relative_to(caches)
    assert profile_folder(bundle) != profile_folder(pair)
    assert apply_profile(pair) == (pair, None)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bundle_sha256": "0" * 64}, "another bundle"),
        ({"device": "abacus"}, "another processor"),
        ({"versions": {}}, "it was made with {}"),
    ],
)
def test_a_profile_of_something_else_is_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], told: str
) -> None:
    write_profile(bundle, **fields)
    is_passed_over(bundle, caplog, told)


@pytest.mark.parametrize("library", sorted(library_versions()))
def test_another_version_of_a_library_is_another_machine(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, library: str
) -> None:
    write_profile(bundle, versions=library_versions() | {library: "0.0.1"})
    is_passed_over(bundle, caplog, "0.0.1")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "no UTF-8": lambda content: content.replace(b"f32", b"\xff32"),
    "deep": lambda content: b"[" * 100_000,
    "unknown field": lambda content: content[:-1] + b',"more":1}',
    "missing field": lambda content: content.replace(b'"threads":2,', b""),
    "wrong value": lambda content: content.replace(b'"threads":2', b'"threads":0'),
    "later format": lambda content: content.replace(b'version":1', b'version":2'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_profile_is_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    write_profile(bundle)
    path = profile_folder(bundle) / PROFILE_NAME
    before = path.read_bytes()
    after = DAMAGES[damage](before)
    assert after != before
    path.write_bytes(after)
    is_passed_over(bundle, caplog, "is not used")


def test_made_weights_take_the_place_of_weights_and_adapter(bundle: Bundle) -> None:
    ref = made_weights(bundle)
    write_profile(bundle, perceiver=ref)
    found, profile = apply_profile(bundle)
    assert profile is not None
    spec = found.manifest.perceiver
    assert (spec.weights, spec.adapter) == (ref, None)
    assert found.path(ref) == profile_folder(bundle) / "made.gguf"
    roles = [file.role for file in bundle.files if file.role != "perceiver.adapter"]
    assert sorted(file.role for file in found.files) == sorted(roles)
    assert found.path(spec.tokenizer) == bundle.path(spec.tokenizer)
    assert bundle.manifest.perceiver.adapter is not None  # the bundle itself is as it was


def test_every_model_may_have_made_weights(tiny_pair: Path) -> None:
    pair = load_bundle(tiny_pair)
    one, other = made_weights(pair, "one.gguf"), made_weights(pair, "other.gguf")
    write_profile(pair, perceiver=one, reasoner=other)
    manifest = apply_profile(pair)[0].manifest
    assert manifest.reasoner is not None
    assert (manifest.perceiver.weights, manifest.reasoner.weights) == (one, other)
    write_profile(pair, reasoner=other)
    manifest = apply_profile(pair)[0].manifest
    assert manifest.reasoner is not None
    assert (manifest.perceiver, manifest.reasoner.weights) == (pair.manifest.perceiver, other)


def test_weights_for_a_reasoner_that_is_none_are_left_alone(bundle: Bundle) -> None:
    profile = write_profile(bundle, reasoner=made_weights(bundle))
    assert apply_profile(bundle) == (bundle, profile)


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "outside", "in no package"])
def test_damaged_weights_are_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    ref = made_weights(bundle)
    path = profile_folder(bundle) / ref.path
    content = path.read_bytes()
    told = path.name
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(content[:-1])
    elif damage == "changed":
        path.write_bytes(content[:-1] + b"?")
    elif damage == "outside":
        ref, told = msgspec.structs.replace(ref, path="../made.gguf"), "../made.gguf"
    else:
        ref, told = msgspec.structs.replace(ref, package="no_such_package"), "no_such_package"
    write_profile(bundle, perceiver=ref)
    is_passed_over(bundle, caplog, told)


def test_a_user_without_a_home_has_no_profile(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    assert apply_profile(bundle) == (bundle, None)


def test_a_folder_that_cannot_be_looked_into_has_no_profile(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/" + "x" * 300)  # root may look into everything else
    assert apply_profile(bundle) == (bundle, None)
    assert caplog.records == []


def test_a_folder_that_is_none_has_no_profile(bundle: Bundle, caches: Path) -> None:
    caches.write_text("")
    assert apply_profile(bundle) == (bundle, None)


def test_a_profile_that_cannot_be_read_is_passed_over(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    write_profile(bundle)
    path = profile_folder(bundle) / PROFILE_NAME
    path.unlink()
    path.symlink_to("/proc/self/mem")  # its first bytes cannot be read
    is_passed_over(bundle, caplog, "Input/output error")


def test_a_library_of_another_package_has_no_profile(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime comes as onnxruntime-openvino too, and a frozen program tells no versions."""
    write_profile(bundle)
    engine = replace(default_engine(), package="no-such-package")
    monkeypatch.setattr(device_profile, "installed_engines", lambda: (engine,))
    is_passed_over(bundle, caplog, "no-such-package")


def test_what_is_kept_belongs_to_a_version_of_what_makes_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pillow is among them: 13 resizes some pictures to other pixels than 12."""
    before = cache_fingerprint(2, flash_attention=False)
    known = device_profile.version
    for name in ("numpy", "pillow", "onnxruntime"):

        def other(package: str, name: str = name) -> str:
            return "0.0" if package == name else known(package)

        monkeypatch.setattr(device_profile, "version", other)
        found = cache_fingerprint(2, flash_attention=False)
        assert found != before, name


def test_a_processor_that_is_not_told_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_profile, "_CPUINFO", Path("/proc/self/mem"))  # reading it fails
    assert device_name.__wrapped__().startswith(platform.machine())


def test_what_a_handler_raises_while_a_profile_is_read_comes_as_it_is(bundle: Bundle) -> None:
    weights = made_weights(bundle)
    profile = write_profile(bundle, perceiver=weights)
    assert apply_profile(bundle)[1] == profile
    check_handlers_pass(lambda: apply_profile(bundle), after_s=0.02)
