"""Finding lines of print, as ONNX: from a map of chances to cut-out, upright lines.

The map's connected regions are lines (differentiable binarization, arXiv 1911.08947, tells their
cores alone, which are widened here). A line is cut out along its slope, so that signs may be
tilted; lines that stand upright, or on their head, are not read.
"""

from __future__ import annotations

from onnxscript import FLOAT, INT64, script
from onnxscript import opset20 as op

LINES = 16
"""Lines that are read of a picture, the largest ones."""

LINE_HEIGHT = 48.0
LONGEST_LINE = 320.0
"""Height and width in pixels of what the recognizer takes."""

_MOST = [LINES]
_LIKELY = 0.3
_SURE = 0.5
_LEAST_PIXELS = 6.0
_WIDENING = 1.6
_STEEPEST = 0.35
_FAR = 1e6
# Lines whose middles are in one band of this height are side by side.
_BAND = 14.0


@script(default_opset=op)
def regions(chances: FLOAT[None, 1, None, None]) -> FLOAT[None, 1, None, None]:
    """Give regions numbers: each pixel gets its region's largest index, from 1; 0 is none."""
    mask = op.Cast(chances > _LIKELY, to=1)
    shape = op.Shape(chances)
    size = op.ReduceProd(op.Slice(shape, [2], [4]), keepdims=0)
    index = op.Reshape(
        op.Cast(op.Range(op.Constant(value_int=1), size + 1, op.Constant(value_int=1)), to=1),
        op.Concat([1, 1], op.Slice(shape, [2], [4]), axis=0),
    )
    labels = mask * index
    changing = op.Cast(op.ReduceMax(mask, keepdims=0), to=9)
    while changing:
        grown = op.MaxPool(labels, kernel_shape=[3, 3], pads=[1, 1, 1, 1]) * mask
        changing = op.Cast(op.ReduceMax(grown - labels, keepdims=0), to=9)
        labels = op.Identity(grown)
    return labels


@script(default_opset=op)
def largest(labels: FLOAT[None, 1, None, None], chances: FLOAT[None, 1, None, None]) -> INT64[None]:
    """Choose regions that are print: their largest indices in the flattened map.

    There is at least one, which may be empty.
    """
    shape = op.Shape(labels)
    count = op.Slice(shape, [0], [1])
    size = op.ReduceProd(op.Slice(shape, [2], [4]), keepdims=1)
    flat = op.Reshape(op.Cast(labels, to=7), op.Concat(count, size, axis=0))
    covered = op.Cast(flat > 0, to=1)
    # Where nothing is covered, nothing is added, to the first one.
    where = op.Max(flat - 1, op.Constant(value_int=0))
    empty = covered * 0.0
    pixels = op.ScatterElements(empty, where, covered, axis=1, reduction="add")
    likely = covered * op.Reshape(chances, op.Shape(flat))
    sums = op.ScatterElements(empty, where, likely, axis=1, reduction="add")
    sure = op.Cast(op.And(pixels >= _LEAST_PIXELS, sums > _SURE * pixels), to=1)
    most, within = op.TopK(pixels * sure, op.Constant(value_ints=_MOST))
    one = op.Constant(value_int=1)
    pictures = op.Range(op.Constant(value_int=0), op.Squeeze(count), one)
    chosen = op.Reshape(within + op.Unsqueeze(pictures, [1]) * size, [-1])
    found = op.Reshape(most, [-1]) > 0.0
    first = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(chosen)), one) == 0
    return op.Compress(chosen, op.Or(found, first), axis=0)


@script(default_opset=op)
def frames(labels: FLOAT[None, 1, None, None], chosen: INT64[None]) -> FLOAT[None, 8]:
    """Measure regions.

    Returns:
        Of each its picture, x and y of its middle, cosine and sine of its slope, where it begins
        and ends along itself, and its thickness; in pixels, widened to lines.
    """
    shape = op.Shape(labels)
    height = op.Slice(shape, [2], [3])
    width = op.Slice(shape, [3], [4])
    picture = chosen / (height * width)
    label = op.Cast(chosen - picture * (height * width) + 1, to=1)
    maps = op.Squeeze(op.Gather(labels, picture, axis=0), [1])
    inside = maps == op.Unsqueeze(label, [1, 2])
    weight = op.Cast(inside, to=1)
    pixels = op.Max(op.ReduceSum(weight, [1, 2], keepdims=1), 1.0)
    one = op.Constant(value_int=1)
    zero = op.Constant(value_int=0)
    x = op.Reshape(op.Cast(op.Range(zero, op.Squeeze(width), one), to=1), [1, 1, -1])
    y = op.Reshape(op.Cast(op.Range(zero, op.Squeeze(height), one), to=1), [1, -1, 1])
    centre_x = op.ReduceSum(weight * x, [1, 2], keepdims=1) / pixels
    centre_y = op.ReduceSum(weight * y, [1, 2], keepdims=1) / pixels
    right = x - centre_x
    down = y - centre_y
    spread_x = op.ReduceSum(weight * right * right, [1, 2], keepdims=1) / pixels + 0.1
    spread_y = op.ReduceSum(weight * down * down, [1, 2], keepdims=1) / pixels + 0.1
    shared = op.ReduceSum(weight * right * down, [1, 2], keepdims=1) / pixels
    long = op.Cast(spread_x > 4.0 * spread_y, to=1)
    slope = op.Clip(long * shared / spread_x, -_STEEPEST, _STEEPEST)
    cosine = 1.0 / op.Sqrt(1.0 + slope * slope)
    sine = slope * cosine
    along = right * cosine + down * sine
    across = down * cosine - right * sine
    begin = op.ReduceMin(op.Where(inside, along, _FAR), [1, 2], keepdims=1) - 0.5
    end = op.ReduceMax(op.Where(inside, along, -_FAR), [1, 2], keepdims=1) + 0.5
    top = op.ReduceMin(op.Where(inside, across, _FAR), [1, 2], keepdims=1) - 0.5
    bottom = op.ReduceMax(op.Where(inside, across, -_FAR), [1, 2], keepdims=1) + 0.5
    length = end - begin
    thickness = bottom - top
    more = _WIDENING * length * thickness / (2.0 * (length + thickness))
    middle = (top + bottom) / 2.0
    frame = op.Concat(
        op.Reshape(op.Cast(picture, to=1), [-1, 1, 1]),
        centre_x - middle * sine,
        centre_y + middle * cosine,
        cosine,
        sine,
        begin - more,
        end + more,
        thickness + 2.0 * more,
        axis=1,
    )
    return op.Squeeze(frame, [2])


@script(default_opset=op)
def in_reading_order(frame: FLOAT[None, 8]) -> FLOAT[None, 8]:
    """Sort lines by picture, then down the picture, then to the right."""
    picture = op.Gather(frame, 0, axis=1)
    x = op.Gather(frame, 1, axis=1)
    band = op.Floor(op.Gather(frame, 2, axis=1) / _BAND)
    key = picture * 1e5 + band * 1e3 + x
    _, order = op.TopK(key, op.Shape(key), largest=0)
    return op.Gather(frame, order, axis=0)


@script(default_opset=op)
def cut_out(
    pictures: FLOAT[None, 3, None, None], frame: FLOAT[None, 8]
) -> FLOAT[None, 3, 48, None]:
    """Cut lines out, as high as the recognizer takes them; what is behind a line's end is 0."""
    picture = op.Cast(op.Gather(frame, 0, axis=1), to=7)
    begin = op.Reshape(op.Gather(frame, 5, axis=1), [-1, 1, 1])
    end = op.Reshape(op.Gather(frame, 6, axis=1), [-1, 1, 1])
    thickness = op.Reshape(op.Gather(frame, 7, axis=1), [-1, 1, 1])
    used = op.Min(op.Ceil((end - begin) / thickness * LINE_HEIGHT), LONGEST_LINE)
    columns = op.Reshape(op.Range(0.0, LONGEST_LINE, 1.0), [1, 1, -1]) + 0.5
    rows = op.Reshape(op.Range(0.0, LINE_HEIGHT, 1.0), [1, -1, 1]) + 0.5
    along = begin + columns / used * (end - begin) + 0.0 * rows
    across = (rows / LINE_HEIGHT - 0.5) * thickness + 0.0 * columns
    x = op.Reshape(op.Gather(frame, 1, axis=1), [-1, 1, 1])
    y = op.Reshape(op.Gather(frame, 2, axis=1), [-1, 1, 1])
    cosine = op.Reshape(op.Gather(frame, 3, axis=1), [-1, 1, 1])
    sine = op.Reshape(op.Gather(frame, 4, axis=1), [-1, 1, 1])
    shape = op.Cast(op.Shape(pictures), to=1)
    grid_x = (2.0 * (x + along * cosine - across * sine) + 1.0) / op.Slice(shape, [3], [4]) - 1.0
    grid_y = (2.0 * (y + along * sine + across * cosine) + 1.0) / op.Slice(shape, [2], [3]) - 1.0
    grid = op.Concat(op.Unsqueeze(grid_x, [3]), op.Unsqueeze(grid_y, [3]), axis=3)
    cut = op.GridSample(op.Gather(pictures, picture, axis=0), grid, padding_mode="border")
    return cut * op.Unsqueeze(op.Cast(columns < used, to=1), [1])
