import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tiny.places import ROOT

from edge_et.cli.options import OF_PROGRAMS, Bytes, add_options
from edge_et.errors import EdgeETError, OptionError
from edge_et.options import AnswerOptions, LoadOptions

SCHEMA_FILE = ROOT / "docs" / "bundle.schema.json"
# A value of each field that is not its default, as it is written and as it arrives.
GIVEN: dict[type[AnswerOptions] | type[LoadOptions], dict[str, tuple[str, object]]] = {
    AnswerOptions: {
        "max_tiles": ("3", 3),
        "pooling": ("2", 2),
        "max_extraction_tokens": ("4", 4),
        "max_thinking_tokens": ("0", 0),
        "max_answer_tokens": ("5", 5),
        "temperature": ("0.5", 0.5),
        "top_p": ("1", 1.0),
        "seed": ("0", 0),
        "hint": ("7", "7"),
        "thinking": ("", True),
        "look_again": ("2", 2),
        "deadline_s": ("2", 2.0),
        "choices": ("cat, dog", ("cat, dog",)),
        "kind": ("number", "number"),
        "schema": (str(SCHEMA_FILE), json.loads(SCHEMA_FILE.read_bytes())),
        "stop": ("\n", ("\n",)),
        "top_logprobs": ("3", 3),
        "confidence": ("control", "control"),
    },
    LoadOptions: {
        "threads": ("3", 3),
        "max_pixels": ("4", 4),
        "image_cache_bytes": ("0", 0),
        "image_kv_bytes": ("1", 1),
        "max_images": ("2", 2),
        "max_images_bytes": ("5", 5),
        "engine": ("prebuilt", "prebuilt"),
        "kv_type": ("f32", "f32"),
        "max_kv_bytes": ("6", 6),
        "max_memory_bytes": ("320MB", 320_000_000),
        "use_profile": ("no-", False),
        "convert_weights": ("no-", False),
        "prompt_lookup": ("", True),
        "cache_dir": ("folder", "folder"),
        "cache_bytes": ("0", 0),
    },
}
STRUCTS = pytest.mark.parametrize("kind", GIVEN, ids=lambda kind: kind.__name__)
Kind = type[AnswerOptions] | type[LoadOptions]


def arrived(kind: Kind, *arguments: str, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Run a command that has the options of a struct, and return what it was given."""
    got: dict[str, Any] = {}

    @click.command()
    @add_options(kind, only)
    def command(**options: Any) -> None:
        got.update(options)

    result = CliRunner().invoke(command, arguments)
    if isinstance(result.exception, EdgeETError):
        raise result.exception
    if result.exit_code:
        raise SystemExit(result.output)
    return got


@STRUCTS
def test_options_that_are_not_given_have_the_defaults_of_the_library(kind: Kind) -> None:
    defaults = kind()
    names = [name for name in kind.__struct_fields__ if name not in OF_PROGRAMS]
    assert arrived(kind) == {name: getattr(defaults, name) for name in names}
    assert list(GIVEN[kind]) == names


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in GIVEN.items() for name in names]
)
def test_every_field_is_a_flag_of_its_type(kind: Kind, name: str) -> None:
    text, value = GIVEN[kind][name]
    flag = name.replace("_", "-")
    is_switch = isinstance(value, bool)
    got = arrived(kind, *([f"--{text}{flag}"] if is_switch else [f"--{flag}", text]))
    assert (got[name], type(got[name])) == (value, type(value))
    others = {other: default for other, default in arrived(kind).items() if other != name}
    assert {other: got[other] for other in others} == others


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (AnswerOptions, "max-tiles", "many"),
        (AnswerOptions, "pooling", "1.5"),
        (AnswerOptions, "temperature", "hot"),
        (LoadOptions, "threads", "1.5"),
    ],
)
def test_what_is_no_number_is_wrong_usage(kind: Kind, name: str, text: str) -> None:
    with pytest.raises(SystemExit, match=f"--{name}"):
        arrived(kind, f"--{name}", text)


def test_a_switch_is_a_yes_a_no_or_neither() -> None:
    assert [
        arrived(AnswerOptions, *arguments)["thinking"]
        for arguments in ([], ["--thinking"], ["--no-thinking"])
    ] == [None, True, False]


def test_a_list_is_given_one_by_one() -> None:
    got = arrived(AnswerOptions, "--choices", "a", "--choices", "b c", "--choices", "--seed")
    assert (got["choices"], got["seed"]) == (("a", "b c", "--seed"), None)


def test_a_schema_is_a_file_of_json(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    for content, said in ((b"{", "a file of JSON: Expecting"), (b"\xff", "a file of JSON: ")):
        file.write_bytes(content)
        with pytest.raises(OptionError, match=said) as caught:
            arrived(AnswerOptions, "--schema", str(file))
        assert (caught.value.name, caught.value.value) == ("schema", str(file))
    with pytest.raises(OptionError, match="No such file"):
        arrived(AnswerOptions, "--schema", str(tmp_path / "none.json"))


def test_values_out_of_range_are_left_to_the_library() -> None:
    assert arrived(AnswerOptions, "--max-tiles", "0")["max_tiles"] == 0
    assert arrived(LoadOptions, "--kv-type", "q4")["kv_type"] == "q4"


def test_a_command_may_have_some_of_the_options() -> None:
    assert arrived(AnswerOptions, "--pooling", "1", only=("max_tiles", "pooling")) == {
        "max_tiles": None,
        "pooling": 1,
    }
    with pytest.raises(SystemExit, match="--seed"):
        arrived(AnswerOptions, "--seed", "1", only=("max_tiles", "pooling"))


@STRUCTS
def test_help_describes_every_option_in_the_order_of_the_fields(kind: Kind) -> None:
    @click.command()
    @add_options(kind)
    def command(**options: Any) -> None:
        pass

    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options] == list(GIVEN[kind])
    schema_texts = [option.help or "" for option in options]
    assert len({text for text in schema_texts if text}) == len(options)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("5", 5),
        ("320MB", 320_000_000),
        ("1.5GB", 1_500_000_000),
        ("64 MiB", 64 * 2**20),
        ("2kib", 2048),
        ("-1", -1),
    ],
)
def test_a_number_of_bytes_may_have_a_unit(written: str, number: int) -> None:
    for flag in ("--max-memory", "--max-memory-bytes"):
        assert arrived(LoadOptions, f"{flag}={written}")["max_memory_bytes"] == number
    assert arrived(LoadOptions, f"--cache-bytes={written}")["cache_bytes"] == number


@pytest.mark.parametrize("written", ["", "MB", "1e9", "3XB", "1.2.3MB", "320M", "9" * 5000])
def test_what_is_no_number_of_bytes_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 320MB or 64MiB"):
        Bytes().convert(written, None, None)
