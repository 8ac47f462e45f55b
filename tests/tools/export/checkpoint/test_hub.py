"""Checkpoints from the hub, served by a stand-in on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from tiny.hub import COMMIT, Hub, Repository, running_hub, use_hub

from edge_et.export.checkpoint.hub import fetch_checkpoint, files_to_fetch, find_checkpoint
from edge_et.export.errors import (
    HubAccessError,
    HubConnectionError,
    HubFileError,
    HubNameError,
    HubNotFoundError,
    UnreadableCheckpointError,
)

WEIGHTS = os.urandom(300_000)
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}" * 600,
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[:5000],
    "model.safetensors.index.json": b"{}",
}
OTHERS = {
    "README.md": b"Hello.",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"the same weights",
    "consolidated.safetensors": b"the same weights",
    "training_args.bin": b"a pickle",
    "onnx/model.safetensors": b"another model",
    "../config.json": b"escape",
    "/etc/passwd": b"escape",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repositories["owner/model"] = Repository(FILES | OTHERS, {"license": "apache-2.0"})
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_what_is_needed_is_fetched_at_the_commit_of_the_branch(hub: Hub) -> None:
    found = find_checkpoint("hf:owner/model")
    assert hub.sent == {}
    assert (found.name, found.version, found.license) == ("owner/model", COMMIT, "apache-2.0")
    assert found.url == f"{hub.url}/owner/model/tree/{COMMIT}"
    assert {file.name: file.size_bytes for file in found.files} == {
        name: len(content) for name, content in FILES.items()
    }
    assert found.weights_bytes == 305_000
    assert files_to_fetch(found) == list(found.files)
    told: list[tuple[str, int, int]] = []
    folder = fetch_checkpoint(found, lambda *step: told.append(step))
    assert contents(folder) == FILES
    assert all("/main/" not in request for request in hub.asked)
    assert ("check model-00001-of-00002.safetensors", 0, 1) in told


def test_what_is_in_the_cache_is_not_fetched_again(hub: Hub) -> None:
    fetch_checkpoint(find_checkpoint("hf:owner/model@main"))
    before = hub.sent.copy()
    found = find_checkpoint(f"hf:owner/model@{COMMIT}")
    assert files_to_fetch(found) == []
    assert contents(fetch_checkpoint(found)) == FILES
    assert hub.sent == before


def test_older_weights_are_taken_where_there_are_no_others(hub: Hub) -> None:
    hub.repositories["owner/old"] = Repository(
        {"config.json": b"{}", "pytorch_model.bin": b"weights", "training_args.bin": b"pickle"}
    )
    found = find_checkpoint("hf:owner/old")
    assert [file.name for file in found.files] == ["config.json", "pytorch_model.bin"]
    assert found.license == f"unknown: see {hub.url}/owner/old"


def test_a_licence_of_its_own_is_told_by_its_name(hub: Hub) -> None:
    card = {"license": "other", "license_name": "qwen-research"}
    hub.repositories["owner/own"] = Repository(FILES, card)
    assert find_checkpoint("hf:owner/own").license == "qwen-research (other)"


def bytes_kept(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.incomplete"))


def test_a_killed_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    # huggingface_hub stores what it has every 10 MiB.
    big, content = "model-00001-of-00002.safetensors", os.urandom(12 * 2**20)
    hub.repositories["owner/model"].files[big] = content
    hub.stall_after = 11 * 2**20
    program = (
        "from edge_et.export.checkpoint.hub import find_checkpoint, fetch_checkpoint\n"
        "print(fetch_checkpoint(find_checkpoint('hf:owner/model')))"
    )
    cache = tmp_path / "cache"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        while bytes_kept(cache) < 10 * 2**20:  # small files are on their way, too
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    arrived = bytes_kept(cache)  # some may have come between the last look and the kill
    assert 0 < arrived < len(content)
    assert "config.json" in hub.sent
    hub.stall_after = None
    hub.sent.clear()
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert (folder / big).read_bytes() == content
    assert hub.sent[big] == len(content) - arrived
    assert "config.json" not in hub.sent


def test_a_download_that_breaks_off_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    found = find_checkpoint("hf:owner/model")
    hub.stall_after = 1000
    with pytest.raises(HubConnectionError, match=r"owner/model cannot .* run the command again"):
        fetch_checkpoint(found)
    hub.stall_after = None
    assert contents(fetch_checkpoint(found)) == FILES


def test_a_file_that_is_not_what_the_hub_told_is_removed(hub: Hub) -> None:
    found = find_checkpoint("hf:owner/model")
    hub.lie["model-00002-of-00002.safetensors"] = WEIGHTS[5000:10000]
    with pytest.raises(HubFileError, match=r"00002-of-00002.*damaged"):
        fetch_checkpoint(found)
    hub.lie.clear()
    assert contents(fetch_checkpoint(found)) == FILES


def test_a_mirror_need_not_tell_sizes(hub: Hub) -> None:
    hub.tells_sizes = False
    found = find_checkpoint("hf:owner/model")
    assert {file.size_bytes for file in found.files} == {None}
    assert found.weights_bytes == 0
    assert contents(fetch_checkpoint(found)) == FILES


@pytest.mark.parametrize(
    "place",
    ["hf:", "hf:model", "hf:a/b/c", "hf:owner/mo del", "hf:../..", "hf:owner/a--b", "hf:o/m@",
     "hf:https://huggingface.co/owner/model", "hf:owner/model@a b"],
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_is_asked(hub: Hub, place: str) -> None:
    with pytest.raises(HubNameError, match="write hf:owner/name"):
        find_checkpoint(place)
    assert hub.asked == []


def test_missing_private_and_gated_models_are_told_apart(hub: Hub) -> None:
    with pytest.raises(HubNotFoundError, match=r"hf:owner/missing is not on .* private"):
        find_checkpoint("hf:owner/missing")
    with pytest.raises(HubNotFoundError, match="no such revision"):
        find_checkpoint("hf:owner/model@v2")
    hub.repositories["owner/gated"] = Repository(FILES, gated=True)
    found = find_checkpoint("hf:owner/gated")
    with pytest.raises(HubAccessError, match=r"owner/gated is gated: .*/owner/gated, .*HF_TOKEN"):
        fetch_checkpoint(found)


def test_a_token_opens_a_gated_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["owner/gated"] = Repository(FILES, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert contents(fetch_checkpoint(find_checkpoint("hf:owner/gated"))) == FILES


def test_a_repository_without_a_checkpoint_is_told(hub: Hub) -> None:
    hub.repositories["owner/gguf"] = Repository({"config.json": b"{}", "model.gguf": b"GGUF"})
    hub.repositories["owner/bare"] = Repository({"model.safetensors": b"weights"})
    for name in ("owner/gguf", "owner/bare"):
        with pytest.raises(HubFileError, match="not a checkpoint"):
            find_checkpoint(f"hf:{name}")


def test_no_network_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_checkpoint("hf:owner/model")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    use_hub("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    with pytest.raises(HubConnectionError, match="no answer from http://127"):
        find_checkpoint("hf:owner/model")
    with pytest.raises(HubConnectionError, match="no answer from http://127"):
        fetch_checkpoint(found)


def test_a_proxy_of_the_environment_is_asked(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub("http://hub.example", tmp_path / "cache", monkeypatch)
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    close_session()  # it keeps the proxies of its first request
    try:
        assert contents(fetch_checkpoint(find_checkpoint("hf:owner/model"))) == FILES
    finally:
        close_session()


@pytest.mark.parametrize("junk", [b"<html>", b"[]", b"{}", b'{"id": "a", "siblings": [3]}'])
def test_what_is_no_hub_is_told(hub: Hub, junk: bytes) -> None:
    hub.junk = junk
    with pytest.raises(HubConnectionError, match="owner/model cannot be had"):
        find_checkpoint("hf:owner/model")
    hub.junk = b'{"id": "a", "siblings": [{"rfilename": "config.json"}], "sha": "../../x"}'
    with pytest.raises(HubConnectionError, match="tells no commit"):
        find_checkpoint("hf:owner/model")


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    with pytest.raises(UnreadableCheckpointError, match=r"lacks config\.json"):
        find_checkpoint(str(folder))
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(name.encode())
    found = find_checkpoint(str(folder))
    assert (found.name, found.url, files_to_fetch(found)) == ("my-model", "", [])
    assert found.license == "unknown: see the folder"
    assert fetch_checkpoint(found) == folder
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert find_checkpoint(str(folder)).license == "mit"
    assert find_checkpoint(str(folder)).version == found.version
    (folder / "config.json").write_text("{}")
    assert find_checkpoint(str(folder)).version != found.version
    with pytest.raises(UnreadableCheckpointError, match="hf:owner/name"):
        find_checkpoint(str(tmp_path / "missing"))
