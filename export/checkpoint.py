"""A Hugging Face checkpoint folder: its config and its tensors, one at a time.

In: a folder with config.json and model.safetensors, or shards with their index. Out: float32
arrays. Every tensor is to be read exactly once; `require_all_read` is the proof.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    TensorValueError,
    UnreadableCheckpointError,
)

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.

    Returns:
        The object.

    Raises:
        UnreadableCheckpointError: no such file, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UnreadableCheckpointError(f"{path} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict):
        raise UnreadableCheckpointError(f"{path} holds {type(content).__name__}, not an object")
    return content


class TensorFiles:
    """The tensors of one or several safetensors files, as one mapping that counts its reads.

    A context manager; the files stay mapped while it is open.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._source = str(paths[0].parent)
        self._files: list[Any] = []
        self._file_of: dict[str, Any] = {}
        self._unread: dict[str, None] = {}
        for path in paths:
            self._open(path)

    def _open(self, path: Path) -> None:
        file: Any
        try:
            file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as err:
            raise UnreadableCheckpointError(f"{path} cannot be read: {err}") from err
        self._files.append(file)
        for name in file.keys():  # noqa: SIM118 - not a mapping
            if name in self._file_of:
                raise UnreadableCheckpointError(f"{name} is in two files, one of them {path}")
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise UnreadableCheckpointError(
                    f"{name} in {path} is {dtype}; expected one of {', '.join(_DTYPES)}"
                )
            self._file_of[name] = file
            self._unread[name] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.__exit__(kind, error, trace)
        self._files.clear()
        self._file_of.clear()

    @property
    def names(self) -> set[str]:
        """All tensors, read or not."""
        return set(self._file_of)

    def require(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Check, before anything is written, that the tensors are exactly these.

        Args:
            shapes: the expected shape of each tensor.

        Raises:
            MissingTensorError: some are not there.
            LeftoverTensorError: there are others.
            TensorShapeError: one has another shape.
        """
        if missing := [name for name in shapes if name not in self._file_of]:
            raise MissingTensorError(self._source, missing)
        if leftover := sorted(self.names - set(shapes)):
            raise LeftoverTensorError(self._source, leftover)
        for name, expected in shapes.items():
            actual = self.shape(name)
            if actual != expected:
                raise TensorShapeError(name, expected, actual)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, from the file's header."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def read(self, name: str) -> NDArray[np.float32]:
        """Read one tensor, for the first and only time.

        Args:
            name: its name in the file.

        Returns:
            Its values, C-contiguous float32; the widening of F16 and BF16 is exact.

        Raises:
            TensorValueError: it holds NaN or infinity.
        """
        assert name in self._unread, f"{name} is read twice"
        del self._unread[name]
        return self.look_up(name)

    def look_up(self, name: str) -> NDArray[np.float32]:
        """Read one tensor for a comparison; it does not count as read. See `read`."""
        tensor: torch.Tensor = self._file_of[name].get_tensor(name)
        values: NDArray[np.float32] = tensor.to(torch.float32).contiguous().numpy()
        if not np.isfinite(values).all():
            raise TensorValueError(name, "holds NaN or infinity")
        return values

    def fill(self, module: torch.nn.Module, aside: Callable[[str], bool] | None = None) -> None:
        """Read all tensors into a module that has exactly these parameters and buffers.

        Args:
            module: float32; its state is overwritten.
            aside: tells the names that belong to another part of the checkpoint.

        Raises:
            CheckpointError: names, shapes or values do not fit.
        """
        if aside is not None:
            for name in filter(aside, self.names):
                del self._unread[name], self._file_of[name]
        state = module.state_dict()
        self.require({name: tuple(tensor.shape) for name, tensor in state.items()})
        module.load_state_dict({name: torch.from_numpy(self.read(name)) for name in state})

    def drop_copy(self, name: str, *, of: str) -> None:
        """Count a tensor as read after making sure that it is a copy of another one.

        Args:
            name: the copy.
            of: the other one, which stays to be read.

        Raises:
            TensorValueError: they differ.
        """
        copy = self._file_of[name].get_tensor(name)
        if not torch.equal(copy, self._file_of[of].get_tensor(of)):
            raise TensorValueError(name, f"differs from {of}, which the config ties it to")
        del self._unread[name]

    def require_all_read(self) -> None:
        """Check that nothing was left behind.

        Raises:
            LeftoverTensorError: some tensor was never read.
        """
        if self._unread:
            raise LeftoverTensorError(self._source, list(self._unread))


def open_tensors(folder: Path) -> TensorFiles:
    """Open the tensors of a checkpoint folder, sharded or not.

    Args:
        folder: holds model.safetensors, or model.safetensors.index.json and its shards.

    Returns:
        The tensors; to be closed by the caller (a context manager).

    Raises:
        UnreadableCheckpointError: a file is missing or damaged, a tensor has an unknown type, or
            index and shards disagree.
    """
    if (folder / _SINGLE).is_file():
        return TensorFiles([folder / _SINGLE])
    if not (folder / _INDEX).is_file():
        raise UnreadableCheckpointError(f"{folder} holds neither {_SINGLE} nor {_INDEX}")
    weight_map = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableCheckpointError(f"{folder / _INDEX} has no weight_map")
    shards = sorted(set(map(str, weight_map.values())))
    if foreign := [shard for shard in shards if Path(shard).name != shard]:
        raise UnreadableCheckpointError(f"{folder / _INDEX} points elsewhere: {foreign[0]}")
    tensors = TensorFiles([folder / shard for shard in shards])
    if differing := sorted(tensors.names ^ set(weight_map)):
        raise UnreadableCheckpointError(f"{folder / _INDEX} and its shards differ: {differing[0]}")
    return tensors
