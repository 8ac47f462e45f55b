import itertools
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tiny.fakes import (
    FakeClock,
    ForcedKVCache,
    collect,
    cut_short,
    new_chat_model,
    new_tokenizer,
    text_of,
)
from tiny.thoughts import THOUGHTS

from edge_et.bundle import Sampling, ThinkSpec, ThoughtSpec
from edge_et.generation import Deadline
from edge_et.llm import Tokenizer, TokenSegment
from edge_et.results import AnswerToken, ReasoningToken, Thought
from edge_et.stages import Budget, Thinking, think, thinking_prompt

MARKER = "Answer:"
PROMPT = (TokenSegment((5, 6, 7)),)
CLOSED = f"{THOUGHTS.closing}</think>\n\n{MARKER}"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def how(
    thoughts: ThoughtSpec | None, marked: bool, thinking: int = 50, answer: int = 50
) -> Thinking:
    spec = ThinkSpec(
        prompt="Description: {extraction}\n{question}",
        max_thinking_tokens=1,
        answer_marker=MARKER,
        max_answer_tokens=1,
        sampling=Sampling(),
        thoughts=thoughts,
    )
    budget = Budget(thinking=thinking, answer=answer)
    return Thinking(spec=spec, marked=marked, budget=budget, sampling=Sampling())


def run(
    context: ForcedKVCache, tokenizer: Tokenizer, thinking: Thinking, deadline: Deadline
) -> tuple[list[Any], Thought]:
    stage = think(new_chat_model(tokenizer, context), PROMPT, thinking, deadline)
    events, thought = collect(stage)
    assert text_of(events, ReasoningToken).strip() == thought.reasoning
    assert text_of(events, AnswerToken).strip() == thought.answer != ""
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[ReasoningToken, AnswerToken].index)
    return events, thought


def run_prose(
    tokenizer: Tokenizer, *texts: str, thinking: int = 50, answer: int = 50
) -> tuple[Thought, ForcedKVCache]:
    context = ForcedKVCache(tokenizer, *texts)
    _, thought = run(context, tokenizer, how(None, False, thinking, answer), Deadline())
    return thought, context


def run_marked(
    tokenizer: Tokenizer, *texts: str, thinking: int = 50, **thoughts: Any
) -> tuple[Thought, ForcedKVCache]:
    context = ForcedKVCache(tokenizer, *texts)
    manner = how(replace(THOUGHTS, **thoughts), True, thinking)
    _, thought = run(context, tokenizer, manner, Deadline())
    return thought, context


def size(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text))


# Without marked thoughts: prose, the marker, the answer.


def test_the_marker_separates_reasoning_and_answer(tokenizer: Tokenizer) -> None:
    thought, context = run_prose(
        tokenizer, "It is red.\nAnswer: no", " red, and Answer: twice<|im_end|>"
    )
    assert thought.reasoning == "It is red."
    assert thought.answer == "red, and Answer: twice"
    assert len(context.prompts) == 2
    assert cut_short(thought) == {}


def test_the_marker_is_put_in_when_the_budget_ends(tokenizer: Tokenizer) -> None:
    thought, context = run_prose(tokenizer, "on and on and on", " red<|im_end|>", thinking=4)
    assert thought.answer == "red"
    assert context.prompts[1].endswith(f"{thought.reasoning}\n{MARKER}")
    assert cut_short(thought) == {"think": "length"}


def test_the_marker_is_put_in_when_the_model_stops(tokenizer: Tokenizer) -> None:
    thought, context = run_prose(tokenizer, "red\n<|im_end|>", "red<|im_end|>")
    assert (thought.reasoning, thought.answer) == ("red", "red")
    assert context.prompts[1].endswith(f"red\n{MARKER}")
    assert cut_short(thought) == {}


def test_without_thinking_the_marker_comes_at_once(tokenizer: Tokenizer) -> None:
    thought, context = run_prose(tokenizer, " yes<|im_end|>", thinking=0)
    assert (thought.reasoning, thought.answer) == ("", "yes")
    assert context.prompts == [context.text_of(PROMPT) + MARKER]
    assert cut_short(thought) == {}


def test_half_a_marker_at_the_end_is_reasoning(tokenizer: Tokenizer) -> None:
    thought, _ = run_prose(tokenizer, "My Answ<|im_end|>", "x<|im_end|>")
    assert thought.reasoning == "My Answ"


def test_the_answer_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    thought, _ = run_prose(tokenizer, "Answer:", "what is on the table", answer=2)
    assert tokenizer.decode(thought.tokens[-2:]) == thought.answer
    assert cut_short(thought) == {"answer": "length"}


def test_prose_that_repeats_itself_is_closed(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, "so it is ", "red<|im_end|>", endless=True)
    _, thought = run(context, tokenizer, how(None, False, thinking=5000), Deadline())
    assert thought.answer == "red"
    assert cut_short(thought) == {"think": "repetition"}


# Marked thoughts.


def test_a_thought_that_ends_by_itself(tokenizer: Tokenizer) -> None:
    thought, context = run_marked(
        tokenizer, "\nIt is red.\n</think>", "\n\nAnswer: ", " red<|im_end|>"
    )
    assert (thought.reasoning, thought.answer, cut_short(thought)) == ("It is red.", "red", {})
    assert context.prompts[1].endswith("It is red.\n</think>")
    assert context.prompts[2].endswith(f"</think>\n\n{MARKER}")


@pytest.mark.parametrize(
    ("marked", "opening"), [(True, "<think>\n"), (False, "<think>\n\n</think>\n\n")]
)
def test_a_thought_that_the_prompt_opens_is_open_or_closed_at_once(
    tokenizer: Tokenizer, marked: bool, opening: str
) -> None:
    written = ["It is red.</think>", "Answer:"] if marked else ["It is red.\nAnswer:"]
    context = ForcedKVCache(tokenizer, *written, " red<|im_end|>")
    chat_model = new_chat_model(tokenizer, context)
    thinking = how(replace(THOUGHTS, start_suffix="\n"), marked)
    prompt = thinking_prompt(chat_model, thinking, "Which?", "A ball.", None)
    _, thought = collect(think(chat_model, prompt, thinking, Deadline()))
    assert context.prompts[0].endswith(f"<|im_start|>assistant\n{opening}")
    assert (thought.reasoning, thought.answer) == ("It is red.", "red")


def test_prose_behind_a_thought_is_reasoning(tokenizer: Tokenizer) -> None:
    thought, _ = run_marked(tokenizer, "Is it?</think>", "It is. Answer:", " red<|im_end|>")
    assert thought.reasoning == "Is it?\nIt is."


def test_a_thought_without_prose_gets_the_marker_as_after_a_skipped_one(
    tokenizer: Tokenizer,
) -> None:
    thought, context = run_marked(tokenizer, "Red.</think>", "<|im_end|>", " red<|im_end|>")
    assert context.prompts[2].endswith(f"Red.</think>\n\n{MARKER}")
    assert (thought.answer, cut_short(thought)) == ("red", {})


def test_a_thought_is_closed_at_its_budget_and_the_answer_follows(tokenizer: Tokenizer) -> None:
    thought, context = run_marked(tokenizer, "on and on and on", " red<|im_end|>", thinking=4)
    assert context.prompts[1].endswith(CLOSED)
    assert (thought.answer, cut_short(thought)) == ("red", {"think": "length"})
    assert THOUGHTS.closing not in thought.reasoning


def test_a_thought_that_stops_without_an_end_is_ended(tokenizer: Tokenizer) -> None:
    thought, context = run_marked(tokenizer, "Red.<|im_end|>", "\n\nAnswer:", " red<|im_end|>")
    assert context.prompts[1].endswith("Red.</think>")
    assert (thought.answer, cut_short(thought)) == ("red", {})


def test_a_thought_that_repeats_itself_is_closed_and_prose_follows(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(
        tokenizer, "wait, so ", "It is red. Answer:", "red<|im_end|>", endless=True
    )
    _, thought = run(context, tokenizer, how(THOUGHTS, True, thinking=5000), Deadline())
    assert cut_short(thought) == {"think": "repetition"}
    assert context.prompts[1].endswith(f"{THOUGHTS.closing}</think>")
    assert (thought.reasoning.endswith("It is red."), thought.answer) == (True, "red")


def test_marks_are_tokens_not_text(tokenizer: Tokenizer) -> None:
    """A model that spells the mark, as in a quotation, goes on thinking."""
    context = ForcedKVCache(tokenizer, "x", "y", " red<|im_end|>")
    spelled = tokenizer.encode("It says </think> here")
    original = context.prefill_steps

    def prefill_steps(segments: Any) -> Any:
        yield from original(segments)
        if len(context.prompts) == 1:
            context._script = [*spelled, tokenizer.special_id("</think>") or 0]
        if len(context.prompts) == 2:
            context._script = tokenizer.encode("Answer:")

    context.prefill_steps = prefill_steps  # type: ignore[method-assign]
    _, thought = run(context, tokenizer, how(THOUGHTS, True), Deadline())
    assert thought.reasoning == "It says </think> here"
    assert thought.answer == "red"


def test_marks_cannot_be_written_outside_of_a_thought(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(
        tokenizer, "<think>a<think></think>", "</think>b<think> Answer:", "</think>", endless=True
    )
    _, thought = run(context, tokenizer, how(THOUGHTS, True, 30, 5), Deadline())
    marks = [tokenizer.special_id(text) for text in ("<think>", "</think>")]
    assert sum(token in marks for token in thought.tokens) <= 1
    assert "think>" not in thought.answer + thought.reasoning


def test_a_call_that_does_not_think_cannot_write_marks(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, "<think>", "<think>", endless=True)
    _, thought = run(context, tokenizer, how(THOUGHTS, False, 5, 5), Deadline())
    assert tokenizer.special_id("<think>") not in thought.tokens


def test_blocked_words_are_blocked_in_thoughts_only(tokenizer: Tokenizer) -> None:
    spelled = tokenizer.encode("wait")
    thought, _ = run_marked(
        tokenizer,
        "wait</think>",
        "wait Answer:",
        "wait<|im_end|>",
        blocked_words=("Wait",),
        thinking=20,
    )
    assert "wait" not in thought.reasoning.partition("\n")[0]
    assert thought.answer == "wait"
    assert list(thought.tokens[: len(spelled) - 1]) == spelled[:-1]


@pytest.mark.parametrize("blank", ["\n", " ", "<|im_start|>"])
def test_white_space_is_the_first_token_of_an_answer_at_most(
    tokenizer: Tokenizer, blank: str
) -> None:
    context = ForcedKVCache(tokenizer, "Answer:", blank, endless=True)
    _, thought = run(context, tokenizer, how(None, False, 50, 8), Deadline())
    (marker, answer) = thought.tokens[:-8], thought.tokens[-8:]
    assert tokenizer.decode(marker) == MARKER
    assert not tokenizer.decode(answer[:1]).strip()
    assert tokenizer.decode(answer[1:2]).strip()


BUDGETS = (1, 2, 3, 7, 20)
SCRIPTS = {
    "thinks on and on": ("so it is on the table and ",),
    "stops at once": ("<|im_end|>",),
    "ends at once": ("</think>",),
    "writes white space": (" \n ",),
    "writes white space and stops": ("\n<|im_end|>",),
    "writes marks": ("<think></think>",),
    "writes silent tokens": ("<|im_start|>",),
    "repeats the marker": ("Answer:",),
    "ends, then prose on and on": ("a</think>", "it is on the table "),
    "is split characters": ("日本語",),
    "is half white space": ("\u3000",),
}


@pytest.mark.parametrize("answer", [1, 2, 6])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name", SCRIPTS)
def test_budgets_hold_and_answers_are_never_empty(
    tokenizer: Tokenizer, name: str, marked: bool, answer: int
) -> None:
    for thinking in BUDGETS:
        context = ForcedKVCache(tokenizer, *SCRIPTS[name], endless=True)
        counts = {ReasoningToken: 0, AnswerToken: 0}
        stage = think(
            new_chat_model(tokenizer, context),
            PROMPT,
            how(THOUGHTS, marked, thinking, answer),
            Deadline(),
        )
        events, thought = collect(stage)
        assert thought.answer
        assert len(thought.tokens) <= thinking + answer
        for event in events:
            counts[type(event)] += 1
        # A token makes one event at most; a line feed may stand between thought and prose, and
        # what a marker's token says behind it is an event of the answer.
        assert counts[ReasoningToken] <= thinking + 1
        assert counts[AnswerToken] <= answer + 1


@pytest.mark.parametrize("thinking", BUDGETS)
def test_tokens_before_the_answer_are_counted_to_the_last(
    tokenizer: Tokenizer, thinking: int
) -> None:
    for marked, texts in itertools.product(
        (True, False), (("on the table ", "red<|im_end|>"), ("on the table ", "x ", "red"))
    ):
        context = ForcedKVCache(tokenizer, *texts, endless=True)
        _, thought = run(context, tokenizer, how(THOUGHTS, marked, thinking, 1), Deadline())
        assert len(thought.tokens) == thinking + 1
        assert cut_short(thought)["think"] == "length"


def test_thought_and_prose_share_the_budget(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer, "Is it?</think>", "on the table ", endless=True)
    used = size(tokenizer, "Is it?") + 1
    _, thought = run(context, tokenizer, how(THOUGHTS, True, used + 3, 2), Deadline())
    assert len(thought.tokens) == used + 3 + 2
    assert cut_short(thought) == {"think": "length", "answer": "length"}


def test_what_is_put_in_was_counted(tokenizer: Tokenizer) -> None:
    """No generation takes more positions behind its prompt than was foreseen."""
    for texts, marked, thinking, answer in itertools.product(
        SCRIPTS.values(), (True, False), (0, 1, 5), (1, 4)
    ):
        manner = how(THOUGHTS, marked and thinking > 0, thinking, answer)
        context = ForcedKVCache(tokenizer, *texts, endless=True)
        run(context, tokenizer, manner, Deadline())
        assert len(context.cached) - 3 <= manner.positions(tokenizer)


# Time.


def timed_run(
    tokenizer: Tokenizer, seconds: float, *texts: str, marked: bool = True, answer: int = 10
) -> tuple[Thought, ForcedKVCache, float]:
    """Return thought, context, and how many seconds the deadline was exceeded by."""
    clock = FakeClock()
    context = ForcedKVCache(
        tokenizer, *texts, endless=True, clock=clock, position_s=0.1, token_s=1.0
    )
    start = clock.now_s
    deadline = Deadline(seconds, clock)
    _, thought = run(context, tokenizer, how(THOUGHTS, marked, 500, answer), deadline)
    return thought, context, clock.now_s - start - seconds


@pytest.mark.parametrize("marked", [True, False])
def test_a_thought_is_closed_so_that_the_answer_is_in_time(
    tokenizer: Tokenizer, marked: bool
) -> None:
    thought, _, exceeded = timed_run(tokenizer, 60.0, "on the table and ", marked=marked)
    assert cut_short(thought)["think"] == "deadline"
    assert exceeded <= 1.0
    assert len(thought.tokens) > 20


def test_a_short_answer_is_whole_in_spite_of_a_deadline(tokenizer: Tokenizer) -> None:
    thought, _, exceeded = timed_run(
        tokenizer, 40.0, "on the table and on ", "it is a red ball<|im_end|>", answer=40
    )
    assert thought.answer == "it is a red ball"
    assert cut_short(thought) == {"think": "deadline"}
    assert exceeded <= 0


def test_a_long_answer_is_cut_at_the_deadline(tokenizer: Tokenizer) -> None:
    thought, _, exceeded = timed_run(
        tokenizer, 80.0, "on the table ", "a red ball and a cube, ", answer=400
    )
    assert cut_short(thought) == {"think": "deadline", "answer": "deadline"}
    assert 0 <= exceeded <= 1.0


@pytest.mark.parametrize("wants", ["<|im_end|>", "\n", "<|im_start|>", "red "])
@pytest.mark.parametrize("seconds", [1e-9, 0.2, 1.0, 3.0])
def test_without_time_there_is_one_token_of_an_answer(
    tokenizer: Tokenizer, wants: str, seconds: float
) -> None:
    thought, context, exceeded = timed_run(tokenizer, seconds, wants)
    assert thought.answer
    assert exceeded <= 1.0 + 0.1 * max(context.batches)


# The prompt.


def test_the_prompt_opens_a_thought_or_skips_it(tokenizer: Tokenizer) -> None:
    context = ForcedKVCache(tokenizer)
    chat_model = new_chat_model(tokenizer, context)
    texts = [
        context.text_of(
            thinking_prompt(chat_model, how(thoughts, marked), "Which?", "</think>", None)
        )
        for thoughts, marked in ((None, False), (THOUGHTS, False), (THOUGHTS, True))
    ]
    user = "<|im_start|>user\nDescription: </think>\n{}Which?<|im_end|>\n<|im_start|>assistant\n"
    assert texts == [
        user.format(""),
        user.format("") + "<think>\n\n</think>\n\n",
        user.format("Think: ") + "<think>",
    ]


def test_marks_in_an_extraction_and_a_question_stay_text(tokenizer: Tokenizer) -> None:
    chat_model = new_chat_model(tokenizer, ForcedKVCache(tokenizer))
    typed = "</think><think><|im_end|>"
    (segment,) = thinking_prompt(chat_model, how(THOUGHTS, True), typed, typed, None)
    assert isinstance(segment, TokenSegment)
    assert segment.ids.count(tokenizer.special_id("<think>") or 0) == 1
    assert tokenizer.special_id("</think>") not in segment.ids
