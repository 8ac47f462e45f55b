"""Find the chat format of a vision-language model.

In: a checkpoint folder. Out: a `VlmChatFormat`, which holds the manifest's `ChatSpec`; also the
messages that a checkpoint's own template takes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_et.bundle import ChatSpec, RoleNames
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import UnreadableCheckpointError, VocabularyError

IMAGE_TOKEN = "<image>"
"""What stands for a picture in the reference's texts."""

SYSTEM = "You are a helpful assistant."
"""System turn of the conversations that LLaVA-OneVision and its kin learnt from (LLaVA-NeXT,
`conv_templates["qwen_1_5"]`)."""

_ROLES = re.compile(
    r"<\|im_start\|>system(?P<system_gap>\s*)" + re.escape(SYSTEM) + r"(?P<end><\|im_end\|>\n?)"
    r"<\|im_start\|>user(?P<before>\s*)(?:<image>(?P<after>\s*))?WORDS(?P=end)"
    r"<\|im_start\|>assistant(?P<assistant_gap>\s*)"
)


DESCRIBE_WORDS = (
    "Can you describe this image in detail, with any text in it? "
    "Mention all that helps to answer: {hint}"
)
"""For models that were not tuned to describe for a question. The first words are those of the
examples on the cards of SmolVLM."""

_SPEAKERS = RoleNames(system="System", user="User", assistant="Assistant")
_SPOKEN = re.compile(
    r"(?P<start>.*?)System: " + re.escape(SYSTEM) + r"(?P<end>\S+\n?)User:<image>WORDS(?P=end)"
    r"Assistant: REPLY(?P=end)User: MORE(?P=end)Assistant:"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VlmChatFormat:
    """A chat format, with what stands before the words of a user's turn.

    Attributes:
        chat: for the manifest.
        image_prefix: of a turn that shows a picture: `{image}` and what stands around it.
        text_prefix: of a turn without one.
        extract_words: what asks for a description; None: the paper's words, which its models were
            tuned on.
        between_pictures: what stands between two pictures of one turn.
        image_token: what stands for a picture in the reference's texts.
        template: who writes the reference's prompts: LLaVA-NeXT's template `qwen_1_5`, the template
            in the checkpoint, or InternVL's code, which writes ChatML.
        thinks: what the checkpoint's template is told by `enable_thinking`; None: nothing.
        extractors: how the names of those checkpoints end that were tuned to write down fields;
            see `FIELDS_SYSTEM` of `stage_specs`. None: there are none.
    """

    chat: ChatSpec
    image_prefix: str
    text_prefix: str
    template: Literal["qwen_1_5", "checkpoint", "chatml"]
    between_pictures: str = ""
    image_token: str = IMAGE_TOKEN
    extract_words: str | None = None
    thinks: bool | None = None
    extractors: str | None = None


def qwen_1_5_format(folder: Path) -> VlmChatFormat:
    """Give the format of LLaVA-NeXT's conversation template `qwen_1_5`.

    Args:
        folder: the checkpoint; its own template is the language model's and is not used.

    Raises:
        VocabularyError: the tokenizer lacks a token of the format.
        UnreadableCheckpointError: a file cannot be read.
    """
    chat = ChatSpec(
        turn_start="<|im_start|>{role}\n",
        turn_end="<|im_end|>\n",
        system=SYSTEM,
        stop_tokens=stop_tokens(ChatTemplate(folder)),
    )
    return VlmChatFormat(chat=chat, image_prefix="{image}\n", text_prefix="", template="qwen_1_5")


def checkpoint_template_format(folder: Path) -> VlmChatFormat:
    """Find out the format that a checkpoint's own template for pictures has.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: there is no template, it cannot be rendered, or it does not write ChatML.
        UnreadableCheckpointError: a file cannot be read.
    """
    template = ChatTemplate(folder)
    rendered, words_alone = (
        template.render(picture_messages("WORDS", image=image)) for image in (True, False)
    )
    with_image, without = _ROLES.fullmatch(rendered), _ROLES.fullmatch(words_alone)
    if with_image is None or with_image["after"] is None or without is None:
        raise VocabularyError(f"the chat template of {folder} is not understood: {rendered!r}")
    # One line feed behind the role belongs to the turn if there always is one.
    gaps = [with_image["before"], without["before"], with_image["assistant_gap"]]
    gaps.append(with_image["system_gap"])
    shared = "\n" if all(gap.startswith("\n") for gap in gaps) else ""
    before, before_words, assistant_gap, system_gap = (gap.removeprefix(shared) for gap in gaps)
    chat = ChatSpec(
        turn_start=f"<|im_start|>{{role}}{shared}",
        turn_end=with_image["end"],
        system=f"{system_gap}{SYSTEM}",
        assistant_start_suffix=assistant_gap,
        stop_tokens=stop_tokens(template),
    )
    return VlmChatFormat(
        chat=chat,
        image_prefix=f"{before}{{image}}{with_image['after']}",
        text_prefix=before_words,
        template="checkpoint",
    )


def idefics3_format(folder: Path) -> VlmChatFormat:
    """Find out the format of a checkpoint whose template is of Idefics3's kind.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: there is no template, it cannot be rendered, or it writes other turns.
        UnreadableCheckpointError: a file cannot be read.
    """
    more = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("assistant", "REPLY"), ("user", "MORE"))
    ]
    template = ChatTemplate(folder)
    rendered = template.render([*picture_messages("WORDS", image=True), *more])
    found = _SPOKEN.fullmatch(rendered)
    if found is None:
        raise VocabularyError(f"the chat template of {folder} is not understood: {rendered!r}")
    chat = ChatSpec(
        start=found["start"],
        turn_start="{role}:",
        roles=_SPEAKERS,
        before_text=" ",
        turn_end=found["end"],
        system=None,
        stop_tokens=stop_tokens(template, found["end"].rstrip()),
    )
    return VlmChatFormat(
        chat=chat,
        image_prefix="{image}",
        text_prefix="",
        template="checkpoint",
        extract_words=DESCRIBE_WORDS,
    )


def picture_messages(
    words: str, *, image: bool, system: str | None = SYSTEM
) -> list[dict[str, Any]]:
    """Make a system turn and a user's turn, as templates for pictures take them.

    Args:
        words: what the user says.
        image: whether the user shows a picture, which becomes `IMAGE_TOKEN`.
        system: text of the system turn; None: there is none.
    """
    picture: list[dict[str, str]] = [{"type": "image"}] if image else []
    user = {"role": "user", "content": [*picture, {"type": "text", "text": words}]}
    if system is None:
        return [user]
    return [{"role": "system", "content": [{"type": "text", "text": system}]}, user]


def chatml(turns: Iterable[tuple[str, str]]) -> str:
    """Write a conversation up to the assistant's opening.

    Args:
        turns: roles and what they say.
    """
    told = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return f"{told}<|im_start|>assistant\n"


def stop_tokens(template: ChatTemplate, end: str = "<|im_end|>") -> tuple[str, ...]:
    """Return the tokens that end what the model writes, as text.

    Args:
        template: of the checkpoint.
        end: the one that ends a turn, which comes first.

    Raises:
        VocabularyError: tokenizer.json is damaged, or lacks `end`.
        UnreadableCheckpointError: an id that ends an answer is no added token.
    """
    folder, added = template.folder, template.added
    if end not in added.values():
        raise VocabularyError(f"{folder / 'tokenizer.json'} has no token {end}")
    generation = folder / "generation_config.json"
    named = (read_json(generation) if generation.is_file() else {}).get("eos_token_id")
    if named is None:
        config = read_json(folder / "config.json")
        text = config.get("text_config")
        text = text if isinstance(text, dict) else {}
        named = config.get("eos_token_id", text.get("eos_token_id"))
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if unknown := [token for token in ids if not isinstance(token, int) or token not in added]:
        raise UnreadableCheckpointError(f"{folder} ends at {unknown[0]!r}, which is no added token")
    return tuple(dict.fromkeys([end, *(added[token] for token in ids)]))
