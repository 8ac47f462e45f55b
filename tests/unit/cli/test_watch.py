import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny.cameras import fake_pipeline, jpeg, plain

import edge_et
from edge_et import camera
from edge_et.camera import watch
from edge_et.cli.app import app


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command over a folder with a bad and a good picture, until both were looked at."""
    folder = tmp_path / "frames"
    folder.mkdir()
    pipe, _ = fake_pipeline(tmp_path / "bundle")
    monkeypatch.setattr(edge_et, "load", lambda *_, **__: pipe)
    given: dict[str, Any] = {}

    def watch_two(source: str, *arguments: Any, **options: Any) -> Any:
        given.update(options, source=source)
        return watch(
            [b"no picture"] if given.get("bad") else [jpeg(plain(9))],
            *arguments,
            every=options["every"],
        )

    monkeypatch.setattr(camera, "watch", watch_two)

    def call(*options: str, bad: bool = False) -> tuple[Any, dict[str, Any]]:
        given["bad"] = bad
        result = CliRunner().invoke(app, ["watch", str(folder), "Which colour?", *options])
        assert result.exit_code == 0, result.output
        return result, given

    return call


def test_every_answer_is_a_line(run: Any) -> None:
    result, _ = run()
    time, _, text = result.stdout.strip().partition(" ")
    assert text == "red"
    assert "T" in time


def test_json_is_a_document_a_line(run: Any) -> None:
    result, _ = run("--json")
    (line,) = result.stdout.splitlines()
    document = json.loads(line)
    assert document["answer"]["text"] == "red"
    assert (document["frame"], document["dropped"], document["error"]) == (0, 0, None)


def test_bad_frames_are_told_on_stderr(run: Any) -> None:
    result, _ = run(bad=True)
    assert result.stdout == ""
    assert "cannot decode the image" in result.stderr


def test_options_reach_the_watch(run: Any) -> None:
    _, given = run("--every", "5", "--deadline-s", "20", "--choices", "yes", "--choices", "no")
    assert (given["every"], given["deadline_s"], given["choices"]) == (5.0, 20.0, ("yes", "no"))
    assert given["changed"] is None


def test_changes_are_looked_for_on_demand(run: Any) -> None:
    _, given = run("--changed")
    assert given["changed"].has_changed is not None
