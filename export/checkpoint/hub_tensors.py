"""Read single tensors of a repository on the hub, without fetching the files that hold them.

In: a checkpoint of the hub. Out: the same mapping that a folder's tensors are. A projector has a
hundredth of a checkpoint's bytes, and HTTP ranges give just those. Source: the safetensors format
(8 bytes of the header's length, the header in JSON, then the tensors' bytes).
"""

import math
import struct
from typing import Annotated, Any

import ml_dtypes
import msgspec
import numpy as np
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
from edge_et.export.checkpoint.hub import PREFIX, hub_errors
from edge_et.export.checkpoint.provenance import Checkpoint
from edge_et.export.checkpoint.tensor_formats import Values
from edge_et.export.errors import HubFileError

_TYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_MOST_HEADER_BYTES = 100_000_000
"""As safetensors itself has it."""
_TIMEOUT_S = 60

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Entry(msgspec.Struct, frozen=True):
    """What a header tells of a tensor."""

    dtype: str
    shape: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Count, _Count]


def open_remote_tensors(checkpoint: Checkpoint) -> TensorFiles | None:
    """Read which tensors a checkpoint of the hub holds.

    Args:
        checkpoint: from `find_checkpoint`, on the hub.

    Returns:
        The tensors, each of which is fetched when it is read; None where the repository has no
        safetensors.

    Raises:
        HubError: the hub cannot be reached, or a file is no safetensors.
    """
    names = [file.name for file in checkpoint.files if file.name.endswith(".safetensors")]
    files = {name: RemoteSafetensors(checkpoint, name) for name in names}
    return TensorFiles(files, f"{PREFIX}{checkpoint.name}") if files else None


class RemoteSafetensors:
    """A file of safetensors on the hub.

    Attributes:
        shapes: shape of each float tensor by its name.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        """Fetch the header."""
        self._place = f"{PREFIX}{checkpoint.name}"
        self._name = name
        self._url = hf_hub_url(checkpoint.name, name, revision=checkpoint.version)
        size = next(file.size_bytes for file in checkpoint.files if file.name == name)
        (header_bytes,) = struct.unpack("<Q", self._bytes(0, 8))
        if header_bytes > min(_MOST_HEADER_BYTES, size or _MOST_HEADER_BYTES):
            raise self._damaged("its header is longer than the file")
        self._start = 8 + header_bytes
        try:
            header = msgspec.json.decode(self._bytes(8, self._start), type=dict[str, msgspec.Raw])
            entries = {
                key: msgspec.json.decode(value, type=_Entry)
                for key, value in header.items()
                if key != "__metadata__"
            }
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            raise self._damaged(f"its header is damaged: {err}") from err
        self._entries = {key: each for key, each in entries.items() if each.dtype in _TYPES}
        for key, each in self._entries.items():
            begin, end = each.data_offsets
            if end - begin != math.prod(each.shape) * np.dtype(_TYPES[each.dtype]).itemsize:
                raise self._damaged(f"{key} is not as long as its shape says")
        self.shapes = {key: each.shape for key, each in self._entries.items()}

    def load(self, name: str) -> Values:
        """Fetch one tensor, as stored."""
        entry = self._entries[name]
        begin, end = entry.data_offsets
        content = self._bytes(self._start + begin, self._start + end)
        return np.frombuffer(content, _TYPES[entry.dtype]).reshape(entry.shape)

    def _bytes(self, begin: int, end: int) -> bytes:
        headers = build_hf_headers(library_name="edge-et")
        headers["Range"] = f"bytes={begin}-{end - 1}"
        with hub_errors(self._place):
            request = get_session().stream(
                "GET", self._url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True
            )
            with request as reply:
                hf_raise_for_status(reply)
                if reply.status_code != httpx.codes.PARTIAL_CONTENT:  # the whole file comes
                    raise self._damaged(f"{constants.ENDPOINT} gives no parts of files")
                content: bytes = reply.read()
        if len(content) != end - begin:
            raise self._damaged(f"{len(content)} bytes came, of {end - begin}")
        return content

    def _damaged(self, reason: str) -> HubFileError:
        return HubFileError(f"{self._name} of {self._place} cannot be read: {reason}")
