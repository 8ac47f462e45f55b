"""The vision tower: ONNX Runtime over one graph that holds tower and projector.

In: the pixel values of tiles, ``[3,H,W] float32`` each. Out: `TileFeatures`. What is made of them
is `ImageTokens`, a small object that can be kept and used again. Nothing else asks for onnxruntime.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import VisionSpec
from edge_et.cancellation import CancelToken
from edge_et.errors import (
    CancelledError,
    ClosedError,
    EdgeETError,
    ModelFileError,
    VisionRunError,
)
from edge_et.foreign_errors import raised_by
from edge_et.native_handle import NativeHandle
from edge_et.native_libraries import import_library
from edge_et.native_threads import compute

_INPUT = "pixel_values"
_OUTPUT = "image_tokens"
_NEWLINE = "image_newline"
_MARKUP = "image_markup"


@dataclass(frozen=True, slots=True, eq=False)
class ImageTokens:
    """A picture as the language model reads it.

    Attributes:
        rows: image_tokens [T,D] float32, C-contiguous, read-only. Of those that a caller has made,
            floats of another type or layout are converted where they are used.
        digest: what the rows were made from: equal digests mean equal rows.
        grid: how many rows and columns of a picture they are, row by row, where the language model
            counts places by them (M-RoPE); None: it does not.
    """

    rows: NDArray[np.float32]
    digest: str
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TileFeatures:
    """What the tower makes of tiles.

    Attributes:
        features: [S,D] float32 of each tile, C-contiguous; S differs where the tiles' sizes do.
        newline: [D] float32, the vector behind each row of image tokens; None where the bundle's
            arrangement has none.
        markup: [M,D] float32, the embeddings of the bundle's markup; None where it has none.
    """

    features: tuple[NDArray[np.float32], ...]
    newline: NDArray[np.float32] | None = None
    markup: NDArray[np.float32] | None = None


class Tower(Protocol):
    """What the pipeline needs of a vision tower."""

    def encode(
        self, tiles: Iterable[NDArray[np.float32]], cancel: CancelToken | None = None
    ) -> TileFeatures:
        """Turn the pixel values of tiles, [3,H,W] each, into features.

        Args:
            tiles: at least one.
            cancel: when it is cancelled a `CancelledError` is raised; None: nobody does.
        """

    def rest(self) -> None:
        """Give back what is only needed while tiles come; there may be more later."""

    def close(self) -> None:
        """Free what is held; may be called again."""


def load_tower_library() -> None:
    """Load ONNX Runtime now, which the first tower does otherwise."""
    import_library("onnxruntime")


class VisionTower:
    """An ONNX Runtime session on the CPU."""

    def __init__(self, path: Path, spec: VisionSpec, threads: int) -> None:
        """Open the graph.

        Args:
            path: the ONNX file.
            spec: what the manifest says about it.
            threads: threads of the session, at least 1.

        Raises:
            ModelFileError: the file is no ONNX graph, or has other inputs or outputs.
        """
        onnxruntime = import_library("onnxruntime")
        processing = spec.processing
        self._tile_shape = (3, processing.height, processing.width)
        self._block = None if processing.whole_size is None else processing.whole_size.block
        self._shapes: dict[str, tuple[int, ...]] = {
            _OUTPUT: (1, spec.image_tokens_per_tile, spec.embedding_width)
        }
        if spec.arrangement == "unpadded":
            self._shapes[_NEWLINE] = (spec.embedding_width,)
        if spec.markup is not None:
            self._shapes[_MARKUP] = (len(spec.markup.tokens), spec.embedding_width)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would keep the cores busy while llama.cpp needs them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # x86 CPUs without VNNI would add products of full-range int8 weights in 16 bits, which
        # saturate; only there, and for such weights alone, another kernel is taken.
        options.add_session_config_entry("session.x64quantprecision", "1")

        def opened() -> Any:
            try:
                return onnxruntime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as err:  # onnxruntime's own exceptions share no public base class
                if not raised_by(err, "onnxruntime"):
                    raise
                raise ModelFileError(path, f"ONNX Runtime cannot open it: {err}") from err

        self._session = NativeHandle[Any]("vision tower", opened)
        with self._session.lock:
            session = self._session.value
            inputs, outputs = session.get_inputs(), session.get_outputs()
        of_tile, tokens = self._tile_shape, spec.image_tokens_per_tile
        _check_port(path, "input", inputs, _INPUT, (None, *of_tile))
        _check_port(path, "output", outputs, _OUTPUT, (None, tokens, spec.embedding_width))
        if self._block is not None and any(isinstance(side, int) for side in inputs[0].shape[2:]):
            raise ModelFileError(path, "it takes tiles of one size, where `whole_size` has many")
        for constant in (_NEWLINE, _MARKUP):
            if constant in self._shapes:
                _check_port(path, "output", outputs, constant, self._shapes[constant])
            elif any(port.name == constant for port in outputs):
                what = "markup" if constant == _MARKUP else f'arrangement "{spec.arrangement}"'
                raise ModelFileError(path, f"it makes {constant}, which {what} has no place for")
        self._new_run_options = onnxruntime.RunOptions

    def encode(
        self, tiles: Iterable[NDArray[np.float32]], cancel: CancelToken | None = None
    ) -> TileFeatures:
        """Run the tower, tile by tile: memory and result do not depend on how many there are.

        Args:
            tiles: pixel values [3,H,W] float32 each, at least one tile.
            cancel: ends a run when it is cancelled, between two nodes of the graph.

        Returns:
            Features [S,D] float32 in the order of the tiles, the newline's vector and the markup.

        Raises:
            VisionRunError: a tile has another shape, or the run failed.
            CancelledError: `cancel` was cancelled.
            ClosedError: the tower was closed.
        """
        cancel = cancel or CancelToken()
        made = [self._run(tile, cancel) for tile in tiles]
        if not made:
            raise VisionRunError("there are no tiles")
        return TileFeatures(
            tuple(outputs[_OUTPUT][0] for outputs in made),
            newline=made[0].get(_NEWLINE),
            markup=made[0].get(_MARKUP),
        )

    def _run(
        self, tile: NDArray[np.float32], cancel: CancelToken
    ) -> dict[str, NDArray[np.float32]]:
        shapes = self._shapes_for(tile)
        pixel_values = np.ascontiguousarray(tile[None], np.float32)
        # One for each run: its `terminate` stays set.
        run_options = self._new_run_options()
        # What a run needs is given back: the language model works next, in as much.
        run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

        def stop() -> None:
            run_options.terminate = True

        def run() -> list[NDArray[np.float32]]:
            # By the thread that computes: whoever waits for it may be interrupted and go on.
            with self._session.lock:
                session = self._session.value
                made: list[NDArray[np.float32]] = session.run(
                    list(shapes), {_INPUT: pixel_values}, run_options
                )
                return made

        with cancel.watch(stop):
            try:
                values = compute(run, stop=cancel.cancel)
            except EdgeETError:  # it was closed
                raise
            except Exception as err:  # as in __init__
                if not raised_by(err, "onnxruntime"):
                    raise
                if cancel.is_cancelled:
                    raise CancelledError from err
                raise VisionRunError(str(err)) from err
        made = dict(zip(shapes, values, strict=True))
        for name, value in made.items():
            if value.shape != shapes[name]:
                raise VisionRunError(
                    f"{name} of shape {list(value.shape)}, expected {list(shapes[name])}"
                )
            if not np.isfinite(value).all():
                raise VisionRunError(f"{name} that are not finite")
        return made

    def _shapes_for(self, tile: NDArray[np.float32]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output for a tile.

        Raises:
            VisionRunError: the tower does not take such a tile.
        """
        if tile.shape == self._tile_shape:
            return self._shapes
        sides, block = tile.shape[1:], self._block
        fits = block is not None and tile.ndim == 3 and len(tile) == 3 and tile.size > 0
        if block is None or not fits or any(side % block for side in sides):
            expected = str(list(self._tile_shape))
            if block is not None:
                expected += f", or [3,H,W] with H and W multiples of {block}"
            raise VisionRunError(f"pixel values of shape {list(tile.shape)}, expected {expected}")
        width = self._shapes[_OUTPUT][-1]
        tokens = sides[0] * sides[1] // block**2
        return self._shapes | {_OUTPUT: (1, tokens, width)}

    def rest(self) -> None:
        """Keep everything: what a run needs is given back behind it."""

    def close(self) -> None:
        """Free the session; may be called again."""
        self._session.close()


class DeferredTower:
    """A tower that is opened when it first has to run, which may be never."""

    def __init__(
        self, opened: Callable[[], Tower], makes_room: Callable[[], object] | None = None
    ) -> None:
        """Open nothing.

        Args:
            opened: opens the tower.
            makes_room: called before it is opened, and when it was closed, which it is whenever it
                rests, so that it takes no memory then. None: it stays open.
        """
        self._opened: Callable[[], Tower] | None = opened
        self._tower: Tower | None = None
        self._makes_room = makes_room

    def encode(
        self, tiles: Iterable[NDArray[np.float32]], cancel: CancelToken | None = None
    ) -> TileFeatures:
        """Do as the tower does, which is opened if need be.

        Args:
            tiles: as for `VisionTower.encode`.
            cancel: likewise.

        Raises:
            ModelFileError: it cannot be opened.
            CancelledError: as for the tower.
            VisionRunError: as for the tower.
            ClosedError: the tower was closed.
        """
        if self._opened is None:
            raise ClosedError("vision tower")
        tower = self._tower
        if tower is None:
            if self._makes_room is not None:
                self._makes_room()
            tower = self._tower = self._opened()
        return tower.encode(tiles, cancel)

    def rest(self) -> None:
        """Close the tower, unless it stays open."""
        if self._makes_room is None or self._tower is None:
            return
        tower, self._tower = self._tower, None
        tower.close()
        self._makes_room()

    def close(self) -> None:
        """Close the tower if it was opened; may be called again."""
        self._opened = None
        if self._tower is not None:
            self._tower.close()


class ImageTokenCache:
    """The image tokens used last, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            limit_bytes: most bytes of rows that are kept; 0 keeps nothing.
        """
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._images: OrderedDict[str, ImageTokens] = OrderedDict()

    def peek(self, digest: str) -> ImageTokens | None:
        """Return them without counting as a use; any thread may look."""
        return self._images.get(digest)

    def get(self, digest: str) -> ImageTokens | None:
        """Return the image tokens of a digest, or None where they are not kept."""
        image = self._images.get(digest)
        if image is not None:
            self._images.move_to_end(digest)
        return image

    def put(self, image: ImageTokens) -> None:
        """Keep image tokens, and forget those unused for longest."""
        if image.digest in self._images:  # another call has made them meanwhile
            return
        self._images[image.digest] = image
        self._size_bytes += image.rows.nbytes
        while self._size_bytes > self._limit_bytes:
            _, oldest = self._images.popitem(last=False)
            self._size_bytes -= oldest.rows.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._images.clear()
        self._size_bytes = 0


def _check_port(
    path: Path, kind: str, ports: list[Any], name: str, shape: tuple[int | None, ...]
) -> None:
    """Compare a graph's input or output with the one that there should be.

    Args:
        path: the graph's file, for the message.
        kind: ``input``, of which there must be one alone, or ``output``.
        ports: those of the graph.
        name: of the one that there should be.
        shape: its own; None agrees with every dimension.

    Raises:
        ModelFileError: they differ; a symbolic dimension agrees with every number.
    """
    port = next((port for port in ports if port.name == name), None)
    if port is None or (kind == "input" and len(ports) != 1):
        found = ", ".join(port.name for port in ports)
        raise ModelFileError(path, f"the graph's {kind}s are {found}, expected {name}")
    agrees = len(port.shape) == len(shape) and all(
        expected is None or not isinstance(found, int) or found == expected
        for found, expected in zip(port.shape, shape, strict=True)
    )
    if port.type != "tensor(float)" or not agrees:
        wanted = ", ".join("N" if size is None else str(size) for size in shape)
        raise ModelFileError(
            path,
            f"the graph's {kind} {name} is {port.type} {port.shape}, expected float32 [{wanted}]",
        )
