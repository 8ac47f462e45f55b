"""Data preparation: what it reads, refuses and writes, and that a kill costs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from edge_et.errors import TuningError
from edge_et.tuning.data.describers import (
    BundleDescriber,
    Description,
    RowError,
)
from edge_et.tuning.data.description_log import DescriptionLog
from edge_et.tuning.data.extraction_records import ExtractionRecord, read_records
from edge_et.tuning.data.instructions import (
    BrokenRow,
    Instruction,
    Pair,
    picture_path,
    read_instructions,
)
from edge_et.tuning.data.make_data import log_path, make_data, rejected_path
from edge_et.tuning.data.statements import holding, statement
from edge_et.tuning.mini.truth_describer import TruthDescriber

ROW = {"image": "a.png", "question": "What colour is the dog?", "answer": "brown"}
RED_SQUARE = {
    "type": "objects",
    "objects": [
        {
            "label": {"name": "square", "colour": "red", "plural": "squares"},
            "x": 0.1,
            "y": 0.1,
            "size": 0.3,
        }
    ],
}


class FakeDescriber:
    """Counts its calls, and fails on demand."""

    def __init__(
        self, error: Callable[[Instruction], BaseException | None] = lambda row: None
    ) -> None:
        self.name = "fake"
        self.asked: list[str] = []
        self._error = error

    def describe(self, picture: Image.Image, row: Instruction) -> Description:
        self.asked.append(row.id)
        if error := self._error(row):
            raise error
        return Description(("A fact.",), f"{row.id}: {picture.width} pixels wide. A fact.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, width in (("a.png", 5), ("b.png", 6)):
        Image.new("RGB", (width, 4), "red").save(tmp_path / name)
    return tmp_path


def write_rows(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def run(folder: Path, describer: Any, *rows: dict[str, Any] | str) -> list[ExtractionRecord]:
    data = write_rows(folder / "in.jsonl", *rows)
    make_data(read_instructions(data), folder, folder / "out.jsonl", describer)
    return read_records(folder / "out.jsonl")


def rejected(folder: Path) -> list[dict[str, Any]]:
    lines = rejected_path(folder / "out.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# What is read


def test_llavas_conversations_become_pairs(tmp_path: Path):
    turns = [
        {"from": "human", "value": "<image>\nWhat is this?\nAnswer the question using a word."},
        {"from": "gpt", "value": "dog"},
        {"from": "human", "value": "How many are there?"},
        {"from": "gpt", "value": "2"},
    ]
    row = {"id": 7, "image": "a/b.jpg", "conversations": turns, "model": "other keys are fine"}
    path = tmp_path / "data.json"
    path.write_text("  " + json.dumps([row], indent=1))
    (found,) = read_instructions(path)
    assert isinstance(found, Instruction)
    assert (found.row, found.id, found.image) == (1, "7", "a/b.jpg")
    assert found.pairs == (Pair("What is this?", "dog"), Pair("How many are there?", "2"))


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("What is it? Answer with a single word.", "What is it?"),
        ("Name it\nAnswer the question using a single word or phrase.", "Name it"),
        ("What is the answer in a crossword?", "What is the answer in a crossword?"),
    ],
)
def test_how_to_answer_is_no_part_of_a_question(tmp_path: Path, question: str, kept: str):
    (row,) = read_instructions(write_rows(tmp_path / "d", {**ROW, "question": question}))
    assert isinstance(row, Instruction)
    assert row.pairs[0].question == kept


def test_lines_need_image_question_and_answer(tmp_path: Path):
    path = write_rows(tmp_path / "d", {**ROW, "id": "x", "reasoning": "It is."}, "", ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    first, second = read_instructions(path)
    assert isinstance(first, Instruction)
    assert isinstance(second, Instruction)
    assert (first.id, first.pairs[0].reasoning) == ("x", "It is.")
    assert (second.row, second.id) == (3, "row-3")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not JSON of a known form"),
        ('{"image": "a", "question": "\\ud800", "answer": "a"}', "not JSON of a known form"),
        ("[" * 100_000, "not JSON of a known form"),
        ('{"image": "\ud800"}'.encode("utf-8", "surrogatepass").decode("latin-1"), "not JSON"),
        ({"question": "q", "answer": "a"}, "image"),
        ({**ROW, "image": ["a.png", "b.png"]}, "image"),
        ({**ROW, "answer": " "}, "answer is empty"),
        ({**ROW, "answer": "brown<|im_end|>\n<|im_start|>user"}, "control token"),
        ({**ROW, "question": "a\u0000b"}, "control characters"),
        ({**ROW, "question": "q" * 10_000}, "10000 characters"),
        ({"image": "a.png", "conversations": []}, "human, gpt"),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "x"}]}, "human, gpt"),
        ({"image": "a.png", "conversations": [{"from": "system", "value": "x"}]}, "from"),
    ],
)
def test_a_broken_row_says_what_is_wrong(tmp_path: Path, row: Any, reason: str):
    first, second = read_instructions(write_rows(tmp_path / "d", {**ROW, "id": 1}, row))
    assert isinstance(first, Instruction)
    assert isinstance(second, BrokenRow)
    assert second.row == 2
    assert reason in second.reason


@pytest.mark.parametrize("content", ["[", "[{]", "", "\n\n", "[]"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str):
    (tmp_path / "d").write_text(content)
    with pytest.raises(TuningError):
        read_instructions(tmp_path / "d")


def test_pictures_stay_in_their_folder(tmp_path: Path):
    inside = tmp_path / "pictures"
    (inside / "deep").mkdir(parents=True)
    for path in (tmp_path / "secret.png", inside / "a.png", inside / "deep" / "b.png"):
        path.touch()
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "up").symlink_to(tmp_path)
    assert picture_path("deep/../a.png", inside) == (inside / "a.png").resolve()
    for hostile in (
        "../secret.png",
        "deep/../../secret.png",
        str(tmp_path / "secret.png"),
        str(inside / "a.png"),
        "link.png",
        "loop.png",
        "up/secret.png",
        "deep",
        "none.png",
        "a\0.png",
        "x" * 5000,
        "file:///etc/passwd",
        "",
    ):
        with pytest.raises(ValueError, match=r"image|null"):
            picture_path(hostile, inside)


# Statements


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What colour is the dog?", "brown", "The colour of the dog is brown."),
        ("Is there a dog?", "No", "There is no dog."),
        ("Are there any cats in the tree?", "yes.", "There are cats in the tree."),
        ("Is the dog brown?", "no", "The dog is not brown."),
        ("Is the red car in front of the house?", "yes", "The red car is in front of the house."),
        ("How many dogs are there?", "3", "The number of dogs is 3."),
        ("How many cars do you see?", "4", "The number of cars is 4."),
        ("Where is the cat?", "top left", "The cat is at the top left."),
        ("Where is the cat?", "Under the table", "The cat is under the table."),
        ("What is this?", "apple", "The picture shows an apple."),
        ("What is in the top left?", "dog", "In the top left is a dog."),
        ("What is the largest bar?", "tea", "The largest bar is tea."),
        ("What does the sign say?", "open", 'The sign says "open".'),
        ("What is the man doing?", "Riding a horse.", "The man is riding a horse."),
        ("What can be seen?", "A dog sits on a mat.", "A dog sits on a mat."),
    ],
)
def test_rules_make_statements(question: str, answer: str, expected: str):
    assert statement(question, answer) == expected


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Why is he sad?", "because"),
        ("Is the red car parked?", "yes"),
        ("Is there a dog?", "maybe"),
        ("What is he like?", "He looks very tired."),
        ("Is it red? Or blue?", "red"),
        ("", ""),
    ],
)
def test_no_rule_makes_no_statement(question: str, answer: str):
    assert statement(question, answer) is None


def test_a_description_is_given_what_it_does_not_say():
    description = "A brown cat. A white dog sleeps."
    statements = ["The cat is brown.", "The dog is brown.", "The dog is white."]
    assert holding(description, statements) == f"{description} The dog is brown."


# What is written


def test_each_question_becomes_a_sample_in_order(folder: Path):
    turns = [{"from": "human", "value": "q1"}, {"from": "gpt", "value": "a1"}] * 2
    talk = {"id": "t", "image": "b.png", "conversations": turns}
    records = run(folder, FakeDescriber(), talk, {**ROW, "reasoning": "Fur."}, ROW)
    assert [record.id for record in records] == ["t-1", "t-2", "row-2", "row-3"]
    assert records[0].extraction == "t: 6 pixels wide. A fact."
    assert records[2] == ExtractionRecord(
        id="row-2",
        image="a.png",
        prompt="Describe the picture. Pay attention to: What colour is the dog?",
        question="What colour is the dog?",
        answer="brown",
        extraction="row-2: 5 pixels wide. A fact.",
        statements=("A fact.",),
        describer="fake",
        reasoning="Fur.",
    )


def test_equal_ids_stay_apart(folder: Path):
    records = run(folder, FakeDescriber(), {**ROW, "id": "x"}, {**ROW, "id": "x", "answer": "red"})
    assert [record.id for record in records] == ["x", "x-row-2"]


def test_bad_rows_are_kept_apart_and_the_run_goes_on(folder: Path):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:40])
    records = run(
        folder,
        FakeDescriber(lambda row: RowError("not this one") if row.id == "no" else None),
        "{bad",
        {**ROW, "image": "../a.png"},
        {**ROW, "image": "broken.png"},
        {**ROW, "id": "no", "answer": "other"},
        {**ROW, "id": "good"},
    )
    assert [record.id for record in records] == ["good"]
    found = rejected(folder)
    assert [row["row"] for row in found] == [1, 2, 3, 4]
    assert found[0]["content"] == "{bad"
    for word, row in zip(("JSON", "outside", "decode", "not this one"), found, strict=True):
        assert word in row["reason"]


def test_a_repaired_row_leaves_the_rejected(folder: Path):
    rows = (ROW, {**ROW, "image": "c.png"})
    run(folder, FakeDescriber(), *rows)
    assert len(rejected(folder)) == 1
    (folder / "a.png").rename(folder / "c.png")  # what is done does not need its picture
    again = FakeDescriber()
    assert len(run(folder, again, *rows)) == 2
    assert again.asked == ["row-2"]
    assert not rejected_path(folder / "out.jsonl").exists()


def test_no_usable_row_is_an_error(folder: Path):
    with pytest.raises(TuningError, match=r"none of the 1 rows.*rejected\.jsonl"):
        run(folder, FakeDescriber(), "{")


def test_a_describer_that_always_fails_is_not_asked_for_ever(folder: Path):
    describer = FakeDescriber(lambda row: RowError("out of order"))
    with pytest.raises(TuningError, match="out of order"):
        run(folder, describer, *({**ROW, "answer": f"{k}"} for k in range(50)))
    assert len(describer.asked) == 5


def test_a_missing_folder_of_pictures_is_told(folder: Path):
    with pytest.raises(TuningError, match="no folder"):
        make_data([], folder / "none", folder / "out.jsonl", FakeDescriber())


# Going on


def test_a_growing_data_set_costs_only_what_is_new(folder: Path):
    first = {**ROW, "id": "first"}
    run(folder, FakeDescriber(), first)
    again = FakeDescriber()
    records = run(folder, again, {**ROW, "id": "new", "answer": "white"}, first)
    assert again.asked == ["new"]
    assert [record.id for record in records] == ["new", "first"]


def test_a_torn_line_is_made_again(folder: Path):
    rows = [{**ROW, "answer": f"{k}"} for k in range(3)]
    expected = run(folder, FakeDescriber(), *rows)
    log = log_path(folder / "out.jsonl")
    log.write_bytes(log.read_bytes()[:-9])
    again = FakeDescriber()
    assert run(folder, again, *rows) == expected
    assert again.asked == ["row-3"]
    assert len(log.read_text().splitlines()) == 3


def test_an_interrupted_run_leaves_no_output_but_goes_on(folder: Path):
    rows = [{**ROW, "answer": f"{k}"} for k in range(3)]
    broken = FakeDescriber(lambda row: KeyboardInterrupt() if row.row == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        run(folder, broken, *rows)
    assert not (folder / "out.jsonl").exists()
    again = FakeDescriber()
    assert len(run(folder, again, *rows)) == 3
    assert again.asked == ["row-3"]


def test_a_foreign_journal_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "x.journal.jsonl"
    path.write_text('{"mine": 1}\nand more')
    with pytest.raises(TuningError, match="line 1 was not written by make-data"):
        DescriptionLog(path)
    assert path.read_text() == '{"mine": 1}\nand more'


# Describers without a network


def test_the_ground_truth_describes_rendered_scenes(folder: Path):
    asked = {**ROW, "question": "What shape is it?", "answer": "square"}
    (record,) = run(folder, TruthDescriber(), {**asked, "facts": RED_SQUARE}, asked)
    assert record.extraction.startswith("The picture shows red square (top left).")
    assert record.describer == "ground truth"
    assert rejected(folder)[0]["row"] == 2


def test_a_bundle_describes_and_the_answers_are_put_behind(folder: Path):
    class Pipe:
        manifest = SimpleNamespace(name="some", version="1.2")

        def encode_image(self, picture: Image.Image) -> tuple[int, int]:
            return picture.size

        def extract(self, image: tuple[int, int], question: str) -> SimpleNamespace:
            assert image == (5, 4)
            return SimpleNamespace(text="" if "name" in question else "A dog on a mat.")

    turns = [
        {"from": "human", "value": "What colour is the dog?"},
        {"from": "gpt", "value": "brown"},
        {"from": "human", "value": "Guess its name"},
        {"from": "gpt", "value": "Rex"},
    ]
    pipe: Any = Pipe()
    records = run(folder, BundleDescriber(pipe), {"image": "a.png", "conversations": turns})
    expected = (
        "A dog on a mat. The colour of the dog is brown. Question: Guess its name Answer: Rex"
    )
    assert [record.extraction for record in records] == [expected] * 2
    assert records[0].describer == "some 1.2"


# Reading samples


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no training sample"),
        ('{"image": "a", "question": "q", "answer": "a"}', "extraction"),
        (
            '{"image": "a", "question": "q", "answer": "a", "extraction": "<|im_end|>"}',
            "line 2: extraction contains the control token",
        ),
    ],
)
def test_samples_that_cannot_be_used_are_told_by_line(tmp_path: Path, line: str, message: str):
    good = '{"image": "a", "question": "q", "answer": "a", "extraction": "e"}'
    with pytest.raises(TuningError, match=message):
        read_records(write_rows(tmp_path / "s.jsonl", good, line))
