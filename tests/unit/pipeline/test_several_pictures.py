"""Questions about several pictures, through fakes: prompts, budgets, limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import HINT, HINTED, change_bundle

from edge_et.bundle import PicturesSpec
from edge_et.errors import (
    ImageDecodeError,
    ImageInputError,
    ImagesTooLargeError,
    PromptTooLongError,
    TooManyImagesError,
)
from edge_et.image import ImageLimits
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, ExtractionToken

IMAGES = [np.full((9, 9, 3), value, np.uint8) for value in (20, 120, 220)]
SAID = ("a cat<|im_end|>", "two cups<|im_end|>", "a ball<|im_end|>")
TOLD = "Picture 1: a cat\nPicture 2: two cups\nPicture 3: a ball"
THOUGHT = ("It is there.\nAnswer:", " the second<|im_end|>")
FRAME = "Describe what the picture shows. Pay attention to: "
QUESTION = "Which one?"


class Parts:
    """A pipeline over fakes, with the fakes at hand."""

    def __init__(
        self,
        folder: Path,
        perceiver: tuple[str, ...] = (),
        reasoner: tuple[str, ...] = (),
        hint_model: tuple[str, ...] = (),
        context_length: int = 2000,
        options: dict[str, Any] | None = None,
        **changes: dict[str, Any],
    ) -> None:
        """Write a manifest, for two models if the reasoner says something, and its fakes."""
        build_bundle(folder, two_models=bool(reasoner))
        manifest = change_bundle(folder, **changes)
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.perceiver, self.reasoner, self.hint_model = (
            ForcedKVCache(self.tokenizer, *texts, context_length=context_length)
            for texts in (perceiver, reasoner, hint_model)
        )
        self.tower = FakeTower()
        models = Models(
            perceiver=new_chat_model(self.tokenizer, self.perceiver),
            reasoner=new_chat_model(self.tokenizer, self.reasoner) if reasoner else None,
            hint_model=new_chat_model(self.tokenizer, self.hint_model) if hint_model else None,
        )
        self.pipeline = ExtractThink(
            manifest, tower=self.tower, contexts=[models], **(options or {})
        )


def untimed(answer: Answer) -> dict[str, Any]:
    """What an answer says, without the time it took."""
    document = answer.to_dict()
    for usage in document["usage"].values():
        del usage["seconds"]
    for extraction in document["extractions"]:
        del extraction["usage"]["seconds"]
    return document


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_of_one_is_that_picture(tmp_path: Path, container: Any) -> None:
    texts = (SAID[0], *THOUGHT)
    alone, listed = (Parts(tmp_path, texts) for _ in range(2))
    expected = alone.pipeline.answer(IMAGES[0], QUESTION)
    found = listed.pipeline.answer(container(IMAGES[:1]), QUESTION)
    assert untimed(found) == untimed(expected)
    assert listed.perceiver.prompts == alone.perceiver.prompts
    assert listed.perceiver.copies == []
    (extraction,) = found.extractions
    assert (extraction.text, extraction.finish_reason) == ("a cat", "stop")
    assert extraction.usage == found.usage["extract"]
    assert found.extraction == "a cat"
    assert {found.usage[phase].pictures for phase in ("image", "vision", "extract")} == {1}


def test_a_reasoner_of_its_own_reads_numbered_extractions(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT)
    answer = parts.pipeline.answer(IMAGES, QUESTION)
    assert (answer.text, answer.extraction) == ("the second", TOLD)
    assert [one.text for one in answer.extractions] == ["a cat", "two cups", "a ball"]
    assert parts.reasoner.prompts[0].count(f"Description: {TOLD}\n{QUESTION}") == 1
    for prompt in parts.perceiver.prompts:
        assert prompt.count("[image]") == 1
        assert FRAME + QUESTION in prompt
    assert (parts.tower.runs, answer.usage["vision"].pictures) == (3, 3)


def test_one_model_is_told_them_in_a_conversation_without_pictures(tmp_path: Path) -> None:
    parts = Parts(tmp_path, (*SAID, *THOUGHT))
    answer = parts.pipeline.answer(IMAGES, QUESTION)
    *alone, told, _ = parts.perceiver.prompts
    assert [prompt.count("[image]") for prompt in alone] == [1, 1, 1]
    assert "[image]" not in told
    assert told.index(FRAME + QUESTION) < told.index(TOLD) < told.rindex(QUESTION)
    assert answer.text == "the second"


def test_an_extraction_has_the_prompt_that_it_has_alone(tmp_path: Path) -> None:
    together = Parts(tmp_path, SAID, THOUGHT)
    together.pipeline.answer(IMAGES, QUESTION)
    for number, image in enumerate(IMAGES):
        alone = Parts(tmp_path, SAID[number : number + 1], THOUGHT)
        alone.pipeline.answer(image, QUESTION)
        assert alone.perceiver.prompts == together.perceiver.prompts[number : number + 1]


def test_pictures_may_share_a_prompt(tmp_path: Path) -> None:
    changes = {"pictures": "together", "between_pictures": "<|im_end|> and "}
    parts = Parts(tmp_path, SAID[:1], THOUGHT, extract=changes)
    answer = parts.pipeline.answer(IMAGES, QUESTION)
    (prompt,) = parts.perceiver.prompts
    row = "<|im_end|> and ".join(["[image]"] * 3)
    assert row + FRAME in prompt
    (extraction,) = answer.extractions
    assert (extraction.text, answer.extraction) == ("a cat", "a cat")
    assert answer.usage["extract"].pictures == extraction.usage.pictures == 3
    assert parts.perceiver.copies == []


def test_the_hint_is_asked_for_once(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path, SAID, THOUGHT, ("cups<|im_end|>",), extract={"prompt": HINTED, "hint": HINT}
    )
    answer = parts.pipeline.answer(IMAGES, QUESTION)
    assert answer.hint == "cups"
    assert all("cups" in prompt for prompt in parts.perceiver.prompts)
    assert len(parts.hint_model.prompts) == 1


def test_a_bundle_says_how_they_are_told(tmp_path: Path) -> None:
    spec = PicturesSpec(item="<{number}>{extraction}<|im_end|>", separator="")
    parts = Parts(tmp_path, SAID, THOUGHT, think={"pictures": spec})
    answer = parts.pipeline.answer(IMAGES, QUESTION)
    assert answer.extraction == "<1>a cat<|im_end|><2>two cups<|im_end|><3>a ball<|im_end|>"
    end = parts.tokenizer.special_id("<|im_end|>")
    assert parts.reasoner.cached.count(end) == 1  # that of the user's turn


def test_a_stream_tells_the_picture_of_its_events(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID, THOUGHT)
    *events, answer = parts.pipeline.stream(IMAGES, QUESTION)
    assert isinstance(answer, Answer)
    written = ["", "", ""]
    for event in events:
        if isinstance(event, ExtractionToken):
            written[event.picture] += event.text
    assert written == ["a cat", "two cups", "a ball"]
    encoded = [e.picture for e in events if getattr(e, "stage", None) == "vision"]
    assert encoded == [0, 1, 2]


def test_a_session_keeps_all_of_them(tmp_path: Path) -> None:
    parts = Parts(tmp_path, SAID * 2, THOUGHT * 2, options={"image_cache_bytes": 0})
    session = parts.pipeline.session(IMAGES)
    assert len(session.images) == len({image.digest for image in session.images}) == 3
    assert session.image is session.images[0]
    for _ in range(2):
        assert session.answer(QUESTION).extraction == TOLD
    assert parts.tower.runs == 3


def test_stage_1_alone_gives_what_stage_2_takes(tmp_path: Path) -> None:
    expected = Parts(tmp_path, (*SAID, *THOUGHT))
    expected.pipeline.answer(IMAGES, QUESTION)
    parts = Parts(tmp_path, (*SAID, *THOUGHT))
    extraction = parts.pipeline.extract(IMAGES, QUESTION)
    assert extraction.text == TOLD
    assert len(extraction.extractions) == 3
    assert parts.pipeline.think(QUESTION, extraction).answer == "the second"
    assert parts.perceiver.prompts == expected.perceiver.prompts


def test_limits_are_told_before_anything_is_opened(tmp_path: Path) -> None:
    parts = Parts(tmp_path, options={"image_limits": ImageLimits(images=2, size_bytes=5000)})
    large = np.zeros((30, 30, 3), np.uint8)
    for call in (
        parts.pipeline.answer,
        parts.pipeline.stream,
        parts.pipeline.extract,
        lambda images, _: parts.pipeline.session(images),
    ):
        with pytest.raises(TooManyImagesError, match="there are 3 pictures, the limit is 2"):
            call(["none.png"] * 3, QUESTION)
        with pytest.raises(ImagesTooLargeError):
            call([large, large], QUESTION)
    assert (
        len(parts.pipeline.session([np.zeros((60, 60, 3), np.uint8)]).images) == 1
    )  # bytes are counted of several


def test_errors_tell_which_picture_they_are_about(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    for call in (parts.pipeline.answer, lambda images, _: parts.pipeline.session(images)):
        with pytest.raises(ImageDecodeError, match=r"^picture 2 of 2: ") as caught:
            call([IMAGES[0], b"no picture"], QUESTION)
        assert caught.value.picture == 1
        with pytest.raises(ImageDecodeError, match=r"^cannot decode"):
            call([b"no picture"], QUESTION)


def test_where_one_picture_is_meant_a_list_is_refused(tmp_path: Path) -> None:
    pipeline = Parts(tmp_path).pipeline
    for call in (
        pipeline.encode_image,
        pipeline.image_cost,
        lambda image: pipeline.answer_directly(image, QUESTION),
    ):
        with pytest.raises(ImageInputError, match="a list is not an accepted image: give one"):
            call(IMAGES)


def budgets(answer: Answer) -> list[int]:
    return [one.usage.generated_tokens for one in answer.extractions]


LONG = "on the table and beside it a red ball and a blue cube and a green cone and " * 2


@pytest.mark.parametrize("pair", [False, True])
def test_the_bundles_budget_is_lowered_so_that_all_fit(tmp_path: Path, pair: bool) -> None:
    def parts(context_length: int) -> Parts:
        texts = ((LONG,) * 3, THOUGHT) if pair else ((LONG,) * 3 + THOUGHT,)
        budget = {"max_extraction_tokens": 50}
        return Parts(tmp_path, *texts, context_length=context_length, extract=budget)

    roomy = parts(2000)
    assert budgets(roomy.pipeline.answer(IMAGES, QUESTION)) == [50, 50, 50]
    with pytest.raises(PromptTooLongError) as caught:
        parts(130).pipeline.answer(IMAGES, QUESTION)
    needed = caught.value.tokens
    tight = parts(needed - 3 * 10)
    answer = tight.pipeline.answer(IMAGES, QUESTION)
    assert budgets(answer) == [40, 40, 40]
    assert answer.finish_reasons["extract"] == "length"
    cache = tight.reasoner if pair else tight.perceiver
    assert len(cache.cached) <= cache.context_length
    too_tight = parts(needed - 3 * 19)
    with pytest.raises(PromptTooLongError, match="give at most 2 of the 3 pictures"):
        too_tight.pipeline.answer(IMAGES, QUESTION)
    assert too_tight.tower.runs == 0
    with pytest.raises(PromptTooLongError, match="lower the token budgets"):
        parts(needed - 1).pipeline.answer(IMAGES, QUESTION, max_extraction_tokens=50)


def test_pictures_that_share_a_prompt_have_to_fit_together(tmp_path: Path) -> None:
    parts = Parts(
        tmp_path, (SAID[0],), THOUGHT, context_length=90, extract={"pictures": "together"}
    )
    with pytest.raises(PromptTooLongError, match="give at most 2 of the 3 pictures"):
        parts.pipeline.answer(IMAGES, QUESTION)
    assert parts.tower.runs == 0
