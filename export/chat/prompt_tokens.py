"""Compare the tokens of whole prompts: the runtime's against those of a reference.

In: a reference, a chat format, a prompt of the manifest. Out: the questions for which the token ids
differ. The runtime makes them by `edge_et.llm.prompt` and tokenizer.json, piece by piece, the
reference from the whole text that the chat template writes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_et.bundle import ChatSpec
from edge_et.errors import ModelFileError
from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.chat.llm_chat_format import ThoughtTokens
from edge_et.export.chat.reference import Reference
from edge_et.export.chat.vlm_chat_format import (
    IMAGE_TOKEN,
    SYSTEM,
    VlmChatFormat,
    chatml,
    picture_messages,
)
from edge_et.export.errors import AssemblyError, ParityError, VocabularyError
from edge_et.export.steps import StepReport, Stopwatch
from edge_et.image import ImageTokens
from edge_et.llm import (
    Part,
    Tokenizer,
    TokenSegment,
    Trusted,
    fill,
    system_turn,
    to_segments,
    user_turn,
)

QUESTIONS = (
    "What color is the circle?",
    "How many birds are there: 12, 7 or 305?\nA. none\n\nB.  two  spaces\tand a tab",
    "na\u00efve cafe\u0301 \u00fcber \u6771\u4eac, \ud55c\uad6d\uc5b4, \U0001f600",
    "def f(x):\r\n    return x**2  # it's <b>not</b> {so} 'easy'...",
)
"""Composed and decomposed accents, several scripts, numbers, code, white space of all kinds."""

_IMAGE = -1


def vlm_prompts_that_differ(
    reference: Reference,
    chat_format: VlmChatFormat,
    prompt: str,
    *,
    system: str | None = None,
    questions: Sequence[str] = QUESTIONS,
) -> list[str]:
    """Compare prompts of stage 1, or of direct answering.

    Args:
        reference: of the checkpoint.
        chat_format: its chat format.
        prompt: of the manifest; begins with the format's `image_prefix`.
        system: the system turn of the manifest's stage 1; None: that of the chat format.
        questions: what `{question}` and `{hint}` stand for.

    Returns:
        The questions whose prompts get other ids.

    Raises:
        AssemblyError: the prompt begins with something else.
        VocabularyError: a tokenizer cannot be read.
    """
    prefix = chat_format.image_prefix
    if not prompt.startswith(prefix):
        raise AssemblyError(f"the prompt {prompt!r} has to begin with {prefix!r}, as in training")
    tokenizer = _runtime_tokenizer(reference.folder)
    images = _image_ids(reference.folder, chat_format)
    differing = []
    for question in questions:
        words = _filled(prompt.removeprefix(prefix), question)
        if chat_format.template == "checkpoint":
            default = None if chat_format.chat.system is None else SYSTEM
            told = default if system is None else _filled(system, question)
            switches = {} if chat_format.thinks is None else {"enable_thinking": chat_format.thinks}
            messages = picture_messages(words, image=True, system=told)
            text = reference.render(messages, **switches)
            expected = [_IMAGE if token in images else token for token in reference.ids(text)]
        elif chat_format.template == "chatml":
            shown = f"{chat_format.image_token}\n{words}"
            text = chatml([("system", chat_format.chat.system or ""), ("user", shown)])
            expected = [_IMAGE if token in images else token for token in reference.ids(text)]
        else:
            halves = _qwen_1_5(words).split(IMAGE_TOKEN)
            expected = [*reference.ids(halves[0]), _IMAGE, *reference.ids(halves[1])]
        found = _runtime_ids(tokenizer, chat_format.chat, prompt, question, system=system)
        if expected != found:
            differing.append(question)
    return differing


def llm_prompts_that_differ(
    reference: Reference,
    chat: ChatSpec,
    prompt: str,
    *,
    thoughts: ThoughtTokens | None = None,
    thinks: bool = False,
    questions: Sequence[str] = QUESTIONS,
) -> list[str]:
    """Compare prompts of a reasoner, which sees no picture.

    A template that always opens a thought has no prompt without one. The empty thought is then
    put into its prompt in place of the opening.

    Args:
        reference: of the checkpoint.
        chat: its chat format.
        prompt: of the manifest.
        thoughts: the special tokens around a thought; None: it has none.
        thinks: whether it shall think, if it has thoughts.
        questions: what `{question}`, `{choices}` and `{extraction}` stand for.

    Returns:
        The questions whose prompts get other ids.

    Raises:
        VocabularyError: a tokenizer cannot be read, or there is no chat template.
    """
    opened = thoughts.opening if thoughts else ""
    begins = thoughts.skip if thoughts and not thinks else opened
    switched = thoughts is not None and thoughts.optional
    options = {"enable_thinking": thinks} if switched else {}
    system = [] if chat.system is None else [{"role": "system", "content": chat.system}]
    tokenizer = _runtime_tokenizer(reference.folder)
    differing = []
    for question in questions:
        words = _filled(prompt, question)
        messages = [*system, {"role": "user", "content": words}]
        text = reference.render(messages, **options)
        if thinks or not switched:
            text = text.removesuffix(opened) + begins
        if reference.ids(text) != _runtime_ids(tokenizer, chat, prompt, question, begins):
            differing.append(question)
    return differing


def require_equal_prompts(
    reference: Reference, differing: Sequence[str], measure: str, watch: Stopwatch
) -> StepReport:
    """Report that both tokenizers agree.

    Args:
        reference: of the checkpoint.
        differing: questions whose prompts differ.
        measure: what their number means.
        watch: started before the comparison.

    Returns:
        A report whose error is the number of prompts that differ, which is 0.

    Raises:
        ParityError: a prompt differs.
    """
    path = reference.folder / "tokenizer.json"
    if differing:
        raise ParityError(f"{path} against {reference.name}", measure, len(differing), 0)
    return StepReport(
        name="prompt tokens",
        path=path,
        size_bytes=path.stat().st_size,
        measure=measure,
        error=0,
        limit=0,
        seconds=watch.seconds,
    )


def _qwen_1_5(words: str) -> str:
    """Write the prompt as LLaVA-NeXT's `conv_templates["qwen_1_5"]` does."""
    return (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{IMAGE_TOKEN}\n{words}<|im_end|>\n<|im_start|>assistant\n"
    )


def _filled(prompt: str, question: str) -> str:
    for placeholder in ("{question}", "{choices}", "{hint}", "{extraction}"):
        prompt = prompt.replace(placeholder, question)
    return prompt


def _runtime_tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer(folder / "tokenizer.json")
    except ModelFileError as err:
        raise VocabularyError(str(err)) from err


def _runtime_ids(
    tokenizer: Tokenizer,
    chat: ChatSpec,
    prompt: str,
    question: str,
    suffix: str = "",
    *,
    system: str | None = None,
) -> list[int]:
    values = dict.fromkeys(("question", "choices", "hint", "extraction"), question)
    image = ImageTokens(np.zeros((1, 1), np.float32), "")
    told = "" if system is None else fill(system, values)
    parts: list[Part] = [*system_turn(chat, told), *user_turn(chat, fill(prompt, values, image))]
    ids: list[int] = []
    for segment in to_segments([*parts, Trusted(suffix)], tokenizer):
        ids += segment.ids if isinstance(segment, TokenSegment) else [_IMAGE]
    return ids


def _image_ids(folder: Path, chat_format: VlmChatFormat) -> set[int]:
    """Return the ids of the token that stands for a picture; none where no template writes it."""
    if chat_format.template == "qwen_1_5":
        return set()
    added, text = ChatTemplate(folder).added, chat_format.image_token
    images = {number for number, content in added.items() if content == text}
    if not images:
        raise VocabularyError(f"the tokenizer of {folder} has no token {text}")
    return images
