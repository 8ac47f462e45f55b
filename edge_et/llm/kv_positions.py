"""Bookkeeping of a KV cache: what every position holds, and how much of a prompt is there already.

Pure: no model is touched here. A position holds a token, or one row of an image that is named by
its digest.

The rules below make what a position holds a function of the segments alone, bit for bit, whatever
was cached before. Matrix kernels round differently for one row, for several, and for rows left over
from groups of eight; quantized weights amplify that last bit. Measured with SmolLM2-135M on x86
(llama-cpp-python 0.3.36), largest difference of a logit: one token at a time against all at once
0.6 (Q4_1), a cut at no multiple of eight 0.3 to 0.7 (Q4_K, repacked), a single row left at the end
0.5 (Q8_0, F16 cache), two to seven rows in a batch of their own against the same rows behind whole
groups 1.0 (Q4_K) and 0.8 (Q6_K); cuts at multiples of eight with eight rows or more behind them: 0
for Q4_0, Q4_1, Q4_K, Q6_K, Q8_0 and F16. Without these rules four of eight greedy texts of a second
stage changed when the cache had been emptied before it.

There is one exception, and only where it is asked for: draft tokens that came true (see
`edge_et.generation.prompt_lookup`) went through the model together with the token before them, and
what they hold is rounded as a batch is. Read again after the cache was emptied they come one at a
time. With the mini model (Q4_1 and an adapter), drafting up to seven tokens wherever it could, the
distance between the two best logits moved by 0.1 (median), 0.7 (99th percentile) and 1.1 (most),
and 4 of 64 greedy texts became others, at tokens whose distance was 0.02 to 0.34 in plain decoding.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from edge_et.image import ImageTokens
from edge_et.llm.batch_rules import IN_GROUPS, BatchRules
from edge_et.llm.prompt import Segment, TokenSegment

ROW_GROUP = IN_GROUPS.group
"""Rows of text that llama.cpp evaluates together."""


class GriddedRow(NamedTuple):
    """What a position holds that is a row of an image with a grid; see `edge_et.llm.places`.

    Attributes:
        digest: of the image.
        row: the row's number, from the grid's first row on.
        rows: of the grid.
        columns: of the grid.
    """

    digest: str
    row: int
    rows: int
    columns: int


Position = int | tuple[str, int] | GriddedRow
"""A token that was read; or one that was written; or the digest of an image and a row's number."""


def generated(token: int) -> Position:
    """Return what a position holds whose token the model wrote."""
    return ("generated", token)


def positions_of(segments: Iterable[Segment]) -> list[Position]:
    """Return what each position holds after the segments are evaluated."""
    positions: list[Position] = []
    for segment in segments:
        if not isinstance(segment, TokenSegment):
            positions += rows_of(segment.image)
        elif segment.generated:
            positions += map(generated, segment.ids)
        else:
            positions += segment.ids
    return positions


def rows_of(image: ImageTokens) -> Iterator[Position]:
    """Yield what the positions of an image hold."""
    if image.grid is None:
        yield from ((image.digest, row) for row in range(len(image.rows)))
    else:
        yield from (GriddedRow(image.digest, row, *image.grid) for row in range(len(image.rows)))


def common_prefix(cached: Sequence[Position], wanted: Sequence[Position]) -> int:
    """Return how many positions, from the first one on, two sequences have in common."""
    for index, (left, right) in enumerate(zip(cached, wanted, strict=False)):
        if left != right:
            return index
    return min(len(cached), len(wanted))


def restart_at(segments: Iterable[Segment], shared: int, rules: BatchRules = IN_GROUPS) -> int:
    """Return where evaluation has to begin so that it ends as if it had begun at the start.

    Args:
        segments: the whole prompt.
        shared: positions that the cache has in common with it, fewer than the prompt has.
        rules: of the engine.

    Returns:
        `shared`, or a few positions less.
    """
    end = 0
    for segment in segments:
        begin, end = end, end + len(segment)
        if shared < end and not _is_generated(segment):
            group, _ = _cuts(segment, rules)
            whole_groups = min(shared - begin, len(segment) - group) // group
            return begin + max(whole_groups, 0) * group
        if shared < end:
            break
    return shared


def batches(
    segments: Iterable[Segment], start: int, rules: BatchRules = IN_GROUPS
) -> Iterator[tuple[Segment, slice]]:
    """Cut what lies behind a position into batches.

    Args:
        segments: the whole prompt.
        start: the first position to evaluate, from `restart_at`.
        rules: of the engine.

    Yields:
        A segment and the part of it to evaluate. Tokens that the model wrote come as few at a time
        as round like one; otherwise no batch is smaller than a group unless its segment is.
    """
    end = 0
    for segment in segments:
        begin, end = end, end + len(segment)
        first = max(start, begin) - begin
        group, most = _cuts(segment, rules)
        while first < len(segment):
            rest = len(segment) - first
            count = min(rest, most)
            if rules.tail_apart and rest % group and rest > 2 * group:
                count = min(rest - rest % group - group, most)
            elif 0 < rest - count < group:
                count -= group
            yield segment, slice(first, first + count)
            first += count


def spare_positions(segments: Sequence[Segment], rules: BatchRules) -> int:
    """Return how many positions have to be free behind a prompt, wherever its evaluation begins.

    Args:
        segments: the whole prompt, at least one segment.
        rules: of the engine.
    """
    last = segments[-1]
    if isinstance(last, TokenSegment) or min(len(last), _cuts(last, rules)[0]) > 1:
        return 0
    return rules.spare


def _cuts(segment: Segment, rules: BatchRules) -> tuple[int, int]:
    """Return the rows of a group of a segment, and of its largest batch."""
    if _is_generated(segment):
        return 1, rules.written
    if isinstance(segment, TokenSegment) or len(segment) < rules.image_group:
        return rules.group, rules.most
    return rules.image_group, rules.image_most


def _is_generated(segment: Segment) -> bool:
    return isinstance(segment, TokenSegment) and segment.generated
