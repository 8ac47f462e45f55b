"""Write an ONNX file one weight at a time.

In: a traced model, whose weights are views of a torch module's. Out: one file, or a file and its
weights beside it where one file would be larger than protobuf reads. onnx's own writer holds all
weights three times over.
"""

from pathlib import Path

import onnx
import onnx_ir

from edge_et.export.vision.onnx_graph import data_path, strip_traces

MAX_WEIGHTS_BYTES = 2**31 - 2**26
"""Weights that go into one file. Protobuf reads messages below 2 GiB; the rest is for the nodes."""

_SMALL_CONSTANT_BYTES = 1024

# Numbers of fields in onnx.proto.
_GRAPH_OF_MODEL = 7
_INITIALIZER_OF_GRAPH = 5
_RAW_DATA_OF_TENSOR = 9


def write_model(path: Path, model: onnx_ir.Model) -> None:
    """Write a model.

    Args:
        path: the ONNX file. Weights that do not fit into it go to the file `data_path` tells.
        model: with weights of known values, which it loses.
    """
    weights = _weights(model)
    if sum(weight.nbytes for weight in weights.values()) > MAX_WEIGHTS_BYTES:
        write_split(path, model)
    else:
        for value in model.graph.initializers.values():
            value.const_value = None  # onnxscript 0.7 keeps a node, and thus all values, for ever
        model.graph.initializers.clear()
        _write_whole(path, _frame(model), weights)


def split_model(source: Path, path: Path) -> None:
    """Copy a model so that its weights lie beside the graph, where ONNX Runtime maps them.

    A graph that holds them is parsed into memory first: of SigLIP so400m that takes 10 s and
    2.8 GB to open and run, and 1.4 s and 1.8 GB with the weights beside it.

    Args:
        source: the ONNX file, with or without weights beside it.
        path: the ONNX file to write, in another folder.
    """
    write_split(path, onnx_ir.load(source))


def write_split(path: Path, model: onnx_ir.Model) -> None:
    """Write a model with its weights beside the graph.

    Args:
        path: the ONNX file; the weights go to the file `data_path` tells.
        model: with weights of known values, which it reads from that file afterwards.
    """
    # Small constants stay, since shapes are inferred from them.
    onnx_ir.external_data.unload_from_model(
        model, path.parent, data_path(path).name, size_threshold_bytes=_SMALL_CONSTANT_BYTES
    )
    write_frame(path, model)


def write_frame(path: Path, model: onnx_ir.Model) -> None:
    """Write the graph of a model whose weights `write_split` has written into the same folder.

    Args:
        path: the ONNX file.
        model: as `write_split` leaves it, with other nodes or outputs perhaps.
    """
    path.write_bytes(_frame(model).SerializeToString(deterministic=True))


def _weights(model: onnx_ir.Model) -> dict[str, onnx_ir.TensorProtocol]:
    weights = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None, f"{name} has no value"
        weights[name] = value.const_value
    return weights


def _frame(model: onnx_ir.Model) -> onnx.ModelProto:
    frame: onnx.ModelProto = onnx_ir.to_proto(model)
    strip_traces(frame)
    return frame


def _write_whole(
    path: Path, frame: onnx.ModelProto, weights: dict[str, onnx_ir.TensorProtocol]
) -> None:
    """Write the frame with weights put into it.

    A message of protobuf is a row of fields in any order, each of them its number, its length and
    its bytes. So the fields of the graph can be written as they are, and the weights behind them.
    """
    graph = frame.graph.SerializeToString(deterministic=True)
    frame.ClearField("graph")
    headers = []
    for name, weight in weights.items():
        header = onnx.TensorProto(
            name=name, data_type=weight.dtype.value, dims=weight.shape.numpy()
        ).SerializeToString(deterministic=True)
        header += field_start(_RAW_DATA_OF_TENSOR, weight.nbytes)
        headers.append(field_start(_INITIALIZER_OF_GRAPH, len(header) + weight.nbytes) + header)
    weights_bytes = sum(map(len, headers)) + sum(weight.nbytes for weight in weights.values())
    with path.open("wb") as file:
        file.write(frame.SerializeToString(deterministic=True))
        file.write(field_start(_GRAPH_OF_MODEL, len(graph) + weights_bytes))
        file.write(graph)
        for header, weight in zip(headers, weights.values(), strict=True):
            file.write(header)
            file.write(weight.tobytes())


def field_start(number: int, size_bytes: int) -> bytes:
    """Encode the beginning of a field of protobuf.

    Args:
        number: of the field, 1 to 15.
        size_bytes: of its content.
    """
    start = bytearray([number << 3 | 2])
    while size_bytes > 0x7F:
        start.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    start.append(size_bytes)
    return bytes(start)
