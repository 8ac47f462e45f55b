"""Pixel values, as ONNX: from what the tower takes to what the reader's networks take."""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op

from edge_et.tuning.mini.vision.backbone import PIXEL_MEAN, PIXEL_STD

_MEAN, _STD = list(PIXEL_MEAN), list(PIXEL_STD)


@script(default_opset=op)
def blue_first(pixel_values: FLOAT[None, 3, None, None]) -> FLOAT[None, 3, None, None]:
    """Give the detector's pixel values for the tower's: it wants blue first, scaled by place."""
    std = op.Constant(value_floats=_STD)
    mean = op.Constant(value_floats=_MEAN)
    shares = pixel_values * op.Unsqueeze(std, [0, 2, 3]) + op.Unsqueeze(mean, [0, 2, 3])
    turned = op.Gather(shares, [2, 1, 0], axis=1)
    return (turned - op.Unsqueeze(mean, [0, 2, 3])) / op.Unsqueeze(std, [0, 2, 3])


@script(default_opset=op)
def centred(pixel_values: FLOAT[None, 3, None, None]) -> FLOAT[None, 3, None, None]:
    """Give the recognizer's pixel values, from -1 to 1, for the detector's."""
    std = op.Constant(value_floats=_STD)
    mean = op.Constant(value_floats=_MEAN)
    shares = pixel_values * op.Unsqueeze(std, [0, 2, 3]) + op.Unsqueeze(mean, [0, 2, 3])
    return 2.0 * shares - 1.0
