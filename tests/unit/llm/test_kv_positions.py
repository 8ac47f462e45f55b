from dataclasses import replace

import numpy as np
import pytest

from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    Segment,
    TokenSegment,
    batches,
    common_prefix,
    positions_of,
    restart_at,
)
from edge_et.llm.batch_rules import IN_EVEN_CHUNKS, IN_GROUPS, BatchRules
from edge_et.llm.kv_positions import spare_positions

SIXTEEN = replace(IN_GROUPS, most=16, image_most=16)


def image(count: int, digest: str = "a") -> ImageSegment:
    return ImageSegment(ImageTokens(np.zeros((count, 4), np.float32), digest))


def tokens(*ids: int) -> TokenSegment:
    return TokenSegment(ids)


def shared(left: list[Segment], right: list[Segment]) -> int:
    return common_prefix(positions_of(left), positions_of(right))


def test_common_prefix_of_tokens() -> None:
    assert shared([tokens(1, 2, 3)], [tokens(1, 2, 4)]) == 2
    assert shared([tokens(1, 2, 3)], [tokens(1, 2)]) == 2
    assert shared([], [tokens(1)]) == 0


def test_tokens_agree_however_they_are_cut() -> None:
    assert shared([tokens(1), tokens(2, 3)], [tokens(1, 2), tokens(3)]) == 3


def test_images_agree_by_digest_alone() -> None:
    before: list[Segment] = [tokens(1), image(4, "a"), tokens(2, 3)]
    assert shared(before, [tokens(1), image(4, "a"), tokens(2, 9)]) == 6
    assert shared(before, [tokens(1), image(4, "b"), tokens(2, 3)]) == 1


def test_an_image_cut_short_in_the_cache_agrees_row_by_row() -> None:
    cached = positions_of([tokens(1), image(4)])[:3]
    assert common_prefix(cached, positions_of([tokens(1), image(4), tokens(2)])) == 3


def test_a_written_token_is_not_the_same_as_one_that_was_read() -> None:
    assert shared([TokenSegment((1, 2), generated=True)], [tokens(1, 2)]) == 0


@pytest.mark.parametrize(
    ("agreeing", "start"),
    [
        (0, 0),
        (7, 0),
        (8, 8),
        (15, 8),
        # Of 17 tokens the last one must not be evaluated alone.
        (16, 8),
        (17, 17),
        (19, 17),
        (24, 17),
        (26, 25),
        (33, 25),
    ],
)
def test_evaluation_restarts_at_a_whole_group(agreeing: int, start: int) -> None:
    segments: list[Segment] = [tokens(*range(17)), image(17)]
    assert restart_at(segments, agreeing) == start


def test_written_tokens_restart_anywhere() -> None:
    segments = [tokens(1, 2, 3), TokenSegment((4, 5, 6), generated=True), tokens(7, 8)]
    assert restart_at(segments, 5) == 5
    assert restart_at(segments, 6) == 6
    assert restart_at(segments, 7) == 6


def test_no_row_is_left_alone() -> None:
    assert restart_at([tokens(*range(17))], 16) == 8
    sizes = [part.stop - part.start for _, part in batches([tokens(*range(33))], 0, SIXTEEN)]
    assert sizes == [16, 8, 9]


@pytest.mark.parametrize(
    ("length", "sizes"),
    [(7, [7]), (16, [16]), (18, [8, 10]), (23, [8, 15]), (24, [16, 8]), (35, [16, 8, 11])],
)
def test_no_few_rows_are_left_alone(length: int, sizes: list[int]) -> None:
    cut = [part.stop - part.start for _, part in batches([tokens(*range(length))], 0, SIXTEEN)]
    assert cut == sizes


def test_chunks_cover_everything_behind_the_start_once() -> None:
    segments: list[Segment] = [
        tokens(*range(100, 121)),
        image(50),
        TokenSegment((1, 2, 3), generated=True),
        tokens(9),
        tokens(*range(35)),
    ]
    positions = positions_of(segments)
    for agreeing in range(len(positions)):
        start = restart_at(segments, agreeing)
        assert agreeing - 16 <= start <= agreeing
        covered = [
            position
            for segment, part in batches(segments, start, SIXTEEN)
            for position in positions_of([segment])[part]
        ]
        assert covered == positions[start:]
        assert all(part.stop - part.start <= 16 for _, part in batches(segments, start, SIXTEEN))


def test_what_is_evaluated_together_does_not_depend_on_the_start() -> None:
    """Rows share a group of eight, a leftover, or a batch of their own; always the same ones."""

    def groups(start: int) -> dict[int, tuple[int, ...]]:
        seen: dict[int, tuple[int, ...]] = {}
        at = start
        for _, part in batches(segments, start, SIXTEEN):
            size = part.stop - part.start
            for first in range(0, size, 8):
                rows = tuple(range(at + first, at + min(first + 8, size)))
                seen |= dict.fromkeys(rows, (*rows, -1) if size == 1 else rows)
            at += size
        return seen

    segments: list[Segment] = [
        tokens(*range(33)),
        image(18),
        TokenSegment((1, 2), generated=True),
        tokens(*range(9)),
    ]
    full = groups(0)
    for agreeing in range(sum(map(len, segments))):
        start = restart_at(segments, agreeing)
        assert groups(start) == {row: group for row, group in full.items() if row >= start}


def takes_two_rows_at_once(size: int) -> bool:
    """Whether llama.cpp's int8 matrices evaluate a batch's rows in pairs, in all of its chunks."""
    chunks = -(-size // 16)
    return size % 2 == 0 and -(-size // chunks) % 2 == 0


@pytest.mark.parametrize("length", range(1, 300))
def test_a_row_is_in_pairs_or_alone_wherever_evaluation_begins(length: int) -> None:
    def kinds(segment: Segment, start: int) -> dict[int, bool]:
        return {
            row: takes_two_rows_at_once(part.stop - part.start)
            for _, part in batches([segment], start, IN_EVEN_CHUNKS)
            for row in range(part.start, part.stop)
        }

    for segment in (tokens(*range(length)), image(length)):
        full = kinds(segment, 0)
        assert list(full) == list(range(length))
        for agreeing in range(length):
            start = restart_at([segment], agreeing, IN_EVEN_CHUNKS)
            expected = {row: kind for row, kind in full.items() if row >= start}
            assert kinds(segment, start) == expected


FEW = BatchRules(group=1, most=15, image_group=64, image_most=256, spare=1, written=15)


def test_rows_that_round_like_one_are_cut_anywhere() -> None:
    segments = [tokens(*range(40)), image(100), TokenSegment(tuple(range(20)), generated=True)]
    assert [restart_at(segments, shared, FEW) for shared in (13, 40, 80, 139, 150)] == [
        13,
        40,
        40,
        40,
        150,
    ]
    sizes = [part.stop - part.start for _, part in batches(segments, 13, FEW)]
    assert sizes == [15, 12, 100, 15, 5]


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 300, 320, 1000])
def test_rows_of_an_image_are_all_in_large_batches_or_all_in_small_ones(rows: int) -> None:
    for start in range(0, rows, 7):
        begin = restart_at([image(rows)], start, FEW)
        sizes = [part.stop - part.start for _, part in batches([image(rows)], begin, FEW)]
        assert sum(sizes) == rows - begin
        assert all(64 <= size <= 256 for size in sizes) or (rows < 64 and max(sizes) <= 15)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 63, 64, 65, 100])
def test_a_place_is_spared_where_the_last_row_of_an_image_may_come_alone(
    group: int, rows: int
) -> None:
    rules = replace(FEW, group=group, most=14)
    alone = False
    for start in range(rows):
        begin = restart_at([image(rows)], start, rules)
        *_, (_, part) = batches([image(rows)], begin, rules)
        alone |= part.stop - part.start == 1
    assert spare_positions([image(rows)], rules) == int(alone)
    assert spare_positions([image(rows), tokens(1)], rules) == 0
    assert spare_positions([image(rows)], IN_GROUPS) == 0
