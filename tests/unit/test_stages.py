from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tiny.fakes import ScriptedContext, new_speaker, new_tokenizer

from edge_et.bundle import Sampling
from edge_et.prompt import TokenSegment
from edge_et.results import AnswerToken, ExtractionToken, ReasoningToken, Thought
from edge_et.stages import Budget, MarkerSplitter, extract, think
from edge_et.tokenizer import Tokenizer

MARKER = "Answer:"
PROMPT = (TokenSegment((5, 6, 7)),)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def collect(stage: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    events = []
    while True:
        try:
            events.append(next(stage))
        except StopIteration as stop:
            return events, stop.value


def text_of(events: list[Any], kind: type[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def run_think(
    tokenizer: Tokenizer, *texts: str, thinking: int = 50, answer: int = 50
) -> tuple[list[Any], Thought, ScriptedContext]:
    context = ScriptedContext(tokenizer, *texts)
    speaker = new_speaker(tokenizer, context)
    budget = Budget(thinking=thinking, answer=answer)
    events, thought = collect(think(speaker, PROMPT, MARKER, budget, Sampling()))
    assert text_of(events, ReasoningToken).strip() == thought.reasoning
    assert text_of(events, AnswerToken).strip() == thought.text
    return events, thought, context


def test_extraction_ends_at_a_stop_token(tokenizer: Tokenizer) -> None:
    context = ScriptedContext(tokenizer, " a red 日 ball\n<|im_end|>")
    events, extraction = collect(extract(new_speaker(tokenizer, context), PROMPT, 50, Sampling()))
    assert text_of(events, ExtractionToken) == " a red 日 ball\n"
    assert extraction.text == "a red 日 ball"
    assert list(extraction.tokens) == tokenizer.encode(" a red 日 ball\n")
    assert extraction.conversation == (*PROMPT, TokenSegment(extraction.tokens, generated=True))
    assert extraction.usage.generated_tokens == len(extraction.tokens)


def test_extraction_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    context = ScriptedContext(tokenizer, "what is on the table")
    _events, extraction = collect(extract(new_speaker(tokenizer, context), PROMPT, 3, Sampling()))
    assert len(extraction.tokens) == 3
    assert len(context.appended) == 2  # the last token is not evaluated in vain


def test_an_empty_extraction_leaves_the_conversation_as_it_was(tokenizer: Tokenizer) -> None:
    context = ScriptedContext(tokenizer, "<|im_end|>")
    events, extraction = collect(extract(new_speaker(tokenizer, context), PROMPT, 3, Sampling()))
    assert (events, extraction.text, extraction.conversation) == ([], "", PROMPT)


def test_an_unfinished_character_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    context = ScriptedContext(tokenizer, "日")
    events, extraction = collect(extract(new_speaker(tokenizer, context), PROMPT, 1, Sampling()))
    assert extraction.text == text_of(events, ExtractionToken) == "\N{REPLACEMENT CHARACTER}"


def test_the_marker_separates_reasoning_and_answer(tokenizer: Tokenizer) -> None:
    _, thought, context = run_think(
        tokenizer, "It is red.\nAnswer: no", " red, and Answer: twice<|im_end|>"
    )
    assert thought.reasoning == "It is red."
    assert thought.text == "red, and Answer: twice"
    assert len(context.prompts) == 2


def test_the_marker_is_put_in_when_the_budget_ends(tokenizer: Tokenizer) -> None:
    _, thought, context = run_think(tokenizer, "on and on and on", " red<|im_end|>", thinking=4)
    assert thought.text == "red"
    assert context.prompts[1].endswith(f"{thought.reasoning}\n{MARKER}")
    assert "on and on" not in thought.text


def test_the_marker_is_put_in_when_the_model_stops(tokenizer: Tokenizer) -> None:
    _, thought, context = run_think(tokenizer, "red\n<|im_end|>", "red<|im_end|>")
    assert (thought.reasoning, thought.text) == ("red", "red")
    assert context.prompts[1].endswith(f"red\n{MARKER}")


def test_without_thinking_the_marker_comes_at_once(tokenizer: Tokenizer) -> None:
    _, thought, context = run_think(tokenizer, "never read", " yes<|im_end|>", thinking=0)
    assert (thought.reasoning, thought.text) == ("", "yes")
    assert context.prompts[1] == context.prompts[0] + MARKER


def test_half_a_marker_at_the_end_is_reasoning(tokenizer: Tokenizer) -> None:
    _, thought, _ = run_think(tokenizer, "My Answ<|im_end|>", "x<|im_end|>")
    assert thought.reasoning == "My Answ"


def test_the_answer_ends_with_its_budget(tokenizer: Tokenizer) -> None:
    _, thought, _ = run_think(tokenizer, "Answer:", "what is on the table", answer=2)
    assert tokenizer.decode(thought.tokens[-2:]) == thought.text


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("text", ["a Answer: b", "AnsAnswer:", "Answer", "AAnswer:Answer:", ""])
def test_the_splitter_works_however_text_is_cut(text: str, size: int) -> None:
    splitter = MarkerSplitter(MARKER)
    before, rest, found = "", "", False
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        if found:
            rest += piece
            continue
        before += splitter.push(piece)
        if splitter.rest is not None:
            found, rest = True, splitter.rest
    if not found:
        before += splitter.finish("")
    assert (before, rest) == (text.partition(MARKER)[0], text.partition(MARKER)[2])
    assert found == (MARKER in text)
