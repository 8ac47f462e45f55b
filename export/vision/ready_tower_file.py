"""Read a ready-made ONNX file that nobody vouches for.

In: a path. Out: an `onnx_ir.Model` whose weights lie where they lay: in the message that was read,
or in the mapped file beside it. No other file is opened, whatever the graph names.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx_ir

from edge_et.export.errors import GraphError, UnsupportedModelError
from edge_et.export.vision.onnx_frame import Place, read_frame

_OLDEST_OPSET = 11  # the first in which Equal takes floats
_DOMAINS = ("", "ai.onnx", "com.microsoft")


def read_model(path: Path) -> onnx_ir.Model:
    """Read an ONNX file.

    Args:
        path: the file. Weights may lie in one folder with it, or where the file really lies if it
            is a link, as in the cache of the Hugging Face hub.

    Returns:
        The model; every tensor is complete.

    Raises:
        GraphError: the file is missing or damaged, or its weights are or lie elsewhere.
        UnsupportedModelError: it needs operators that ONNX Runtime has not.
    """
    try:
        frame, places = read_frame(path)
        model = onnx_ir.from_proto(frame)
    except OSError as err:
        raise GraphError(f"{path} cannot be read: {err.strerror or err}") from err
    except Exception as err:  # a damaged message makes them raise nearly anything
        raise GraphError(f"{path} is no ONNX file, or damaged: get it again") from err
    opset = model.graph.opset_imports.get("")
    if opset is None:  # an empty file is a message too
        raise GraphError(f"{path} is no ONNX file, or damaged: get it again")
    if model.functions:
        raise UnsupportedModelError(
            f"{path} has functions of its own: inline them with onnx.inliner"
        )
    unknown = sorted({node.domain for node in model.graph.all_nodes()} - set(_DOMAINS))
    if unknown:
        raise UnsupportedModelError(
            f"{path} needs operators of {unknown[0]!a}, which ONNX Runtime has not"
        )
    if opset < _OLDEST_OPSET:
        raise UnsupportedModelError(
            f"{path} is of opset {opset}, expected {_OLDEST_OPSET} or later: export it again"
        )
    _check_tensors(path, model, places)
    return model


def _check_tensors(path: Path, model: onnx_ir.Model, places: dict[str, Place]) -> None:
    """Make every external tensor one of a file that was checked, and look for what is cut off."""
    for graph in (model.graph, *model.graph.subgraphs()):
        own = places if graph is model.graph else {}
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                value.const_value = _checked(path, name, value.const_value, own.get(name))
    for node, attribute in _attributes(model):
        tensor = _checked(path, attribute.name, attribute.value)
        if isinstance(tensor, onnx_ir.ExternalTensor):  # attributes are written with the graph
            inside = onnx_ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=tensor.name)
            node.attributes[attribute.name] = onnx_ir.AttrTensor(attribute.name, inside)


def _attributes(model: onnx_ir.Model) -> Iterator[tuple[onnx_ir.Node, onnx_ir.Attr]]:
    for node in model.graph.all_nodes():
        for attribute in list(node.attributes.values()):
            if attribute.type == onnx_ir.AttributeType.TENSOR:
                yield node, attribute


def _checked(
    path: Path, name: str, tensor: onnx_ir.TensorProtocol, place: Place | None = None
) -> onnx_ir.TensorProtocol:
    """Return a tensor that is known to be complete."""
    if isinstance(tensor, onnx_ir.ExternalTensor):
        return _checked_external(path, name, tensor)
    try:
        found = len(tensor.tobytes()) if place is None else place[1]
        missing = found != tensor.nbytes
    except Exception as err:  # texts, and messages whose fields contradict one another
        raise GraphError(f"{path}: tensor {name!a} cannot be read: {err}") from err
    if missing:
        raise GraphError(f"{path}: tensor {name!a} is not as long as its shape says: get it again")
    return tensor if place is None else _in_file(path.resolve(), place[0], name, tensor)


def _checked_external(
    path: Path, name: str, tensor: onnx_ir.ExternalTensor
) -> onnx_ir.ExternalTensor:
    location = str(tensor.location)
    weights = path.parent / location
    if location in ("", ".", "..") or weights.name != location or "\\" in location:
        raise GraphError(
            f"{path}: tensor {name!a} names the file {location!a}, outside the folder of the graph"
        )
    real = weights.resolve()
    if not any(
        real.is_relative_to(folder) for folder in (path.parent.resolve(), path.resolve().parent)
    ):
        raise GraphError(f"{weights} is a link to {real}, outside the folder of {path.name}")
    try:
        size_bytes = real.stat().st_size
    except OSError as err:
        raise GraphError(
            f"{weights} with the weights of {path.name} cannot be read: {err.strerror or err}; "
            "get both files"
        ) from err
    offset, wanted = tensor.offset or 0, tensor.nbytes
    if tensor.length not in (None, wanted) or not 0 <= offset <= size_bytes - wanted:
        raise GraphError(
            f"{weights} does not hold tensor {name!a} of {path.name}: get both files again"
        )
    return _in_file(real, offset, name, tensor)


def _in_file(
    path: Path, offset: int, name: str, tensor: onnx_ir.TensorProtocol
) -> onnx_ir.ExternalTensor:
    """Return a tensor that is mapped from a file that was checked.

    Without a folder: the checks that come with one refuse the hub's links, and hard links.
    """
    shape = onnx_ir.Shape(tensor.shape.numpy())
    return onnx_ir.ExternalTensor(path, offset, tensor.nbytes, tensor.dtype, shape=shape, name=name)
