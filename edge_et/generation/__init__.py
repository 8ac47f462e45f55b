"""Logits become tokens, within budgets and time.

In: a chat model (tokenizer, KV cache, turns), a prompt, a sampler, a budget, a deadline. Out:
tokens, and why they ended. What the text is for is not known here.
"""

from edge_et.generation.answer_marker import MarkerSplitter, forced_marker
from edge_et.generation.blocked_words import BlockedWords
from edge_et.generation.deadline import Clock, Deadline, Pace
from edge_et.generation.generation import Late, Script, Speaker
from edge_et.generation.prompt_lookup import MOST_GUESSED, Lookup
from edge_et.generation.sampling import Sampler, greedy, new_sampler

__all__ = [
    "MOST_GUESSED",
    "BlockedWords",
    "Clock",
    "Deadline",
    "Late",
    "Lookup",
    "MarkerSplitter",
    "Pace",
    "Sampler",
    "Script",
    "Speaker",
    "forced_marker",
    "greedy",
    "new_sampler",
]
