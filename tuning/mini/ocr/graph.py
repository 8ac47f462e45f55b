"""The reader as one graph, in training run by itself and in a bundle joined to the vision graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from edge_et.export.vision.export_tower import OPSET
from edge_et.export.vision.onnx_graph import INPUT
from edge_et.native_libraries import import_library
from edge_et.threads import choose_threads
from edge_et.tuning.mini.ocr import letters, lines, pixels
from edge_et.tuning.mini.ocr.weights import find_reader_models, load_detector, load_recognizer

READING = "reading"
_IR_VERSION = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A graph to be joined with others.

    Attributes:
        name: unique among the parts; its output is the part's name.
        model: with one output.
        inputs: for each of its inputs, in order, the name of the part that makes it, or of an input
            or constant of the whole.
    """

    name: str
    model: onnx.ModelProto
    inputs: Sequence[str]


def join(
    parts: Sequence[Part],
    constants: Mapping[str, NDArray[np.generic]],
    inputs: Sequence[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
) -> onnx.ModelProto:
    """Join graphs to one.

    Args:
        parts: in an order in which they can run.
        constants: by name.
        inputs: of the whole.
        output: of the whole, named like the part that makes it.
    """
    whole = helper.make_graph(
        [], output.name, inputs, [output],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )  # fmt: skip
    for part in parts:
        inner = compose.add_prefix_graph(part.model.graph, f"{part.name}/")
        held = {tensor.name for tensor in inner.initializer}
        asked = [value.name for value in inner.input if value.name not in held]
        for source, wanted in zip(part.inputs, asked, strict=True):
            whole.node.append(helper.make_node("Identity", [source], [wanted]))
        whole.node.extend(inner.node)
        whole.initializer.extend(inner.initializer)
        whole.node.append(helper.make_node("Identity", [inner.output[0].name], [part.name]))
    opsets = {entry.domain: entry.version for part in parts for entry in part.model.opset_import}
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(*opset) for opset in {**opsets, "": OPSET}.items()],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def reader_parts(models: Path) -> tuple[list[Part], dict[str, NDArray[np.generic]]]:
    """Give the parts of the reader, from `INPUT` to `READING`, and their constants."""
    recognizer, codes = load_recognizer(models)
    parts = [
        Part(name="blue_first", model=pixels.blue_first.to_model_proto(), inputs=[INPUT]),
        Part(name="chances", model=load_detector(models), inputs=["blue_first"]),
        Part(name="regions", model=lines.regions.to_model_proto(), inputs=["chances"]),
        Part(name="largest", model=lines.largest.to_model_proto(), inputs=["regions", "chances"]),
        Part(name="frames", model=lines.frames.to_model_proto(), inputs=["regions", "largest"]),
        Part(name="sorted", model=lines.in_reading_order.to_model_proto(), inputs=["frames"]),
        Part(name="centred", model=pixels.centred.to_model_proto(), inputs=["blue_first"]),
        Part(name="cut", model=lines.cut_out.to_model_proto(), inputs=["centred", "sorted"]),
        Part(name="scores", model=recognizer, inputs=["cut"]),
        Part(
            name=READING,
            model=letters.reading.to_model_proto(),
            inputs=["scores", "sorted", INPUT, "codes"],
        ),
    ]
    return parts, {"codes": np.array(codes, np.int64)}


class PrintReader:
    """Reads the print of pictures.

    Args:
        threads: CPU threads; 0: all CPUs of this process.

    Raises:
        TuningError: the package of its weights is not installed, or is another one.
    """

    def __init__(self, threads: int = 0) -> None:
        parts, constants = reader_parts(find_reader_models())
        pictures = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, "H", "W"])
        read = helper.make_tensor_value_info(READING, TensorProto.FLOAT, ["N", letters.READ, 4])
        model = join(parts, constants, [pictures], read)
        onnxruntime = import_library("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = choose_threads(threads or None)
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read pictures.

        Args:
            pixel_values: float32 [N, 3, H, W], as the tower takes them; H and W multiples of 32.

        Returns:
            float32 [N, `READ`, 4]; see `letters.reading`.
        """
        read: NDArray[np.float32] = self._session.run([READING], {INPUT: pixel_values})[0]
        return read
