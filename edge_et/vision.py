"""The vision tower: ONNX Runtime over one graph that holds tower and projector.

In: ``pixel_values [N,3,H,W] float32``. Out: `ImageTokens`, a small object that can be kept and
used again. Nothing else imports onnxruntime.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import ClosedError, ModelFileError, VisionRunError
from edge_et.manifest import VisionSpec

_INPUT = "pixel_values"
_OUTPUT = "image_tokens"


@dataclass(frozen=True, slots=True, eq=False)
class ImageTokens:
    """A picture as the language model reads it.

    Attributes:
        rows: image_tokens [T,D] float32, C-contiguous, read-only.
        digest: what the rows were made from: equal digests mean equal rows.
    """

    rows: NDArray[np.float32]
    digest: str


class Tower(Protocol):
    """What the pipeline needs of a vision tower."""

    def digest(self, pixel_values: NDArray[np.float32]) -> str:
        """Identify what `encode` would return, without running it."""

    def encode(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn pixel values into the rows of `ImageTokens`."""

    def close(self) -> None:
        """Free what is held; may be called again."""


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
        import onnxruntime

        processing = spec.processing
        self._input_shape = (3, processing.height, processing.width)
        self._output_shape = (spec.image_tokens_per_tile, spec.embedding_width)
        self._identity = spec.graph.sha256
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would keep the cores busy while llama.cpp needs them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as err:  # onnxruntime's own exceptions share no public base class
            raise ModelFileError(path, f"ONNX Runtime cannot open it: {err}") from err
        _check_ports(path, "input", session.get_inputs(), _INPUT, self._input_shape)
        _check_ports(path, "output", session.get_outputs(), _OUTPUT, self._output_shape)
        self._session: Any = session

    def digest(self, pixel_values: NDArray[np.float32]) -> str:
        """Identify what `encode` would return, without running it.

        The pixel values are the outcome of picture and processing together, so they and the
        graph's hash say everything.

        Args:
            pixel_values: [N,3,H,W] float32.
        """
        digest = hashlib.sha256(f"{self._identity} {pixel_values.shape}".encode())
        digest.update(np.ascontiguousarray(pixel_values, np.float32).data)
        return digest.hexdigest()

    def encode(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the tower.

        Args:
            pixel_values: [N,3,H,W] float32.

        Returns:
            image_tokens [N*S,D] float32, those of the first tile first; read-only.

        Raises:
            VisionRunError: the input has another shape, or the run failed.
            ClosedError: the tower was closed.
        """
        if self._session is None:
            raise ClosedError("vision tower")
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != self._input_shape:
            raise VisionRunError(
                f"pixel values of shape {list(pixel_values.shape)}, "
                f"expected [N, {', '.join(map(str, self._input_shape))}]"
            )
        pixel_values = np.ascontiguousarray(pixel_values, np.float32)
        try:
            (output,) = self._session.run([_OUTPUT], {_INPUT: pixel_values})
        except Exception as err:  # as in __init__
            raise VisionRunError(str(err)) from err
        if output.shape != (len(pixel_values), *self._output_shape):
            raise VisionRunError(
                f"image tokens of shape {list(output.shape)}, expected "
                f"{[len(pixel_values), *self._output_shape]}"
            )
        rows = np.ascontiguousarray(output, np.float32).reshape(-1, self._output_shape[1])
        if not np.isfinite(rows).all():
            raise VisionRunError("image tokens that are not finite")
        rows.setflags(write=False)
        return rows

    def close(self) -> None:
        """Free the session; may be called again."""
        self._session = None


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

    def get(self, digest: str) -> ImageTokens | None:
        """Return the image tokens of a digest, or None where they are not kept."""
        image = self._images.get(digest)
        if image is not None:
            self._images.move_to_end(digest)
        return image

    def put(self, image: ImageTokens) -> None:
        """Keep image tokens that are not kept yet, and forget those unused for longest."""
        self._images[image.digest] = image
        self._size_bytes += image.rows.nbytes
        while self._size_bytes > self._limit_bytes:
            _, oldest = self._images.popitem(last=False)
            self._size_bytes -= oldest.rows.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._images.clear()
        self._size_bytes = 0


def _check_ports(
    path: Path, kind: str, ports: list[Any], name: str, shape: tuple[int, ...]
) -> None:
    """Compare a graph's inputs or outputs with the one that there should be, after its first axis.

    Raises:
        ModelFileError: they differ; a symbolic dimension agrees with every number.
    """
    port = next((port for port in ports if port.name == name), None)
    if port is None or (kind == "input" and len(ports) != 1):
        found = ", ".join(port.name for port in ports)
        raise ModelFileError(path, f"the graph's {kind}s are {found}, expected {name}")
    agrees = len(port.shape) == 1 + len(shape) and all(
        not isinstance(found, int) or found == expected
        for found, expected in zip(port.shape[1:], shape, strict=True)
    )
    if port.type != "tensor(float)" or not agrees:
        raise ModelFileError(
            path,
            f"the graph's {kind} {name} is {port.type} {port.shape}, "
            f"expected float32 [N, {', '.join(map(str, shape))}]",
        )
