"""How InternVL writes a conversation: by the checkpoint's own template, or by a named one.

In: a checkpoint folder. Out: a `VlmChatFormat`, and the marks around a picture. `<img>` and
`</img>` are marks of the picture and not text of the prompt, so that none of them is left where an
extraction is told without its picture.

Source: `processing_internvl.py` of transformers, `conversation.py` of OpenGVLab/InternVL.
"""

from pathlib import Path
from typing import Literal

from edge_et.bundle import ChatSpec
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.chat.vlm_chat_format import (
    SYSTEM,
    VlmChatFormat,
    chatml,
    picture_messages,
    stop_tokens,
)
from edge_et.export.errors import UnsupportedModelError, VocabularyError

CONTEXT_TOKEN = "<IMG_CONTEXT>"
"""What stands for a picture in the templates, and for an image token in ids."""

PICTURE_MARKS = ("<img>", "</img>")
"""Before and behind all tiles of a picture."""

DESCRIBE_WORDS = (
    "Please describe the image in detail, with any text in it. "
    "Mention all that helps to answer: {hint}"
)
"""The first words are those of the examples on the cards."""

CONVERSATIONS = {
    "internvl2_5": (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位"  # noqa: RUF001
        "联合开发的多模态大语言模型。"
    )
}
"""System turn of the conversation templates that are known; in all else they write ChatML."""


def internvl_format(folder: Path) -> VlmChatFormat:
    """Check that a checkpoint's own template writes ChatML, with pictures before the words.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: there is no template, it cannot be rendered, or it writes other turns.
        UnreadableCheckpointError: a file cannot be read.
    """
    template = ChatTemplate(folder)
    shown = picture_messages("WORDS", image=True)
    shown[-1]["content"].insert(0, {"type": "image"})
    replied = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("assistant", "REPLY"), ("user", "MORE"))
    ]
    turns = [("system", SYSTEM), ("user", f"{CONTEXT_TOKEN}\n" * 2 + "WORDS")]
    turns += [("assistant", "REPLY"), ("user", "MORE")]
    written = {
        template.render([*shown, *replied]): chatml(turns),
        template.render(replied[1:]): chatml(turns[3:]),
    }
    for rendered, expected in written.items():
        if rendered != expected:
            raise VocabularyError(f"the chat template of {folder} is not understood: {rendered!r}")
    return _format(folder, None, "checkpoint")


def internvl_conversation_format(folder: Path, template: str | None) -> VlmChatFormat:
    """Give the format of a conversation template of the original code.

    Args:
        folder: the checkpoint; a template of its tokenizer is not what it learnt from.
        template: its name in config.json.

    Raises:
        UnsupportedModelError: another template.
        VocabularyError: the tokenizer lacks a token of the format.
        UnreadableCheckpointError: a file cannot be read.
    """
    if template not in CONVERSATIONS:
        raise UnsupportedModelError(
            f"{folder / 'config.json'} asks for the conversation template {template!r}: not "
            f"supported; known: {', '.join(CONVERSATIONS)}"
        )
    return _format(folder, CONVERSATIONS[template], "chatml")


def _format(
    folder: Path, system: str | None, template: Literal["checkpoint", "chatml"]
) -> VlmChatFormat:
    return VlmChatFormat(
        chat=ChatSpec(
            turn_start="<|im_start|>{role}\n",
            turn_end="<|im_end|>\n",
            system=system,
            stop_tokens=stop_tokens(ChatTemplate(folder)),
        ),
        image_prefix="{image}\n",
        text_prefix="",
        between_pictures="\n",
        image_token=CONTEXT_TOKEN,
        template=template,
        extract_words=DESCRIBE_WORDS,
    )
