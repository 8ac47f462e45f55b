"""Logits become tokens, within budgets and time.

In: a chat model (tokenizer, KV cache, turns), a prompt, a sampler, a budget, a deadline. Out:
tokens, and why they ended. What the text is for is not known here.
"""

from edge_et.generation.answer_marker import MarkerSplitter, forced_marker
from edge_et.generation.bare_writer import BareWriter, LeadingWriter, bare_value
from edge_et.generation.blocked_words import BlockedWords
from edge_et.generation.chat_model import ChatModel
from edge_et.generation.deadline import Clock, Deadline, Throughput
from edge_et.generation.generation import Generation, ShouldStop, prefill_progress
from edge_et.generation.json_grammar import JsonGrammar
from edge_et.generation.json_schema import Schema, prepare_schema
from edge_et.generation.json_writer import JsonWriter
from edge_et.generation.prompt_lookup import MAX_DRAFT_TOKENS, PromptLookup
from edge_et.generation.sampling import Sampler, greedy, new_sampler
from edge_et.generation.stop_texts import StopTexts
from edge_et.generation.token_logprobs import token_logprob
from edge_et.generation.watch import Watch

__all__ = [
    "MAX_DRAFT_TOKENS",
    "BareWriter",
    "BlockedWords",
    "ChatModel",
    "Clock",
    "Deadline",
    "Generation",
    "JsonGrammar",
    "JsonWriter",
    "LeadingWriter",
    "MarkerSplitter",
    "PromptLookup",
    "Sampler",
    "Schema",
    "ShouldStop",
    "StopTexts",
    "Throughput",
    "Watch",
    "bare_value",
    "forced_marker",
    "greedy",
    "new_sampler",
    "prefill_progress",
    "prepare_schema",
    "token_logprob",
]
