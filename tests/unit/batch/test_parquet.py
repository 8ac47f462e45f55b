"""Parquet in and out: types stay, pictures are read one after the other."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge_et.batch.answering import OF_ANSWER, failed
from edge_et.batch.inputs import Inputs, read_inputs
from edge_et.batch.parquet import check_plain, plan_schema, write_parquet
from edge_et.batch.pictures import group
from edge_et.errors import BatchInputError, ImageFileError, MissingExtraError
from edge_et.results import Confidence

COLUMNS = {
    "id": pa.array([7, None, 9], pa.int32()),
    "zip": pa.array(["007", "08", None]),
    "when": pa.array([datetime.datetime(2026, 1, 2, 3)] * 3, pa.timestamp("ns")),
    "price": pa.array([Decimal("1.10")] * 3),
    "tags": pa.array([["a"], [], None]),
    "score": pa.array([0.5, float("nan"), None]),
    "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
}
PICTURES = {
    "paths": pa.array(["a.png", "b.png", "a.png"]),
    "bytes": pa.array([b"one", b"two", b"one"]),
    "structs": pa.array(
        [{"bytes": b"one", "path": "x.png"}, {"bytes": None, "path": "b.png"}, {"bytes": b"one"}]
    ),
}


def answer(row: int) -> dict[str, Any]:
    if row == 1:
        return {"row": row, **failed(ImageFileError("b.png", "gone"), None)}
    fields = {
        **dict.fromkeys(OF_ANSWER[:3], f"text {row}"),
        "details": ["the dog"],
        "value": True,
        "shares": {"yes": 0.75, "no": 0.25},
        "logprobs": [{"text": "yes", "logprob": -0.5, "bytes": [121], "top": []}],
        "confidence": Confidence(answer=0.5, answering=0.75, doubt="seeing").to_dict(),
        "finish_reasons": {"extract": "stop", "answer": "length"},
        "seconds": 1.5,
        "picture_sha256": "00",
        "error": None,
    }
    return {"row": row, **fields}


def written(path: Path, inputs: Inputs, value: str = "bool") -> pa.Table:
    schema = plan_schema(inputs.tables, value)
    write_parquet(path, schema, inputs.tables, inputs.asked, answer)
    return pq.read_table(path)


def table(folder: Path, pictures: str, **columns: Any) -> Path:
    pq.write_table(pa.table({"image": PICTURES[pictures], **columns}), folder / "in.parquet")
    return folder / "in.parquet"


@pytest.mark.parametrize("pictures", PICTURES)
def test_columns_keep_their_types_and_values(tmp_path: Path, pictures: str) -> None:
    inputs = read_inputs([str(table(tmp_path, pictures, **COLUMNS))], "What?")
    out = written(tmp_path / "out" / "o.parquet", inputs)
    assert out.column_names[:2] == ["row", "image"]
    for name, column in COLUMNS.items():
        assert out.schema.field(name).type == column.type
        assert out.column(name).combine_chunks().cast(column.type).equals(column) or name == "score"
    assert out.column("row").to_pylist() == [0, 1, 2]
    assert out.column("question").to_pylist() == ["What?"] * 3
    assert out.column("text").to_pylist() == ["text 0", None, "text 2"]
    assert out.column("value").to_pylist() == [True, None, True]
    assert dict(out.column("shares").to_pylist()[0]) == {"yes": 0.75, "no": 0.25}
    assert out.column("details").to_pylist() == [["the dog"], None, ["the dog"]]
    assert out.column("logprobs").to_pylist()[0] == [{"text": "yes", "logprob": -0.5}]
    sure = out.column("confidence").to_pylist()[2]
    assert (sure["answer"], sure["doubt"], sure["control"]) == (0.5, "seeing", None)
    assert out.column("finish_reasons").to_pylist()[0]["answer"] == "length"
    assert out.column("error").to_pylist()[1]["type"] == "ImageFileError"
    images = {"paths": ["a.png", "b.png", "a.png"], "structs": ["x.png", "b.png", None]}
    assert out.column("image").to_pylist() == images.get(pictures, [None] * 3)


def test_pictures_are_bytes_or_beside_the_table(tmp_path: Path) -> None:
    found = {}
    for pictures in PICTURES:
        inputs = read_inputs([str(table(tmp_path, pictures))], "What?")
        found[pictures] = [inputs.picture(row) for row in (0, 1, 2, 0, 2, 1)]
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    assert found["paths"] == [a, b, a, a, a, b]
    assert found["bytes"] == [b"one", b"two", b"one", b"one", b"one", b"two"]
    assert found["structs"] == [b"one", b, b"one", b"one", b"one", b]


def test_a_dot_in_a_name_is_no_field_of_a_struct(tmp_path: Path) -> None:
    columns = {"image.path": ["no"], "a.b": [1], "a": pa.array([{"b": 2}]), "image": ["a.png"]}
    for image in (columns["image"], [b"one"], [{"bytes": None, "path": "a.png"}]):
        path = tmp_path / "in.parquet"
        pq.write_table(pa.table({**columns, "image": pa.array(image)}), path)
        inputs = read_inputs([str(path)], "What?")
        assert inputs.picture(0) in (b"one", str(tmp_path / "a.png"))
        out = written(tmp_path / "o.parquet", inputs).to_pylist()[0]
        assert (out["image.path"], out["a.b"], out["a"]) == ("no", 1, {"b": 2})


def test_an_error_may_name_a_path_that_is_no_text(tmp_path: Path) -> None:
    inputs = read_inputs([str(table(tmp_path, "paths"))], "What?")
    schema = plan_schema(inputs.tables, "string")

    def gone(row: int) -> dict[str, Any]:
        return {"row": row, **failed(ImageFileError("\udcff.png", "gone"), None)}

    write_parquet(tmp_path / "o.parquet", schema, inputs.tables, inputs.asked, gone)
    error = pq.read_table(tmp_path / "o.parquet").column("error")[0].as_py()
    assert error["type"] == "ImageFileError"
    assert r"\udcff.png" in error["message"]


def test_folders_may_have_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    path = table(tmp_path, "paths").rename(folder / "in.parquet")
    inputs = read_inputs([str(path)], "What?")
    assert written(tmp_path / "o.parquet", inputs).num_rows == 3
    schema = plan_schema(inputs.tables, "bool")
    write_parquet(folder / "o.parquet", schema, inputs.tables, inputs.asked, answer)
    assert (folder / "o.parquet").read_bytes() == (tmp_path / "o.parquet").read_bytes()


def test_rows_are_plain_for_json(tmp_path: Path) -> None:
    inputs = read_inputs([str(table(tmp_path, "bytes", **COLUMNS))], "What?")
    check_plain(inputs.tables)
    assert inputs.columns(0) == {
        "image": None,
        "id": 7,
        "zip": "007",
        "when": "2026-01-02 03:00:00.000000000",
        "price": "1.10",
        "tags": ["a"],
        "score": 0.5,
        "kind": "x",
        "question": "What?",
    }
    assert inputs.columns(1)["score"] is None


def test_bytes_are_for_parquet_alone(tmp_path: Path) -> None:
    path = table(tmp_path, "bytes", key=pa.array([b"\xff"] * 3))
    inputs = read_inputs([str(path)], "What?")
    with pytest.raises(BatchInputError, match=r"'key' holds bytes.*\.parquet"):
        check_plain(inputs.tables)
    assert written(tmp_path / "o.parquet", inputs).column("key").to_pylist() == [b"\xff"] * 3
    assert inputs.sha256() == read_inputs([str(path)], "What?").sha256()


def test_a_table_of_text_gets_types_from_its_values(tmp_path: Path) -> None:
    lines = ['{"image": "a", "id": 7, "x": 1, "n": null}', '{"image": "b", "id": 8, "x": 1.5}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    (tmp_path / "t.csv").write_text("image,zip\nc,007\n")
    inputs = read_inputs([str(tmp_path / "t.jsonl"), str(tmp_path / "t.csv")], "What?")
    out = written(tmp_path / "o.parquet", inputs)
    assert out.column("id").to_pylist() == [7, 8, None]
    assert out.schema.field("id").type == pa.int64()
    assert out.column("x").to_pylist() == [1.0, 1.5, None]
    assert out.column("zip").to_pylist() == [None, None, "007"]
    assert out.column("image").to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "values",
    ['1}\n{"image": "b", "x": "1"', str(2**70), '"\\ud800"', "{}", '{"y": [{"z": {}}]}'],
)
def test_what_has_no_type_is_refused_before_the_run(tmp_path: Path, values: str) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"image": "a", "x": {values}}}')
    inputs = read_inputs([str(tmp_path / "t.jsonl")], "What?")
    with pytest.raises(BatchInputError, match=r"'x'.*\.jsonl"):
        plan_schema(inputs.tables, "string")


def test_tables_that_do_not_fit_are_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"image": "a", "id": 7}')
    (tmp_path / "t.csv").write_text("image,id\nc,007\n")
    inputs = read_inputs([str(tmp_path / "t.jsonl"), str(tmp_path / "t.csv")], "What?")
    with pytest.raises(BatchInputError, match="do not fit"):
        plan_schema(inputs.tables, "string")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": pa.array([1])}, "no column 'image'"),
        ({"image": pa.array([1])}, "int64: paths or bytes are expected"),
        ({"image": pa.array(["a"]), "error": pa.array([1])}, "'error' of its own"),
        ({"image": pa.array([], pa.string())}, "no rows"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(BatchInputError, match=told):
        read_inputs([str(tmp_path / "in.parquet")], "What?")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "bytes")
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    inputs = read_inputs([str(path)], "What?")
    with pytest.raises(BatchInputError, match="damaged"):
        group(inputs, lambda done: None)


def test_a_time_that_python_does_not_know_is_told(tmp_path: Path) -> None:
    late = pa.array([[2**62]] * 3, pa.list_(pa.timestamp("us")))
    inputs = read_inputs([str(table(tmp_path, "paths", when=late))], "What?")
    with pytest.raises(BatchInputError, match="cannot be told in JSON"):
        inputs.sha256()


def test_two_columns_of_a_name_are_refused(tmp_path: Path) -> None:
    two = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["image", "id", "id"])
    pq.write_table(two, tmp_path / "in.parquet")
    with pytest.raises(BatchInputError, match="two columns have the name 'id'"):
        read_inputs([str(tmp_path / "in.parquet")], "What?")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, "paths")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"edge-et\[parquet\]"):
        read_inputs([str(path)], "What?")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    inputs = read_inputs([str(table(tmp_path, "paths"))], "What?")

    def broken(row: int) -> dict[str, Any]:
        raise OSError("told to fail")

    schema = plan_schema(inputs.tables, "string")
    with pytest.raises(OSError, match="told to fail"):
        write_parquet(tmp_path / "o.parquet", schema, inputs.tables, inputs.asked, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
