"""A Hugging Face checkpoint folder: its config and its tensors, one at a time.

In: a folder with config.json and one file of tensors, or shards with their index. Out: float32
arrays. Every tensor is to be read exactly once; `require_all_read` is the proof.
"""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_et.export.checkpoint.tensor_formats import TensorFile, Values, open_file
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    TensorValueError,
    UnreadableCheckpointError,
)

if TYPE_CHECKING:
    import torch

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.

    Returns:
        The object.

    Raises:
        UnreadableCheckpointError: no such file, not JSON, or not an object.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for somebody who writes
        raise UnreadableCheckpointError(f"{path} is no file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise UnreadableCheckpointError(f"{path} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict):
        raise UnreadableCheckpointError(f"{path} holds {type(content).__name__}, not an object")
    return content


class TensorFiles:
    """The tensors of one or several files, as one mapping that counts its reads."""

    def __init__(self, files: Mapping[str, TensorFile], source: str) -> None:
        """Join what the files hold.

        Args:
            files: by what messages call them.
            source: what messages call all of them.

        Raises:
            UnreadableCheckpointError: two of them hold the same name.
        """
        self._source = source
        self._place_of: dict[str, tuple[TensorFile, str]] = {}
        for place, file in files.items():
            for name in file.shapes:
                if name in self._place_of:
                    raise UnreadableCheckpointError(f"{name} is in two files, one of them {place}")
                self._place_of[name] = file, name
        self._unread = dict.fromkeys(self._place_of)

    def part(self, part_name: Callable[[str], str | None]) -> Self:
        """Give the tensors of one part of the model, under the names that they have alone.

        Args:
            part_name: name within the part for a name of the whole; None: not of the part.

        Returns:
            A mapping that counts its own reads.

        Raises:
            UnreadableCheckpointError: two tensors get one name.
        """
        part = copy.copy(self)
        part._place_of = {}
        for whole, place in self._place_of.items():
            name = part_name(whole)
            if name in part._place_of:
                raise UnreadableCheckpointError(
                    f"{self._source} holds {name} twice, once as {whole}"
                )
            if name is not None:
                part._place_of[name] = place
        part._unread = dict.fromkeys(part._place_of)
        return part

    @property
    def names(self) -> set[str]:
        """All tensors, read or not."""
        return set(self._place_of)

    def require(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Check, before anything is written, that the tensors are exactly these.

        Args:
            shapes: the expected shape of each tensor.

        Raises:
            MissingTensorError: some are not there.
            LeftoverTensorError: there are others.
            TensorShapeError: one has another shape.
        """
        if missing := [name for name in shapes if name not in self._place_of]:
            raise MissingTensorError(self._source, list(map(self._stored_name, missing)))
        if leftover := sorted(self.names - set(shapes)):
            raise LeftoverTensorError(self._source, list(map(self._stored_name, leftover)))
        for name, expected in shapes.items():
            actual = self.shape(name)
            if actual != expected:
                raise TensorShapeError(self._stored_name(name), expected, actual)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor, from the file's header."""
        file, stored = self._place_of[name]
        return file.shapes[stored]

    def read(self, name: str) -> NDArray[np.float32]:
        """Read one tensor, for the first and only time.

        Args:
            name: one of `names`.

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
        values: NDArray[np.float32] = np.ascontiguousarray(self._load(name), np.float32)
        if not np.isfinite(values).all():
            raise TensorValueError(self._stored_name(name), "holds NaN or infinity")
        return values

    def fill(self, module: "torch.nn.Module") -> None:
        """Read all tensors into a module that has exactly these parameters and buffers.

        Args:
            module: float32; its state is overwritten, one tensor at a time.

        Raises:
            CheckpointError: names, shapes or values do not fit.
        """
        state = module.state_dict()
        self.require({name: tuple(tensor.shape) for name, tensor in state.items()})
        for name, tensor in state.items():
            tensor.numpy()[...] = self.read(name)

    def drop_copy(self, name: str, *, of: str) -> None:
        """Count a tensor as read after making sure that it is a copy of another one.

        Args:
            name: the copy.
            of: the other one, which stays to be read.

        Raises:
            TensorValueError: they differ.
        """
        if not np.array_equal(self._load(name), self._load(of)):
            raise TensorValueError(
                self._stored_name(name), f"differs from {of}, which the config ties it to"
            )
        del self._unread[name]

    def require_all_read(self) -> None:
        """Check that nothing was left behind.

        Raises:
            LeftoverTensorError: some tensor was never read.
        """
        if self._unread:
            raise LeftoverTensorError(self._source, list(self._unread))

    def _load(self, name: str) -> Values:
        file, stored = self._place_of[name]
        return file.load(stored)

    def _stored_name(self, name: str) -> str:
        return self._place_of[name][1] if name in self._place_of else name


def open_tensor_files(paths: list[Path]) -> TensorFiles:
    """Open files of one folder, and read which tensors they hold.

    Args:
        paths: at least one file, of safetensors or of torch.

    Raises:
        UnreadableCheckpointError: a file cannot be read, or two of them hold the same name.
    """
    return TensorFiles({str(path): open_file(path) for path in paths}, str(paths[0].parent))


def open_tensors(folder: Path) -> TensorFiles:
    """Open the tensors of a checkpoint folder, sharded or not.

    Args:
        folder: holds model.safetensors, or model.safetensors.index.json and its shards; where it
            has neither, pytorch_model.bin, or pytorch_model.bin.index.json and its shards.

    Returns:
        The tensors.

    Raises:
        UnreadableCheckpointError: a file is missing or damaged, a tensor has an unknown type, or
            index and shards disagree.
    """
    for single in _WEIGHTS:
        if (folder / single).is_file():
            return open_tensor_files([folder / single])
        if (index := folder / f"{single}.index.json").is_file():
            return _open_shards(index)
    raise UnreadableCheckpointError(
        f"{folder} holds neither {' nor '.join(_WEIGHTS)}, nor the index of their shards"
    )


def _open_shards(index: Path) -> TensorFiles:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableCheckpointError(f"{index} has no weight_map")
    shards = sorted(set(map(str, weight_map.values())))
    if foreign := [shard for shard in shards if Path(shard).name != shard]:
        raise UnreadableCheckpointError(f"{index} points elsewhere: {foreign[0]}")
    tensors = open_tensor_files([index.with_name(shard) for shard in shards])
    if differing := sorted(tensors.names ^ set(weight_map)):
        raise UnreadableCheckpointError(f"{index} and its shards differ: {differing[0]}")
    return tensors
