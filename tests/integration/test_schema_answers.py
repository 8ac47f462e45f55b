"""Answers held to a schema, over real llama.cpp: all of them parse and fit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.json_schemas import RandomSchemas, fits
from tiny.places import ROOT
from tiny.thoughts import THOUGHTS, change_bundle

import edge_et
from edge_et.errors import OptionError

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
QUESTIONS = ("What is on the table?", "How many balls? </think>", 'Say {"a": 5}.', "naïve 日本")
MANY = 500
SOME = 40
CAT = ROOT / "examples" / "cat.png"


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_et.ExtractThink]:
    """A model of random weights that thinks, and has rows that are no tokens."""
    folder = tmp_path_factory.mktemp("thinker")
    build_bundle(folder, context_length=2048)
    change_bundle(folder, think={"thoughts": replace(THOUGHTS, default=True)})
    with edge_et.load(folder, threads=1) as pipe:
        yield pipe


def check(pipe: edge_et.ExtractThink, seed: int) -> str:
    """Ask with a random schema, budget and deadline; return why the answer ended."""
    rng = np.random.default_rng(seed)
    schema = RandomSchemas(seed).schema()
    options: dict[str, Any] = {"temperature": 1.5, "seed": seed} if rng.random() < 0.5 else {}
    if rng.random() < 0.5:
        options["deadline_s"] = float(rng.choice([1e-6, 0.01, 0.05, 0.2]))
    question = QUESTIONS[seed % len(QUESTIONS)]
    if rng.random() < 0.6:
        try:
            pipe.answer(IMAGE, question, schema=schema, max_answer_tokens=1)
            least = 1
        except OptionError as err:
            least = int(err.expected.split()[2].strip(","))
        options["max_answer_tokens"] = least + int(rng.integers(0, 40))
    *events, answer = pipe.stream(IMAGE, question, schema=schema, **options)
    assert isinstance(answer, edge_et.Answer)
    told = [event.text for event in events if isinstance(event, edge_et.AnswerToken)]
    assert "".join(told) == answer.text
    assert answer.value == json.loads(answer.text)
    assert fits(schema, answer.value), (seed, answer.text)
    return answer.finish_reasons["answer"]


def test_answers_fit_random_schemas_whatever_ends_them(thinker: edge_et.ExtractThink) -> None:
    reasons = {check(thinker, seed) for seed in range(SOME)}
    assert {"stop", "length", "deadline"} <= reasons


@pytest.mark.slow
def test_answers_fit_five_hundred_random_schemas(thinker: edge_et.ExtractThink) -> None:
    for seed in range(SOME, MANY):
        check(thinker, seed)


@dataclass
class Thing:
    name: str
    size: Literal["small", "large"]
    count: int


@pytest.fixture(scope="module")
def mini() -> Iterator[edge_et.ExtractThink]:
    with edge_et.load() as pipe:
        yield pipe


def test_the_mini_answers_in_json_as_in_words(mini: edge_et.ExtractThink) -> None:
    question = "Is there a dog?"
    words = mini.answer(CAT, question)
    one = mini.answer(CAT, question, schema={"properties": {"answer": {"type": "string"}}})
    assert one.value == {"answer": words.text}
    assert one.reasoning == words.reasoning
    assert mini.answer(CAT, question, schema=bool).value is False
    assert mini.answer(CAT, "How many cats are there?", schema=int).value == 1
    thing = mini.answer(CAT, "What is this?", schema=Thing).value
    assert isinstance(thing, Thing)
    assert (thing.name, thing.count) == ("cat", 1)


@pytest.mark.slow
def test_hostile_schemas_are_refused_or_answered_in_bounded_time(
    thinker: edge_et.ExtractThink,
) -> None:
    many = {f"p{number}": {"type": ["string", "integer"]} for number in range(200)}
    hostile: list[dict[str, Any]] = [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "^((a|b)*a(a|b){30})$"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**6},
        {"properties": many},
        {"properties": many, "required": list(many)},
        {"allOf": [{"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(8)]}
                   for i in range(8)]},
        {"$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(200)} | {"a200": True},
         "$ref": "#/$defs/a0"},
    ]  # fmt: skip
    answered = 0
    for schema in hostile:
        try:
            answer = thinker.answer(IMAGE, "?", schema=schema, deadline_s=0.5)
        except (OptionError, edge_et.errors.PromptTooLongError):
            continue
        assert answer.value == json.loads(answer.text)
        answered += 1
    assert 0 < answered < len(hostile)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", "answer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_takes_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"properties": {"n": {"type": "integer"}}}')
    picture = ROOT / "examples" / "cat.png"
    common = (picture, "How many?", "--model", tiny_bundle, "--schema")
    plain = run(*common, file)
    assert (plain.returncode, plain.stderr) == (0, "")
    value = json.loads(plain.stdout)
    assert isinstance(value["n"], int)
    document = json.loads(run(*common, file, "--json").stdout)
    assert document["value"] == json.loads(document["text"]) == value
    file.write_text('{"properties": {"n": {"not": {}}}}')
    for wrong in (file, tmp_path / "none.json"):
        refused = run(*common, wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert "schema=" in line
