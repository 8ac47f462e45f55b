"""KV caches over real llama.cpp; test_engines.py has what either engine does."""

import ctypes
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny.bundle import CHATML
from tiny.engine import about_llama_cpp
from tiny.llama import WIDTH, write_adapter, write_llama
from tiny.tokenizer import write_tokenizer

from edge_et.bundle import LanguageModelSpec, Sampling, read_manifest
from edge_et.errors import ClosedError, DecodeError, ModelFileError, PromptTooLongError
from edge_et.generation import ChatModel, Deadline, Generation, PromptLookup, new_sampler
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    PrefillProgress,
    Segment,
    Tokenizer,
    TokenSegment,
    default_engine,
    load_library,
)
from edge_et.llm.engines import llama_cpp as door
from edge_et.stages import drain

pytestmark = about_llama_cpp

TOKENS = TokenSegment(tuple(range(20, 57)))
OTHER = TokenSegment(tuple(range(90, 110)))


@pytest.fixture(scope="module")
def spec(tiny_bundle: Path) -> LanguageModelSpec:
    return read_manifest(tiny_bundle / "bundle.json").perceiver


@pytest.fixture(scope="module")
def token_count(tiny_bundle: Path) -> int:
    return Tokenizer(tiny_bundle / "tokenizer.json").size


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, spec: LanguageModelSpec, token_count: int) -> Iterator[LanguageModel]:
    model = LanguageModel(
        tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=token_count
    )
    yield model
    model.close()


@pytest.fixture(params=["f16", "f32"])
def context(model: LanguageModel, request: pytest.FixtureRequest) -> Iterator[LlamaKVCache]:
    context = model.new_kv_cache(
        KVCacheSettings(context_length=200, threads=1, kv_type=request.param)
    )
    yield context
    context.close()


def image(count: int, seed: int = 0, width: int = WIDTH) -> ImageSegment:
    rows = np.random.default_rng(seed).normal(0, 1, (count, width)).astype(np.float32)
    return ImageSegment(ImageTokens(rows, f"{seed}/{count}"))


def logits_of(context: LlamaKVCache, segments: list[Segment]) -> np.ndarray:
    context.clear()
    context.prefill(segments)
    return context.logits


def write(context: LlamaKVCache, count: int) -> list[int]:
    tokens: list[int] = []
    for _ in range(count):
        if tokens:
            context.decode(tokens[-1])
        tokens.append(int(context.logits.argmax()))
    return tokens


def test_embedding_rows_are_the_same_as_their_tokens(
    tmp_path: Path, spec: LanguageModelSpec, token_count: int
) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    tensors = write_llama(tmp_path / "a.gguf", tmp_path / "tokenizer.json", seed=11)
    model = LanguageModel(tmp_path / "a.gguf", spec, adapter=None, token_count=token_count)
    context = model.new_kv_cache(KVCacheSettings(context_length=200, threads=1, kv_type="f32"))
    rows = np.ascontiguousarray(tensors["token_embd.weight"][list(OTHER.ids)])
    as_image = ImageSegment(ImageTokens(rows, "embeddings"))
    expected = logits_of(context, [TOKENS, OTHER, TOKENS])
    assert np.array_equal(logits_of(context, [TOKENS, as_image, TOKENS]), expected)
    model.close()


def test_mapped_weights_rows_of_a_batch_and_a_rest_change_no_bit(
    tiny_bundle: Path, spec: LanguageModelSpec, token_count: int, model: LanguageModel
) -> None:
    """Of weights that are not laid out anew, as those of the tiny bundle in F16."""
    prompt: list[Segment] = [TOKENS, image(70), OTHER]
    settings = KVCacheSettings(context_length=200, threads=1)
    mapped = LanguageModel(
        tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=token_count, mapped=True
    )
    few = replace(settings, batch_positions=16)
    contexts = [model.new_kv_cache(settings), mapped.new_kv_cache(few)]
    expected, found = (logits_of(context, prompt) for context in contexts)
    assert np.array_equal(found, expected)
    mapped.rest()
    assert np.array_equal(logits_of(contexts[1], prompt), expected)
    contexts[0].close()
    mapped.close()
    mapped.rest()


def test_only_what_is_new_is_evaluated(context: LlamaKVCache) -> None:
    picture = image(16)
    assert context.prefill([TOKENS, picture, OTHER]) == PrefillProgress(reused=0, evaluated=73)
    assert context.prefill([TOKENS, picture, OTHER]) == PrefillProgress(reused=73, evaluated=0)
    assert context.prefill([TOKENS, picture, TOKENS]) == PrefillProgress(reused=53, evaluated=37)
    assert context.prefill([TOKENS, picture]) == PrefillProgress(reused=45, evaluated=8)
    assert context.prefill([TOKENS, image(16, seed=1)]) == PrefillProgress(reused=37, evaluated=16)
    assert context.cached_positions == 53


def test_the_end_is_evaluated_again_when_its_logits_are_gone(context: LlamaKVCache) -> None:
    first = logits_of(context, [TOKENS])
    write(context, 3)
    evaluation = context.prefill([TOKENS])
    assert (evaluation.reused, evaluation.evaluated) == (24, 13)
    assert np.array_equal(context.logits, first)


@pytest.mark.parametrize("agreeing", range(0, 74, 3))
def test_a_reused_prefix_changes_no_bit(context: LlamaKVCache, agreeing: int) -> None:
    wanted: list[Segment] = [TOKENS, image(16), OTHER]
    expected = logits_of(context, wanted)
    context.clear()
    context.prefill([*_first(wanted, agreeing), TokenSegment((3, 4, 5))])
    evaluation = context.prefill(wanted)
    assert np.array_equal(context.logits, expected)
    assert evaluation.reused > agreeing - 16


@pytest.fixture(scope="module", params=["Q4_K_M", "Q6_K"])
def quantized(
    tmp_path_factory: pytest.TempPathFactory,
    spec: LanguageModelSpec,
    token_count: int,
    request: pytest.FixtureRequest,
) -> Iterator[LlamaKVCache]:
    """A model wide enough for the kernels of quantized weights."""
    import llama_cpp

    folder = tmp_path_factory.mktemp("quantized")
    write_tokenizer(folder / "tokenizer.json")
    write_llama(folder / "a.gguf", folder / "tokenizer.json", seed=11, width=256)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{request.param}")
    source, target = str(folder / "a.gguf").encode(), str(folder / "b.gguf").encode()
    assert llama_cpp.llama_model_quantize(source, target, ctypes.byref(params)) == 0
    wide = msgspec.structs.replace(spec, embedding_width=256)
    model = LanguageModel(folder / "b.gguf", wide, adapter=None, token_count=token_count)
    yield model.new_kv_cache(KVCacheSettings(context_length=200, threads=1, kv_type="f16"))
    model.close()


def test_quantized_weights_round_the_same_whatever_was_cached(quantized: LlamaKVCache) -> None:
    ids = tuple(np.random.default_rng(0).integers(20, 300, 90).tolist())
    for length in range(2, 40, 3):
        wanted: list[Segment] = [
            TokenSegment(ids[:length]),
            image(9, width=256),
            TokenSegment(ids[40 : 40 + length]),
        ]
        expected = logits_of(quantized, wanted)
        for known in range(1, length + 9 + length, 5):
            quantized.clear()
            quantized.prefill([*_first(wanted, known), TokenSegment((3, 4))])
            quantized.prefill(wanted)
            assert np.array_equal(quantized.logits, expected)


def test_a_prompt_left_half_way_is_gone_on_with(context: LlamaKVCache) -> None:
    long: list[Segment] = [TokenSegment((*TOKENS.ids, *OTHER.ids)), image(40), OTHER]
    expected = logits_of(context, long)
    context.clear()
    for done in context.prefill_steps(long):
        if done.evaluated:
            break
    assert context.cached_positions == done.evaluated == 57
    assert context.prefill(long) == PrefillProgress(reused=57, evaluated=60)
    assert np.array_equal(context.logits, expected)


def test_written_tokens_kept_or_evaluated_anew_change_no_bit(context: LlamaKVCache) -> None:
    prompt: list[Segment] = [TOKENS, image(16), OTHER]
    context.prefill(prompt)
    written = TokenSegment(tuple(write(context, 12)), generated=True)
    kept = context.prefill([*prompt, written, TOKENS])
    expected = context.logits
    anew = write(context, 20)
    assert kept.reused == 73 + 11  # the last token written had no successor
    context.clear()
    assert context.prefill([*prompt, written, TOKENS]).reused == 0
    assert np.array_equal(context.logits, expected)
    assert write(context, 20) == anew


def test_a_guess_that_comes_true_is_not_evaluated_again(model: LanguageModel) -> None:
    context = model.new_kv_cache(
        KVCacheSettings(context_length=200, threads=1, kv_type="f32", max_draft_tokens=3)
    )
    context.prefill([TOKENS])
    tokens = write(context, 9)
    expected = context.logits
    context.clear()
    context.prefill([TOKENS])
    right, wrong = tokens[1:3], (tokens[3] + 1) % 100
    taken = [context.decode(tokens[0], [*right, wrong, 5, 6])]
    taken += [context.decode(token, [1, 2]) for token in tokens[1:4]]
    assert taken == [4, 0, 0, 3]  # more draft than there are logits for are left out
    assert context.cached_positions == 37 + 4
    for token in tokens[4:8]:
        context.decode(token)
    np.testing.assert_allclose(context.logits, expected, atol=1e-3)
    assert context.cached_positions == 37 + 8


@pytest.mark.parametrize("confirmed", range(4))
def test_guesses_leave_nothing_in_the_cache(model: LanguageModel, confirmed: int) -> None:
    context = model.new_kv_cache(
        KVCacheSettings(context_length=200, threads=1, kv_type="f32", max_draft_tokens=3)
    )
    context.prefill([TOKENS])
    context.decode(5, [6, 7, 8])
    for token in (6, 7, 8)[:confirmed]:
        assert context.decode(token) == 0
    held = context.cached_positions
    written = TokenSegment((5, 6, 7, 8)[: 1 + confirmed], generated=True)
    assert context.prefill([TOKENS, written, OTHER]) == PrefillProgress(reused=held, evaluated=20)
    found = context.logits
    np.testing.assert_allclose(found, logits_of(context, [TOKENS, written, OTHER]), atol=1e-3)


def test_guesses_are_evaluated_as_far_as_there_is_room(model: LanguageModel) -> None:
    context = model.new_kv_cache(
        KVCacheSettings(context_length=40, threads=1, kv_type="f32", max_draft_tokens=15)
    )
    context.prefill([TOKENS])
    assert context.decode(5, [6, 7, 8, 9]) == 3
    assert [context.decode(token) for token in (6, 7)] == [0, 0]
    with pytest.raises(PromptTooLongError):
        context.decode(8)
    plain = model.new_kv_cache(KVCacheSettings(context_length=40, threads=1, kv_type="f32"))
    plain.prefill([TOKENS])
    assert plain.decode(5, [6, 7]) == 1


@pytest.mark.parametrize("draft", [(), (6, 7, 8)])
def test_what_was_rewound_changes_no_bit(model: LanguageModel, draft: tuple[int, ...]) -> None:
    context = model.new_kv_cache(
        KVCacheSettings(context_length=200, threads=1, kv_type="f32", max_draft_tokens=3)
    )
    context.prefill([TOKENS, image(16)])
    behind = context.logits
    context.decode(5)
    expected = context.logits
    context.rewind(53)
    for token in (9, 8, 7):
        context.decode(token, draft)
    context.rewind(53)
    with pytest.raises(DecodeError, match="no logits"):
        _ = context.logits
    context.decode(5)
    assert np.array_equal(context.logits, expected)
    context.rewind(54)  # nothing to drop
    assert np.array_equal(context.logits, expected)
    context.rewind(53)
    assert context.prefill([TOKENS, image(16)]).evaluated == 8
    assert np.array_equal(context.logits, behind)
    with pytest.raises(DecodeError, match="holds 53 positions, not 54"):
        context.rewind(54)


class Eager(PromptLookup):
    """Guesses whenever a token was seen before."""

    def draft(self, most: int) -> list[int]:
        place, agreeing = self._match
        return self._passages.at(place, min(most, 7)) if agreeing else []


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_guessing_changes_no_token(
    model: LanguageModel, tiny_bundle: Path, temperature: float
) -> None:
    tokenizer = Tokenizer(tiny_bundle / "tokenizer.json")
    texts, steps = [], []
    for lookup in (None, Eager()):
        context = model.new_kv_cache(
            KVCacheSettings(context_length=400, threads=1, kv_type="f32", max_draft_tokens=7)
        )
        chat_model = ChatModel(
            tokenizer=tokenizer,
            kv_cache=context,
            chat=CHATML,
            stop_ids=frozenset(),
            prompt_lookup=lookup,
        )
        calls = []
        decode = context.decode
        context.decode = lambda token, draft=(), do=decode, calls=calls: (  # type: ignore[method-assign]
            calls.append(do(token, draft)) or calls[-1]
        )
        for seed in range(4):
            generation = Generation(chat_model, (TOKENS, image(16), OTHER), Deadline())
            drain(generation.prefill())
            sampler = new_sampler(Sampling(temperature=temperature, top_p=0.9, seed=seed))
            texts.append(list(generation.generate(sampler, 60, lambda: False)))
        steps.append(calls)
    assert texts[:4] == texts[4:]
    assert set(steps[0]) == {1}
    assert max(steps[1]) == 8
    assert 0 in steps[1]


def test_the_cache_type_costs_little_precision(model: LanguageModel) -> None:
    found = {}
    for kv_type in ("f16", "f32"):
        context = model.new_kv_cache(
            KVCacheSettings(context_length=200, threads=1, kv_type=kv_type)
        )  # type: ignore[arg-type]
        found[kv_type] = logits_of(context, [TOKENS, image(16), OTHER])
        context.close()
    assert 0 < np.abs(found["f16"] - found["f32"]).max() < 0.1


def test_padding_rows_are_out_of_sight(
    context: LlamaKVCache, spec: LanguageModelSpec, token_count: int
) -> None:
    assert spec.vocabulary_size > token_count
    assert logits_of(context, [TOKENS]).shape == (token_count,)


def test_prompts_over_the_length_change_nothing(context: LlamaKVCache) -> None:
    context.prefill([TOKENS])
    with pytest.raises(PromptTooLongError) as caught:
        context.prefill([TOKENS, image(164)])
    assert (caught.value.tokens, caught.value.limit) == (201, 200)
    assert context.prefill([TOKENS]) == PrefillProgress(reused=37, evaluated=0)
    assert context.prefill([TOKENS, image(163)]).evaluated == 163
    with pytest.raises(PromptTooLongError):
        context.decode(5)


def test_a_failure_empties_the_cache_and_leaves_it_usable(context: LlamaKVCache) -> None:
    expected = logits_of(context, [TOKENS, OTHER])
    with pytest.raises(DecodeError):
        context.prefill([TOKENS, TokenSegment((1_000_000, 1_000_001))])
    assert context.cached_positions == 0
    with pytest.raises(DecodeError, match="nothing was evaluated"):
        _ = context.logits
    context.prefill([TOKENS, OTHER])
    assert np.array_equal(context.logits, expected)


def test_an_interrupt_between_decoding_and_bookkeeping_is_mended(context: LlamaKVCache) -> None:
    expected = logits_of(context, [TOKENS, OTHER])
    context.prefill([TOKENS])
    context._evaluate(np.array([5, 6], np.int32), [5, 6], False)
    del context._cached[-2:]  # llama.cpp holds two positions more than is known here
    context.prefill([TOKENS, OTHER])
    assert np.array_equal(context.logits, expected)


def test_an_empty_prompt_is_refused(context: LlamaKVCache) -> None:
    with pytest.raises(DecodeError, match="empty"):
        context.prefill([])


def test_the_adapter_is_applied(
    tiny_bundle: Path, model: LanguageModel, spec: LanguageModelSpec, token_count: int
) -> None:
    tuned = LanguageModel(
        tiny_bundle / "perceiver.gguf",
        spec,
        adapter=tiny_bundle / "perceiver-lora.gguf",
        token_count=token_count,
    )
    found = logits_of(
        tuned.new_kv_cache(KVCacheSettings(context_length=200, threads=1, kv_type="f32")), [TOKENS]
    )
    plain = logits_of(
        model.new_kv_cache(KVCacheSettings(context_length=200, threads=1, kv_type="f32")), [TOKENS]
    )
    assert np.abs(found - plain).max() > 0.1
    tuned.close()


def test_closed_contexts_and_models_say_so(
    tiny_bundle: Path, spec: LanguageModelSpec, token_count: int
) -> None:
    model = LanguageModel(
        tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=token_count
    )
    context = model.new_kv_cache(KVCacheSettings(context_length=64, threads=1, kv_type="f16"))
    model.close()
    model.close()
    context.close()
    with pytest.raises(ClosedError):
        context.prefill([TOKENS])
    with pytest.raises(ClosedError):
        model.new_kv_cache(KVCacheSettings(context_length=64, threads=1, kv_type="f16"))


@pytest.mark.parametrize("size", [0, 100, 3000, -100])
def test_files_that_are_no_models(
    tiny_bundle: Path, tmp_path: Path, spec: LanguageModelSpec, size: int
) -> None:
    whole = (tiny_bundle / "perceiver.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:size])
    with pytest.raises(ModelFileError) as caught:
        LanguageModel(tmp_path / "cut.gguf", spec, adapter=None, token_count=100)
    assert caught.value.path == tmp_path / "cut.gguf"


@pytest.mark.parametrize(
    "field", [{"architecture": "qwen3"}, {"embedding_width": 64}, {"vocabulary_size": 5}]
)
def test_models_that_are_not_the_one_described(
    tiny_bundle: Path, spec: LanguageModelSpec, field: dict[str, object]
) -> None:
    other = msgspec.structs.replace(spec, **field)
    with pytest.raises(ModelFileError, match=next(iter(field))):
        LanguageModel(tiny_bundle / "perceiver.gguf", other, adapter=None, token_count=100)


def test_adapters_that_do_not_fit(
    tiny_bundle: Path, tmp_path: Path, spec: LanguageModelSpec
) -> None:
    write_adapter(tmp_path / "wide.gguf", seed=1, width=64)
    (tmp_path / "none.gguf").write_bytes(b"no adapter")
    for name in ("wide.gguf", "none.gguf"):
        with pytest.raises(ModelFileError) as caught:
            LanguageModel(
                tiny_bundle / "perceiver.gguf",
                spec,
                adapter=tmp_path / name,
                token_count=100,
            )
        assert caught.value.path == tmp_path / name


def test_the_native_log_is_a_python_log(
    tiny_bundle: Path,
    spec: LanguageModelSpec,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG, logger="edge_et.llm.native_log"):
        LanguageModel(tiny_bundle / "perceiver.gguf", spec, adapter=None, token_count=100).close()
    assert any("llama" in record.message for record in caplog.records)
    assert all("\n" not in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def _first(segments: list[Segment], count: int) -> list[Segment]:
    parts: list[Segment] = []
    for segment in segments:
        if isinstance(segment, TokenSegment):
            part: Segment = TokenSegment(segment.ids[:count])
        else:
            part = ImageSegment(ImageTokens(segment.image.rows[:count], segment.image.digest))
        count -= len(part)
        if len(part):
            parts.append(part)
    return parts


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_file_stays_mapped_beside_weights_that_are_laid_out_anew(
    tiny_bundle: Path, spec: LanguageModelSpec
):
    weights = tiny_bundle / "perceiver.gguf"
    model = LanguageModel(
        weights, spec, adapter=None, token_count=100, engine=default_engine("llama")
    )
    assert str(weights.resolve()) not in Path("/proc/self/maps").read_text()
    model.close()


@pytest.mark.parametrize(("build", "laid_out"), [("AMX_INT8 = 1", False), ("NEON = 1", True)])
def test_weights_are_not_laid_out_for_amx_which_crashes(
    tiny_bundle: Path,
    spec: LanguageModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    laid_out: bool,
):
    library = load_library()
    given = []

    def load(path: bytes, params) -> None:
        given.append(params.use_extra_bufts)

    monkeypatch.setattr(library, "llama_model_load_from_file", load)
    monkeypatch.setattr(door.LlamaCpp, "describe_build", lambda _: f"CPU : AVX = 1 | {build} | ")
    with pytest.raises(ModelFileError):
        LanguageModel(
            tiny_bundle / "perceiver.gguf",
            spec,
            adapter=None,
            token_count=100,
            engine=default_engine("llama"),
        )
    assert given == [laid_out]
