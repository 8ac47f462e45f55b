from pathlib import Path

import pytest
from tiny.fakes import ForcedKVCache, new_chat_model, new_tokenizer

from edge_et.cancellation import CancelToken
from edge_et.llm import TokenSegment
from edge_et.pipeline.access import Access
from edge_et.pipeline.model_pool import ModelPool
from edge_et.pipeline.models import Models
from edge_et.pipeline.scheduler import Scheduler


@pytest.fixture
def contexts(tmp_path: Path) -> list[Models]:
    tokenizer = new_tokenizer(tmp_path)
    caches = [ForcedKVCache(tokenizer, "x") for _ in range(3)]
    return [Models(perceiver=new_chat_model(tokenizer, cache)) for cache in caches]


def inside() -> Access:
    access = Access(Scheduler(3, 0), (0, 0), CancelToken(), None)
    access.is_inside = True
    return access


def used_for(pool: ModelPool, picture: str | None) -> Models:
    access = inside()
    with pool.lease(picture, access) as models:
        return models


def test_a_picture_goes_where_it_was_read_if_that_is_free(contexts: list[Models]) -> None:
    pool = ModelPool(contexts)
    first, second = used_for(pool, "a"), used_for(pool, "b")
    assert first is not second
    assert used_for(pool, "a") is first
    assert used_for(pool, None) not in (first, second)  # the one that is unused for longest
    access = inside()
    with pool.lease("a", access) as taken:
        assert taken is first
        assert used_for(pool, "a") is not first


def test_evaluation_obeys_the_call_and_nobody_afterwards(contexts: list[Models]) -> None:
    pool, access = ModelPool(contexts), inside()
    with pool.lease(None, access) as models:
        cache = models.perceiver.kv_cache
        assert isinstance(cache, ForcedKVCache)
        assert cache.cancel is access.cancel
        access.cancel.cancel()
    assert not cache.cancel.is_cancelled


def test_what_is_in_use_is_not_emptied(contexts: list[Models]) -> None:
    pool = ModelPool(contexts)
    caches = [models.perceiver.kv_cache for models in contexts]
    for cache in caches:
        list(cache.prefill_steps([TokenSegment((1, 2, 3))]))
    access = inside()
    with pool.lease(None, access) as models:
        pool.forget()
        held = [len(cache.cached) for cache in caches]  # type: ignore[attr-defined]
        assert held == [3 if models is other else 0 for other in contexts]


def test_a_context_is_free_when_its_call_has_ended_however_that_was(contexts: list[Models]) -> None:
    """An exception of a signal handler may come before or in what gives it back."""
    pool = ModelPool(contexts[:1])
    access = inside()
    cut_off = pool.lease("a", access)
    cut_off.__enter__()
    with pytest.raises(IndexError):
        used_for(pool, "a")
    access.is_inside = False
    assert used_for(pool, "a") is contexts[0]
