"""KV caches of models with a recurrent state, over real llama.cpp: reused equals fresh.

llama.cpp cannot drop an end of theirs, copies beginnings wrongly, and puts wrong states back
without a word; each of these is tried here.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.bundle import CHATML
from tiny.engine import ON_PREBUILT
from tiny.hybrid import WIDTH, write_lfm2, write_qwen35
from tiny.llama import PADDING_ROWS
from tiny.tokenizer import write_tokenizer

from edge_et.bundle import LanguageModelSpec, file_ref
from edge_et.cancellation import CancelToken
from edge_et.errors import CancelledError, DecodeError
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Segment,
    TokenSegment,
    default_engine,
    positions_of,
)
from edge_et.llm.recurrent import RecurrentContext

pytestmark = pytest.mark.skipif(ON_PREBUILT, reason="llama.cpp alone has such models")

WRITERS = {"lfm2": write_lfm2, "qwen35": write_qwen35}
SETTINGS = KVCacheSettings(context_length=512, threads=2, max_draft_tokens=None)
New = Callable[[], LlamaKVCache]


@pytest.fixture(scope="module", params=list(WRITERS))
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LanguageModel]:
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    WRITERS[request.param](folder / "model.gguf", folder / "tokenizer.json", seed=5)
    spec = LanguageModelSpec(
        weights=file_ref(folder / "model.gguf"),
        adapter=None,
        tokenizer=file_ref(folder / "tokenizer.json"),
        architecture=request.param,
        embedding_width=WIDTH,
        vocabulary_size=tokenizer.get_vocab_size() + PADDING_ROWS,
        context_length=512,
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


def picture(rows: int, columns: int, seed: int, model: LanguageModel) -> ImageSegment:
    values = np.random.default_rng(seed).normal(size=(rows * columns, WIDTH)).astype(np.float32)
    grid = (rows, columns) if has_grids(model) else None
    return ImageSegment(ImageTokens(values, f"picture {seed}", grid))


def has_grids(model: LanguageModel) -> bool:
    return model.weights.parent.name.startswith("qwen35")


def words(count: int, seed: int) -> TokenSegment:
    return TokenSegment(tuple(np.random.default_rng(seed).integers(20, 300, count).tolist()))


def write(cache: LlamaKVCache, count: int) -> tuple[int, ...]:
    written = []
    for _ in range(count):
        written.append(int(cache.logits.argmax()))
        cache.decode(written[-1])
    return tuple(written)


def written(ids: tuple[int, ...]) -> TokenSegment:
    return TokenSegment(ids, generated=True)


def fresh(new: New, segments: list[Segment], then: tuple[int, ...] = ()) -> NDArray[np.float32]:
    cache = new()
    cache.prefill(segments)
    for token in then:
        cache.decode(token)
    return cache.logits


@pytest.fixture
def beginning(model: LanguageModel) -> list[Segment]:
    """What two prompts have in common: 58 positions."""
    return [words(9, 1), picture(7, 7, 1, model)]


def test_a_second_question_reads_the_picture_no_more(new: New, beginning: list[Segment]) -> None:
    cache = new()
    cache.prefill([*beginning, words(12, 2)])
    write(cache, 10)
    second: list[Segment] = [*beginning, words(14, 3)]
    assert cache.prefill(second).reused == 58
    np.testing.assert_array_equal(cache.logits, fresh(new, second))


def test_stages_go_on_and_back(new: New, beginning: list[Segment]) -> None:
    cache = new()
    first: list[Segment] = [*beginning, words(12, 2)]
    cache.prefill(first)
    told = write(cache, 17)
    think: list[Segment] = [*first, written(told), words(11, 4)]
    assert cache.prefill(think).reused == 70 + 17
    np.testing.assert_array_equal(cache.logits, fresh(new, think))
    write(cache, 9)
    rethink: list[Segment] = [*first, written(told), words(13, 5)]
    assert cache.prefill(rethink).reused == 70 + 17
    np.testing.assert_array_equal(cache.logits, fresh(new, rethink))


def test_several_pictures_of_which_one_is_another(
    model: LanguageModel, new: New, beginning: list[Segment]
) -> None:
    cache = new()
    cache.prefill([*beginning, words(5, 2), picture(5, 6, 2, model), words(9, 3)])
    other: list[Segment] = [*beginning, words(5, 2), picture(5, 6, 3, model), words(9, 3)]
    assert cache.prefill(other).reused == 58
    np.testing.assert_array_equal(cache.logits, fresh(new, other))


def test_what_was_rewound_changes_no_bit(new: New, beginning: list[Segment]) -> None:
    cache = new()
    prompt: list[Segment] = [*beginning, words(12, 2)]
    cache.prefill(prompt)
    told = write(cache, 8)
    for keep in (7, 3, 0, 0):  # of what was written; the last one is there already
        cache.rewind(70 + keep)
        for token in (31, 32):
            cache.decode(token)
        np.testing.assert_array_equal(cache.logits, fresh(new, prompt, (*told[:keep], 31, 32)))
        cache.rewind(70 + keep)
    with pytest.raises(DecodeError, match="within this model's prompt"):
        cache.rewind(65)
    assert cache.cached_positions == 0
    cache.prefill(prompt)
    np.testing.assert_array_equal(cache.logits, fresh(new, prompt))


def test_nothing_is_drafted(new: New) -> None:
    assert new().max_draft_tokens == 0


def test_what_was_saved_goes_on_in_another_cache(new: New, beginning: list[Segment]) -> None:
    cache = new()
    cache.prefill([*beginning, words(12, 2)])
    write(cache, 5)
    data = cache.save(positions_of(beginning))
    assert data is not None
    assert cache.save(positions_of(beginning)[:-1]) is None  # where no state was kept
    told = write(cache, 3)
    np.testing.assert_array_equal(
        cache.logits, fresh(new, [*beginning, words(12, 2)], (*told_before(new, beginning), *told))
    )
    other = new()
    assert other.restore(positions_of(beginning), data)
    for seed in (6, 7):  # one behind the other: the state that was read is kept
        question: list[Segment] = [*beginning, words(10, seed)]
        assert other.prefill(question).reused == 58
        np.testing.assert_array_equal(other.logits, fresh(new, question))


def told_before(new: New, beginning: list[Segment]) -> tuple[int, ...]:
    cache = new()
    cache.prefill([*beginning, words(12, 2)])
    return write(cache, 5)


def test_a_hundred_cancelled_moments(new: New, beginning: list[Segment]) -> None:
    random = np.random.default_rng(11)
    cache = new()
    expected = {seed: fresh(new, [*beginning, words(40, seed)]) for seed in range(4)}
    cancelled = 0
    for moment in range(100):
        cancel = CancelToken()
        cache.obey(cancel)
        if moment % 10 == 0:
            cache.clear()
        try:
            steps = cache.prefill_steps([*beginning, words(40, moment % 4)])
            for _ in range(int(random.integers(1, 4))):
                next(steps, None)
            cancel.cancel()
            next(steps, None)
            cache.decode(33)
        except CancelledError:
            cancelled += 1
        cache.obey(CancelToken())
        seed = int(random.integers(4))
        cache.prefill([*beginning, words(40, seed)])
        np.testing.assert_array_equal(cache.logits, expected[seed])
    assert cancelled > 50


def test_an_interrupt_between_decoding_and_bookkeeping_is_mended(
    new: New, beginning: list[Segment]
) -> None:
    cache = new()
    first: list[Segment] = [*beginning, words(12, 2)]
    cache.prefill(first)
    cache._context.decode(
        np.array([25, 26], np.int32), np.array([70, 71], np.int32), 1
    )  # of which nobody has heard
    second: list[Segment] = [*first, words(10, 3)]
    cache.prefill(second)
    np.testing.assert_array_equal(cache.logits, fresh(new, second))


def test_states_are_few_and_the_picture_keeps_its_own(
    model: LanguageModel, new: New, beginning: list[Segment]
) -> None:
    cache = new()
    conversation = [*beginning]
    for seed in range(8):
        conversation += [words(6, seed)]
        cache.prefill(conversation)
        conversation += [written(write(cache, 4))]
    context = cache._context
    assert isinstance(context, RecurrentContext)
    assert len(context._states) == model.shape.states == 8
    kept = sum(len(data) for _, data in context._states.values())
    assert 8 * model.shape.state_bytes <= kept <= 8 * (model.shape.state_bytes + 1000)
    second: list[Segment] = [*beginning, words(14, 3)]
    assert cache.prefill(second).reused == 58
    np.testing.assert_array_equal(cache.logits, fresh(new, second))


def test_a_beginning_that_llama_cpp_copies_wrongly_is_not_used(
    new: New, beginning: list[Segment]
) -> None:
    cache = new()
    cache.prefill([*beginning, words(12, 2)])
    context = cache._context
    library, handle = context._library, context._handle
    with handle.lock:
        library.copy_sequence(handle.value, 0, 1, 58)
        data = np.empty(library.state_bytes(handle.value, 1), np.uint8)
        assert library.read_state(handle.value, 1, data) == len(data)
        library.truncate(handle.value, 1, 0)
    other = new()
    assert not other.restore(positions_of(beginning), data)
    assert other.cached_positions == 0
    question: list[Segment] = [*beginning, words(10, 6)]
    other.prefill(question)
    np.testing.assert_array_equal(other.logits, fresh(new, question))


def test_a_state_alone_is_not_taken_for_what_was_saved(new: New, beginning: list[Segment]) -> None:
    cache = new()
    cache.prefill(beginning)
    context = cache._context
    with context._handle.lock:
        state = context._library.copy_recurrent(context._handle.value, 0)
    assert state is not None
    other = new()
    assert not other.restore(positions_of(beginning), state)
    other.prefill(beginning)
    np.testing.assert_array_equal(other.logits, cache.logits)


def test_a_state_of_another_place_is_not_put_back(new: New, beginning: list[Segment]) -> None:
    cache = new()
    cache.prefill([*beginning, words(12, 2)])
    context = cache._context
    assert isinstance(context, RecurrentContext)
    context._states[58] = context._states[70]
    with pytest.raises(DecodeError):
        cache.prefill([*beginning, words(14, 3)])
    assert cache.cached_positions == 0
    cache.prefill(beginning)
    np.testing.assert_array_equal(cache.logits, fresh(new, beginning))
