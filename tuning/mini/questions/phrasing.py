"""How people ask: a small grammar that words every kind of question in very many ways.

A group of patterns asks one thing. Patterns are of four forms: direct questions ("where is the
{name}"), commands ("name the object"), indirect questions ("where the {name} is") and nouns ("the
total"). `[a|b]` is a choice, `<x>` a part that many patterns share, `{x}` what the question is
about. Choices expand to cores; a core gets a frame ("Could you tell me ...?") when a question is
drawn. About every tenth core is held out: training never sees it in any frame.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache

import numpy as np

from edge_et.tuning.mini.questions.patterns_charts import CHART_PATTERNS
from edge_et.tuning.mini.questions.patterns_objects import OBJECT_PATTERNS
from edge_et.tuning.mini.questions.patterns_printed import PRINT_PATTERNS

GROUPS = OBJECT_PATTERNS | PRINT_PATTERNS | CHART_PATTERNS
"""Patterns by group and form. A group is named by its kind of question, with what is asked about
behind a dot where that changes the words."""

_PARTS = {
    "<in>": "[| in the <picture>| in this <picture>| here]",
    "<in the>": "[in the|in this] <picture>",
    "<picture>": "[picture|image|photo|drawing|scene]",
    "<colour>": "[color|colour]",
    "<what is>": "[what is|what's]",
    "<do you see>": "[do|can] you see",
}
_HELD_OUT_SHARE = 10
_PLAIN_SHARE = 0.6
_PLAIN = {
    "direct": ("{}?",),
    "command": ("{}.",),
    "indirect": ("Tell me ^{}.",),
    "noun": ("Tell me ^{}.",),
}
_FRAMES = {
    "direct": (
        "{}",
        "^{}",
        "^{}?",
        "{}, please?",
        "{}? Thanks.",
        "{}? Look closely.",
        "{}? Answer briefly.",
        "{}? A short answer is enough.",
        "Hey, ^{}?",
        "Hi, ^{}?",
        "Hello, ^{}?",
        "So, ^{}?",
        "Quick question: ^{}?",
        "Question: ^{}?",
        "Please tell me: ^{}?",
        "Please answer: ^{}?",
        "Take a look: ^{}?",
    ),
    "command": (
        "^{}",
        "Please ^{}.",
        "please ^{}",
        "Can you ^{}?",
        "Could you ^{}?",
        "Could you please ^{}?",
        "Would you ^{}, please?",
        "I'd like you to ^{}.",
        "I would like you to ^{}.",
        "{}, please.",
    ),
    "indirect": (
        "tell me ^{}",
        "Please tell me ^{}.",
        "Say ^{}.",
        "Please say ^{}.",
        "Can you tell me ^{}?",
        "can you tell me ^{}",
        "Could you tell me ^{}?",
        "Could you please tell me ^{}?",
        "Can you say ^{}?",
        "Do you know ^{}?",
        "I want to know ^{}.",
        "I'd like to know ^{}.",
        "I would like to know ^{}.",
        "I wonder ^{}.",
        "Look closely and tell me ^{}.",
    ),
    "noun": (
        "{}, please.",
        "tell me ^{}",
        "Please tell me ^{}.",
        "Please give me ^{}.",
        "Can you tell me ^{}?",
        "Can you give me ^{}?",
        "Could you tell me ^{}?",
        "Could you please tell me ^{}?",
        "I want to know ^{}.",
        "I'd like to know ^{}.",
        "I would like to know ^{}.",
        "Look closely and tell me ^{}.",
    ),
}


def phrase(group: str, rng: np.random.Generator, *, held_out: bool, **slots: str) -> str:
    """Phrase one question.

    Args:
        group: one of `GROUPS`, such as "where" or "read_number.clock".
        rng: chooses the words.
        held_out: whether to use the wordings kept from training, or the others.
        **slots: what the question is about.
    """
    patterns = _cores(group, held_out)
    form, cores = patterns[int(rng.integers(len(patterns)))]
    core = cores[int(rng.integers(len(cores)))]
    frames = _PLAIN[form] if rng.random() < _PLAIN_SHARE else _FRAMES[form]
    frame = frames[int(rng.integers(len(frames)))]
    return _framed(frame, core).format(**slots)


def templates(group: str) -> Iterator[str]:
    """List every wording of a group, held out or not."""
    for held_out in (False, True):
        for form, cores in _cores(group, held_out):
            for core in cores:
                for frame in _PLAIN[form] + _FRAMES[form]:
                    yield _framed(frame, core)


def count_templates(kind: str) -> int:
    """Count the different wordings of a kind of question; some kinds borrow another's."""
    groups = [group for group in GROUPS if group.partition(".")[0] == kind]
    return len({template for group in groups for template in templates(group)})


def _framed(frame: str, core: str) -> str:
    """Put a core into a frame; "^" keeps its first letter small."""
    if "^" not in frame:
        core = core[0].upper() + core[1:]
    return frame.replace("^", "").replace("{}", core)


@cache
def _cores(group: str, held_out: bool) -> list[tuple[str, list[str]]]:
    """List the expansions of each pattern of a group, with the pattern's form."""
    patterns = []
    for form, texts in GROUPS[group].items():
        for text in texts:
            cores = [core for core in _expand(text) if _is_held_out(core) == held_out]
            if cores:
                patterns.append((form, cores))
    return patterns


def _is_held_out(core: str) -> bool:
    return hashlib.sha256(core.encode()).digest()[0] % _HELD_OUT_SHARE == 0


def _expand(text: str) -> list[str]:
    for part, meaning in _PARTS.items():
        text = text.replace(part, meaning)
    choice = re.search(r"\[([^\[\]]*)\]", text)
    if choice is None:
        return [text]
    expanded = []
    for option in choice[1].split("|"):
        expanded += _expand(text[: choice.start()] + option + text[choice.end() :])
    return list(dict.fromkeys(expanded))
