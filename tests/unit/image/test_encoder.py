from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.anyres import LLAVA, edited
from tiny.fakes import FakeTower

from edge_et.bundle import FileRef, Tiling, VisionSpec, WholeSize
from edge_et.cancellation import CancelToken
from edge_et.errors import ImageInputError, OptionError, PromptTooLongError
from edge_et.image import Encoded, ImageEncoder, ImageTokens
from edge_et.image.encoder import Check
from edge_et.options import AnswerOptions
from edge_et.stages import drain
from edge_et.store import Snapshots, SnapshotStore

PICTURE = Image.fromarray(np.random.default_rng(4).integers(0, 256, (60, 91, 3), np.uint8))
SPEC = msgspec.structs.replace(
    LLAVA,
    embedding_width=32,
    image_tokens_per_tile=16,
    processing=msgspec.structs.replace(
        LLAVA.processing,
        height=32,
        width=32,
        tiling=Tiling(
            grids=tuple((columns, rows) for columns in (1, 2, 3) for rows in (1, 2, 3)),
            shrink_over_tiles=2,
        ),
    ),
)


def anything(tokens: ImageTokens) -> None:
    pass


def encoder(spec: VisionSpec = SPEC, **options: Any) -> tuple[ImageEncoder, FakeTower]:
    tower = FakeTower()
    options = {"max_pixels": 10**8, "cache_bytes": 10**7} | options
    return ImageEncoder(spec, tower, **options), tower


def encode(used: ImageEncoder, image: Any, options: AnswerOptions, check: Check) -> Encoded:
    return drain(used.encode(used.prepare(image, options, check), CancelToken()))


def encoded(
    spec: VisionSpec = SPEC, picture: Image.Image = PICTURE, check: Check = anything, **options: Any
) -> ImageTokens:
    return encode(encoder(spec)[0], picture, AnswerOptions(**options), check)[0]


def context_of(limit: int, others: int = 40) -> Check:
    def check(tokens: ImageTokens) -> None:
        if len(tokens.rows) + others > limit:
            raise PromptTooLongError(len(tokens.rows) + others, limit)

    return check


def test_the_tower_rests_behind_each_picture_that_is_new() -> None:
    used, tower = encoder()
    encode(used, PICTURE, AnswerOptions(), anything)
    encode(used, PICTURE, AnswerOptions(), anything)
    assert (tower.runs, tower.rests) == (7, 1)
    steps = used.encode(used.prepare(PICTURE, AnswerOptions(max_tiles=1), anything), CancelToken())
    next(steps)
    steps.close()
    assert tower.rests == 2


def test_a_picture_becomes_the_tokens_that_were_planned() -> None:
    used, tower = encoder()
    plan = used.plan(PICTURE, AnswerOptions())
    tokens, usage = encode(used, PICTURE, AnswerOptions(), anything)
    assert (plan.grid, tower.tiles) == ((3, 2), 7)
    assert tokens.rows.shape == (plan.image_tokens, 32)
    assert not tokens.rows.flags.writeable
    assert usage["vision"].evaluated_tokens == plan.image_tokens
    assert tokens.rows[-1].tolist() == [7] * 32  # the newline


def test_a_plan_runs_nothing() -> None:
    used, tower = encoder()
    used.plan(PICTURE, AnswerOptions(max_tiles=2, pooling=2))
    assert tower.runs == 0


def test_equal_work_is_remembered_however_it_was_asked_for() -> None:
    used, tower = encoder()
    first, _ = encode(used, PICTURE, AnswerOptions(), anything)
    for options in (AnswerOptions(), AnswerOptions(max_tiles=7), AnswerOptions(pooling=1)):
        again, usage = encode(used, PICTURE.copy(), options, anything)
        assert again is first
        assert usage["vision"].reused_tokens == len(first.rows)
    assert tower.tiles == 7
    encode(used, PICTURE, AnswerOptions(max_tiles=3), anything)
    assert tower.tiles == 7 + 3
    used.clear()
    encode(used, PICTURE, AnswerOptions(), anything)
    assert tower.tiles == 7 + 3 + 7


def test_a_picture_that_is_known_is_not_cut_again() -> None:
    used, _ = encoder()
    first, _ = encode(used, PICTURE, AnswerOptions(), anything)
    prepared = used.prepare(PICTURE, AnswerOptions(), anything)
    assert prepared.tiles == ()
    used.clear()  # another call drove it out meanwhile
    again, usage = drain(used.encode(prepared, CancelToken()))
    assert again is first
    assert (usage["vision"].evaluated_tokens, usage["vision"].reused_tokens) == (0, len(first.rows))
    assert used.prepare(PICTURE, AnswerOptions(), anything).tiles


def test_what_is_on_disk_is_not_encoded_again(tmp_path: Path) -> None:
    def restarted() -> tuple[ImageEncoder, FakeTower, Snapshots]:
        snapshots = Snapshots(SnapshotStore(tmp_path, 10**6), {})
        return *encoder(snapshots=snapshots), snapshots

    used, tower, snapshots = restarted()
    first, _ = encode(used, PICTURE, AnswerOptions(), anything)
    snapshots.close()
    used, tower, _ = restarted()
    again, usage = encode(used, PICTURE, AnswerOptions(), anything)
    assert (again.rows.tobytes(), again.digest) == (first.rows.tobytes(), first.digest)
    assert (again.rows.dtype, again.rows.shape) == (np.float32, first.rows.shape)
    assert not again.rows.flags.writeable
    assert (usage["vision"].evaluated_tokens, usage["vision"].reused_tokens) == (0, len(first.rows))
    assert tower.runs == 0
    assert encode(used, PICTURE, AnswerOptions(), anything)[0] is again
    encode(used, PICTURE, AnswerOptions(max_tiles=3), anything)
    assert tower.tiles == 3


def test_rows_of_another_number_are_not_taken(tmp_path: Path) -> None:
    snapshots = Snapshots(SnapshotStore(tmp_path, 10**6), {})
    used, tower = encoder(snapshots=snapshots)
    tokens, _ = encode(used, PICTURE, AnswerOptions(), anything)
    key = snapshots.key("image tokens", digest=tokens.digest)
    snapshots.store.write(key, np.zeros(tokens.rows.nbytes - 4, np.uint8))
    used.clear()
    again, _ = encode(used, PICTURE, AnswerOptions(), anything)
    assert np.array_equal(again.rows, tokens.rows)
    assert tower.tiles == 2 * 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_on_disk_that_are_not_finite_are_not_taken(tmp_path: Path, value: float) -> None:
    snapshots = Snapshots(SnapshotStore(tmp_path, 10**6), {})
    used, tower = encoder(snapshots=snapshots)
    tokens, _ = encode(used, PICTURE, AnswerOptions(), anything)
    rows = tokens.rows.copy()
    rows[-1, -1] = value
    key = snapshots.key("image tokens", digest=tokens.digest)
    snapshots.store.write(key, rows.reshape(-1).view(np.uint8))
    used.clear()
    again, _ = encode(used, PICTURE, AnswerOptions(), anything)
    assert np.array_equal(again.rows, tokens.rows)
    assert tower.tiles == 2 * 7


def variants() -> Iterator[tuple[str, ImageTokens]]:
    yield "as it is", encoded()
    yield "fewer tiles", encoded(max_tiles=3)
    yield "one tile", encoded(max_tiles=1)
    yield "pooled", encoded(pooling=2)
    for arrangement in ("flat", "grid"):
        yield arrangement, encoded(edited(SPEC, arrangement=arrangement))
    yield "not shrunk", encoded(edited(SPEC, {"shrink_over_tiles": None}))
    yield "shrunk more", encoded(edited(SPEC, {"shrink_over_tiles": 1}))
    yield "other grids", encoded(edited(SPEC, {"grids": ((2, 2),)}))
    graph = FileRef(path="vision.onnx", size_bytes=1, sha256="1" * 64)
    yield "other graph", encoded(edited(SPEC, graph=graph))
    yield "weights beside it", encoded(edited(SPEC, weights=graph))
    with_border = PICTURE.resize((91, 50))
    yield "border", encoded(picture=with_border)
    for field, value in (("mean", (0.4, 0.5, 0.5)), ("pad_color", (9, 0, 0)), ("rescale", 0.004)):
        processing = msgspec.structs.replace(SPEC.processing, **{field: value})
        yield field, encoded(msgspec.structs.replace(SPEC, processing=processing), with_border)
    pixel = PICTURE.copy()
    pixel.putpixel((0, 0), (1, 2, 3))
    yield "other pixel", encoded(picture=pixel)
    # a plain colour makes the same tiles of every size
    for size in ((96, 64), (192, 128), (95, 64)):
        yield f"{size}", encoded(picture=Image.new("RGB", size, "black"))


def test_every_setting_has_a_digest_of_its_own() -> None:
    digests = {name: tokens.digest for name, tokens in variants()}
    assert len(set(digests.values())) == len(digests)
    assert digests == {name: tokens.digest for name, tokens in variants()}


def test_pictures_of_the_same_bytes_are_told_apart() -> None:
    """In vLLM they were not (CVE-2025-46722): a picture got the answer of another one."""
    data = bytes(range(0, 256, 8))
    coloured = Image.frombytes("P", (8, 4), data)
    coloured.putpalette(range(255, -1, -1))
    pictures = [
        Image.frombytes("L", (8, 4), data),
        Image.frombytes("L", (4, 8), data),
        Image.frombytes("LA", (4, 4), data),
        coloured,
    ]
    assert len({encoded(picture=picture).digest for picture in pictures}) == len(pictures)


def test_whether_it_fits_is_asked_before_the_tower_runs() -> None:
    used, tower = encoder()
    asked: list[int] = []

    def check(tokens: ImageTokens) -> None:
        assert tower.runs == 0
        asked.append(len(tokens.rows))

    tokens, _ = encode(used, PICTURE, AnswerOptions(), check)
    assert asked == [len(tokens.rows)]


def test_a_picture_too_long_is_refused_with_its_numbers_and_what_would_fit() -> None:
    used, tower = encoder()
    count = used.plan(PICTURE, AnswerOptions()).image_tokens
    for limit in range(40 + count - 1, 41, -1):
        with pytest.raises(PromptTooLongError) as caught:
            encode(used, PICTURE, AnswerOptions(), context_of(limit))
        error = caught.value
        assert (error.tokens, error.limit) == (count + 40, limit)
        assert (error.image_tokens, error.tiles) == (count, 7)
        for options in error.fitting:
            assert encoded(check=context_of(limit), **options)
    assert tower.runs == 0
    # 17 tokens of one tile and its newline, 5 of one that is pooled
    used, tower = encoder(edited(SPEC, {"shrink_over_tiles": None}))
    with pytest.raises(PromptTooLongError) as caught:
        encode(used, PICTURE, AnswerOptions(), context_of(40 + 17))
    assert caught.value.fitting == ({"max_tiles": 1}, {"max_tiles": 5, "pooling": 2})
    with pytest.raises(PromptTooLongError) as caught:
        encode(used, PICTURE, AnswerOptions(), context_of(40 + 5))
    assert caught.value.fitting == ({"max_tiles": 1, "pooling": 2},)
    with pytest.raises(PromptTooLongError) as caught:
        encode(used, PICTURE, AnswerOptions(), context_of(40 + 4))
    assert caught.value.fitting == ()
    assert "max_tiles" not in str(caught.value)


def test_what_is_too_long_without_the_picture_is_not_its_fault() -> None:
    def check(tokens: ImageTokens) -> None:
        raise PromptTooLongError(900, 500)

    with pytest.raises(PromptTooLongError) as caught:
        encoded(check=check)
    assert caught.value.image_tokens is None


UNTILED = msgspec.structs.replace(
    SPEC, processing=msgspec.structs.replace(SPEC.processing, tiling=None)
)


@pytest.mark.parametrize(
    ("spec", "limit", "fitting"),
    [
        (SPEC, 40 + 17, ({"max_tiles": 1},)),
        (SPEC, 40 + 5, ({"max_tiles": 1, "pooling": 2},)),
        (SPEC, 40 + 4, ()),
        (UNTILED, 40 + 5, ({"pooling": 2},)),
        (edited(UNTILED, pooling=2), 40 + 4, ()),
        (edited(UNTILED, arrangement="flat", image_tokens_per_tile=15), 40 + 5, ()),
    ],
)
def test_given_image_tokens_that_do_not_fit_are_to_be_encoded_as_the_bundle_can(
    spec: VisionSpec, limit: int, fitting: tuple[Any, ...]
) -> None:
    rows = np.zeros((45, 32), np.float32)
    with pytest.raises(PromptTooLongError) as caught:
        encode(encoder(spec)[0], ImageTokens(rows, "x"), AnswerOptions(), context_of(limit))
    assert (caught.value.fitting, caught.value.tiles) == (fitting, None)
    for options in fitting:
        assert encode(encoder(spec)[0], PICTURE, AnswerOptions(**options), context_of(limit))


def test_no_way_to_encode_is_told_where_the_rest_alone_is_too_long() -> None:
    def check(tokens: ImageTokens) -> None:
        raise PromptTooLongError(900 + len(tokens.rows), 500, helps=["shorten the question"])

    for image in (PICTURE, encoded()):
        with pytest.raises(PromptTooLongError, match=r"shorten the question$") as caught:
            encode(encoder()[0], image, AnswerOptions(), check)
        assert caught.value.fitting == ()


def test_image_tokens_are_taken_as_they_are() -> None:
    used, tower = encoder()
    tokens = encoded()
    again, usage = encode(used, tokens, AnswerOptions(), anything)
    assert again is tokens
    assert (tower.runs, usage["vision"].reused_tokens) == (0, len(tokens.rows))
    with pytest.raises(ImageInputError):
        encode(used, ImageTokens(np.zeros((4, 31), np.float32), "x"), AnswerOptions(), anything)
    for name, value in (("max_tiles", 4), ("pooling", 2)):
        with pytest.raises(OptionError, match=name):
            encode(used, tokens, AnswerOptions(**{name: value}), anything)
    with pytest.raises(PromptTooLongError) as caught:
        encode(used, tokens, AnswerOptions(), context_of(50))
    assert (caught.value.image_tokens, caught.value.tiles) == (len(tokens.rows), None)


def test_image_tokens_stand_in_a_grid_where_the_bundle_says_so(tmp_path: Path) -> None:
    size = WholeSize(block=8, min_tokens=4, max_tokens=16, least_blocks=0)
    processing = msgspec.structs.replace(
        LLAVA.processing, height=32, width=32, tiling=None, whole_size=size
    )
    spec = msgspec.structs.replace(
        SPEC, processing=processing, arrangement="flat", places="grid", pooling=1
    )
    made = [encoded(spec, PICTURE.resize(size)) for size in ((64, 16), (16, 64), (32, 32))]
    assert [tokens.grid for tokens in made] == [(2, 8), (8, 2), (4, 4)]
    known = []
    for _ in range(2):
        snapshots = Snapshots(SnapshotStore(tmp_path, 10**7), {})
        used, tower = encoder(spec, snapshots=snapshots)
        known.append(encode(used, PICTURE.resize((64, 16)), AnswerOptions(), anything)[0])
        snapshots.close()
    assert tower.runs == 0
    assert [tokens.grid for tokens in known] == [(2, 8), (2, 8)]
    wide = ImageTokens(made[0].rows.astype(np.float64), "x", (2, 8))
    assert encode(used, wide, AnswerOptions(), anything)[0].grid == (2, 8)
    grids: list[Any] = [None, (2, 7), (-2, -8), (2.0, 8.0), (16,), "28"]
    for grid in grids:
        with pytest.raises(ImageInputError, match="how many rows and columns they are"):
            encode(used, ImageTokens(made[0].rows, "x", grid), AnswerOptions(), anything)
    with pytest.raises(ImageInputError, match="this bundle's have none"):
        encode(encoder()[0], made[0], AnswerOptions(), anything)


ROWS = np.random.default_rng(8).normal(0, 1, (6, 32)).astype(np.float32)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS.astype(np.float64),
        ROWS.astype(">f4"),
        np.asfortranarray(ROWS),
        np.repeat(ROWS, 2, axis=0)[::2],
        ROWS[::-1].copy()[::-1],
        np.frombuffer(b"_" + ROWS.tobytes(), np.uint8)[1:].view(np.float32).reshape(ROWS.shape),
    ],
    ids=["float64", "big-endian", "columns", "strides", "reversed", "not aligned"],
)
def test_floats_of_any_layout_are_the_same_image_tokens(rows: Any) -> None:
    found, _ = encode(encoder()[0], ImageTokens(rows, "x"), AnswerOptions(), anything)
    assert (found.rows.dtype, found.digest) == (np.float32, "x")
    assert found.rows.dtype.isnative
    assert found.rows.flags.c_contiguous
    assert found.rows.flags.aligned
    assert np.array_equal(found.rows, ROWS)


def test_half_precision_is_widened() -> None:
    half = ROWS.astype(np.float16)
    found, _ = encode(encoder()[0], ImageTokens(half, "x"), AnswerOptions(), anything)
    assert np.array_equal(found.rows, half.astype(np.float32))


def with_value(value: float, dtype: Any = np.float32) -> Any:
    rows = ROWS.astype(dtype)
    rows[3, 5] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (with_value(np.nan), "not finite"),
        (with_value(-np.inf), "not finite"),
        (with_value(1e300, np.float64), "not finite"),
        (ROWS.astype(np.int32), "type int32"),
        (ROWS.astype(bool), "type bool"),
        (ROWS.astype(np.complex64), "type complex64"),
        (ROWS.astype(object), "type object"),
        (ROWS[:0], r"shape \[0, 32\]"),
        (ROWS[0], r"shape \[32\]"),
        (ROWS[None], r"shape \[1, 6, 32\]"),
        (ROWS[:, :31], r"shape \[6, 31\]"),
        (ROWS.tolist(), "a list"),
        (None, "a NoneType"),
    ],
)
def test_image_tokens_that_are_none_are_refused(rows: Any, message: str) -> None:
    asked: list[int] = []
    with pytest.raises(ImageInputError, match=f"image tokens .*{message}"):
        encode(
            encoder()[0],
            ImageTokens(rows, "x"),
            AnswerOptions(),
            lambda tokens: asked.append(len(tokens.rows)),
        )
    assert asked == []


def test_image_tokens_without_a_digest_are_refused() -> None:
    with pytest.raises(ImageInputError, match="the digest is a text"):
        encode(encoder()[0], ImageTokens(ROWS, None), AnswerOptions(), anything)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 4000)])
@pytest.mark.parametrize("arrangement", ["flat", "grid", "unpadded"])
def test_tiny_and_narrow_pictures(size: tuple[int, int], arrangement: Any) -> None:
    picture = Image.new("RGB", size, "white")
    for options in ({}, {"pooling": 2}, {"max_tiles": 1}):
        tokens = encoded(edited(SPEC, arrangement=arrangement), picture, **options)
        assert len(tokens.rows) > 0
