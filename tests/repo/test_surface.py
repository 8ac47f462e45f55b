"""The public surface: what programs are written against."""

import inspect
import itertools
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import edge_et
from edge_et.cli.answer import answer as answer_command
from edge_et.cli.options import OF_PROGRAMS
from edge_et.options import AnswerOptions, LoadOptions
from edge_et.pipeline import TextSession

HEAVY = ("numpy", "PIL", "msgspec", "tokenizers", "onnxruntime", "llama_cpp", "rich", "click")


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_the_names_are_sorted_and_there() -> None:
    assert edge_et.__all__ == sorted(edge_et.__all__)
    assert len(edge_et.__all__) <= 15
    for name in edge_et.__all__:
        assert getattr(edge_et, name) is not None
        assert name in dir(edge_et)
    assert not hasattr(edge_et, "nothing")


def test_errors_need_no_import_of_their_own() -> None:
    assert run("import edge_et; print(edge_et.errors.EdgeETError.__name__)") == "EdgeETError\n"


def test_importing_loads_nothing_heavy() -> None:
    loaded = json.loads(run("import edge_et, json, sys; print(json.dumps(list(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_the_pipeline_loads_no_model_library() -> None:
    code = "import edge_et, json, sys; edge_et.load; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(run(code))
    assert [name for name in ("onnxruntime", "llama_cpp") if name in loaded] == []


def test_importing_is_fast() -> None:
    code = "import time; s = time.perf_counter(); import edge_et; print(time.perf_counter() - s)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def parameters(function: object) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)  # type: ignore[arg-type]


def check_keywords(
    function: object, positional: list[str], options: object, fields: tuple[str, ...]
) -> None:
    """Hold a function to the fields of a struct: keywords of the same names, order and defaults."""
    found = parameters(function)
    assert [name for name in found if name not in OF_CALLER] == [*positional, *fields]
    for name in fields:
        assert found[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert found[name].default == getattr(options, name)


OF_CALLER = ("priority", "cancel", "on_progress")
CALL = AnswerOptions.__struct_fields__
PICTURE = ("max_tiles", "pooling")
OF_TEXT = tuple(x for x in CALL[2:] if x not in ("max_extraction_tokens", "hint", "look_again"))
PIPE, SESSION, TEXT = edge_et.ExtractThink, edge_et.Session, TextSession


@pytest.mark.parametrize(
    ("function", "positional", "fields"),
    [
        (edge_et.answer, ["image", "question", "model"], CALL),
        (PIPE.answer, ["self", "image", "question"], CALL),
        (PIPE.aanswer, ["self", "image", "question"], CALL),
        (PIPE.stream, ["self", "image", "question"], CALL),
        (PIPE.astream, ["self", "image", "question"], CALL),
        (PIPE.extract, ["self", "image", "question"], CALL),
        (PIPE.think, ["self", "question", "extraction"], CALL),
        (PIPE.rethink, ["self", "question", "extraction"], CALL),
        (PIPE.answer_directly, ["self", "image", "question"], CALL),
        (PIPE.session, ["self", "image"], PICTURE),
        (PIPE.encode_image, ["self", "image"], PICTURE),
        (SESSION.answer, ["self", "question"], CALL[2:]),
        (SESSION.aanswer, ["self", "question"], CALL[2:]),
        (SESSION.stream, ["self", "question"], CALL[2:]),
        (SESSION.astream, ["self", "question"], CALL[2:]),
        (TEXT.answer, ["self", "question"], OF_TEXT),
        (TEXT.aanswer, ["self", "question"], OF_TEXT),
        (TEXT.stream, ["self", "question"], OF_TEXT),
        (TEXT.astream, ["self", "question"], OF_TEXT),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_every_option_of_a_call_is_seen(
    function: object, positional: list[str], fields: tuple[str, ...]
) -> None:
    check_keywords(function, positional, AnswerOptions(), fields)


def test_whoever_answers_is_told_who_asks() -> None:
    for kind, function in itertools.product((PIPE, SESSION, TEXT), ("answer", "aanswer")):
        assert set(OF_CALLER) <= parameters(getattr(kind, function)).keys()
    for kind, function in itertools.product((PIPE, SESSION, TEXT), ("stream", "astream")):
        assert set(OF_CALLER[:2]) <= parameters(getattr(kind, function)).keys()


def test_other_keywords_are_refused_as_python_does() -> None:
    functions = (edge_et.answer, edge_et.load, SESSION.answer, SESSION.stream, PIPE.session)
    of_pipe = (PIPE.answer, PIPE.stream, PIPE.extract, PIPE.think, PIPE.rethink)
    for function in (*functions, *of_pipe, PIPE.answer_directly, PIPE.encode_image):
        with pytest.raises(TypeError, match="unexpected keyword argument 'max_tokens'"):
            function(*["x"] * 3, max_tokens=1)  # type: ignore[operator]


def test_every_option_of_a_bundle_is_seen() -> None:
    check_keywords(edge_et.aload, ["name_or_path"], LoadOptions(), LoadOptions.__struct_fields__)
    check_keywords(edge_et.load, ["name_or_path"], LoadOptions(), LoadOptions.__struct_fields__)


def test_help_shows_the_options() -> None:
    shown = run("import edge_et; help(edge_et.ExtractThink)")
    for name in CALL:
        assert shown.count(name) >= 5


def test_the_command_line_has_the_same_options() -> None:
    found = {parameter.name: parameter for parameter in answer_command.params}
    for options in (AnswerOptions(), LoadOptions()):
        for name in set(options.__struct_fields__) - set(OF_PROGRAMS):
            flag = f"--{name.replace('_', '-')}"
            assert flag in found[name].opts
            assert found[name].default == getattr(options, name)
            assert found[name].help  # type: ignore[attr-defined]


def test_types_are_marked() -> None:
    assert (files("edge_et") / "py.typed").is_file()


def test_what_the_readme_of_0_1_named_works_and_warns(tiny_bundle: Path) -> None:
    with pytest.warns(DeprecationWarning, match="finish_reasons"):
        cut = edge_et.Cut("extract", "tokens")
    with pytest.warns(DeprecationWarning, match="prompt_lookup"):
        pipe = edge_et.load(tiny_bundle, lookup=True)  # type: ignore[call-arg]
    image = np.zeros((8, 8, 3), np.uint8)
    with pipe:
        answer = pipe.answer(image, "What is this?")
        extraction = pipe.extract(image, "What is this?")
        thought = pipe.think("What is this?", extraction)
    assert answer.finish_reasons["extract"] == "length"
    with pytest.warns(DeprecationWarning, match="finish_reasons") as caught:
        assert cut in answer.cuts
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="answer"):
        assert thought.text == thought.answer
    assert answer.to_dict()["cuts"][0] == {"stage": "extract", "reason": "tokens"}
