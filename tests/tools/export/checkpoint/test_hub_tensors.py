"""Single tensors of a repository, by a header that nobody vouches for."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny.hub import Hub, Repository, running_hub, use_hub

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.checkpoint.hub import find_checkpoint
from edge_et.export.checkpoint.hub_tensors import open_remote_tensors
from edge_et.export.errors import HubFileError

VALUES = np.arange(6, dtype=np.float32)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


def open_with(hub: Hub, header: str) -> TensorFiles | None:
    content = struct.pack("<Q", len(header.encode())) + header.encode() + VALUES.tobytes()
    files = {"config.json": b"{}", "model.safetensors": content}
    hub.repositories["owner/name"] = Repository(files)
    return open_remote_tensors(find_checkpoint("hf:owner/name"))


def test_a_tensor_is_read_as_stored(hub: Hub) -> None:
    header = (
        '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        '"b":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}}   '
    )
    tensors = open_with(hub, header)
    assert tensors is not None
    assert tensors.names == {"a"}
    assert np.array_equal(tensors.read("a"), VALUES.reshape(2, 3))


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype":"F32","shape":[6],"data_offsets":[0]}',
        '{"dtype":"F32","shape":[6],"data_offsets":[0,24,24]}',
        '{"dtype":"F32","shape":[6],"data_offsets":[0,"24"]}',
        '{"dtype":"F32","shape":[6],"data_offsets":null}',
        '{"dtype":"F32","shape":[-6],"data_offsets":[0,24]}',
        '{"dtype":"F32","shape":[6.5],"data_offsets":[0,24]}',
        '{"dtype":"F32","shape":6,"data_offsets":[0,24]}',
        '{"dtype":"F32","shape":[7],"data_offsets":[0,24]}',
        '{"dtype":"F32","shape":[0],"data_offsets":[24,0]}',
        '{"dtype":[],"shape":[6],"data_offsets":[0,24]}',
        "[]",
        "[" * 2000,
    ],
)
def test_headers_that_are_damaged(hub: Hub, entry: str) -> None:
    with pytest.raises(HubFileError, match=r"model\.safetensors of hf:owner/name cannot be read"):
        open_with(hub, f'{{"a":{entry}}}')
