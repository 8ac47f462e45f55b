"""Read the chat format of a language model from its chat template.

In: a checkpoint folder with tokenizer.json and a chat template. Out: the turns as strings, and the
special tokens around a thought. The template is rendered on probes; the strings must give back
exactly what it rendered.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_et.bundle import ChatSpec
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import UnsupportedModelError

_SYSTEM, _USER = "probe-of-rules", "probe-of-words"
_REPLY, _MORE = "probe-of-replies", "probe-of-more"
_THOUGHT = re.compile(r"\s*(<[^<>\s/]+>)\s*(</[^<>\s]+>)\s*")
_OPENED = re.compile(r"(<[^<>\s/]+>)\s*\Z")
_TAG = re.compile(r"<\w+>")

Render = Callable[..., str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtTokens:
    """The special tokens around a thought, as text.

    Attributes:
        start: the token that opens one.
        end: the token that closes it.
        skip: follows the assistant's opening where it shall not think.
        opening: with it the template's prompt opens the thought, `start` and what follows; empty:
            the model is left to open it.
        optional: whether the template can leave the thought out.
    """

    start: str
    end: str
    skip: str
    opening: str = ""
    optional: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmChatFormat:
    """The chat format of a language model.

    Attributes:
        chat: its turns.
        thoughts: the special tokens around a thought; None: it has none.
    """

    chat: ChatSpec
    thoughts: ThoughtTokens | None


def read_llm_chat_format(folder: Path) -> LlmChatFormat:
    """Take a chat template apart.

    Args:
        folder: the checkpoint.

    Returns:
        Its turns. The token that begins a text, where the template writes it once, opens the
        conversation. What the template says to itself where no system turn is given becomes the
        system turn. What opens a thought in each prompt belongs to the thought, not to the turn.

    Raises:
        UnreadableCheckpointError: a file cannot be read.
        VocabularyError: there is no template, it fails, or tokenizer.json is damaged.
        UnsupportedModelError: its turns are not of the form that a bundle can hold, or it opens a
            thought that no token closes.
    """
    template = ChatTemplate(folder)
    added = set(template.added.values())

    def write(*messages: tuple[str, str], **switches: bool) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        return template.render(turns, **switches)

    silent = write(("user", _USER), enable_thinking=False)
    # Some templates leave the thought out unless they are asked for it.
    thinks_if_asked = silent == write(("user", _USER))
    render = partial(write, enable_thinking=True) if thinks_if_asked else write
    start, turn_start, turn_end, last = _turns(render, template.start_of_text)
    opening = _opening(last, added)
    suffix = last.removesuffix(opening)
    plain = render(("user", _USER))
    system = _default_system(plain.removeprefix(start), turn_start, turn_end)
    chat = ChatSpec(
        start=start,
        turn_start=turn_start,
        turn_end=turn_end,
        system=system,
        assistant_start_suffix=suffix,
        stop_tokens=stop_tokens(template),
    )
    thoughts = _thoughts(added, plain, silent, opening)
    told = [("system", system)] if system is not None else []
    told.append(("user", _USER))
    talk = [("user", _USER), ("assistant", _REPLY), ("user", _MORE)]
    asked = f"{_turn_start(chat, 'assistant')}{last}"
    _require_written(folder, plain, _written(chat, told) + asked)
    _require_written(folder, render(*talk), _written(chat, [*told, *talk[1:]]) + asked)
    return LlmChatFormat(chat=chat, thoughts=thoughts)


def stop_tokens(template: ChatTemplate) -> tuple[str, ...]:
    """Return the tokens that end what a model writes, as text.

    Args:
        template: of the checkpoint. generation_config.json is asked first, then config.json, and
            the settings of the tokenizer last.

    Raises:
        UnsupportedModelError: there is none, or one that is not an added token.
    """
    folder, added = template.folder, template.added
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if not ids and (folder / name).is_file():
            stated = read_json(folder / name).get("eos_token_id")
            ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    ids = ids or [number for number, text in added.items() if text == template.end_of_text]
    if not ids or any(not isinstance(number, int) or number not in added for number in ids):
        raise UnsupportedModelError(f"{folder}: the tokens {ids} that end a text are not all known")
    return tuple(added[number] for number in ids)


def _require_written(folder: Path, rendered: str, expected: str) -> None:
    if rendered != expected:
        raise UnsupportedModelError(
            f"the chat template of {folder} writes {rendered!r}, which turns of one form cannot "
            f"give: these are {expected!r}"
        )


def _written(chat: ChatSpec, turns: Iterable[tuple[str, str]]) -> str:
    """Write turns as the runtime does."""
    return chat.start + "".join(
        _turn_start(chat, role)
        + (chat.assistant_start_suffix if role == "assistant" else "")
        + content
        + chat.turn_end
        for role, content in turns
    )


def _turn_start(chat: ChatSpec, role: str) -> str:
    return chat.turn_start.replace("{role}", role)


def _turns(render: Render, start_of_text: str | None) -> tuple[str, str, str, str]:
    """Take a prompt of two turns apart.

    Returns:
        What opens the conversation; what opens a turn, with a place for the role; what closes it;
        what ends the prompt.
    """
    text = render(("system", _SYSTEM), ("user", _USER))
    start = start_of_text or ""
    if not text.startswith(start) or start in text.removeprefix(start):
        start = ""
    text = text.removeprefix(start)
    before, found, rest = text.partition(_SYSTEM)
    between, also_found, after = rest.partition(_USER)
    if not found or not also_found or before.count("system") != 1:
        raise UnsupportedModelError(f"a chat template without turns that name their role: {text!r}")
    turn_start = before.replace("system", "{role}")
    user, assistant = (turn_start.replace("{role}", role) for role in ("user", "assistant"))
    turn_end = between.removesuffix(user)
    if not between.endswith(user) or not after.startswith(turn_end + assistant):
        raise UnsupportedModelError(f"a chat template with turns of several forms: {text!r}")
    return start, turn_start, turn_end, after.removeprefix(turn_end + assistant)


def _default_system(plain: str, turn_start: str, turn_end: str) -> str | None:
    start = turn_start.replace("{role}", "system")
    user = turn_end + turn_start.replace("{role}", "user") + _USER
    if not plain.startswith(start) or user not in plain:
        return None
    return plain.removeprefix(start).partition(user)[0]


def _opening(last: str, added: set[str]) -> str:
    """Return the end of a prompt that opens a thought; empty where it opens none."""
    found = _OPENED.search(last)
    if found is None:
        return ""
    start, end = found[1], _closing_tag(found[1])
    if {start, end} <= added:
        return found[0]
    if _TAG.fullmatch(start):
        raise UnsupportedModelError(
            f"the chat template opens a thought with {start}, but the tokenizer does not have both "
            f"{start} and {end} as tokens, by which the runtime tells where the thought ends"
        )
    return ""


def _thoughts(added: set[str], plain: str, silent: str, opening: str) -> ThoughtTokens | None:
    before = plain.removesuffix(opening)
    skip = silent.removeprefix(before)
    known = silent.startswith(before)
    if opening:
        start = opening.rstrip()
        end = _closing_tag(start)
        optional = known and silent != plain
        if not optional:  # what templates with a switch write
            skip = f"{start}\n\n{end}\n\n"
        return ThoughtTokens(start=start, end=end, skip=skip, opening=opening, optional=optional)
    found = _THOUGHT.fullmatch(skip)
    if not known or found is None or not added >= set(found.groups()):
        return None
    return ThoughtTokens(start=found[1], end=found[2], skip=skip)


def _closing_tag(start: str) -> str:
    return f"</{start.removeprefix('<')}"
