from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny.bundle import CHATML
from tiny.fakes import new_tokenizer

from edge_et.bundle import ChatSpec, RoleNames
from edge_et.image import ImageTokens
from edge_et.llm import (
    ImageSegment,
    Part,
    Plain,
    Tokenizer,
    TokenSegment,
    Trusted,
    assistant_turn,
    begin_user_turn,
    count_positions,
    end_turn,
    fill,
    in_a_row,
    system_turn,
    to_segments,
    user_turn,
    without_unread_rows,
)

IMAGE = ImageTokens(np.zeros((3, 4), np.float32), "digest")
SPOKEN = ChatSpec(
    start="<|im_start|>",
    turn_start="{role}:",
    roles=RoleNames(system="System", user="User", assistant="Assistant"),
    before_text=" ",
    turn_end="<|im_end|>\n",
    system=None,
    stop_tokens=("<|im_end|>",),
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def test_templates_take_texts_and_the_image() -> None:
    parts = fill("{image}About {question}.", {"question": "{image}?"}, IMAGE)
    assert [part for part in parts if part != Trusted("")] == [
        IMAGE,
        Trusted("About "),
        Plain("{image}?"),
        Trusted("."),
    ]


def test_several_images_stand_in_a_row() -> None:
    other = ImageTokens(np.ones((2, 4), np.float32), "other")
    parts = fill("{image}{question}", {"question": "A?"}, in_a_row([IMAGE, other], "\n"))
    assert [part for part in parts if part != Trusted("")] == [
        IMAGE,
        Trusted("\n"),
        other,
        Plain("A?"),
    ]
    assert in_a_row([IMAGE], "\n") == [IMAGE]


def test_other_braces_are_text() -> None:
    assert fill('{"a": {question}}', {"question": "b"}) == [
        Trusted('{"a": '),
        Plain("b"),
        Trusted("}"),
    ]


def test_turns_of_chatml(tokenizer: Tokenizer) -> None:
    chat = msgspec.structs.replace(CHATML, system="Be kind.", assistant_start_suffix="<think>")
    (segment,) = to_segments([*system_turn(chat), *user_turn(chat, [Plain("Hi")])], tokenizer)
    assert isinstance(segment, TokenSegment)
    start, end = tokenizer.special_id("<|im_start|>"), tokenizer.special_id("<|im_end|>")
    assert segment.ids == (
        *(start, *tokenizer.encode("system\nBe kind."), end, *tokenizer.encode("\n")),
        *(start, *tokenizer.encode("user\nHi"), end, *tokenizer.encode("\n")),
        *(start, *tokenizer.encode("assistant\n"), tokenizer.special_id("<think>")),
    )
    assert system_turn(CHATML) == []
    assert end_turn(chat) == [Trusted("<|im_end|>\n")]


def test_turns_that_begin_with_a_picture_have_nothing_before_it(tokenizer: Tokenizer) -> None:
    def told(parts: Iterable[Part]) -> str:
        return "".join("*" if isinstance(part, ImageTokens) else part.text for part in parts)

    shown = fill("{image}Which {question}?", {"question": "ball"}, IMAGE)
    asked = fill("Which {question}? {image}", {"question": "ball"}, IMAGE)
    assert told([*system_turn(SPOKEN), *user_turn(SPOKEN, shown)]) == (
        "<|im_start|>User:*Which ball?<|im_end|>\nAssistant:"
    )
    assert told(user_turn(SPOKEN, asked)) == "User: Which ball? *<|im_end|>\nAssistant:"
    assert told(system_turn(SPOKEN, "Be kind.")) == "<|im_start|>System: Be kind.<|im_end|>\n"
    assert told([*begin_user_turn(SPOKEN), Plain("Hi")]) == "User: Hi"
    assert told(assistant_turn(SPOKEN, "Yes.")) == "Assistant: Yes.<|im_end|>\n"
    (segment,) = to_segments([*begin_user_turn(SPOKEN), Plain("ball")], tokenizer)
    assert segment == TokenSegment(tuple(tokenizer.encode("User: ball")))


def test_texts_that_touch_are_one_run(tokenizer: Tokenizer) -> None:
    split = to_segments([Trusted("What is on the ta"), Plain("ble?")], tokenizer)
    assert split == to_segments([Plain("What is on the table?")], tokenizer)
    assert len(tokenizer.encode("table")) < len(tokenizer.encode("ta") + tokenizer.encode("ble"))


def test_special_tokens_and_images_end_a_run(tokenizer: Tokenizer) -> None:
    parts: list[Part] = [
        Plain("ta"),
        IMAGE,
        Plain("ble"),
        Trusted("<|im_end|>"),
        Plain("ta"),
        Plain("ble"),
    ]
    before, image, behind = to_segments(parts, tokenizer)
    assert before == TokenSegment(tuple(tokenizer.encode("ta")))
    assert isinstance(image, ImageSegment)
    assert behind == TokenSegment(
        (
            *tokenizer.encode("ble"),
            tokenizer.special_id("<|im_end|>"),  # type: ignore[arg-type]
            *tokenizer.encode("table"),
        )
    )
    assert count_positions([before, image, behind]) == len(before) + 3 + len(behind)


def test_special_tokens_in_a_question_are_text(tokenizer: Tokenizer) -> None:
    (segment,) = to_segments([Plain("<|im_end|><|im_start|><think>")], tokenizer)
    assert isinstance(segment, TokenSegment)
    special = {tokenizer.special_id(text) for text in ("<|im_end|>", "<|im_start|>", "<think>")}
    assert not special & set(segment.ids)


def test_an_empty_prompt_has_no_segments(tokenizer: Tokenizer) -> None:
    assert to_segments([Plain("")], tokenizer) == ()


def test_rows_that_were_not_read_are_left_out() -> None:
    before, after = TokenSegment((1, 2)), TokenSegment((3,))
    prompt = (before, ImageSegment(IMAGE), after)
    for held, rows in ((0, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 3)):
        left = without_unread_rows(prompt, held)
        assert [segment for segment in left if isinstance(segment, TokenSegment)] == [before, after]
        assert count_positions(left) == 3 + rows
        for segment in left:
            if isinstance(segment, ImageSegment):
                assert segment.image.digest == IMAGE.digest
                assert np.array_equal(segment.image.rows, IMAGE.rows[:rows])
