"""How LFM2-VL writes a conversation: ChatML behind a token that begins the text.

In: a checkpoint folder. Out: a `VlmChatFormat`. Nothing stands between a picture and the words, and
no system turn is written where none is given.

Source: the chat template of the checkpoints, and `processing_lfm2_vl.py` of transformers.
"""

from pathlib import Path

from edge_et.bundle import ChatSpec
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.chat.vlm_chat_format import (
    IMAGE_TOKEN,
    SYSTEM,
    VlmChatFormat,
    chatml,
    picture_messages,
    stop_tokens,
)
from edge_et.export.errors import VocabularyError

DESCRIBE_WORDS = (
    "Describe this image in detail, with any text in it. Mention all that helps to answer: {hint}"
)
"""The first words are those of the examples on the cards."""

EXTRACTORS = "-Extract"
"""LFM2.5-VL-450M-Extract and -1.6B-Extract: nothing in them but the name tells what they do."""


def lfm2_vl_format(folder: Path) -> VlmChatFormat:
    """Check that a checkpoint's own template writes ChatML, with pictures before the words.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: there is no template, it cannot be rendered, or it writes other turns.
        UnreadableCheckpointError: a file cannot be read.
    """
    template = ChatTemplate(folder)
    start = template.start_of_text or ""
    shown = picture_messages("WORDS", image=True, system=None)
    shown[-1]["content"].insert(0, {"type": "image"})
    replied = [
        {"role": role, "content": text} for role, text in (("assistant", "REPLY"), ("user", "MORE"))
    ]
    turns = [("system", SYSTEM), ("user", IMAGE_TOKEN * 2 + "WORDS")]
    turns += [("assistant", "REPLY"), ("user", "MORE")]
    written = {
        template.render([{"role": "system", "content": SYSTEM}, *shown, *replied]): chatml(turns),
        template.render([*shown, *replied]): chatml(turns[1:]),
    }
    for rendered, expected in written.items():
        if rendered != start + expected:
            raise VocabularyError(f"the chat template of {folder} is not understood: {rendered!r}")
    chat = ChatSpec(
        start=start,
        turn_start="<|im_start|>{role}\n",
        turn_end="<|im_end|>\n",
        system=None,
        stop_tokens=stop_tokens(template),
    )
    return VlmChatFormat(
        chat=chat,
        image_prefix="{image}",
        text_prefix="",
        template="checkpoint",
        extract_words=DESCRIBE_WORDS,
        extractors=EXTRACTORS,
    )
