"""KV caches of a model with sliding windows, over real llama.cpp: reused equals fresh.

llama.cpp takes cells that no window sees any more for others, and saves the window alone; what was
cut behind that would see less than it should, without a word.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.bundle import CHATML
from tiny.engine import ON_PREBUILT
from tiny.llama import PADDING_ROWS
from tiny.tokenizer import write_tokenizer
from tiny.windowed import WIDTH, WINDOW, write_gemma3

from edge_et.bundle import LanguageModelSpec, file_ref
from edge_et.llm import (
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    TokenSegment,
    default_engine,
    positions_of,
)
from edge_et.llm.windowed import WindowedContext

pytestmark = pytest.mark.skipif(ON_PREBUILT, reason="llama.cpp's windows")

LENGTH = 256
SETTINGS = KVCacheSettings(context_length=LENGTH, threads=2, max_draft_tokens=None)
New = Callable[[], LlamaKVCache]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    folder = tmp_path_factory.mktemp("gemma3")
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    write_gemma3(folder / "model.gguf", folder / "tokenizer.json", seed=5)
    spec = LanguageModelSpec(
        weights=file_ref(folder / "model.gguf"),
        adapter=None,
        tokenizer=file_ref(folder / "tokenizer.json"),
        architecture="gemma3",
        embedding_width=WIDTH,
        vocabulary_size=tokenizer.get_vocab_size() + PADDING_ROWS,
        context_length=LENGTH,
        chat=CHATML,
    )
    model = LanguageModel(
        folder / "model.gguf",
        spec,
        adapter=None,
        token_count=tokenizer.get_vocab_size(),
        engine=default_engine("llama"),
    )
    yield model
    model.close()


@pytest.fixture
def new(model: LanguageModel) -> Iterator[New]:
    """Makes caches, which are closed behind the test."""
    made: list[LlamaKVCache] = []

    def make() -> LlamaKVCache:
        made.append(model.new_kv_cache(SETTINGS))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def words(count: int, seed: int) -> TokenSegment:
    return TokenSegment(tuple(np.random.default_rng(seed).integers(20, 300, count).tolist()))


def fresh(new: New, segments: list[TokenSegment]) -> NDArray[np.float32]:
    cache = new()
    cache.prefill(segments)
    return cache.logits


def test_a_window_is_seen(model: LanguageModel, new: New) -> None:
    assert isinstance(new()._context, WindowedContext)
    assert model._native.window == WINDOW


def test_reused_equals_fresh_over_many_questions(new: New) -> None:
    """What was evaluated fills the cache several times over, from places all over it."""
    cache, random = new(), np.random.default_rng(3)
    prefix = [words(int(count), index) for index, count in enumerate(random.integers(5, 60, 4))]
    reused = []
    for turn in range(40):
        shared = prefix[: int(random.integers(0, 5))]
        prompt = [*shared, words(int(random.integers(4, 40)), 100 + turn)]
        reused.append(cache.prefill(prompt).reused)
        np.testing.assert_array_equal(cache.logits, fresh(new, prompt), err_msg=f"turn {turn}")
        for _ in range(int(random.integers(0, 20))):
            if cache.cached_positions < LENGTH:
                cache.decode(int(cache.logits.argmax()))
    assert sum(count > WINDOW for count in reused) > 10


def test_a_cut_behind_what_is_left_of_a_window_starts_anew(new: New) -> None:
    """As if cells had been taken: the first positions are not there any more."""
    cache, prompt = new(), [words(120, 1)]
    cache.prefill(prompt)
    context = cache._context
    library = context._library
    memory = library.bindings.llama_get_memory(context._handle.value)
    library.bindings.llama_memory_seq_rm(memory, 0, 0, 60)
    assert context.reach(119) == 119
    assert context.reach(60 + WINDOW) == 60 + WINDOW
    assert context.reach(60 + WINDOW - 1) == 0
    near, far = [words(120, 1), words(9, 2)], [TokenSegment(words(120, 1).ids[:64]), words(9, 2)]
    assert cache.prefill(near).reused > 0
    assert cache.prefill(far).reused == 0
    np.testing.assert_array_equal(cache.logits, fresh(new, far))


def test_what_is_longer_than_a_window_is_not_saved(new: New) -> None:
    cache = new()
    prompt = [words(WINDOW, 1)]
    cache.prefill([*prompt, words(80, 2)])
    longer = positions_of([*prompt, words(80, 2)])
    assert cache.save(longer) is None
    assert cache.save(longer[: WINDOW + 1]) is None
    saved = cache.save(positions_of(prompt))
    assert saved is not None
    other = new()
    assert other.restore(positions_of(prompt), saved)
    second = [*prompt, words(30, 3)]
    assert other.prefill(second).reused > 0
    np.testing.assert_array_equal(other.logits, fresh(new, second))


def test_written_words_are_taken_back(new: New) -> None:
    cache, prompt = new(), [words(100, 1)]
    cache.prefill(prompt)
    first = cache.logits.copy()
    for _ in range(60):
        cache.decode(int(cache.logits.argmax()))
    cache.rewind(101)
    second = int(np.argsort(first)[-2])
    cache.rewind(100)
    cache.decode(second)
    np.testing.assert_array_equal(cache.logits, fresh_after(new, prompt, second))


def fresh_after(new: New, prompt: list[TokenSegment], token: int) -> NDArray[np.float32]:
    cache = new()
    cache.prefill(prompt)
    cache.decode(token)
    return cache.logits
