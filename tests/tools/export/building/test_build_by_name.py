"""`edge-et build NAME`, and licences, against a stand-in of the hub with small checkpoints."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tiny.hub import Hub, running_hub, use_hub
from tiny.idefics3 import write_idefics3
from tiny.places import GOLDEN

from edge_et.bundle import load_bundle
from edge_et.cli.app import app
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.catalogue import find_entry
from edge_et.export.errors import LicenseError, UnknownModelError, UnsupportedModelError

ENTRY = find_entry("smolvlm2-256m")
NAME = ENTRY.perceiver.repository
PAIR = find_entry("smolvlm2-500m-qwen3-1.7b")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idefics3(tmp_path_factory.mktemp("models") / "smol")


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        monkeypatch.chdir(tmp_path)
        hub.add(NAME, checkpoint, card={"license": "apache-2.0"})
        yield hub


def build(*arguments: str) -> None:
    app.main(["build", *arguments], standalone_mode=False)


def licences(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines about licences that were shown since the last look."""
    return [line for line in capsys.readouterr().err.splitlines() if ": licence " in line]


def test_an_entry_is_built_into_a_folder_of_its_name(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A licence that the catalogue does not know is told, accepted, and kept in the bundle."""
    hub.repositories[NAME].card = {"license": "gemma"}
    build(ENTRY.name, "--accept-licence", "--quant", "F16", "--vision-quant", "none")
    (source,) = load_bundle(tmp_path / ENTRY.name).manifest.sources
    assert (source.name, source.license) == (NAME, "gemma")
    first, second = licences(capsys)
    assert first.startswith(f"perceiver {NAME}: licence apache-2.0 (https://")
    assert "licence gemma, says its model card, where the catalogue has apache-2.0" in second


def test_a_restrictive_licence_stops_the_build_before_any_download(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[NAME].card = {"license": "other", "license_name": "lfm1.0"}
    with pytest.raises(
        LicenseError, match=r"the perceiver .* has the licence 'lfm1\.0 \(other\)'"
    ) as caught:
        build(ENTRY.name)
    assert f"{hub.url}/{NAME}/tree/" in str(caught.value)
    assert hub.sent == {}
    assert not [request for request in hub.asked if "/resolve/" in request]
    assert not (tmp_path / ENTRY.name).exists()
    _, told = licences(capsys)
    assert "where the catalogue has apache-2.0" in told


def test_parts_are_named_by_the_entry_and_their_licences_shown(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Permissive licences are no news: they are told once, and the build goes on."""
    assert PAIR.reasoner is not None
    eyeless = GOLDEN / "llava_qwen3_tiny"
    hub.add(PAIR.perceiver.repository, eyeless, card={"license": "apache-2.0"})
    hub.add(PAIR.reasoner.repository, eyeless, card={"license": "apache-2.0"})
    hub.repositories[PAIR.perceiver.repository].files["config.json"] = b"{}"
    with pytest.raises(UnsupportedModelError):  # both were looked at, and neither refused before
        build(PAIR.name)
    shown = licences(capsys)
    assert [line.partition(":")[0] for line in shown] == [
        f"perceiver {PAIR.perceiver.repository}",
        f"reasoner {PAIR.reasoner.repository}",
    ]


def test_parts_of_the_hub_fall_under_the_same_rule(
    hub: Hub, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by --perceiver and --reasoner, or in Python; those in folders do not."""
    hub.add("own/unstated", checkpoint)
    with pytest.raises(LicenseError, match=r"the reasoner own/unstated .*unknown: see") as caught:
        build("--perceiver", f"hf:{NAME}", "--reasoner", "hf:own/unstated", "--out", "made")
    assert [part[0] for part in caught.value.parts] == ["reasoner"]
    assert f"perceiver {NAME}: licence apache-2.0, says its model card" in licences(capsys)[0]
    with pytest.raises(LicenseError, match="own/unstated"):
        build_bundle("hf:own/unstated", tmp_path / "made")
    assert hub.sent == {}
    folder = Path(shutil.copytree(checkpoint, tmp_path / "folder"))
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError):
        build("--perceiver", str(folder), "--out", "made")
    assert licences(capsys) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "edge-et models"),
        (("--reasoner", "folder", "--out", "made"), "--perceiver"),
        (("--perceiver", "folder"), "--out"),
        ((ENTRY.name, "--perceiver", "folder"), "either"),
        ((ENTRY.name, "--reasoner", "folder"), "either"),
    ],
)
def test_a_name_or_parts_but_not_both(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(click.UsageError, match=told):
        build(*arguments)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownModelError, match=f"Did you mean {ENTRY.name}"):
        build("smolvlm2-256", "--out", "made")
