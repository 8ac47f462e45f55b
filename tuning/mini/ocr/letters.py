"""What lines say, as ONNX: from the scores of their columns to characters in reading order."""

from __future__ import annotations

from onnxscript import FLOAT, INT64, script
from onnxscript import opset20 as op

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.ocr.lines import LINE_HEIGHT, LONGEST_LINE

READ = recipe.READ_TOKENS
"""Characters that are read of a picture."""

_ROW_SHAPE = [READ, 4]
# Pixels of a line for each of its scores.
_COLUMN = 8.0


@script(default_opset=op)
def reading(
    scores: FLOAT[None, None, None],
    frame: FLOAT[None, 8],
    pictures: FLOAT[None, 3, None, None],
    codes: INT64[None],
) -> FLOAT[None, None, 4]:
    """Read lines by CTC's best path, one after the other.

    Returns:
        Of each character its number in `CHARACTERS`, its x and y as shares of the picture, and
        whether it begins a line; zeros behind the last one.
    """
    best = op.ArgMax(scores, axis=2, keepdims=0)
    before = op.Pad(op.Slice(best, [0], [-1], [1]), [0, 1, 0, 0], 0)
    code = op.Gather(codes, best)
    begin = op.Reshape(op.Gather(frame, 5, axis=1), [-1, 1])
    end = op.Reshape(op.Gather(frame, 6, axis=1), [-1, 1])
    written = op.And(op.And(code > 0, op.Not(best == before)), end > begin)
    kept = op.Cast(written, to=7)
    shape = op.Shape(pictures)
    count = op.Slice(shape, [0], [1])

    nth = op.CumSum(kept, 1) - kept
    starts = op.Cast(nth == 0, to=1)
    each = op.ReduceSum(kept, [1], keepdims=0)
    picture = op.Cast(op.Gather(frame, 0, axis=1), to=7)
    earlier = op.CumSum(each, 0) - each
    others = op.Cast(op.Unsqueeze(picture, [0]) < op.Unsqueeze(picture, [1]), to=7)
    base = op.ReduceSum(others * op.Unsqueeze(each, [0]), [1], keepdims=0)
    slot = nth + op.Unsqueeze(earlier - base, [1])
    fits = op.And(op.Cast(kept, to=9), slot < READ)
    last = count * READ
    target = op.Where(fits, op.Unsqueeze(picture, [1]) * READ + slot, last)

    thickness = op.Reshape(op.Gather(frame, 7, axis=1), [-1, 1])
    used = op.Min(op.Ceil((end - begin) / thickness * LINE_HEIGHT), LONGEST_LINE)
    columns = op.Cast(
        op.Unsqueeze(op.Range(0, op.Squeeze(op.Slice(op.Shape(best), [1], [2])), 1), [0]), to=1
    )
    along = begin + (columns + 0.5) * _COLUMN / used * (end - begin)
    x = op.Reshape(op.Gather(frame, 1, axis=1), [-1, 1]) + along * op.Reshape(
        op.Gather(frame, 3, axis=1), [-1, 1]
    )
    y = op.Reshape(op.Gather(frame, 2, axis=1), [-1, 1]) + along * op.Reshape(
        op.Gather(frame, 4, axis=1), [-1, 1]
    )
    size = op.Cast(shape, to=1)
    told = op.Concat(
        op.Unsqueeze(op.Cast(code, to=1), [2]),
        op.Unsqueeze(op.Clip((x + 0.5) / op.Slice(size, [3], [4]), 0.0, 1.0), [2]),
        op.Unsqueeze(op.Clip((y + 0.5) / op.Slice(size, [2], [3]), 0.0, 1.0), [2]),
        op.Unsqueeze(starts, [2]),
        axis=2,
    )
    empty = op.Expand(op.Constant(value_float=0.0), op.Concat(last + 1, [4], axis=0))
    filled = op.ScatterND(empty, op.Reshape(target, [-1, 1]), op.Reshape(told, [-1, 4]))
    return op.Reshape(
        op.Slice(filled, [0], last, [0]),
        op.Concat(count, op.Constant(value_ints=_ROW_SHAPE), axis=0),
    )


@script(default_opset=op)
def side_by_side(
    seen: FLOAT[None, None, None], read: FLOAT[None, None, None]
) -> FLOAT[None, None, None]:
    """Put what is read behind what is seen."""
    return op.Concat(seen, read, axis=1)
