"""From what a user names to rows, hostile files among them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_et.batch.inputs import read_inputs
from edge_et.batch.pictures import group
from edge_et.errors import BatchInputError


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_folder_gives_its_pictures_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c/d.webp", "c/notes.txt", ".hidden.png", ".git/x.png"):
        write(tmp_path / name, "x")
    (tmp_path / "x.jpg").mkdir()
    write(tmp_path / "x.jpg" / "y.jpg", "x")
    found = read_inputs([str(tmp_path)], "What?")
    names = [os.path.relpath(found.columns(row)["image"], tmp_path) for row in range(len(found))]
    assert names == ["a.jpg", "b.PNG", "c/d.webp", "x.jpg/y.jpg"]
    assert found.skipped == 1
    assert {found.question(row) for row in range(len(found))} == {"What?"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.png", ["[a]/b/y.png", "[a]/x.png", "w.png"]),
        ("[[]a]/**", ["[a]/b/y.png", "[a]/x.png"]),
        ("**/b/**/*.png", ["[a]/b/y.png"]),
        ("**/**/x.png", ["[a]/x.png"]),
    ],
)
def test_a_pattern_follows_no_links_that_lead_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
) -> None:
    for name in ("w.png", "[a]/x.png", "[a]/b/y.png", ".hidden/z.png", "[a]/.hidden.png"):
        write(tmp_path / name, "x")
    (tmp_path / "[a]" / "link").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    found = read_inputs([pattern], "What?")
    assert [found.picture(row) for row in range(len(found))] == names


@pytest.fixture
def deep_picture(tmp_path: Path) -> Iterator[Path]:
    """A picture below more folders than `shutil.rmtree`, and so pytest, could remove."""
    folder = tmp_path
    for _ in range(1200):
        folder /= "d"
        folder.mkdir()
    path = folder / "a.png"
    path.touch()
    yield path
    path.unlink()
    while folder != tmp_path:
        folder.rmdir()
        folder = folder.parent


def test_folders_may_be_deeper_than_python_calls(tmp_path: Path, deep_picture: Path) -> None:
    assert read_inputs([str(tmp_path)], "What?").picture(0) == str(deep_picture)


def test_several_inputs_are_counted_on(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "image,question\na.png,Who?\nb.png,\n")
    first, last = write(tmp_path / "0.png", "x"), write(tmp_path / "z1.png", "x")
    found = read_inputs([first, table, str(tmp_path / "z*.png")], "What?")
    assert [found.question(row) for row in range(4)] == ["What?", "Who?", "What?", "What?"]
    assert found.picture(0) == first
    assert found.picture(2) == str(tmp_path / "b.png")
    assert found.picture(3) == last


def test_csv_stays_text_and_may_begin_with_a_mark(tmp_path: Path) -> None:
    text = '\ufeffid,image,note\n007,"a, b.png","1\n2"\n\n1e5,c.png,\n'
    found = read_inputs([write(tmp_path / "t.csv", text)], "What?")
    assert found.columns(0) == {
        "id": "007",
        "image": "a, b.png",
        "note": "1\n2",
        "question": "What?",
    }
    assert found.columns(1)["id"] == "1e5"


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"image": "a.png", "question": "Who?", "id": 7, "tags": ["x", {"y": None}]},
        {"id": 1.5, "image": "b.png"},
    ]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    found = read_inputs([path], "What?")
    assert found.columns(0) == rows[0]
    assert type(found.columns(0)["id"]) is int
    assert found.columns(1) == {**rows[1], "question": "What?"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "", "no rows"),
        ("t.csv", "image\n", "no rows"),
        ("t.csv", "picture,question\na,b\n", "no column 'image', but 'picture', 'question'"),
        ("t.csv", "image;question\na;b\n", "separate columns by commas"),
        ("t.csv", "image\tquestion\na\tb\n", "separate columns by commas"),
        ("t.csv", "image,id,id\na,b,c\n", "two columns have the name 'id'"),
        ("t.csv", "image,id\na,b\nc\n", "line 3: 1 fields, where the first line names 2"),
        ("t.csv", 'image\n"a\n', "is a quote not closed?"),
        ("t.csv", b"image\n\xff\n", "not UTF-8"),
        ("t.csv", f"image\n{'a' * 200_000}\n", "longer texts as JSON Lines"),
        ("t.csv", "image,text\na,b\n", "'text' of its own: rename"),
        ("t.csv", "image,row\na,b\n", "'row' of its own: rename"),
        ("t.jsonl", '{"image": "a"}\n{"image": \n', "line 2: it is not JSON"),
        ("t.jsonl", '{"image": "a"}\n["b"]\n', "line 2: a JSON object is expected"),
        ("t.jsonl", '{"image": "a"}\n\n{"id": 1}\n', "line 3: there is no key 'image'"),
        ("t.jsonl", '{"image": "a", "id": 1, "id": 2}', "line 1: it is not JSON: a key is there"),
        ("t.jsonl", '{"image": "a", "id": NaN}', "NaN is no number"),
        ("t.jsonl", '{"image": "a", "id": [-1e999]}', "-1e999 is out of the range of numbers"),
        ("t.jsonl", '{"image": "a", "id": ' + "9" * 5000 + "}", "line 1: it is not JSON"),
        ("t.jsonl", '{"image": "a", "id": ' + "[" * 200_000, "line 1: it is not JSON"),
        ("t.jsonl", '{"image": "a", "id": ' + "[" * 200 + "]" * 200 + "}", "100 levels"),
        ("t.jsonl", b'{"image": "\xff"}', "save it as UTF-8"),
        ("t.parquet", "PAR1, or so it says", "not Parquet"),
        ("t.parquet", "", "not Parquet"),
        ("t.tsv", "image\na\n", "neither a folder, nor a file with one of"),
    ],
)
def test_tables_are_refused_with_the_place(
    tmp_path: Path, name: str, content: str | bytes, told: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(BatchInputError) as refused:
        read_inputs([path], "What?")
    assert told in str(refused.value)
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["none", "none/*.png", "no\0ne"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BatchInputError, match="no such file"):
        read_inputs([str(tmp_path / name)], "What?")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "image\na\n")
    with pytest.raises(BatchInputError, match="no pictures"):
        read_inputs([str(tmp_path)], "What?")


def test_somebody_has_to_ask(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "image\na\n")
    with pytest.raises(BatchInputError, match="no column 'question': give --question"):
        read_inputs([path], None)


def test_equal_pictures_are_found_and_unreadable_ones_told(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "one")
    write(tmp_path / "b.png", "one")
    write(tmp_path / "c.png", "two")
    os.mkfifo(tmp_path / "d.png")
    (tmp_path / "e.png").mkdir()
    names: list[object] = ["a.png", "c.png", "b.png", "d.png", "e.png", "no\0.png", "\ud800.png"]
    names += ["https://localhost/a.png", "", None, 5, ["a.png", "b.png"], "a.png"]
    lines = "\n".join(json.dumps({"image": name}) for name in names)
    found = read_inputs([write(tmp_path / "t.jsonl", lines)], "What?")
    told: list[int] = []
    groups = group(found, told.append)
    assert sorted(groups.rows.values()) == [[0, 2, 12], [1]]
    assert sorted(groups.errors) == list(range(3, 12))
    assert groups.sha256[3] is None
    assert groups.sha256[0] == groups.sha256[2] != groups.sha256[1]
    assert "no regular file" in str(groups.errors[3])
    assert "URLs are not fetched" in str(groups.errors[7])
    assert told[-1] == len(names)


def test_another_row_is_another_input(tmp_path: Path) -> None:
    def digest(text: str, question: str = "What?") -> str:
        return read_inputs([write(tmp_path / "t.csv", text)], question).sha256()

    assert digest("image,id\na,1\n") == digest("image,id\na,1\n")
    texts = ("image,id\na,2\n", "image,id\nb,1\n", "image,id\na,1\na,1\n", "image,ID\na,1\n")
    assert len({digest(text) for text in texts} | {digest("image,id\na,1\n")}) == 5
