"""Chat templates, rendered as transformers renders them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny.vlm import LLAVA
from tokenizers import Tokenizer

from edge_et.export.chat.chat_template import ChatTemplate
from edge_et.export.chat.reference import PlainReference, TransformersReference
from edge_et.export.errors import VocabularyError

TALK = [
    {"role": "system", "content": " Be <brief>. "},
    {"role": "user", "content": "What's caf\u00e9?"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA place."},
    {"role": "user", "content": "More."},
]
SMOLLM3 = """
{%- set mode = "/think" if enable_thinking is not defined or enable_thinking else "/no_think" -%}
{{- "<|im_start|>system\n" ~ mode ~ "\n" -}}
{%- set rules = messages[0].content.replace("/no_think", "").rstrip() -%}
{{- rules ~ "<|im_end|>\n" -}}
{%- for message in messages[1:] -%}
  {%- set content = message.content if message.content is string else "" -%}
  {%- if message.role == "user" -%}
    {{ "<|im_start|>user\n" + content + "<|im_end|>\n" }}
  {%- elif message.role == "assistant" -%}
    {% generation %}
    {%- set mode = "spoken" -%}
    {{ "<|im_start|>assistant\n" + content.lstrip("\n") + mode + "<|im_end|>\n" }}
    {% endgeneration %}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ "<|im_start|>assistant\n" }}
  {%- if mode == "/no_think" -%}{{ "<think>\n\n</think>\n" }}{%- endif -%}
{%- endif -%}
{{ mode }}"""
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}"
    "{% endif %}"
)
HELPERS = """
{%- set seen = dict(a=1, b=messages[1].content) -%}
{%- set comma = joiner("; ") -%}
{%- set colours = cycler("odd", "even") -%}
{%- for message in messages -%}{{ comma() }}{{ colours.next() }}{{ message.role }}{%- endfor -%}
{%- set ns = namespace(last="", self="me") -%}
{%- for message in messages -%}
{%- if message.role == "tool" -%}{% continue %}{%- endif -%}
{%- set ns.last = message.content -%}
{%- endfor -%}
{{ ns.last }}{{ ns.self }}
{{ seen | tojson }} {{ seen | tojson(ensure_ascii=true, separators=(",", ":")) }}
{{ {"b": "<", "a": "\u00e9"} | tojson(indent=2, sort_keys=true) }}"""
NAMES = (
    "{{ [bos_token, eos_token, image_token, lamp_token, lamp] | map('default', 'none')"
    " | join(' ') }}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LLAVA, tmp_path / "checkpoint"))


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("switches", [{}, {"enable_thinking": False}])
@pytest.mark.parametrize(
    "template", [(LLAVA / "chat_template.jinja").read_text(), SMOLLM3, LLAMA3, PHI, HELPERS]
)
def test_templates_write_what_they_do_in_transformers(
    folder: Path, template: str, switches: dict[str, bool]
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    config = folder / "tokenizer_config.json"
    write(config, json.loads(config.read_text()) | {"bos_token": "<|im_start|>"})
    found = ChatTemplate(folder).render(TALK, **switches)
    assert found == TransformersReference(folder).render(TALK, **switches)
    assert "More." in found


@pytest.mark.parametrize("decoder", [True, False])
@pytest.mark.parametrize(
    ("config", "older"),
    [
        ({"eos_token": "A", "image_token": "B"}, {"eos_token": "C", "image_token": "D"}),
        ({"eos_token": "A"}, {"bos_token": "B", "eos_token": None, "image_token": "C"}),
        ({"extra_special_tokens": {"lamp": "A", "image_token": "B"}, "image_token": "C"}, {}),
        ({"extra_special_tokens": {"image_token": "A"}}, {"image_token": "B", "lamp_token": "C"}),
        (
            {"bos_token": "A"},
            {"extra_special_tokens": {"lamp": "D", "eos_token": "B"}, "eos_token": "C"},
        ),
    ],
)
def test_names_of_tokens_are_those_of_transformers(
    folder: Path, config: dict[str, Any], older: dict[str, Any], decoder: bool
) -> None:
    (folder / "chat_template.jinja").write_text(NAMES)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    if decoder:
        settings["added_tokens_decoder"] = {}
    write(folder / "tokenizer_config.json", settings)
    write(folder / "special_tokens_map.json", older)
    found = ChatTemplate(folder).render(TALK)
    assert found == TransformersReference(folder).render(TALK)
    assert "A" in found or "C" in found


def test_the_template_of_a_processor_counts_before_all_others(folder: Path) -> None:
    def both() -> list[str]:
        return [ChatTemplate(folder).render(TALK), TransformersReference(folder).render(TALK)]

    (folder / "chat_template.jinja").write_text("jinja")
    assert both() == ["jinja"] * 2
    write(folder / "chat_template.json", {"chat_template": "older"})
    assert both() == ["older"] * 2
    write(folder / "processor_config.json", {"processor_class": "LlavaProcessor"})
    assert both() == ["older"] * 2
    write(folder / "processor_config.json", {"chat_template": "whole"})
    assert both() == ["whole"] * 2
    write(folder / "processor_config.json", {"chat_template": {"default": "whole"}})
    for reader in (ChatTemplate, TransformersReference):
        with pytest.raises(VocabularyError, match=r"processor_config\.json: chat_template is no"):
            reader(folder)


def test_a_date_would_be_kept_for_ever(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}")
    with pytest.raises(VocabularyError, match=r"today's date .*%d %b %Y.* keep for ever"):
        ChatTemplate(folder).render(TALK)


def test_what_a_tokenizer_cuts_off_or_fills_up_is_compared_whole(folder: Path) -> None:
    path = folder / "tokenizer.json"
    expected = PlainReference(folder).ids("What is on the table?")
    assert len(expected) > 4
    tokenizer = Tokenizer.from_file(str(path))
    for change in (
        lambda: tokenizer.enable_truncation(4),
        lambda: tokenizer.enable_padding(length=64),
    ):
        change()
        tokenizer.save(str(path))
        assert PlainReference(folder).ids("What is on the table?") == expected
