"""What a user relies on with either engine, on tiny models: bits, copies, cancelling, errors."""

import functools
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.bundle import build_bundle
from tiny.engine import ON_PREBUILT
from tiny.llama import WIDTH, write_llama
from tiny.places import ROOT
from tiny.tokenizer import write_tokenizer

import edge_et
from edge_et.bundle import LanguageModelSpec, load_bundle, read_manifest
from edge_et.cancellation import CancelToken
from edge_et.cpu_flags import missing_for
from edge_et.errors import (
    CancelledError,
    ClosedError,
    DecodeError,
    EngineError,
    PromptTooLongError,
    call,
)
from edge_et.image import ImageTokens
from edge_et.llm import (
    Engine,
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    Tokenizer,
    TokenSegment,
    default_engine,
    installed_engines,
)
from edge_et.llm.engines import ik_llama_cpp, installed
from edge_et.options import EngineName
from edge_et.pipeline import factory

PICTURE = Image.new("RGB", (64, 48), "red")
IDS = tuple(np.random.default_rng(0).integers(20, 300, 400).tolist())


@pytest.fixture(scope="module", params=["llama", "prebuilt"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found = {engine.name: engine for engine in installed_engines()}
    if request.param not in found:
        pytest.skip(f"{request.param} is not installed")
    return found[request.param]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "plain"
    build_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def spec(bundle: Path) -> LanguageModelSpec:
    return read_manifest(bundle / "bundle.json").perceiver


@pytest.fixture(scope="module")
def model(bundle: Path, spec: LanguageModelSpec, engine: Engine) -> Iterator[LanguageModel]:
    size = Tokenizer(bundle / "tokenizer.json").size
    weights = bundle / "perceiver.gguf"
    model = LanguageModel(weights, spec, adapter=None, token_count=size, engine=engine)
    yield model
    model.close()


@pytest.fixture
def cache(model: LanguageModel) -> Iterator[LlamaKVCache]:
    cache = model.new_kv_cache(KVCacheSettings(context_length=700, threads=1, max_draft_tokens=7))
    yield cache
    cache.close()


@pytest.fixture(scope="module", params=["Q4_0", "Q8_0", "F16"])
def wide(
    tmp_path_factory: pytest.TempPathFactory,
    spec: LanguageModelSpec,
    engine: Engine,
    request: pytest.FixtureRequest,
) -> Iterator[LanguageModel]:
    """A model with heads of 64, wide enough for the kernels of quantized weights."""
    folder = tmp_path_factory.mktemp("quantized")
    write_tokenizer(folder / "tokenizer.json")
    kind = gguf.GGMLQuantizationType[request.param]
    write_llama(folder / "a.gguf", folder / "tokenizer.json", seed=11, width=256, kind=kind)
    wide = msgspec.structs.replace(spec, embedding_width=256)
    size = Tokenizer(folder / "tokenizer.json").size
    model = LanguageModel(folder / "a.gguf", wide, adapter=None, token_count=size, engine=engine)
    yield model
    model.close()


def image(count: int, width: int = WIDTH) -> ImageSegment:
    rows = np.random.default_rng(1).normal(0, 1, (count, width)).astype(np.float32)
    return ImageSegment(ImageTokens(rows, f"{count}"))


def fresh(cache: LlamaKVCache, segments: list[Segment]) -> np.ndarray:
    cache.clear()
    cache.prefill(segments)
    return cache.logits


def first(segments: list[Segment], count: int) -> list[Segment]:
    """Return a prompt's beginning; of an image that it ends in all."""
    parts: list[Segment] = []
    for segment in segments:
        if count > 0:
            whole = not isinstance(segment, TokenSegment)
            parts.append(segment if whole else TokenSegment(segment.ids[:count]))
        count -= len(segment)
    return parts


@pytest.mark.parametrize("flash_attention", [False, True])
def test_a_reused_prefix_changes_no_bit(
    wide: LanguageModel, engine: Engine, flash_attention: bool
) -> None:
    if flash_attention and engine.rules == engine.flash_rules:
        pytest.skip("this engine rounds by the number of rows then")
    cache = wide.new_kv_cache(
        KVCacheSettings(context_length=700, threads=1, flash_attention=flash_attention)
    )
    wanted: list[Segment] = [
        TokenSegment(IDS[:37]),
        image(90, 256),
        TokenSegment(IDS[40:190]),  # over the 256 positions that attention is padded to
        TokenSegment(IDS[190:193], generated=True),
        TokenSegment(IDS[200:220]),
    ]
    expected = fresh(cache, wanted)
    for agreeing in (9, 37, 127, 140, 255, 258):
        cache.clear()
        cache.prefill([*first(wanted, agreeing), TokenSegment((3, 4))])
        assert cache.prefill(wanted).reused > agreeing - 100
        assert np.array_equal(cache.logits, expected), agreeing
    cache.close()


def test_written_tokens_kept_or_evaluated_anew_change_no_bit(wide: LanguageModel) -> None:
    cache = wide.new_kv_cache(KVCacheSettings(context_length=700, threads=1, max_draft_tokens=7))
    prompt: list[Segment] = [TokenSegment(IDS[:20]), image(70, 256), TokenSegment(IDS[20:170])]
    cache.prefill(prompt)
    written = IDS[300:324]  # over 256 positions as well
    for token in written:
        cache.decode(token)
    wanted = [*prompt, TokenSegment(written, generated=True), TokenSegment(IDS[:5])]
    assert cache.prefill(wanted).reused == 264
    expected = cache.logits
    assert np.array_equal(fresh(cache, wanted), expected)
    cache.close()


def test_single_tokens_around_an_image_have_the_same_bits(wide: LanguageModel) -> None:
    """What an engine keeps of one token's evaluation is of no use behind rows of an image."""
    settings = KVCacheSettings(context_length=400, threads=1)
    before, behind = [TokenSegment(IDS[:20])], [TokenSegment((7,)), TokenSegment(IDS[30:33])]
    kept, anew = wide.new_kv_cache(settings), wide.new_kv_cache(settings)
    for rows in (2, 70, 260):
        prompt = [*before, image(rows, 256), behind[0]]
        for token in IDS[40:44]:
            kept.decode(token) if kept.cached_positions else kept.prefill(before)
        kept.prefill(prompt)
        assert np.array_equal(kept.logits, fresh(anew, prompt))
        kept.decode(5)
        kept.rewind(20)
        kept.decode(9)
        kept.prefill([*prompt, behind[1]])
        assert np.array_equal(kept.logits, fresh(anew, [*prompt, behind[1]]))
    kept.close()
    anew.close()


def test_drafts_change_no_bit_with_the_engine_that_promises_it(
    wide: LanguageModel, engine: Engine
) -> None:
    settings = KVCacheSettings(context_length=700, threads=1, max_draft_tokens=None)
    cache = wide.new_kv_cache(settings)
    assert cache.max_draft_tokens == engine.rules.written - 1
    plain = (
        fresh(cache, [TokenSegment(IDS[:245])]),
        *((cache.decode(token), cache.logits)[1] for token in IDS[300:320]),
    )
    drafted = [fresh(cache, [TokenSegment(IDS[:245])])]
    for at, token in enumerate(IDS[300:320]):
        cache.decode(token, IDS[301 + at : 320])
        drafted.append(cache.logits)
    assert all(map(np.array_equal, drafted, plain))
    cache.close()


def test_engines_agree_up_to_rounding(bundle: Path, spec: LanguageModelSpec) -> None:
    engines = installed_engines()
    if len(engines) < 2:
        pytest.skip("only one engine is installed")
    found = []
    for engine in engines:
        weights = bundle / "perceiver.gguf"
        model = LanguageModel(weights, spec, adapter=None, token_count=300, engine=engine)
        cache = model.new_kv_cache(KVCacheSettings(context_length=200, threads=1))
        found.append(fresh(cache, [TokenSegment(IDS[:30]), image(70), TokenSegment(IDS[30:50])]))
        model.close()
    assert 0 < np.abs(found[0] - found[1]).max() < 0.1


def test_what_was_copied_goes_on_to_the_same_bits(
    model: LanguageModel, cache: LlamaKVCache
) -> None:
    cache.prefill([TokenSegment(IDS[:30]), TokenSegment(IDS[30:60])])
    data = cache.save(IDS[:30])
    assert data is not None
    other = model.new_kv_cache(KVCacheSettings(context_length=700, threads=1))
    assert other.restore(IDS[:30], data)
    assert other.cached_positions == 30
    assert cache.cached_positions == 60
    for one in (cache, other):
        one.prefill([TokenSegment(IDS[:30]), TokenSegment(IDS[50:70])])
    assert np.array_equal(cache.logits, other.logits)
    other.close()


def test_a_cancelled_batch_leaves_what_was_held(cache: LlamaKVCache) -> None:
    wanted: list[Segment] = [TokenSegment(IDS[:200])]
    expected = fresh(cache, wanted)
    cache.clear()
    cache.prefill([TokenSegment(IDS[:30])])
    cancel = CancelToken()
    cache.obey(cancel)
    cancel.cancel()
    with pytest.raises(CancelledError):
        cache.prefill(wanted)
    assert 24 <= cache.cached_positions <= 30  # where evaluation restarted
    cache.obey(CancelToken())
    cache.prefill(wanted)
    assert np.array_equal(cache.logits, expected)


def test_a_batch_that_is_stopped_half_way_leaves_the_bytes_that_were_held(
    wide: LanguageModel,
) -> None:
    cache = wide.new_kv_cache(KVCacheSettings(context_length=700, threads=1))
    begun: list[Segment] = [TokenSegment(IDS[:32])]
    wanted = [*begun, image(500, 256), TokenSegment(IDS[40:60])]
    expected = fresh(cache, wanted)
    cache.prefill(begun)
    held = cache.save(IDS[:32])
    assert held is not None
    stopped = 0
    for attempt in range(200):
        cancel = CancelToken()
        cache.obey(cancel)
        cache.prefill(begun)
        steps = cache.prefill_steps(wanted)
        next(steps)
        timer = threading.Timer(attempt % 20 / 2000, cancel.cancel)
        timer.start()
        with suppress(CancelledError):
            next(steps)
        stopped += cache.cached_positions == 32
        timer.join()
        cache.obey(CancelToken())
        again = cache.save(IDS[:32])
        assert again is not None
        assert np.array_equal(again, held)
        if stopped > 2:
            break
    assert stopped
    cache.prefill(wanted)
    assert np.array_equal(cache.logits, expected)
    cache.close()


def test_a_full_context_is_filled_or_refused_before_anything_is_evaluated(
    model: LanguageModel, engine: Engine
) -> None:
    """A row alone needs a second place with ik_llama.cpp, wherever the cache begins anew."""
    cache = model.new_kv_cache(KVCacheSettings(context_length=256, threads=1))
    text: list[Segment] = [TokenSegment(IDS[:200])]
    for rows in (64, 100, 256):  # never cut to a row alone
        fresh(cache, [*([TokenSegment(IDS[: 256 - rows])] if rows < 256 else []), image(rows)])
        assert cache.cached_positions == 256
    cache.prefill(text)
    for rows in (1, 40):
        full = [TokenSegment(IDS[: 256 - rows]), image(rows)]
        if engine.rules.spare:
            with pytest.raises(PromptTooLongError) as caught:
                cache.prefill(full)
            assert (caught.value.tokens, caught.value.limit) == (257, 256)
            assert cache.cached_positions == 200
        else:
            assert cache.prefill(full).evaluated <= 256
            cache.prefill(text)
        fitting = [TokenSegment(IDS[: 255 - rows]), image(rows)]
        expected = fresh(cache, fitting)
        cache.decode(5)
        cache.prefill(fitting)
        assert np.array_equal(cache.logits, expected)
        assert fresh(cache, [image(rows), TokenSegment(IDS[: 256 - rows])]) is not None
        assert cache.cached_positions == 256
        cache.prefill(text)
    cache.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_refused_and_closes_and_answers_with_its_own(
    bundle: Path, engine: Engine
) -> None:
    program = f"""
import os, sys
import numpy as np
import edge_et
from edge_et.errors import ForkedError

IMAGE = np.full((40, 40, 3), 7, np.uint8)

def opened():
    return edge_et.load(sys.argv[1], engine={engine.name!r}, threads=2)

def ask(pipe):
    return pipe.answer(IMAGE, "Which colour?", max_extraction_tokens=12).text

inherited = opened()
before = ask(inherited)
child = os.fork()
if child == 0:
    status = 1
    try:
        try:
            ask(inherited)
        except ForkedError:
            inherited.close()
            with opened() as own:
                status = 0 if ask(own) == before else 3
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ask(inherited) == before
inherited.close()
inherited.close()
print("done")
"""
    command = [sys.executable, "-c", program, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_rows_that_are_not_finite_spoil_nothing_that_comes_later(cache: LlamaKVCache) -> None:
    expected = fresh(cache, [TokenSegment(IDS[:30])])
    bad = ImageSegment(ImageTokens(np.full((80, WIDTH), np.nan, np.float32), "bad"))
    with pytest.raises(DecodeError, match="not finite"):
        cache.prefill([TokenSegment(IDS[:30]), bad, TokenSegment(IDS[:9])])
    cache.prefill([TokenSegment(IDS[:30])])
    assert np.array_equal(cache.logits, expected)


@pytest.mark.parametrize("rows", [1, 15, 16, 31])
def test_images_of_any_length_are_read(cache: LlamaKVCache, rows: int) -> None:
    wanted: list[Segment] = [TokenSegment(IDS[:9]), image(rows), TokenSegment(IDS[9:20])]
    expected = fresh(cache, wanted)
    assert cache.cached_positions == 20 + rows
    cache.prefill([*wanted[:2], TokenSegment(IDS[20:30])])
    cache.prefill(wanted)
    assert np.array_equal(cache.logits, expected)


def test_ids_beyond_the_vocabulary_are_refused(cache: LlamaKVCache) -> None:
    for ids in ((5, 1_000_000), (5, -1)):
        with pytest.raises(DecodeError, match="token ids beyond"):
            cache.prefill([TokenSegment(ids)])
    assert cache.cached_positions == 0


def test_answers_are_the_same_again_and_anew(bundle: Path, engine: Engine) -> None:
    answers = []
    for _ in range(2):
        with edge_et.load(bundle, engine=engine.name, threads=1) as pipe:
            for question in ("What is this?", "Which colour?", "What is this?"):
                answers.append(pipe.answer(PICTURE, question, max_extraction_tokens=12).text)
    assert answers[:3] == answers[3:]
    assert answers[0] == answers[2]
    with pytest.raises(ClosedError):
        pipe.answer(PICTURE, "What is this?")


def test_what_is_kept_of_a_prompt_is_its_engines_and_image_tokens_are_nobodys(
    bundle: Path, tmp_path: Path
) -> None:
    def evaluated(engine: EngineName) -> tuple[int, int]:
        with edge_et.load(bundle, engine=engine, threads=1, cache_dir=tmp_path) as pipe:
            usage = pipe.answer(PICTURE, "What is this?", max_extraction_tokens=12).usage
        return usage["vision"].evaluated_tokens, usage["extract"].reused_tokens

    names = [engine.name for engine in installed_engines()]
    first = evaluated(names[0])
    assert first[0] > 0
    found = evaluated(names[0])
    assert found[0] == 0
    assert found[1] > first[1]
    for name in names[1:]:
        assert evaluated(name) == (0, first[1])
        assert evaluated(name) == found


def test_nothing_is_kept_of_an_engine_whose_version_is_not_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version would read it."""
    unknown = tuple(replace(engine, version="unknown") for engine in installed_engines())
    monkeypatch.setattr(factory, "installed_engines", lambda: unknown)
    for _ in range(2):
        with edge_et.load(bundle, threads=1, cache_dir=tmp_path) as pipe:
            usage = pipe.answer(PICTURE, "What is this?", max_extraction_tokens=12).usage
    assert usage["vision"].evaluated_tokens == 0
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_what_an_engine_cannot_do_is_told(
    bundle: Path, spec: LanguageModelSpec, engine: Engine, tmp_path: Path
) -> None:
    if engine.applies_adapters:
        pytest.skip("this one can")
    build_bundle(tmp_path, adapter=True)
    weights, adapter = tmp_path / "perceiver.gguf", tmp_path / "perceiver-lora.gguf"
    with pytest.raises(EngineError, match=r"computes wrongly with the adapter .*engine='llama'"):
        LanguageModel(weights, spec, adapter=adapter, token_count=300, engine=engine)
    with pytest.raises(EngineError, match=r"with an adapter .*, without --no-convert-weights"):
        edge_et.load(tmp_path, engine="prebuilt", convert_weights=False)
    with pytest.raises(EngineError, match="no KV caches in f32: choose kv_type=f16 or q8_0"):
        edge_et.load(bundle, engine="prebuilt", kv_type="f32")


def test_every_engine_refuses_caches_whose_blocks_are_not_filled(
    bundle: Path, model: LanguageModel, engine: Engine
) -> None:
    settings = KVCacheSettings(context_length=64, threads=1, kv_type="q8_0")
    with pytest.raises(DecodeError, match=r"keys of 8 .*choose kv_type='f16'"):
        model.new_kv_cache(settings)
    with pytest.raises(DecodeError, match=r"keys of 8 .*choose kv_type='f16'"):
        model.all_logits(np.arange(20, 24, dtype=np.int32), settings, batch_positions=4)
    with pytest.raises(DecodeError, match=r"keys of 8 .*choose kv_type='f16'"):
        edge_et.load(bundle, engine=engine.name, kv_type="q8_0")


def test_another_version_than_the_structs_are_of_is_refused() -> None:
    with pytest.raises(EngineError, match=r"0\.1\.6.*pip install ik-llama-cpp-python==0\.1\.5"):
        ik_llama_cpp.open_library("0.1.6")


@pytest.mark.parametrize(
    ("machine", "sample", "lacks"),
    [("x86_64", "celeron-j4105", "avx, avx2, f16c, fma"), ("aarch64", "raspberry-pi-4", "asimddp")],
)
def test_a_library_that_would_end_the_process_is_not_opened(
    bundle: Path,
    machine: str,
    sample: str,
    lacks: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = ROOT / "tests" / "data" / "cpuinfo" / f"{sample}.txt"
    for module in (installed, ik_llama_cpp, call):
        monkeypatch.setattr(
            module, "missing_for", functools.partial(missing_for, machine=machine, path=path)
        )
    monkeypatch.setattr(ik_llama_cpp, "import_library", None)
    with pytest.raises(EngineError, match=rf"\({lacks}.*engine 'llama'"):
        ik_llama_cpp.open_library.__wrapped__(ik_llama_cpp.VERSION)
    found = {engine.name: engine for engine in installed_engines()}
    if "prebuilt" in found:
        with pytest.raises(EngineError, match=lacks):
            edge_et.load(bundle, engine="prebuilt")
    if len(found) == 2:
        with caplog.at_level(logging.INFO), edge_et.load(bundle):
            assert f"is opened by llama.cpp: prebuilt needs {lacks}" in caplog.text
    assert "prebuilt" not in str(EngineError.not_installed(None, ()))


def test_what_a_picture_costs_is_measured_with_the_engine_of_a_load(
    bundle: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    model = factory.LanguageModel
    monkeypatch.setattr(factory, "installed_engines", lambda: (engine,))
    monkeypatch.setattr(
        factory,
        "LanguageModel",
        lambda *given, engine, **more: (
            asked.append(engine.name) or model(*given, engine=engine, **more)
        ),
    )
    assert edge_et.pipeline.measure(load_bundle(bundle), threads=1).prefill_seconds > 0
    assert asked == [engine.name]


def test_without_engines_it_is_told_what_to_install(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "installed_engines", tuple)
    monkeypatch.setattr(factory, "installed_engines", tuple)
    with pytest.raises(EngineError, match=r"edge-et\[prebuilt\].*edge-et\[llama\]") as caught:
        edge_et.load(bundle)
    assert caught.value.engine is None
    with pytest.raises(EngineError, match=r"'llama' is not installed.*edge-et\[llama\]"):
        edge_et.load(bundle, engine="llama")
    with pytest.raises(EngineError):
        default_engine("prebuilt")


def test_a_frozen_program_that_tells_no_versions_has_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(_: str) -> str:
        raise PackageNotFoundError

    before = installed_engines()
    monkeypatch.setattr(installed, "version", version)
    assert [engine.name for engine in installed_engines()] == [engine.name for engine in before]
    for engine in installed_engines():
        assert engine.open().describe_build()


def test_engines_are_found_without_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    hidden = ik_llama_cpp.MODULE
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == hidden else find(name)
    )
    assert [engine.name for engine in installed_engines()] == ["llama"] * (not ON_PREBUILT)


def test_a_library_that_was_compiled_anew_is_another_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build() -> str:
        return next(engine.build for engine in installed_engines() if engine.name == "prebuilt")

    pytest.importorskip(ik_llama_cpp.MODULE)
    monkeypatch.delenv(ik_llama_cpp.LIBRARY_VARIABLE, raising=False)
    installed_one = build()
    assert build() == installed_one
    library = tmp_path / "libllama.so"
    library.write_bytes(b"one")
    monkeypatch.setenv(ik_llama_cpp.LIBRARY_VARIABLE, str(library))
    one = build()
    library.write_bytes(b"another")
    assert len({installed_one, one, build()}) == 3
