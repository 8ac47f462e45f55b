"""Chat formats out of chat templates, and the prompts of both stages."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_struct
from tiny.places import GOLDEN
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edge_et.bundle import ChatSpec
from edge_et.export.chat.llm_chat_format import ThoughtTokens, read_llm_chat_format
from edge_et.export.chat.prompt_tokens import QUESTIONS, llm_prompts_that_differ
from edge_et.export.chat.reference import PlainReference, TransformersReference
from edge_et.export.errors import (
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.llm import Plain, TokenSegment, Trusted, system_turn, to_segments, user_turn
from edge_et.llm import Tokenizer as RuntimeTokenizer

CHECKPOINT = GOLDEN / "llava_qwen3_tiny"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As reasoners have it that always think: earlier thoughts are left out, a new one is opened.
OPENING = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n'"
    " + message.content.split('</think>')[-1].strip() + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
SWITCHED = OPENING.replace(
    "<think>\n'", "' + ('<think>\n' if enable_thinking | default(true) else '<think></think>')"
)
ADVISED = (
    "{{ '<|im_start|>system\n' + ('/think' if enable_thinking | default(true) else '/no_think')"
    " + '<|im_end|>\n' if messages[0].role != 'system' else '' }}" + OPENING
)
# As LFM2 has it: a token before everything, thoughts of earlier turns left out.
BEGUN = "{{ bos_token }}" + (
    "{% set ns = namespace(last=-1) %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% set content = message.content %}"
    "{% if message.role == 'assistant' and loop.index0 != ns.last and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] | trim %}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Qwen3.5 has it: the larger ones think unless told not to, the small ones if told to.
QWEN35 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
SMALL_QWEN35 = QWEN35.replace("enable_thinking is false", "enable_thinking is true").replace(
    "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}",
    "{{ '<think>\n' }}{% else %}{{ '<think>\n\n</think>\n\n' }}",
)
# As those have it whose past turns keep an empty thought, which the runtime does not write.
REMEMBERING = CHATML.replace(
    "message.content",
    "('<think></think>' if message.role == 'assistant' else '') + message.content",
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}" + CHATML
)


def save_tokenizer(folder: Path, template: str | None, eos: list[int] | int | None = 1) -> Path:
    """A tokenizer of bytes and three control tokens, ids 0 to 2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", *alphabet]
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens[:3]])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": eos}))
    return folder


def test_qwen3_marks_its_thoughts() -> None:
    found = read_llm_chat_format(CHECKPOINT)
    assert found.chat == ChatSpec(
        turn_start="<|im_start|>{role}\n",
        turn_end="<|im_end|>\n",
        system=None,
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
    )
    assert found.thoughts == ThoughtTokens(
        start="<think>", end="</think>", skip="<think>\n\n</think>\n\n"
    )


@pytest.mark.parametrize("think", [True, False])
def test_the_runtime_writes_the_tokens_of_the_template(think: bool) -> None:
    found = read_llm_chat_format(CHECKPOINT)
    reference = TransformersReference(CHECKPOINT)
    words = "Description: two na\u00efve  caf\u00e9s\n\nQuestion: \u6771\u4eac?"
    messages = [{"role": "user", "content": words}]
    expected = reference.ids(reference.render(messages, enable_thinking=think))
    assert found.thoughts is not None
    parts = [*system_turn(found.chat), *user_turn(found.chat, [Plain(words)])]
    parts += [] if think else [Trusted(found.thoughts.skip)]
    (segment,) = to_segments(parts, RuntimeTokenizer(CHECKPOINT / "tokenizer.json"))
    assert isinstance(segment, TokenSegment)
    assert list(segment.ids) == expected


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("template", "opening", "optional", "skip"),
    [
        (OPENING, "<think>\n", False, "<think>\n\n</think>\n\n"),
        (OPENING.replace("<think>\n'", "<think>'"), "<think>", False, "<think>\n\n</think>\n\n"),
        (SWITCHED, "<think>\n", True, "<think></think>"),
        (ADVISED, "<think>\n", False, "<think>\n\n</think>\n\n"),
        (QWEN35, "<think>\n", True, "<think>\n\n</think>\n\n"),
        (SMALL_QWEN35, "<think>\n", True, "<think>\n\n</think>\n\n"),
    ],
)
def test_a_thought_that_the_template_opens_is_a_thought_and_no_part_of_the_turn(
    checkpoint: Path, template: str, opening: str, optional: bool, skip: str
) -> None:
    (checkpoint / "chat_template.jinja").write_text(template)
    found = read_llm_chat_format(checkpoint)
    assert found.chat.assistant_start_suffix == ""
    assert found.thoughts == ThoughtTokens(
        start="<think>", end="</think>", skip=skip, opening=opening, optional=optional
    )
    for thinks in (True, False):
        prompt = "Description: {extraction}\nQuestion: {question}"
        assert not llm_prompts_that_differ(
            TransformersReference(checkpoint),
            found.chat,
            prompt,
            thoughts=found.thoughts,
            thinks=thinks,
        )


def test_a_wrong_opening_is_noticed(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(OPENING)
    found = read_llm_chat_format(checkpoint)
    assert found.thoughts is not None
    other = replace(found.thoughts, opening="<think>")
    for thinks in (True, False):
        differing = llm_prompts_that_differ(
            TransformersReference(checkpoint),
            found.chat,
            "{question}",
            thoughts=other,
            thinks=thinks,
        )
        assert differing == list(QUESTIONS)


@pytest.mark.parametrize("lacking", ["<think>", "</think>"])
def test_a_thought_that_is_opened_by_no_token_is_refused(checkpoint: Path, lacking: str) -> None:
    (checkpoint / "chat_template.jinja").write_text(OPENING)
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        path = checkpoint / name
        path.write_text(path.read_text().replace(f'"{lacking}"', '"<other>"'))
    with pytest.raises(UnsupportedModelError, match="opens a thought with <think>, but the token"):
        read_llm_chat_format(checkpoint)


def test_a_token_that_begins_a_text_opens_the_conversation(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(BEGUN)
    path = checkpoint / "tokenizer_config.json"
    begins = {"bos_token": "<|endoftext|>", "add_bos_token": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | begins))
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    (number,) = (
        token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<|endoftext|>"
    )
    # The tokenizer writes the token too, where a text has none.
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|endoftext|>": {
                "id": "<|endoftext|>",
                "ids": [number],
                "tokens": ["<|endoftext|>"],
            }
        },
    }
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = read_llm_chat_format(checkpoint)
    assert found.chat.start == "<|endoftext|>"
    assert found.chat.turn_start == "<|im_start|>{role}\n"
    assert (found.chat.system, found.thoughts) == (None, None)
    for reference in (TransformersReference(checkpoint), PlainReference(checkpoint)):
        assert not llm_prompts_that_differ(reference, found.chat, "Question: {question}")
        other = replace_struct(found.chat, start="")
        assert llm_prompts_that_differ(reference, other, "{question}") == list(QUESTIONS)


def test_what_a_template_says_to_itself_becomes_the_system_turn(tmp_path: Path) -> None:
    found = read_llm_chat_format(save_tokenizer(tmp_path, DEFAULT_SYSTEM))
    assert found.chat.system == "You help."
    assert found.thoughts is None
    assert read_llm_chat_format(save_tokenizer(tmp_path, CHATML)).chat.system is None


def test_stop_tokens_are_those_of_the_generation_config(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, CHATML)
    assert read_llm_chat_format(folder).chat.stop_tokens == ("<|im_end|>",)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 0]}')
    assert read_llm_chat_format(folder).chat.stop_tokens == ("<|im_end|>", "<|endoftext|>")
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 40]}')
    with pytest.raises(UnsupportedModelError, match=r"\[1, 40\] that end a text"):
        read_llm_chat_format(folder)
    with pytest.raises(UnsupportedModelError, match=r"that end a text"):
        read_llm_chat_format(save_tokenizer(tmp_path / "none", CHATML, eos=None))


@pytest.mark.parametrize(
    ("template", "match"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('no') }}", "cannot be rendered: no"),
        ("{{ messages[0].content.__class__.__mro__ }}", "cannot be rendered"),
        ("{% for m in messages %}{{ '[INST] ' + m.content }}{% endfor %}", "name their role"),
        ("{{ '<|endoftext|>' }}" + CHATML, "turns of"),
        (CHATML.replace("'<|im_end|>\n'", "message.role + '<|im_end|>\n'"), "several forms"),
        ("{{ 'Today is Monday. ' }}" + DEFAULT_SYSTEM, "turns of"),
        (REMEMBERING, r"<think></think>probe-of-replies.* turns of one form cannot give"),
        (CHATML.replace("%}{{", "%}{{ '\n' if loop.index > 2 }}{{", 1), "turns of one form"),
    ],
)
def test_templates_that_no_bundle_can_hold(
    tmp_path: Path, template: str | None, match: str
) -> None:
    with pytest.raises((UnsupportedModelError, VocabularyError), match=match):
        read_llm_chat_format(save_tokenizer(tmp_path, template))


def test_a_damaged_tokenizer_is_told(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, CHATML)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UnreadableCheckpointError, match="cannot be read as JSON"):
        read_llm_chat_format(folder)
