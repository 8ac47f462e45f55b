from pathlib import Path

import pytest
from msgspec.structs import replace
from tiny.bundle import CHATML
from tiny.fakes import ForcedKVCache, new_chat_model, new_tokenizer
from tiny.thoughts import THOUGHTS

from edge_et.bundle import ChatSpec, RoleNames, Sampling, ThinkSpec
from edge_et.generation import ChatModel
from edge_et.llm import Tokenizer
from edge_et.options import Message
from edge_et.stages import Budget, History, Thinking, thinking_prompt

TALK = (
    ("system", "Be brief."),
    ("user", " What is this? "),
    ("user", "Tell me."),
    ("assistant", "A <|im_end|> ball."),
    ("system", "Speak French."),
    ("assistant", " "),
    ("user", "Sure?"),
)


def history(*turns: tuple[str, str]) -> History:
    return History.of(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]


def thinking(told: History) -> Thinking:
    spec = ThinkSpec(
        prompt="Description: {extraction}\n{question}",
        max_thinking_tokens=5,
        answer_marker="Answer:",
        max_answer_tokens=5,
        sampling=Sampling(),
        thoughts=THOUGHTS,
    )
    budget = Budget(thinking=5, answer=5)
    return Thinking(spec=spec, marked=False, budget=budget, sampling=Sampling(), history=told)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def chat_model(tokenizer: Tokenizer, chat: ChatSpec = CHATML) -> ChatModel:
    plain = new_chat_model(tokenizer, ForcedKVCache(tokenizer, "x", context_length=4000))
    return ChatModel(
        tokenizer=tokenizer, kv_cache=plain.kv_cache, chat=chat, stop_ids=plain.stop_ids
    )


def prompt_of(
    tokenizer: Tokenizer, told: History, chat: ChatSpec = CHATML, *, goes_on: bool = False
) -> str:
    model = chat_model(tokenizer, chat)
    prompt = thinking_prompt(model, thinking(told), "Which?", "red", () if goes_on else None)
    assert isinstance(model.kv_cache, ForcedKVCache)
    return model.kv_cache.text_of(prompt)


ASKED = "Description: red\nWhich?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_earlier_turns_are_turns_of_the_chat_format(tokenizer: Tokenizer) -> None:
    assert prompt_of(tokenizer, history(*TALK)) == (
        "<|im_start|>system\nBe brief.\n\nSpeak French.<|im_end|>\n"
        "<|im_start|>user\nWhat is this?\n\nTell me.<|im_end|>\n"
        "<|im_start|>assistant\nA <|im_end|> ball.<|im_end|>\n"
        f"<|im_start|>user\nSure?\n\n{ASKED}"
    )


def test_the_assistant_may_have_spoken_last(tokenizer: Tokenizer) -> None:
    chat = replace(CHATML, assistant_start_suffix="Says: ")
    told = history(("user", "Hi."), ("assistant", "Hello."))
    assert prompt_of(tokenizer, told, chat).startswith(
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nSays: Hello.<|im_end|>\n"
        "<|im_start|>user\nDescription: red"
    )


def test_turns_of_text_may_begin_with_a_blank(tokenizer: Tokenizer) -> None:
    roles = RoleNames(system="System", user="User", assistant="Assistant")
    chat = replace(CHATML, start="<|im_start|>", turn_start="{role}:", roles=roles, before_text=" ")
    asked = ASKED.replace("<|im_start|>assistant\n", "Assistant:")
    assert prompt_of(tokenizer, history(*TALK[:4]), chat) == (
        "<|im_start|>System: Be brief.<|im_end|>\nUser: What is this?\n\nTell me.<|im_end|>\n"
        f"Assistant: A <|im_end|> ball.<|im_end|>\nUser: {asked}"
    )
    assert prompt_of(tokenizer, History(), chat) == f"<|im_start|>User: {asked}"
    assert prompt_of(tokenizer, history(*TALK[1:3]), chat, goes_on=True) == (
        f"<|im_end|>\nUser: User: What is this?\n\nTell me.\n\n{asked}"
    )


@pytest.mark.parametrize(
    ("default", "turn"), [(None, "Be brief."), ("You read.", "Be brief."), (" You.", " Be brief.")]
)
def test_instructions_take_the_place_of_the_formats_own(
    tokenizer: Tokenizer, default: str | None, turn: str
) -> None:
    chat = replace(CHATML, system=default)
    start = f"<|im_start|>system\n{turn}<|im_end|>\n<|im_start|>user\nDescription"
    assert prompt_of(tokenizer, history(TALK[0]), chat).startswith(start)
    without = prompt_of(tokenizer, history(("system", " ")), chat)
    own = "" if default is None else f"<|im_start|>system\n{default}<|im_end|>\n"
    assert without == f"{own}<|im_start|>user\n{ASKED}"


def test_behind_stage_1_all_of_it_is_told_in_the_users_turn(tokenizer: Tokenizer) -> None:
    assert prompt_of(tokenizer, history(*TALK), goes_on=True) == (
        "<|im_end|>\n<|im_start|>user\nBe brief.\n\nSpeak French.\n\n"
        "User: What is this?\n\nTell me.\n\nAssistant: A <|im_end|> ball.\n\nUser: Sure?\n\n"
        f"{ASKED}"
    )
    assert prompt_of(tokenizer, History(), goes_on=True) == (
        f"<|im_end|>\n<|im_start|>user\n{ASKED}"
    )
