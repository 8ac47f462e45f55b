"""A chat model: a language model to talk to.

In: a tokenizer, a KV cache over the model's weights, its chat format. Out: the three together, with
how fast the model is on this machine. What is said to it is not known here.
"""

from dataclasses import dataclass, field

from edge_et.bundle import ChatSpec
from edge_et.generation.deadline import Throughput
from edge_et.generation.prompt_lookup import PromptLookup
from edge_et.llm import KVCache, Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A language model with its tokenizer, a KV cache and its chat format.

    Attributes:
        tokenizer: the model's tokenizer.
        kv_cache: a cache over the model's weights.
        chat: how turns are written.
        stop_ids: tokens that end what the model writes.
        throughput: how fast the model is here; measured on the way.
        prompt_lookup: drafts what may come next; None: every token is decoded alone.
    """

    tokenizer: Tokenizer
    kv_cache: KVCache
    chat: ChatSpec
    stop_ids: frozenset[int]
    throughput: Throughput = field(default_factory=Throughput)
    prompt_lookup: PromptLookup | None = None

    def forget(self) -> None:
        """Empty the cache, and forget all text."""
        self.kv_cache.clear()
        if self.prompt_lookup is not None:
            self.prompt_lookup.clear()
