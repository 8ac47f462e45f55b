"""The networks that find and read lines of print: PP-OCRv4 mobile, cut down to ASCII.

In: the ONNX files of the PyPI package `rapidocr` (PaddleOCR's PP-OCRv4, Apache-2.0). Out: graphs of
the opset that the tower is exported in, with weights in 16 bits; the recognizer knows the
characters of ASCII alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from edge_et.errors import TuningError
from edge_et.export.vision.export_tower import OPSET

READER_PACKAGE = "rapidocr"
READER_VERSION = "3.4.5"

CHARACTERS = " 0123456789abcdefghijklmnopqrstuvwxyz!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What is told apart, in this order, counted from 1; 0 is nothing. Case is not."""

_FOLDER = "rapidocr/models"
_DETECTOR = "ch_PP-OCRv4_det_infer.onnx"
_RECOGNIZER = "ch_PP-OCRv4_rec_infer.onnx"
_ALPHABET_KEY = "character"
_HALVED_BYTES = 1024


def find_reader_models() -> Path:
    """Return the folder of the package's ONNX files, without importing the package.

    Raises:
        TuningError: the package is not installed.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise TuningError(f'reading print needs {READER_PACKAGE}: pip install "edge-et[tuning]"')
    return Path(spec.origin).parent.parent / _FOLDER


def load_detector(models: Path) -> onnx.ModelProto:
    """Load the network that tells where print is.

    Args:
        models: the folder that `find_reader_models` names.

    Returns:
        A graph from BGR pixel values [N, 3, H, W] to the chance of print [N, 1, H, W].

    Raises:
        TuningError: the file cannot be read.
    """
    return _modern(_load(models / _DETECTOR))


def load_recognizer(models: Path) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Load the network that reads a line.

    Args:
        models: the folder that `find_reader_models` names.

    Returns:
        A graph from BGR lines [K, 3, 48, W], values -1 to 1, to scores [K, W / 8, classes], and the
        number in `CHARACTERS` of each class; 0 for the first one, CTC's blank.

    Raises:
        TuningError: the file cannot be read, or is not the recognizer that was expected.
    """
    path = models / _RECOGNIZER
    model = _load(path)
    alphabet = {prop.key: prop.value for prop in model.metadata_props}.get(_ALPHABET_KEY, "")
    # Behind the listed characters the network has one more class, the space.
    classes = ["", *alphabet.splitlines(), " "]
    kept = [0] + [n for n, character in enumerate(classes) if character.lower() in CHARACTERS and n]
    _keep_classes(model, path, kept, len(classes))
    return _modern(model), tuple(CHARACTERS.find(classes[n].lower()) + 1 if n else 0 for n in kept)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path))
    except Exception as err:  # protobuf's and the system's, which share no base class
        raise TuningError(f"{path} of {READER_PACKAGE} cannot be read: {err}") from err


def _keep_classes(model: onnx.ModelProto, path: Path, kept: Sequence[int], classes: int) -> None:
    """Take columns out of the last linear, and the softmax behind it away."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    softmax = makers[graph.output[0].name]
    bias = makers[softmax.input[0]]
    linear = makers[bias.input[0]]
    if [n.op_type for n in (softmax, bias, linear)] != ["Softmax", "Add", "MatMul"]:
        raise TuningError(f"{path} does not end in a linear and a softmax")
    for name in (linear.input[1], bias.input[1]):
        attribute = makers[name].attribute[0]
        values = numpy_helper.to_array(attribute.t)
        if values.shape[-1] != classes:
            raise TuningError(f"{path} tells {values.shape[-1]} classes apart, not {classes}")
        attribute.t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[..., kept])))
    graph.output[0].name = softmax.input[0]
    graph.output[0].type.tensor_type.shape.dim[2].dim_value = len(kept)
    graph.node.remove(softmax)


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a graph to the tower's opset, its weights in 16 bits."""
    del model.metadata_props[:], model.graph.value_info[:]
    model = version_converter.convert_version(model, OPSET)
    graph = model.graph
    nodes = []
    for node in graph.node:
        tensor = node.attribute[0].t if node.op_type == "Constant" else None
        if tensor is None:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(tensor)
        name = node.output[0]
        if values.dtype == np.float32 and values.nbytes > _HALVED_BYTES:
            half = f"{name}_half"
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), half))
            nodes.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
        else:
            graph.initializer.append(numpy_helper.from_array(values, name))
    del graph.node[:]
    graph.node.extend(nodes)
    return model
