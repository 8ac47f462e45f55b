"""Datasets of Ray: actors that answer them, alone and in a cluster of this machine."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.pages import blocks
from tiny.places import EXAMPLES, ROOT
from tiny.watched import bare_environment

import edge_et
from edge_et.image import VisionTower
from edge_et.ray import Answerer
from edge_et.ray import answerer as answering

pa = pytest.importorskip("pyarrow")

PAGE = ROOT / "docs" / "ray.md"
PROGRAM = ROOT / "tests" / "tiny" / "ray_program.py"
BUDGETS: dict[str, Any] = {"max_extraction_tokens": 8, "max_answer_tokens": 8}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture(scope="module")
def texts(tiny_bundle: Path, pictures: list[Path]) -> dict[tuple[str, str], str]:
    """What a pipeline answers, by picture and question."""
    with edge_et.load(tiny_bundle, threads=1) as pipe:
        return {
            (str(picture), question): pipe.answer(picture, question, max_answer_tokens=8).text
            for picture in pictures
            for question in (*map(question_of, range(4)), "What is in it?")
        }


def question_of(number: int) -> str:
    return f"How many are there of {number}?"


def shuffled_rows(pictures: list[Path]) -> list[dict[str, Any]]:
    """Each picture with four questions, no two rows about one picture behind one another."""
    return [
        {"id": row, "image": str(pictures[row % 3]), "question": question_of(row % 4)}
        for row in range(12)
    ]


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an actor have one CPU, without Ray."""
    monkeypatch.setattr(answering, "_own_cpus", lambda: 1)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The tower's runs, counted."""
    runs: list[int] = []
    encode = VisionTower.encode

    def counted(*args: Any) -> Any:
        runs.append(1)
        return encode(*args)

    monkeypatch.setattr(VisionTower, "encode", counted)
    return runs


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_actor_encodes_each_picture_of_a_block_once(
    tiny_bundle: Path,
    pictures: list[Path],
    texts: dict[tuple[str, str], str],
    tiles: list[int],
    as_bytes: bool,
) -> None:
    rows = shuffled_rows(pictures)
    given = [Path(row["image"]).read_bytes() if as_bytes else row["image"] for row in rows]
    table = pa.table({**pa.Table.from_pylist(rows).to_pydict(), "image": given})
    answerer = Answerer(tiny_bundle, max_answer_tokens=8)
    answered = answerer(table)
    assert answered.select(table.column_names) == table
    assert answered["text"].to_pylist() == [texts[row["image"], row["question"]] for row in rows]
    assert len(set(answered["text"].to_pylist())) > 3
    assert len(set(answered["picture_sha256"].to_pylist())) == 3
    assert answered["error"].null_count == len(rows)
    assert len(tiles) == 3
    # A picture that comes again with the next block is still known.
    assert answerer(table)["text"] == answered["text"]
    assert len(tiles) == 3


@pytest.mark.usefixtures("one_cpu")
def test_errors_stay_in_their_rows(tiny_bundle: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    os.mkfifo(tmp_path / "endless.png")
    good = str(pictures[0])
    cases = {
        (good, "Is it red?"): None,
        (str(tmp_path / "broken.png"), "Is it red?"): "ImageDecodeError",
        (str(tmp_path / "endless.png"), "Is it red?"): "ImageFileError",
        (str(tmp_path / "nothing.png"), "Is it red?"): "ImageFileError",
        ("https://example.org/a.png", "Is it red?"): "ImageFileError",
        ("a\0b", "Is it red?"): "ImageFileError",
        (None, "Is it red?"): "ImageInputError",
        (good, " "): "OptionError",
        (good, None): "OptionError",
        (good, "Is it blue?"): None,
    }
    images, questions = zip(*cases, strict=True)
    table = pa.table({"image": images, "question": questions})
    answered = Answerer(tiny_bundle, **BUDGETS)(table).to_pylist()
    for row, expected in zip(answered, cases.values(), strict=True):
        assert (row["error"] and row["error"]["type"]) == expected, row
        assert (row["text"] is None) == (expected is not None)
    assert "URLs are not fetched" in answered[4]["error"]["message"]


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, pa.string()),
        ({"kind": "yes/no"}, pa.bool_()),
        ({"kind": "number"}, pa.float64()),
        ({"choices": ("a cat", "a dog")}, pa.string()),
    ],
)
def test_columns_have_one_type_whatever_is_in_a_block(
    tiny_bundle: Path, pictures: list[Path], options: dict[str, Any], kind: Any
) -> None:
    answerer = Answerer(tiny_bundle, ask="What is it?", **BUDGETS, **options)
    answered = answerer(pa.table({"image": [str(pictures[0])]}))
    nothing = answerer(pa.table({"image": ["nothing.png"]}))
    assert answered.schema == nothing.schema
    assert answered.schema.field("value").type == kind
    (row,), (failed,) = answered.to_pylist(), nothing.to_pylist()
    assert failed["value"] is None
    assert (row["value"] is None) == (options == {})
    assert (
        len(row["shares"])
        == {"yes/no": 2, "number": 0, None: 2 if options else 0}[options.get("kind")]
    )


@dataclass
class Count:
    n: int


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("schema", [Count, msgspec.json.schema(Count)])
def test_values_of_a_schema_are_json(tiny_bundle: Path, pictures: list[Path], schema: Any) -> None:
    answerer = Answerer(tiny_bundle, ask="How many?", schema=schema)
    (row,) = answerer(pa.table({"image": [str(pictures[0])]})).to_pylist()
    assert json.loads(row["value"]) == json.loads(row["text"])


@pytest.mark.parametrize("wanted", [None, "1"])
def test_reports_on_use_are_off_unless_the_user_wants_them(
    tmp_path: Path, wanted: str | None
) -> None:
    code = "import edge_et.ray, os, sys; print(os.environ['RAY_USAGE_STATS_ENABLED'], *sys.modules)"
    variables = {} if wanted is None else {"RAY_USAGE_STATS_ENABLED": wanted}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=bare_environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told[0] == (wanted or "0")
    assert "ray" not in told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Ray's sockets is one of Linux")
def test_a_cluster_answers_as_a_pipeline_does(
    tiny_bundle: Path, pictures: list[Path], texts: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [
        *shuffled_rows(pictures),
        {"id": 12, "image": str(tmp_path / "broken.png"), "question": "Is it red?"},
        {"id": 13, "image": str(pictures[0]), "question": " "},
    ]
    # Linux allows 107 characters for the path of a socket, of which Ray needs 62.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), folder, str(tiny_bundle)],
            input=json.dumps(rows),
            env={**os.environ, "HOME": folder, "PYTHONPATH": program_path()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not list(Path(folder).rglob("usage_stats.json"))
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["usage_stats"] == "0"
    own, asked = (sorted(run, key=lambda row: row["id"]) for run in told["runs"])
    for run in (own, asked):
        assert [{name: row[name] for name in ("id", "image", "question")} for row in run] == rows
        by_picture: dict[str, set[int]] = {}
        for row in run:
            by_picture.setdefault(row["image"], set()).add(row["actor"])
        assert all(len(actors) == 1 for actors in by_picture.values())
    for row in own[:12]:
        assert row["text"] == texts[row["image"], row["question"]]
    for row in asked[:12]:
        assert row["text"] == texts[row["image"], "What is in it?"]
    errors = [row["error"] and row["error"]["type"] for row in own]
    assert errors == [None] * 12 + ["ImageDecodeError", "OptionError"]
    assert [row["error"] is None for row in asked] == [True] * 12 + [False, True]
    for run, threads in ((own, 1), (asked, 2)):
        assert {tuple(row["threads"]) for row in run} == {(threads, threads)}
        blocks = {(row["actor"], row["call"]): row["tiles"] for row in run}
        assert sum(blocks.values()) == 3
    assert len({row["actor"] for row in asked}) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Ray's sockets is one of Linux")
def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for name, picture in (("photo.jpg", "cat.png"), ("other.jpg", "coffee.png")):
        Image.open(EXAMPLES / picture).convert("RGB").save(tmp_path / name)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks(PAGE, "python"))],
            env={**os.environ, "HOME": folder, "RAY_TMPDIR": folder},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    written = [
        json.loads(line)
        for path in (tmp_path / "answers").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert [row["error"] for row in written] == [None] * 3
    told = {(row["image"], row["question"]): row["text"] for row in written}
    assert told["photo.jpg", "What is this?"] == "cat"


def program_path() -> str:
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT / "tests"), *([given] if given else [])])
