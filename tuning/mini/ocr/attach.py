"""A vision graph and the reader, joined: from pixel values to all of a picture's tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from edge_et.export.errors import ParityError
from edge_et.export.steps import StepReport, Stopwatch, atomic_output
from edge_et.export.vision.export_tower import OPSET
from edge_et.export.vision.onnx_graph import INPUT, OUTPUT, open_session, run_graph
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.ocr import letters
from edge_et.tuning.mini.ocr.graph import READING, Part, PrintReader, join, reader_parts
from edge_et.tuning.mini.ocr.weights import find_reader_models
from edge_et.tuning.mini.vision.vision_head import VisionHead

# Where ONNX Runtime fuses a whole graph otherwise than its parts, 8-bit activations round so too,
# and of two names that are as likely the other one may be taken.
_MAX_ERROR = 0.02
_MAX_SHARE_ABOVE = 0.005


def attach_reader(
    graph: Path, head: VisionHead, reader: PrintReader, out: Path, pictures: NDArray[np.float32]
) -> StepReport:
    """Join a vision graph with the reader and the head's letters.

    Args:
        graph: `pixel_values` to the tokens of what is seen, in one file.
        head: whose letters are taken.
        reader: what the joined graph is to read like.
        out: the ONNX file to write, replaced if it exists.
        pictures: float32 [M, 3, H, W], pixel values of pictures to compare with the parts by.

    Returns:
        What was written, and how far its tokens are from the parts'.

    Raises:
        TuningError: the package of the reader's weights is not installed, or is another one.
        ParityError: the tokens differ too much. Nothing is left behind.
    """
    watch = Stopwatch()
    parts, constants = reader_parts(find_reader_models())
    parts += [
        Part(name="seen", model=onnx.load(str(graph)), inputs=[INPUT]),
        Part(name="read", model=_letters(head), inputs=[READING]),
        Part(name=OUTPUT, model=letters.side_by_side.to_model_proto(), inputs=["seen", "read"]),
    ]
    size = list(pictures.shape[1:])
    model = join(
        parts,
        constants,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *size])],
        helper.make_tensor_value_info(
            OUTPUT, TensorProto.FLOAT, ["N", recipe.IMAGE_TOKENS, recipe.LLM_WIDTH]
        ),
    )
    with torch.no_grad():
        read = head.read(torch.from_numpy(reader(pictures)))
    expected = np.concatenate((run_graph(open_session(graph), pictures), read.numpy()), axis=1)
    with atomic_output(out) as temporary:
        onnx.save(model, str(temporary))
        errors = np.abs(run_graph(open_session(temporary), pictures) - expected).max(axis=-1)
        above = float(np.mean(~(errors <= _MAX_ERROR)))
        measure = f"share of tokens off by more than {_MAX_ERROR}"
        if above > _MAX_SHARE_ABOVE:
            raise ParityError(f"{out} against its parts", measure, above, _MAX_SHARE_ABOVE)
        size_bytes = temporary.stat().st_size
    return StepReport(
        name="vision with reader",
        path=out,
        size_bytes=size_bytes,
        measure=measure,
        error=above,
        limit=_MAX_SHARE_ABOVE,
        seconds=watch.seconds,
    )


class _Letters(nn.Module):
    """The part of a head that makes tokens of a reading."""

    def __init__(self, head: VisionHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, reading: Tensor) -> Tensor:
        return self.head.read(reading)


def _letters(head: VisionHead) -> onnx.ModelProto:
    program = torch.onnx.export(
        _Letters(head).eval(),
        (torch.zeros(2, recipe.READ_TOKENS, 4),),
        input_names=[READING],
        output_names=[OUTPUT],
        dynamic_shapes={READING: {0: torch.export.Dim("N")}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto
