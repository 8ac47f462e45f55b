"""The public surface: what programs are written against."""

import inspect
import json
import subprocess
import sys

import edge_et
from edge_et.options import AnswerOptions

HEAVY = ("numpy", "PIL", "msgspec", "tokenizers", "onnxruntime", "llama_cpp", "rich", "click")


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_the_names_are_sorted_and_there() -> None:
    assert edge_et.__all__ == sorted(edge_et.__all__)
    assert len(edge_et.__all__) <= 12
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


def test_the_signatures_of_the_design() -> None:
    def parameters(function: object) -> list[str]:
        return list(inspect.signature(function).parameters)  # type: ignore[arg-type]

    assert parameters(edge_et.answer) == ["image", "question", "model", "options"]
    assert parameters(edge_et.load)[:2] == ["name_or_path", "threads"]
    assert parameters(edge_et.ExtractThink.answer) == ["self", "image", "question", "options"]
    assert parameters(edge_et.ExtractThink.stream) == ["self", "image", "question", "options"]
    assert parameters(edge_et.ExtractThink.session) == ["self", "image", "options"]
    assert parameters(edge_et.ExtractThink.rethink) == [
        "self",
        "question",
        "extraction",
        "options",
    ]
    assert parameters(edge_et.Session.answer) == ["self", "question", "options"]
    assert parameters(edge_et.Session.stream) == ["self", "question", "options"]
    assert list(AnswerOptions.__struct_fields__) == [
        "max_tiles",
        "pooling",
        "max_extraction_tokens",
        "max_thinking_tokens",
        "max_answer_tokens",
        "temperature",
        "top_p",
        "seed",
        "hint",
        "thinking",
        "deadline_s",
    ]
