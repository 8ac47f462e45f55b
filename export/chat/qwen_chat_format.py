"""Find the chat format of a Qwen with pictures: ChatML, a token before and one behind each picture.

In: a checkpoint folder. Out: a `VlmChatFormat`. Nobody is told anything by a system turn unless the
template does so itself, which is refused; and the perceiver does not think.
"""

import re
from pathlib import Path

from edge_et.bundle import ChatSpec
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.chat.vlm_chat_format import (
    DESCRIBE_WORDS,
    VlmChatFormat,
    picture_messages,
    stop_tokens,
)
from edge_et.export.errors import VocabularyError

IMAGE_TOKEN = "<|image_pad|>"
"""What stands for a picture in the reference's texts."""

_TURNS = re.compile(
    r"<\|im_start\|>user\n"
    r"(?P<before>[^\n]*?)" + re.escape(IMAGE_TOKEN) + r"(?P<after>[^\n]*?)WORDS"
    r"(?P<end><\|im_end\|>\n)<\|im_start\|>assistant\n(?P<asked>.*)",
    re.DOTALL,
)


def qwen_format(folder: Path) -> VlmChatFormat:
    """Find out the format that a checkpoint's own template has.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: there is no template, it cannot be rendered, or it writes other turns.
        UnreadableCheckpointError: a file cannot be read.
    """
    template = ChatTemplate(folder)
    rendered, words_alone = (
        template.render(picture_messages("WORDS", image=image, system=None), enable_thinking=False)
        for image in (True, False)
    )
    found = _TURNS.fullmatch(rendered)
    if found is None or words_alone != rendered.replace(
        found["before"] + IMAGE_TOKEN + found["after"], ""
    ):
        raise VocabularyError(f"the chat template of {folder} is not understood: {rendered!r}")
    chat = ChatSpec(
        turn_start="<|im_start|>{role}\n",
        turn_end=found["end"],
        system=None,
        assistant_start_suffix=found["asked"],
        stop_tokens=stop_tokens(template),
    )
    return VlmChatFormat(
        chat=chat,
        image_prefix=f"{found['before']}{{image}}{found['after']}",
        text_prefix="",
        template="checkpoint",
        between_pictures=found["after"] + found["before"],
        image_token=IMAGE_TOKEN,
        extract_words=DESCRIBE_WORDS,
        thinks=False,
    )
