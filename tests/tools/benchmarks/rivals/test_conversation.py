"""The prompts and the forced tokens that rivals are given."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_et.benchmarks.document import Work
from edge_et.benchmarks.rivals.conversation import (
    Conversation,
    Prompt,
    find_mmproj,
    forced_tokens_by_stage,
    text_tokens,
)
from edge_et.benchmarks.subject import Job
from edge_et.bundle import Bundle, load_bundle
from edge_et.errors import BenchError
from edge_et.llm import Tokenizer


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def test_a_marker_stands_for_the_picture():
    assert Prompt("before ", " behind").with_picture("<image>") == "before <image> behind"
    assert Prompt(None, "all of it").with_picture("<image>") == "all of it"


def test_only_the_text_of_a_prompt_is_counted(bundle: Bundle):
    tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
    before, behind = "<|im_start|>", "What is it?<|im_end|>"
    count = len(tokenizer.encode("What is it?")) + 2
    assert text_tokens(Prompt(before, behind), tokenizer) == count
    assert text_tokens(Prompt(None, before + behind), tokenizer) == count


def test_the_second_turn_goes_on_behind_the_first(bundle: Bundle):
    conversation = Conversation(bundle)
    assert conversation.goes_on
    first = conversation.extract("How many?")
    second = conversation.think("How many?", " Two cats.")
    assert second.before == first.before
    assert second.text.startswith(f"{first.text} Two cats.")


def test_a_turn_that_begins_with_a_picture_has_no_blank_before_it(bundle: Bundle):
    manifest = bundle.manifest
    chat = msgspec.structs.replace(manifest.perceiver.chat, before_text=" ")
    perceiver = msgspec.structs.replace(manifest.perceiver, chat=chat)
    extract = msgspec.structs.replace(manifest.extract, prompt="{image}Look: {question}")
    changed = msgspec.structs.replace(manifest, perceiver=perceiver, extract=extract)
    conversation = Conversation(replace(bundle, manifest=changed))
    prompt = conversation.extract("How many?")
    assert prompt.before is not None
    assert prompt.before.endswith(chat.turn_start.format(role="user"))
    assert prompt.text.startswith("Look: How many?")
    second = conversation.think("How many?", " Two cats.")
    assert chat.turn_start.format(role="user") + " " in second.text


def test_what_llama_cpp_puts_around_a_picture_itself_is_left_out(bundle: Bundle):
    extract = msgspec.structs.replace(
        bundle.manifest.extract, prompt="<img>{image}</img>\nLook: {question}"
    )
    changed = msgspec.structs.replace(bundle.manifest, extract=extract)
    prompt = Conversation(replace(bundle, manifest=changed)).extract("How many?")
    assert "<img>" not in prompt.with_picture("[picture]")
    assert "[picture]\nLook: How many?" in prompt.with_picture("[picture]")


def test_a_reasoner_of_its_own_sees_no_picture(tiny_pair: Path):
    conversation = Conversation(load_bundle(tiny_pair))
    assert not conversation.goes_on
    prompt = conversation.think("How many?", " Two cats. ")
    assert prompt.before is None
    assert "Two cats." in prompt.text
    assert "How many?" in prompt.text


def test_both_stages_get_as_many_forced_tokens_as_the_work_has(bundle: Bundle):
    job = msgspec.convert(
        {
            "bundle": "",
            "engine": "mtmd",
            "threads": 1,
            "reuse": True,
            "warm": True,
            "work": Work(
                picture="",
                picture_sha256="",
                questions=("What?", "Why?"),
                extraction_tokens=6,
                thinking_tokens=5,
                answer_tokens=3,
            ),
        },
        Job,
    )
    tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
    extraction, rest = forced_tokens_by_stage(bundle, tokenizer, job)
    assert (len(extraction), len(rest)) == (6, 5 + 3)
    text = tokenizer.decode([*extraction, *rest])
    assert bundle.manifest.think.answer_marker not in text
    assert len(text.split()) == 14


def test_a_bundle_without_a_tower_for_llama_cpp_is_told(bundle: Bundle):
    with pytest.raises(BenchError, match=r"has no mmproj\.gguf"):
        find_mmproj(bundle)
