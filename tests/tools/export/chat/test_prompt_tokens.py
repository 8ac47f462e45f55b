"""Chat formats, and whether whole prompts get the reference's tokens."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from tiny.vlm import LLAVA, ONEVISION, edit_config

from edge_et.bundle import ChatSpec
from edge_et.export.chat.llm_chat_format import ThoughtTokens
from edge_et.export.chat.prompt_tokens import (
    QUESTIONS,
    llm_prompts_that_differ,
    vlm_prompts_that_differ,
)
from edge_et.export.chat.reference import TransformersReference
from edge_et.export.chat.vlm_chat_format import (
    VlmChatFormat,
    checkpoint_template_format,
    qwen_1_5_format,
)
from edge_et.export.errors import AssemblyError, UnreadableCheckpointError, VocabularyError

PROMPT = "Describe it. Especially, pay attention to {question}."
# As llava-hf's checkpoints have it: a space behind the role, a line feed before the words.
LLAVA_HF_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def onevision(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ONEVISION, tmp_path / "onevision"))


def test_the_template_of_llava_next() -> None:
    found = qwen_1_5_format(LLAVA)
    assert found.image_prefix == "{image}\n"
    assert found.chat.system == "You are a helpful assistant."
    assert (
        vlm_prompts_that_differ(TransformersReference(LLAVA), found, found.image_prefix + PROMPT)
        == []
    )


@pytest.mark.parametrize("legacy", [True, False])
def test_a_template_of_llava_hf(onevision: Path, legacy: bool) -> None:
    (onevision / "chat_template.jinja").unlink()
    if legacy:
        (onevision / "chat_template.json").write_text(
            json.dumps({"chat_template": LLAVA_HF_TEMPLATE})
        )
    else:
        (onevision / "chat_template.jinja").write_text(LLAVA_HF_TEMPLATE)
    found = checkpoint_template_format(onevision)
    assert found == VlmChatFormat(
        chat=ChatSpec(
            turn_start="<|im_start|>{role}",
            turn_end="<|im_end|>",
            system=" \nYou are a helpful assistant.",
            assistant_start_suffix="\n",
            stop_tokens=("<|im_end|>", "<|endoftext|>"),
        ),
        image_prefix=" {image}\n",
        text_prefix=" \n",
        template="checkpoint",
    )
    assert (
        vlm_prompts_that_differ(
            TransformersReference(onevision), found, found.image_prefix + PROMPT
        )
        == []
    )


def test_prompts_that_differ_are_told(onevision: Path) -> None:
    for folder, found in (
        (LLAVA, qwen_1_5_format(LLAVA)),
        (onevision, checkpoint_template_format(onevision)),
    ):
        prompt = found.image_prefix + PROMPT
        assert vlm_prompts_that_differ(TransformersReference(folder), found, prompt) == []
        other = msgspec.structs.replace(found.chat, system="You are a helpful assistant")
        changed = VlmChatFormat(
            chat=other,
            image_prefix=found.image_prefix,
            text_prefix=found.text_prefix,
            template=found.template,
        )
        assert vlm_prompts_that_differ(TransformersReference(folder), changed, prompt) == list(
            QUESTIONS
        )
        with pytest.raises(AssemblyError, match=r"has to begin with '\{image\}\\n'"):
            vlm_prompts_that_differ(TransformersReference(folder), found, "{image}" + PROMPT)


@pytest.mark.parametrize("thinks", [True, False])
def test_prompts_of_a_reasoner(thinks: bool) -> None:
    thoughts = ThoughtTokens(start="<think>", end="</think>", skip="<think>\n\n</think>\n\n")
    chat = ChatSpec(
        turn_start="<|im_start|>{role}\n",
        turn_end="<|im_end|>\n",
        system=None,
        stop_tokens=("<|im_end|>",),
    )
    prompt = "Description: {extraction}\nQuestion: {question}\nAnswer directly."
    assert (
        llm_prompts_that_differ(
            TransformersReference(LLAVA), chat, prompt, thoughts=thoughts, thinks=thinks
        )
        == []
    )
    spoken_to = msgspec.structs.replace(chat, system="Be brief.")
    assert (
        llm_prompts_that_differ(
            TransformersReference(LLAVA), spoken_to, prompt, thoughts=thoughts, thinks=thinks
        )
        == []
    )
    other = msgspec.structs.replace(chat, turn_end="<|im_end|>")
    assert llm_prompts_that_differ(
        TransformersReference(LLAVA), other, prompt, thoughts=thoughts, thinks=thinks
    ) == list(QUESTIONS)


def test_a_normaliser_that_the_tokenizer_lacks_is_noticed(onevision: Path) -> None:
    path = onevision / "tokenizer.json"
    content = json.loads(path.read_text())
    image = next(token for token in content["added_tokens"] if token["content"] == "<image>")
    image["lstrip"] = True  # eats the line feed before it, which the runtime does not
    path.write_text(json.dumps(content))
    config = onevision / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    settings["added_tokens_decoder"][str(image["id"])]["lstrip"] = True
    settings["additional_special_tokens"].remove("<image>")  # its name alone means no stripping
    config.write_text(json.dumps(settings))
    found = checkpoint_template_format(onevision)
    differing = vlm_prompts_that_differ(
        TransformersReference(onevision), found, found.image_prefix + PROMPT
    )
    assert differing == list(QUESTIONS)


def test_stop_tokens_come_from_the_config_where_generation_is_not_configured(
    onevision: Path,
) -> None:
    (onevision / "generation_config.json").unlink()
    assert checkpoint_template_format(onevision).chat.stop_tokens == ("<|im_end|>",)
    text = json.loads((onevision / "config.json").read_text())["text_config"]
    edit_config(onevision, text_config=text | {"eos_token_id": [1974, 1976]})
    assert checkpoint_template_format(onevision).chat.stop_tokens == ("<|im_end|>", "<|endoftext|>")
    edit_config(onevision, eos_token_id=7)
    with pytest.raises(UnreadableCheckpointError, match="ends at 7"):
        checkpoint_template_format(onevision)


@pytest.mark.parametrize("stated", ['{"id": 1}', '[["a"]]', '"<|im_end|>"', "[1976.0]"])
def test_ends_of_another_type(onevision: Path, stated: str) -> None:
    (onevision / "generation_config.json").write_text(f'{{"eos_token_id": {stated}}}')
    with pytest.raises(UnreadableCheckpointError, match="which is no added token"):
        checkpoint_template_format(onevision)


def test_formats_that_are_refused(onevision: Path) -> None:
    template = onevision / "chat_template.jinja"
    for text, match in (
        ("{{ messages[0]['role'] }}: hello", "not understood: 'system: hello'"),
        ("{{ raise_exception('no') }}", "cannot be rendered: no"),
        ("{{ dict.mro() }}", "has no attribute 'mro'"),
        ("{{ strftime_now('%Y') }}", "today's date .* which a bundle would keep for ever"),
        ("{% set n = namespace(_a=1) %}", "may not set '_a'"),
        ("{% for", "cannot be rendered"),
    ):
        template.write_text(text)
        with pytest.raises(VocabularyError, match=match):
            checkpoint_template_format(onevision)
    template.unlink()
    with pytest.raises(VocabularyError, match="has no chat template"):
        checkpoint_template_format(onevision)
    (onevision / "tokenizer.json").write_text("{}")
    with pytest.raises(VocabularyError, match="tokenizer"):
        checkpoint_template_format(onevision)
