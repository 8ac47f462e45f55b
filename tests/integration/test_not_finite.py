"""Models and images that make numbers which are not finite, over real llama.cpp.

Whatever failed, what comes behind it has the bits that a fresh cache gives.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.engine import has_f32_caches
from tiny.llama import WIDTH

import edge_et
from edge_et.bundle import file_ref, read_manifest, save_manifest
from edge_et.errors import DecodeError, ImageInputError
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    TokenSegment,
    positions_of,
)
from edge_et.llm.places import End
from edge_et.results import Answer

PICTURE = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
QUESTION, BAD_QUESTION = "What is on the table?", "How many @ balls?"
LENGTH = 1024


def damaged_bundle(folder: Path, *, two_models: bool) -> Path:
    """Write a bundle whose models know one token that makes NaN of everything behind it."""
    build_bundle(folder, two_models=two_models, context_length=LENGTH)
    (bad,) = Tokenizer(folder / "tokenizer.json").encode("@")
    manifest = read_manifest(folder / "bundle.json")
    for role in ("perceiver", "reasoner") if two_models else ("perceiver",):
        path = folder / f"{role}.gguf"
        reader = gguf.GGUFReader(path, "r+")
        tables = {tensor.name: tensor.data for tensor in reader.tensors}
        tables["token_embd.weight"][bad] = np.nan
        tables["output.weight"][bad] = 0  # so that it is read, never written
        reader.data.flush()
        spec = msgspec.structs.replace(getattr(manifest, role), weights=file_ref(path))
        manifest = msgspec.structs.replace(manifest, **{role: spec})
    save_manifest(manifest, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damaged_bundle(tmp_path_factory.mktemp("damaged"), two_models=False)


@pytest.fixture(scope="module")
def bad(bundle: Path) -> int:
    (token,) = Tokenizer(bundle / "tokenizer.json").encode("@")
    return token


@pytest.fixture(scope="module")
def model(bundle: Path) -> Iterator[LanguageModel]:
    spec = read_manifest(bundle / "bundle.json").perceiver
    size = Tokenizer(bundle / "tokenizer.json").size
    model = LanguageModel(bundle / "perceiver.gguf", spec, adapter=None, token_count=size)
    yield model
    model.close()


@pytest.fixture(params=["f16", pytest.param("f32", marks=has_f32_caches)])
def new(
    model: LanguageModel, request: pytest.FixtureRequest
) -> Iterator[Callable[[], LlamaKVCache]]:
    settings = KVCacheSettings(
        context_length=LENGTH, threads=1, kv_type=request.param, max_draft_tokens=3
    )
    with ExitStack() as caches:
        yield lambda: caches.enter_context(closing(model.new_kv_cache(settings)))


def image(count: int) -> ImageSegment:
    rows = np.random.default_rng(count).normal(0, 1, (count, WIDTH)).astype(np.float32)
    return ImageSegment(ImageTokens(rows, f"{count}"))


def words(count: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(100, 300, count).tolist())


START = TokenSegment(words(20))
PROMPTS: list[list[Segment]] = [
    [START, image(16), TokenSegment(words(30, 1))],
    [TokenSegment(words(40, 2))],
    [START, image(400), TokenSegment(words(300, 3))],
]


def found(cache: LlamaKVCache) -> list[Any]:
    """Return the logits behind prompts, and behind what is written until a batch's end is far."""
    logits = []
    for prompt in PROMPTS:
        cache.prefill(prompt)
        logits.append(cache.logits)
        for _ in range(5):
            cache.decode(int(cache.logits.argmax()))
            logits.append(cache.logits)
    return logits


def reads_damaged_rows(cache: LlamaKVCache, bad: int) -> None:
    picture = image(300)
    picture.image.rows[7, 3] = np.nan
    with pytest.raises(DecodeError, match="not finite"):
        cache.prefill([START, picture, START])


def reads_the_token(cache: LlamaKVCache, bad: int) -> None:
    with pytest.raises(DecodeError, match="not finite"):
        cache.prefill([START, image(16), TokenSegment((*words(5), bad, *words(500)))])


def writes_the_token(cache: LlamaKVCache, bad: int) -> None:
    cache.prefill([START, image(500)])
    with pytest.raises(DecodeError, match="not finite"):
        cache.decode(bad)


def drafts_the_token(cache: LlamaKVCache, bad: int) -> None:
    cache.prefill([START, image(500)])
    with pytest.raises(DecodeError, match="not finite"):
        cache.decode(5, [6, bad])


def stops_half_way(cache: LlamaKVCache, bad: int) -> None:
    prompt = [START, image(16), TokenSegment((*words(5), bad, *words(700)))]
    for done in cache.prefill_steps(prompt):
        if done.evaluated > 400:
            break
    assert cache.cached_positions > 400


def leave_unread(cache: LlamaKVCache, segment: TokenSegment) -> None:
    """Evaluate a segment whose logits nobody asks for."""
    for _ in cache.prefill_steps([START, segment, image(16)]):
        if cache.cached_positions == len(START) + len(segment):
            return
    raise AssertionError("the segment does not end a batch")


def rewinds_over_the_token(cache: LlamaKVCache, bad: int) -> None:
    leave_unread(cache, TokenSegment((*words(50), bad, *words(300))))
    with pytest.raises(DecodeError, match="the cache holds 0 positions"):
        cache.rewind(40)


def is_interrupted(cache: LlamaKVCache, bad: int) -> None:
    decode = cache._context.decode

    def interrupted(*args: Any, **options: Any) -> None:
        decode(*args, **options)
        raise KeyboardInterrupt

    cache.prefill([START, image(300)])
    cache._context.decode = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cache.prefill([START, image(300), TokenSegment((bad, *words(100)))])
    cache._context.decode = decode  # type: ignore[method-assign]
    assert cache.cached_positions <= cache._context.last_place()


@pytest.mark.parametrize(
    "fails",
    [
        reads_damaged_rows,
        reads_the_token,
        writes_the_token,
        drafts_the_token,
        stops_half_way,
        rewinds_over_the_token,
        is_interrupted,
    ],
)
def test_a_cache_is_as_good_as_new(
    new: Callable[[], LlamaKVCache], bad: int, fails: Callable[[LlamaKVCache, int], None]
) -> None:
    expected = found(new())
    for clears in (False, True):
        cache = new()
        cache.prefill(PROMPTS[0])
        fails(cache, bad)
        if clears:
            cache.clear()
        for index, (left, right) in enumerate(zip(found(cache), expected, strict=True)):
            assert np.array_equal(left, right), (clears, index)


def test_what_was_not_checked_is_kept_if_it_is_sound(new: Callable[[], LlamaKVCache]) -> None:
    cache = new()
    prompt: list[Segment] = [START, image(300), TokenSegment(words(300, 3))]
    for done in cache.prefill_steps(prompt):
        if done.evaluated > 330:
            break
    other = [*prompt[:2], TokenSegment(words(20, 4))]
    assert cache.prefill(other).reused == 320
    expected = new()
    expected.prefill(other)
    assert np.array_equal(cache.logits, expected.logits)


def test_a_snapshot_that_is_not_finite_is_not_taken(
    new: Callable[[], LlamaKVCache], bad: int
) -> None:
    positions = positions_of([START])
    maker = new()
    for number, token in ((len(START.ids), 5), (len(START.ids), bad)):
        maker.clear()
        places = np.arange(number, dtype=np.int32)
        maker._context.decode(np.array([*START.ids[:-1], token], np.int32), places, 0)
        data = maker._context.copy_state(End(number, number - 1, number))
        assert data is not None
        cache = new()
        assert cache.restore(positions, data) == (token != bad)
        assert cache.cached_positions == (0 if token == bad else number)
        cache.clear()
        for left, right in zip(found(cache), found(new()), strict=True):
            assert np.array_equal(left, right)


def test_what_is_not_finite_is_not_saved(new: Callable[[], LlamaKVCache], bad: int) -> None:
    cache = new()
    damaged = TokenSegment((*words(7), bad))
    leave_unread(cache, damaged)
    assert cache.save(positions_of([START, damaged])) is None
    assert cache.cached_positions == 0


def test_rows_of_another_type_or_layout_are_read_as_they_are(
    new: Callable[[], LlamaKVCache],
) -> None:
    cache = new()
    rows = image(24).image.rows
    cache.prefill([START, ImageSegment(ImageTokens(rows, "a"))])
    expected = cache.logits
    for other in (rows.astype(np.float64), np.asfortranarray(rows), rows[::-1].copy()[::-1]):
        cache.clear()
        cache.prefill([START, ImageSegment(ImageTokens(other, "a"))])
        assert np.array_equal(cache.logits, expected)
    for other in (rows[:, :-1], rows[None]):
        with pytest.raises(DecodeError, match=rf"expected \[n,{WIDTH}\]"):
            cache.prefill([START, ImageSegment(ImageTokens(other, "b"))])


def texts(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


@pytest.mark.parametrize("two_models", [False, True])
def test_one_bad_call_does_not_spoil_a_pipeline(tmp_path: Path, two_models: bool) -> None:
    bundle = damaged_bundle(tmp_path / "bundle", two_models=two_models)

    def opened() -> edge_et.ExtractThink:
        return edge_et.load(bundle, threads=1, use_profile=False, cache_dir=tmp_path)

    with opened() as pipeline:
        expected = texts(pipeline.answer(PICTURE, QUESTION))
        tokens = pipeline.encode_image(PICTURE)
        damaged = tokens.rows.copy()
        damaged[3, 5] = np.nan
        for _ in range(2):
            with pytest.raises(ImageInputError, match="not finite"):
                pipeline.answer(ImageTokens(damaged, tokens.digest), QUESTION)
            assert texts(pipeline.answer(PICTURE, QUESTION)) == expected
            with pytest.raises(DecodeError, match="not finite"):
                pipeline.answer(PICTURE, BAD_QUESTION)
            assert texts(pipeline.answer(tokens, QUESTION)) == expected
            wide = ImageTokens(tokens.rows.astype(np.float64), tokens.digest)
            assert texts(pipeline.answer(wide, QUESTION)) == expected
            pipeline.clear()
    with opened() as pipeline:
        assert texts(pipeline.answer(PICTURE, QUESTION)) == expected
