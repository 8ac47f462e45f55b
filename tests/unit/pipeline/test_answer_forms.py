"""Whole calls with choices and kinds, through fakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import THOUGHTS, change_bundle

from edge_et.bundle import ChoicesSpec
from edge_et.errors import OptionError, PromptTooLongError
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, AnswerToken
from edge_et.stages.choices import choice_tokens

IMAGE = np.full((9, 9, 3), 40, np.uint8)
QUESTION = "Which animal?"
SAID, THOUGHT = "a dog<|im_end|>", "It barks.\nAnswer:"
TOKEN_S = 1.0
LETTERED = ChoicesSpec(
    prompt="Read: {extraction}\nQ: {question}\nOptions: {choices}\nTell the letter.",
    thoughts_prompt="Read: {extraction}\nQ: {question}\nOptions: {choices}\nThink.",
)


class Parts:
    """A pipeline over a fake that is sure of what it writes."""

    def __init__(
        self, folder: Path, *texts: str, context_length: int = 2000, **changes: dict[str, Any]
    ) -> None:
        build_bundle(folder)
        manifest = change_bundle(folder, **changes)
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.clock = FakeClock()
        self.cache = ForcedKVCache(
            self.tokenizer,
            *texts,
            context_length=context_length,
            clock=self.clock,
            token_s=TOKEN_S,
            certainty=30.0,
        )
        self.tower = FakeTower()
        self.pipeline = ExtractThink(
            manifest,
            tower=self.tower,
            contexts=[Models(perceiver=new_chat_model(self.tokenizer, self.cache))],
            clock=self.clock,
        )


def test_the_answer_is_a_choice_behind_the_reasoning(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, " dog<|im_end|>")
    *events, answer = parts.pipeline.stream(IMAGE, QUESTION, choices=["cat", "dog"])
    assert isinstance(answer, Answer)
    assert (answer.text, answer.value, answer.reasoning) == ("dog", "dog", "It barks.")
    assert answer.shares["dog"] > 0.99
    assert events[-1] == AnswerToken("dog")
    assert answer.finish_reasons == {"extract": "stop", "think": "stop", "answer": "stop"}
    assert parts.cache.prompts[-1].endswith("It barks.\nAnswer:")
    document = answer.to_dict()
    assert (document["value"], document["shares"]) == ("dog", answer.shares)


def test_free_text_has_neither_value_nor_shares(tmp_path: Path) -> None:
    answer = Parts(tmp_path, SAID, THOUGHT, " dog<|im_end|>").pipeline.answer(IMAGE, QUESTION)
    assert (answer.text, answer.value, answer.shares) == ("dog", None, {})


@pytest.mark.parametrize(("says", "value"), [("yes", True), ("no", False)])
def test_yes_or_no_is_a_bool(tmp_path: Path, says: str, value: bool) -> None:
    pipeline = Parts(tmp_path, SAID, THOUGHT, f" {says}<|im_end|>").pipeline
    answer = pipeline.answer(IMAGE, "Is there a dog?", kind="yes/no")
    assert (answer.text, answer.value) == (says, value)
    assert set(answer.shares) == {"yes", "no"}


def test_a_number_is_a_number(tmp_path: Path) -> None:
    answer = Parts(tmp_path, SAID, THOUGHT, " 2 dogs<|im_end|>").pipeline.answer(
        IMAGE, "How many?", kind="number"
    )
    assert (answer.text, answer.value, answer.shares) == ("2", 2, {})


@pytest.mark.parametrize("form", [{"choices": ["cat", "dog"]}, {"kind": "yes/no"}])
def test_thoughts_without_the_marker_end_at_their_budget(
    tmp_path: Path, form: dict[str, Any]
) -> None:
    parts = Parts(tmp_path, SAID, "on and on and on and on", " dog<|im_end|>")
    answer = parts.pipeline.answer(IMAGE, QUESTION, max_thinking_tokens=3, **form)
    assert parts.cache.prompts[-1].endswith("\nAnswer:")
    assert answer.text in answer.shares
    assert answer.finish_reasons == {"extract": "stop", "think": "length", "answer": "stop"}


def test_marked_thoughts_are_closed_before_the_choice(tmp_path: Path) -> None:
    texts = (SAID, "A dog, I think</think>", "It barks.\nAnswer:", " dog<|im_end|>")
    parts = Parts(tmp_path, *texts, think={"thoughts": THOUGHTS})
    answer = parts.pipeline.answer(
        IMAGE, QUESTION, thinking=True, max_thinking_tokens=40, choices=["cat", "dog"]
    )
    assert answer.text == "dog"


def test_stage_2_alone_takes_choices_too(tmp_path: Path) -> None:
    parts = Parts(tmp_path, THOUGHT, " dog<|im_end|>")
    answer = parts.pipeline.rethink(QUESTION, "a dog", choices=["cat", "dog"])
    assert (answer.value, answer.shares["dog"] > 0.99) == ("dog", True)
    parts = Parts(tmp_path, SAID, THOUGHT, " dog<|im_end|>")
    extraction = parts.pipeline.extract(IMAGE, QUESTION)
    thought = parts.pipeline.think(QUESTION, extraction, choices=["cat", "dog"])
    assert (thought.answer, thought.value, list(thought.shares)) == ("dog", "dog", ["cat", "dog"])
    assert parts.tokenizer.decode(thought.tokens).endswith("Answer: dog")


def test_an_answer_in_one_stage_takes_choices_too(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "dog<|im_end|>")
    answer = parts.pipeline.answer_directly(IMAGE, QUESTION, choices=["cat", "dog"])
    assert (answer.value, answer.shares["dog"] > 0.99) == ("dog", True)
    tokens = choice_tokens(parts.tokenizer, "", "dog")
    assert parts.tokenizer.decode(tokens) == "dog"
    with pytest.raises(OptionError, match="at most 1 tokens"):
        parts.pipeline.answer_directly(
            IMAGE, QUESTION, max_answer_tokens=1, choices=["dog", "a b c d"]
        )


def test_text_that_came_with_the_end_of_the_marker_is_left_out(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, "It barks.\nHence: cat", " dog<|im_end|>")
    end = parts.tokenizer.encode("Hence: cat")
    spelled = [parts.tokenizer.decode([token]) for token in end]
    # The marker ends within a token: with all of the token but its last letter.
    index = next(i for i, text in enumerate(spelled) if i and len(text) > 1)
    marker = "".join(spelled[: index + 1])[:-1]
    parts = Parts(
        tmp_path, SAID, "It barks.\nHence: cat", " dog<|im_end|>", think={"answer_marker": marker}
    )
    answer = parts.pipeline.answer(IMAGE, QUESTION, choices=["cat", "dog"])
    assert parts.cache.prompts[-1].endswith(f"It barks.\n{marker}")
    assert (answer.text, answer.reasoning) == ("dog", "It barks.")


def test_time_is_kept_for_all_choices(tmp_path: Path) -> None:
    """A score takes a step for each token of the choices, so thoughts end earlier."""
    endless = ("a dog<|im_end|>", "on and on " * 40, " cat<|im_end|>")
    choices = ["cat", "dog", "a bird in the tree", "four red fish", "nothing at all"]
    written = {}
    for asked in (["cat", "dog"], choices):
        parts = Parts(tmp_path, *endless)
        # Learn how fast it is.
        list(parts.pipeline.stream(IMAGE, QUESTION, max_thinking_tokens=1, choices=["a", "b"]))
        parts.cache._texts = list(endless)
        start = parts.clock.now_s
        answer = parts.pipeline.answer(
            IMAGE,
            QUESTION,
            max_thinking_tokens=400,
            max_answer_tokens=20,
            deadline_s=100,
            choices=asked,
        )
        assert parts.clock.now_s - start <= 100
        assert answer.finish_reasons["think"] == "deadline"
        assert answer.text == "cat"
        written[len(asked)] = len(answer.reasoning)
    assert written[5] < written[2]


@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        ({"choices": "yes"}, "choices", "a list of 2 to 256 texts"),
        ({"choices": ["a"]}, "choices", "a list of 2 to 256 texts"),
        ({"choices": []}, "choices", "a list of 2 to 256 texts"),
        ({"choices": ["a", ""]}, "choices", "a list of 2 to 256 texts"),
        ({"choices": ["a", 5]}, "choices", "a list of 2 to 256 texts"),
        ({"choices": [str(n) for n in range(257)]}, "choices", "a list of 2 to 256 texts"),
        ({"choices": range(10**15)}, "choices", "a list of 2 to 256 texts"),
        ({"choices": ["a", " \n"]}, "choices", "not empty"),
        ({"choices": ["a", "\ud800"]}, "choices", "surrogates"),
        ({"choices": ["a", "b", "a"]}, "choices", "each text once"),
        ({"choices": ["a", "b", "a "]}, "choices", "texts that differ"),
        ({"choices": ["a", "x" * 2**20]}, "choices", "at most 1048576 characters together"),
        ({"choices": ["a", "on the table " * 9]}, "choices", "at most 8 tokens"),
        ({"choices": ["a", "b"], "kind": "yes/no"}, "kind", "no kind where"),
        ({"kind": "yes"}, "kind", "one of yes/no, number"),
    ],
)
def test_what_cannot_be_chosen_among_is_refused_before_anything_runs(
    tmp_path: Path, options: dict[str, Any], name: str, said: str
) -> None:
    parts = Parts(tmp_path)
    for call in (parts.pipeline.answer, parts.pipeline.stream):
        with pytest.raises(OptionError, match=said) as caught:
            call(IMAGE, QUESTION, **options)
        assert caught.value.name == name
    assert parts.tower.runs == 0
    assert parts.cache.prompts == []


def test_texts_of_other_libraries_will_do(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, " dog<|im_end|>")
    answer = parts.pipeline.answer(IMAGE, QUESTION, choices=list(np.array(["cat", "dog"])))
    assert (answer.value, type(answer.value)) == ("dog", str)


def test_room_is_needed_for_the_longest_choice_not_for_the_budget(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_answer_tokens": 1500, "max_thinking_tokens": 5}
    texts = (SAID, THOUGHT, " dog<|im_end|>")
    parts = Parts(tmp_path, *texts, context_length=300)
    with pytest.raises(PromptTooLongError):
        parts.pipeline.answer(IMAGE, QUESTION, **options)
    assert parts.pipeline.answer(IMAGE, QUESTION, choices=["cat", "dog"], **options).text == "dog"
    long = "a dog on the table " * 50
    size = len(choice_tokens(parts.tokenizer, "Answer:", long))
    assert 300 < size < 1500
    parts = Parts(tmp_path, *texts, context_length=300)
    with pytest.raises(PromptTooLongError) as caught:
        parts.pipeline.answer(IMAGE, QUESTION, choices=["cat", long], **options)
    assert caught.value.tokens > size
    with pytest.raises(PromptTooLongError):
        parts.pipeline.answer_directly(IMAGE, QUESTION, choices=["cat", long], **options)
    assert parts.cache.prompts == []


# Choices that the bundle tells with letters


def test_choices_with_letters_are_told_and_the_letter_becomes_the_choice(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT, " B<|im_end|>", think={"choices": LETTERED})
    *events, answer = parts.pipeline.stream(IMAGE, QUESTION, choices=["a cat", "dog{question}"])
    assert isinstance(answer, Answer)
    assert answer.text == answer.value == "dog{question}"
    assert list(answer.shares) == ["a cat", "dog{question}"]
    assert events[-1] == AnswerToken("dog{question}")
    told = "Q: Which animal?\nOptions: A: a cat, B: dog{question}\nTell the letter."
    assert told in parts.cache.prompts[1]


def test_a_call_that_thinks_has_a_prompt_of_its_own_for_choices(tmp_path: Path) -> None:
    texts = (SAID, "A dog</think>", "It barks.\nAnswer:", " A<|im_end|>")
    changes = {"thoughts": THOUGHTS, "choices": LETTERED}
    parts = Parts(tmp_path, *texts, think=changes)
    answer = parts.pipeline.answer(
        IMAGE, QUESTION, thinking=True, max_thinking_tokens=40, choices=["dog", "cat"]
    )
    assert answer.text == "dog"
    assert "Options: A: dog, B: cat\nThink." in parts.cache.prompts[1]


@pytest.mark.parametrize("form", [{}, {"kind": "yes/no"}, {"kind": "number"}])
def test_whoever_offers_no_choices_gets_the_open_prompt(
    tmp_path: Path, form: dict[str, Any]
) -> None:
    def stage_2(name: str, **changes: dict[str, Any]) -> tuple[str, Answer]:
        parts = Parts(tmp_path / name, SAID, THOUGHT, " 2<|im_end|>", **changes)
        answer = parts.pipeline.answer(IMAGE, QUESTION, **form)
        return parts.cache.prompts[1], answer

    with_letters = stage_2("letters", think={"choices": LETTERED})
    without = stage_2("none")
    assert with_letters[0] == without[0]
    assert with_letters[1].text == without[1].text


def test_nobody_is_asked_for_a_letter_without_being_told_the_choices(tmp_path: Path) -> None:
    """One stage and a chat have prompts of their own, which tell none."""
    changes = {"choices": LETTERED}
    parts = Parts(tmp_path / "direct", "dog<|im_end|>", think=changes)
    answer = parts.pipeline.answer_directly(IMAGE, QUESTION, choices=["cat", "dog"])
    assert (answer.text, answer.shares["dog"] > 0.99) == ("dog", True)
    parts = Parts(tmp_path / "chat", "dog<|im_end|>", think=changes)
    answer = parts.pipeline.text_session().answer(QUESTION, choices=["cat", "dog"])
    assert (answer.text, answer.shares["dog"] > 0.99) == ("dog", True)
