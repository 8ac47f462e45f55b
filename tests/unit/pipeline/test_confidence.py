"""How sure answers are, through fakes whose logits are known."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import change_bundle

from edge_et.errors import OptionError
from edge_et.generation import Watch
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, Certainty, Confidence, PhaseUsage, Progress, Thought
from edge_et.stages import confidence_of

IMAGE = np.full((9, 9, 3), 40, np.uint8)
OTHER = np.full((9, 9, 3), 90, np.uint8)
QUESTION = "Which colour?"
SAID = "a ball<|im_end|>"
THOUGHT = ("It is red.\nAnswer:", " red<|im_end|>")
BLUE = " blue<|im_end|>"
CERTAINTY = 9.0  # logit of what is wanted; all else has 0


class Parts:
    """A pipeline over fakes, with the fakes at hand."""

    def __init__(
        self, folder: Path, *texts: str, reasoner: tuple[str, ...] = (), **changes: dict[str, Any]
    ) -> None:
        build_bundle(folder, two_models=bool(reasoner))
        manifest = change_bundle(folder, **changes)
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.clock = FakeClock()
        self.perceiver, self.reasoner = (
            ForcedKVCache(
                self.tokenizer,
                *said,
                context_length=2000,
                clock=self.clock,
                position_s=0.01,
                token_s=0.1,
                certainty=CERTAINTY,
            )
            for said in (texts, reasoner)
        )
        models = Models(
            perceiver=new_chat_model(self.tokenizer, self.perceiver),
            reasoner=new_chat_model(self.tokenizer, self.reasoner) if reasoner else None,
        )
        self.pipeline = ExtractThink(
            manifest, tower=FakeTower(), contexts=[models], clock=self.clock
        )
        whole = math.exp(CERTAINTY) + self.tokenizer.size - 1
        self.wanted, self.unwanted = math.exp(CERTAINTY) / whole, 1 / whole
        self.apart = self.wanted - self.unwanted

    def tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def ask(self, confidence: str = "control", **options: Any) -> Confidence:
        answer = self.pipeline.answer(IMAGE, QUESTION, confidence=confidence, **options)  # type: ignore[arg-type]
        assert answer.confidence is not None
        return answer.confidence


def test_every_stage_is_as_sure_as_its_tokens(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT)
    found = parts.ask("written")
    written = {name: stage.tokens for name, stage in found.stages.items()}
    assert written == {
        "extract": parts.tokens("a ball") + 1,  # and the one that ends it
        "think": parts.tokens("It is red.\nAnswer:"),
        "answer": parts.tokens(" red") + 1,
    }
    for stage in found.stages.values():
        assert (stage.mean, stage.least) == pytest.approx((parts.wanted, parts.wanted))
        assert stage.margin == pytest.approx(parts.apart)
    assert found.margin == pytest.approx(parts.apart)
    assert (found.seeing, found.thinking) == pytest.approx((parts.wanted, parts.wanted))
    assert found.answering == pytest.approx(parts.wanted ** written["answer"])
    assert found.answer == pytest.approx(found.seeing * found.thinking * found.answering)  # type: ignore[operator]
    assert (found.control, found.control_usage) == (None, None)


def test_doubt_is_of_the_less_sure_stage(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT)
    assert parts.ask("written").doubt == "thinking"  # all tokens are as sure: stage 2 is longer
    unsure = Certainty(tokens=1, mean=0.5, least=0.5, margin=0.0)
    thought = Thought(answer="red", reasoning="", tokens=(), usage=PhaseUsage())
    assert confidence_of(thought, Watch(), unsure).doubt == "seeing"
    assert confidence_of(thought, Watch()).doubt is None


def test_nothing_is_looked_at_where_nobody_wants_to_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a token was looked at")

    monkeypatch.setattr("edge_et.generation.watch.look", fail)
    parts = Parts(tmp_path, SAID, *THOUGHT)
    answer = parts.pipeline.answer(IMAGE, QUESTION)
    assert (answer.confidence, answer.to_dict()["confidence"]) == (None, None)
    assert len(parts.perceiver.prompts) == 3


def test_an_answer_that_seeing_makes_is_improbable_without(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, BLUE)
    found = parts.ask()
    tokens = parts.tokens(" red") + 1
    assert found.control == pytest.approx(parts.unwanted**tokens, rel=1e-5)
    asked = parts.perceiver.prompts[-1]
    assert "[image]" not in asked
    assert "a ball" not in asked
    assert "It is red" not in asked
    assert asked.endswith(f"{QUESTION}<|im_end|>\n<|im_start|>assistant\nAnswer:")
    assert found.control_usage is not None
    assert found.control_usage.generated_tokens == tokens - 1


def test_an_answer_that_is_guessed_is_as_probable_without(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, THOUGHT[1])
    found = parts.ask()
    tokens = parts.tokens(" red") + 1
    assert found.control == found.answering == pytest.approx(parts.wanted**tokens)


def test_a_reasoner_of_its_own_is_asked_with_an_empty_extraction(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, reasoner=(*THOUGHT, BLUE))
    found = parts.ask()
    assert found.control == pytest.approx(parts.unwanted ** (parts.tokens(" red") + 1), rel=1e-5)
    assert f"Description: \n{QUESTION}<|im_end|>" in parts.reasoner.prompts[-1]
    assert len(parts.perceiver.prompts) == 1


def test_the_picture_is_there_for_the_next_question(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, BLUE, SAID, *THOUGHT)
    parts.ask()
    usage = parts.pipeline.answer(IMAGE, "Which animal?").usage["extract"]
    assert usage.reused_tokens >= 1 + parts.tokens("user\n") + 16


def test_choices_are_as_sure_as_their_shares(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, BLUE)
    answer = parts.pipeline.answer(IMAGE, QUESTION, choices=["red", "blue"], confidence="control")
    found = answer.confidence
    assert found is not None
    assert (answer.text, found.answering) == ("red", answer.shares["red"])
    assert found.margin == pytest.approx(answer.shares["red"] - answer.shares["blue"])
    assert found.control is not None
    assert found.control < 0.5 < found.answering
    assert "answer" not in found.stages


@pytest.mark.parametrize(
    ("text", "options"),
    [(" 12<|im_end|>", {"kind": "number"}), (" 12<|im_end|>", {"schema": {"type": "integer"}})],
    ids=["number", "schema"],
)
def test_a_form_is_judged_among_what_fits_it(
    tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT[0], text, text)
    found = parts.ask(**options)
    assert found.answering > parts.wanted ** found.stages["answer"].tokens
    assert found.control == pytest.approx(found.answering)


@pytest.mark.parametrize(
    ("answered", "options"),
    [("<|im_end|>", {}), (" the red", {"stop": [" the"]}), ("\n", {"max_answer_tokens": 1})],
    ids=["ends at once", "ends with a stop text", "has no budget for more"],
)
def test_an_answer_that_began_in_one_token_with_the_marker_is_the_same_in_the_control(
    tmp_path: Path, answered: str, options: dict[str, Any]
) -> None:
    texts = (SAID, "It is there", answered, answered)
    parts = Parts(tmp_path, *texts, think={"answer_marker": "th"})
    answer = parts.pipeline.answer(IMAGE, QUESTION, confidence="control", **options)
    assert (answer.text, answer.reasoning) == ("ere", "It is")
    assert answer.confidence is not None
    assert answer.confidence.control == answer.confidence.answering
    assert parts.perceiver.prompts[-1].endswith("there")


def test_the_baseline_is_asked_without_its_picture(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "red<|im_end|>", "blue<|im_end|>")
    answer = parts.pipeline.answer_directly(IMAGE, QUESTION, confidence="control")
    found = answer.confidence
    assert found is not None
    assert (found.seeing, found.thinking, found.doubt) == (None, None, None)
    assert found.control is not None
    assert found.control < found.answering == found.answer
    assert ["[image]" in prompt for prompt in parts.perceiver.prompts] == [True, False]


def test_a_question_without_a_picture_has_nothing_to_leave_out(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "red<|im_end|>")
    found = parts.pipeline.text_session().answer(QUESTION, confidence="control").confidence
    assert found is not None
    assert found.answer == pytest.approx(parts.wanted ** (parts.tokens("red") + 1))
    assert (found.seeing, found.thinking, found.control) == (None, None, None)


def test_an_extraction_from_elsewhere_was_not_seen(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *THOUGHT, BLUE)
    found = parts.pipeline.rethink(QUESTION, "a ball", confidence="control").confidence
    assert found is not None
    assert (found.seeing, found.doubt) == (None, None)
    assert found.thinking is not None
    assert found.control is not None


def test_stages_run_one_by_one_tell_the_same(tmp_path: Path) -> None:
    whole = Parts(tmp_path / "a", SAID, *THOUGHT, BLUE).ask()
    parts = Parts(tmp_path / "b", SAID, *THOUGHT, BLUE)
    extraction = parts.pipeline.extract(IMAGE, QUESTION, confidence="written")
    thought = parts.pipeline.think(QUESTION, extraction, confidence="control")
    assert extraction.certainty == whole.stages["extract"]
    assert thought.confidence is not None
    assert {**thought.confidence.to_dict(), "control_usage": None} == {
        **whole.to_dict(),
        "control_usage": None,
    }


def test_all_pictures_count(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, "a blue cube<|im_end|>", *THOUGHT, BLUE)
    answer = parts.pipeline.answer([IMAGE, OTHER], QUESTION, confidence="control")
    assert answer.confidence is not None
    written = parts.tokens("a ball") + parts.tokens("a blue cube") + 2
    assert answer.confidence.stages["extract"].tokens == written
    assert "Picture 1" not in parts.perceiver.prompts[-1]


def test_without_time_there_is_no_control(tmp_path: Path) -> None:
    timed = Parts(tmp_path / "a", SAID, *THOUGHT)
    start = timed.clock.now_s
    timed.ask("written")
    seconds = timed.clock.now_s - start
    hurried = Parts(tmp_path / "b", SAID, *THOUGHT)
    found = hurried.ask(deadline_s=seconds + 0.2)
    assert (found.control, len(hurried.perceiver.prompts)) == (None, 3)
    unhurried = Parts(tmp_path / "c", SAID, *THOUGHT, BLUE)
    assert unhurried.ask(deadline_s=seconds + 60).control is not None


def test_time_is_kept_for_the_choices_of_a_control(tmp_path: Path) -> None:
    choices = ["red", "a blue cube", "a green car"]
    timed = Parts(tmp_path / "a", "red<|im_end|>")
    start = timed.clock.now_s
    timed.pipeline.answer_directly(IMAGE, QUESTION, choices=choices, confidence="written")
    deadline_s = timed.clock.now_s - start + 1  # enough to read the prompt, and not for the choices
    hurried = Parts(tmp_path / "b", "red<|im_end|>", BLUE)
    answer = hurried.pipeline.answer_directly(
        IMAGE, QUESTION, choices=choices, confidence="control", deadline_s=deadline_s
    )
    assert answer.confidence is not None
    assert answer.confidence.control is None
    assert hurried.clock.now_s - start <= deadline_s


def test_a_control_that_takes_longer_than_expected_is_left(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, BLUE, SAID, *THOUGHT)
    events = []
    for event in parts.pipeline.stream(IMAGE, QUESTION, confidence="control", deadline_s=60):
        events.append(event)
        if len(parts.perceiver.prompts) == 4:
            parts.clock.now_s += 60
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert answer.confidence is not None
    assert answer.text == "red"
    assert (answer.confidence.control, answer.confidence.control_usage) == (None, None)
    assert parts.pipeline.answer(IMAGE, QUESTION).text == "red"


def test_progress_is_told_but_no_text_is_told_twice(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, *THOUGHT, BLUE)
    *events, answer = parts.pipeline.stream(IMAGE, QUESTION, confidence="control")
    texts = [event.text for event in events if not isinstance(event, Progress)]
    assert "".join(texts) == "a ballIt is red.\n red"
    assert json.loads(json.dumps(answer.to_dict()))["confidence"]["stages"]["think"]["tokens"]  # type: ignore[union-attr]


@pytest.mark.parametrize("confidence", ["", "none", True, 1, ["control"]])
def test_other_words_are_refused(tmp_path: Path, confidence: Any) -> None:
    parts = Parts(tmp_path)
    with pytest.raises(OptionError, match="written, control"):
        parts.pipeline.answer(IMAGE, QUESTION, confidence=confidence)
