from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.fakes import (
    FakeClock,
    ForcedKVCache,
    new_chat_model,
    new_tokenizer,
    text_of,
)

from edge_et.bundle import PicturesSpec, Sampling
from edge_et.generation import ChatModel, Deadline
from edge_et.image import ImageTokens
from edge_et.llm import ImageSegment, Segment, Tokenizer, TokenSegment
from edge_et.results import Extraction, ExtractionToken, PhaseUsage, PictureExtraction, Progress
from edge_et.stages import (
    extract_each,
    told_together,
)

SAID = ("a cat <|im_end|>", " two cups\n<|im_end|>", "a red ball<|im_end|>")
TOLD = "Picture 1: a cat\nPicture 2: two cups\nPicture 3: a red ball"
SPEC = PicturesSpec()
POSITION_S, TOKEN_S = 0.1, 1.0


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return new_tokenizer(tmp_path)


def prompt(digest: str, question: int = 7) -> tuple[Segment, ...]:
    image = ImageTokens(np.zeros((16, 32), np.float32), digest)
    return TokenSegment((5, 6)), ImageSegment(image), TokenSegment((question,) * 4)


PROMPTS = [prompt("a"), prompt("b"), prompt("c")]


class Read:
    """Stage 1 of some pictures, with a perceiver that says given things."""

    def __init__(self, tokenizer: Tokenizer, *texts: str, **options: Any) -> None:
        self.clock = FakeClock()
        self.cache = ForcedKVCache(
            tokenizer,
            *texts,
            batch=16,
            clock=self.clock,
            position_s=POSITION_S,
            token_s=TOKEN_S,
            **options,
        )
        self.model: ChatModel = new_chat_model(tokenizer, self.cache)

    def run(
        self,
        prompts: list[tuple[Segment, ...]] = PROMPTS,
        budget: int = 50,
        spec: PicturesSpec = SPEC,
        seconds: float | None = None,
    ) -> tuple[list[Any], Extraction]:
        deadline = Deadline(seconds, self.clock)
        stage = extract_each(
            self.model,
            prompts,
            budget,
            Sampling(),
            spec,
            deadline=deadline,
            seconds_left=deadline.seconds_left,
            should_stop=deadline.passed,
        )
        events: list[Any] = []
        while True:
            try:
                events.append(next(stage))
            except StopIteration as stop:
                return events, stop.value


def reasons(extraction: Extraction) -> list[str]:
    return [one.finish_reason for one in extraction.extractions]


def texts(extraction: Extraction) -> list[str]:
    return [one.text for one in extraction.extractions]


def test_every_picture_is_written_down_by_itself_and_told_by_its_number(
    tokenizer: Tokenizer,
) -> None:
    read = Read(tokenizer, *SAID)
    events, extraction = read.run()
    assert texts(extraction) == ["a cat", "two cups", "a red ball"]
    assert extraction.text == TOLD
    assert extraction.finish_reasons == {"extract": "stop"}
    assert extraction.conversation == ()
    assert read.cache.prompts == [read.cache.text_of(one) for one in PROMPTS]
    for number, said in enumerate(SAID):
        of_one = [e for e in events if getattr(e, "picture", None) == number]
        assert text_of(of_one, ExtractionToken) == said.removesuffix("<|im_end|>")
        assert any(isinstance(event, Progress) for event in of_one)
    assert list(extraction.tokens) == [
        token for said in SAID for token in tokenizer.encode(said.removesuffix("<|im_end|>"))
    ]


def test_usage_is_told_of_each_and_of_all(tokenizer: Tokenizer) -> None:
    _, extraction = Read(tokenizer, *SAID).run()
    usages = [one.usage for one in extraction.extractions]
    assert [usage.pictures for usage in usages] == [1, 1, 1]
    assert [usage.evaluated_tokens for usage in usages] == [22, 20, 20]
    assert [usage.reused_tokens for usage in usages] == [0, 2, 2]
    assert all(usage.seconds > 0 for usage in usages)
    assert extraction.usage == sum(usages, PhaseUsage())


def test_the_next_question_reads_no_image_again(tokenizer: Tokenizer) -> None:
    read = Read(tokenizer, *SAID * 2)
    read.run()
    _, extraction = read.run([prompt(digest, question=9) for digest in "abc"])
    for one in extraction.extractions:
        assert (one.usage.reused_tokens, one.usage.evaluated_tokens) == (18, 4)


def test_the_reason_of_all_is_the_first_that_is_no_stop(tokenizer: Tokenizer) -> None:
    long = "on the table and on "
    _, extraction = Read(tokenizer, SAID[0], long, long).run(budget=4)
    assert reasons(extraction) == ["stop", "length", "length"]
    assert extraction.finish_reasons == {"extract": "length"}


def test_a_bundle_may_tell_them_otherwise(tokenizer: Tokenizer) -> None:
    spec = PicturesSpec(item="[{number}] {extraction} ({number})", separator=" / ")
    _, extraction = Read(tokenizer, *SAID).run(spec=spec)
    assert extraction.text == "[1] a cat (1) / [2] two cups (2) / [3] a red ball (3)"


def test_places_in_what_was_written_are_text() -> None:
    written = [
        PictureExtraction(text="{number} {extraction}", finish_reason="stop", usage=PhaseUsage()),
        PictureExtraction(text="", finish_reason="stop", usage=PhaseUsage()),
        PictureExtraction(text="", finish_reason="deadline", usage=PhaseUsage()),
        PictureExtraction(text="a", finish_reason="deadline", usage=PhaseUsage()),
    ]
    assert told_together(PicturesSpec(), written).splitlines() == [
        "Picture 1: {number} {extraction}",
        "Picture 2: ",
        "Picture 3: not looked at, there was no time.",
        "Picture 4: a",
    ]


def written(tokenizer: Tokenizer, seconds: float) -> list[int]:
    """Return how many tokens are written of each of three pictures in so many seconds."""
    read = Read(tokenizer, *SAID, *("on the table and on the table beside it ",) * 3, endless=True)
    for number in range(3):
        read.run([PROMPTS[number]], budget=2)  # so the pace is known, and the images are read
    start = read.clock.now_s
    prompts = [prompt(digest, question=9) for digest in "abc"]
    _, extraction = read.run(prompts, budget=80, seconds=seconds)
    assert read.clock.now_s - start <= seconds + TOKEN_S + 16 * POSITION_S
    return [one.usage.generated_tokens for one in extraction.extractions]


def test_time_is_kept_for_the_pictures_behind(tokenizer: Tokenizer) -> None:
    assert all(16 <= count <= 20 for count in written(tokenizer, 52.0))
    first, *others = written(tokenizer, 70.0)
    assert first >= 30  # what the others do not need for a short sentence
    assert all(count >= 16 for count in others)


def test_where_time_is_short_the_first_pictures_are_looked_at(tokenizer: Tokenizer) -> None:
    first, second, third = written(tokenizer, 25.0)
    assert first >= 16
    assert 5 <= second <= 10
    assert third == 0


def test_a_picture_without_time_is_told_as_such(tokenizer: Tokenizer) -> None:
    read = Read(tokenizer, *SAID)
    events, extraction = read.run(seconds=0.0)
    assert texts(extraction) == ["", "", ""]
    assert reasons(extraction) == ["deadline"] * 3
    assert text_of(events, ExtractionToken) == ""
    assert extraction.text.count("not looked at") == 3
    assert read.cache.cached == []
