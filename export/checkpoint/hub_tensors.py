"""Read single tensors of a repository on the hub, without fetching the files that hold them.

In: a checkpoint of the hub. Out: the same mapping that a folder's tensors are. A projector has a
hundredth of a checkpoint's bytes, and HTTP ranges give just those. Source: the safetensors format
(8 bytes of the header's length, the header in JSON, then the tensors' bytes).
"""

import json
import struct
from typing import Any

import ml_dtypes
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
            header = json.loads(self._bytes(8, self._start))
            self._places = {
                key: (_TYPES[value["dtype"]], tuple(value["shape"]), *value["data_offsets"])
                for key, value in header.items()
                if key != "__metadata__" and value["dtype"] in _TYPES
            }
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise self._damaged(f"its header is damaged: {err!r}") from err
        self.shapes = {key: place[1] for key, place in self._places.items()}

    def load(self, name: str) -> Values:
        """Fetch one tensor, as stored."""
        dtype, shape, begin, end = self._places[name]
        content = self._bytes(self._start + begin, self._start + end)
        try:
            return np.frombuffer(content, dtype).reshape(shape)
        except ValueError as err:
            raise self._damaged(f"{name}: {err}") from err

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
