from pathlib import Path

from tiny.fakes import ForcedKVCache, new_chat_model, new_tokenizer

from edge_et.generation import PromptLookup
from edge_et.llm import TokenSegment


def drafts(lookup: PromptLookup) -> list[int]:
    """What is drafted behind 1 2 3, once single steps are known to be dear."""
    for _ in range(8):
        for rows in (1, 2, 4, 8, 16):
            lookup.observe_batch(rows, 1.0)
    lookup.begin([TokenSegment((1, 2, 3))])
    return lookup.draft(4)


def test_to_forget_is_to_forget_the_cache_and_all_text(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(tmp_path)
    lookup = PromptLookup()
    model = new_chat_model(tokenizer, cache := ForcedKVCache(tokenizer, "a"), lookup)
    list(model.kv_cache.prefill_steps([TokenSegment((1, 2, 3))]))
    lookup.begin([TokenSegment((9, 1, 2, 3, 4, 5, 6, 7, 8))])
    assert drafts(lookup) == [4, 5, 6, 7][: len(drafts(lookup))] != []
    lookup.begin([TokenSegment((9, 1, 2, 3, 4, 5, 6, 7, 8))])
    model.forget()
    assert cache.cached == []
    assert drafts(lookup) == []


def test_a_model_that_drafts_nothing_forgets_its_cache(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(tmp_path)
    model = new_chat_model(tokenizer, cache := ForcedKVCache(tokenizer, "a"))
    list(model.kv_cache.prefill_steps([TokenSegment((1, 2, 3))]))
    assert cache.cached
    model.forget()
    assert cache.cached == []


def test_every_model_measures_itself(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(tmp_path)
    one, other = (new_chat_model(tokenizer, ForcedKVCache(tokenizer)) for _ in range(2))
    one.throughput.observe_decode(1.0)
    assert (one.throughput.token_s, other.throughput.token_s) == (1.0, 0.0)
