"""Logits become tokens, within budgets and time.

In: a chat model (tokenizer, KV cache, turns), a prompt, a sampler, a budget, a deadline. Out:
tokens, and why they ended. What the text is for is not known here.
"""

from edge_et.generation.answer_marker import MarkerSplitter, forced_marker
from edge_et.generation.blocked_words import BlockedWords
from edge_et.generation.chat_model import ChatModel
from edge_et.generation.deadline import Clock, Deadline, Throughput
from edge_et.generation.generation import Generation, ShouldStop, prefill_progress
from edge_et.generation.prompt_lookup import MAX_DRAFT_TOKENS, PromptLookup
from edge_et.generation.sampling import Sampler, greedy, new_sampler

__all__ = [
    "MAX_DRAFT_TOKENS",
    "BlockedWords",
    "ChatModel",
    "Clock",
    "Deadline",
    "Generation",
    "MarkerSplitter",
    "PromptLookup",
    "Sampler",
    "ShouldStop",
    "Throughput",
    "forced_marker",
    "greedy",
    "new_sampler",
    "prefill_progress",
]
