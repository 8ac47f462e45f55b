"""Pixel values, as ONNX: from what the tower takes to what the reader's networks take."""

from __future__ import annotations

from onnxscript import FLOAT, script
from onnxscript import opset20 as op


@script(default_opset=op)
def blue_first(pixel_values: FLOAT[None, 3, None, None]) -> FLOAT[None, 3, None, None]:
    """Gives the detector's pixel values for the tower's: it wants blue first, scaled by place."""
    std = op.Constant(value_floats=[0.229, 0.224, 0.225])
    mean = op.Constant(value_floats=[0.485, 0.456, 0.406])
    shares = pixel_values * op.Unsqueeze(std, [0, 2, 3]) + op.Unsqueeze(mean, [0, 2, 3])
    turned = op.Gather(shares, [2, 1, 0], axis=1)
    return (turned - op.Unsqueeze(mean, [0, 2, 3])) / op.Unsqueeze(std, [0, 2, 3])


@script(default_opset=op)
def centred(pixel_values: FLOAT[None, 3, None, None]) -> FLOAT[None, 3, None, None]:
    """Gives the recognizer's pixel values, from -1 to 1, for the detector's."""
    std = op.Constant(value_floats=[0.229, 0.224, 0.225])
    mean = op.Constant(value_floats=[0.485, 0.456, 0.406])
    shares = pixel_values * op.Unsqueeze(std, [0, 2, 3]) + op.Unsqueeze(mean, [0, 2, 3])
    return 2.0 * shares - 1.0
