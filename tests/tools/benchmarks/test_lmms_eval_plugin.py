"""The model of lmms-eval, through its interface; a stand-in for lmms-eval where it is absent."""

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from tiny.places import ROOT

from edge_et.errors import BenchError, OptionError

CAT = ROOT / "examples" / "cat.png"
DOCUMENTS = {"local": {"test": [{"pictures": [CAT]}, {"pictures": []}, {"pictures": [CAT, CAT]}]}}


def stand_in() -> dict[str, ModuleType]:
    """Return modules with what the plugin uses of lmms-eval 0.7.3."""

    @dataclass
    class TokenCounts:
        output_tokens: int | None = None

    @dataclass
    class GenerationResult:
        text: str
        token_counts: TokenCounts | None = None

    @dataclass(frozen=True)
    class ModelManifest:
        model_id: str
        simple_class_path: str

    class CacheHook:
        def add_partial(self, attr: str, req: object, res: object) -> None:
            pass

    class lmms:  # noqa: N801
        def __init__(self) -> None:
            self.cache_hook = CacheHook()
            self.task_dict: dict[str, Any] = {}

    names: dict[str, dict[str, object]] = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.instance": {
            "GenerationResult": GenerationResult,
            "Instance": object,
            "TokenCounts": TokenCounts,
        },
        "lmms_eval.api.model": {"lmms": lmms},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }
    modules = {}
    for name, content in names.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(content)
    return modules


@pytest.fixture(scope="module")
def plugin() -> Iterator[ModuleType]:
    name = "edge_et.benchmarks.lmms_eval_plugin"
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("lmms_eval") is None:
            for module, content in stand_in().items():
                patch.setitem(sys.modules, module, content)
        yield importlib.import_module(name)
    sys.modules.pop(name, None)


@dataclass
class Request:
    """A request as lmms-eval makes it."""

    args: tuple[str, dict[str, Any], Callable[[dict[str, Any]], list[Image.Image]], int, str, str]


def request(text: str, document: int = 0, **settings: Any) -> Request:
    def pictures(found: dict[str, Any]) -> list[Image.Image]:
        return [Image.open(path).convert("RGB") for path in found["pictures"]]

    return Request((text, settings, pictures, document, "local", "test"))


@pytest.fixture(scope="module")
def mini(plugin: ModuleType) -> Any:
    model = plugin.EdgeET(threads=1, batch_size="1", device="cpu")
    model.task_dict = DOCUMENTS
    return model


def test_the_entry_point_names_the_model(plugin: ModuleType):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["lmms_eval.models"]
    assert points == {"edge_et": "edge_et.benchmarks.lmms_eval_plugin:MODEL"}
    module, _, name = plugin.MODEL.simple_class_path.rpartition(".")
    assert (plugin.MODEL.model_id, module) == ("edge_et", plugin.__name__)
    assert getattr(plugin, name) is plugin.EdgeET


def test_requests_are_answered_in_order(mini: Any):
    requests = [
        request("What is this?", max_new_tokens=64, do_sample=False, until=["\n\n"]),
        request("What is this?", until="a"),
        request("word " * 2000, temperature=0),
    ]
    first, cut, too_long = mini.generate_until(requests)
    assert first.text == "cat"
    assert first.token_counts.output_tokens > 2
    assert cut.text == "c"
    assert too_long.text == ""


def test_settings_lower_budgets_and_never_raise_them(mini: Any):
    assert mini._options({"max_new_tokens": 4096})["max_answer_tokens"] == 24
    assert mini._options({"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.9}) == {
        "max_answer_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert mini._options({"temperature": 0.7, "do_sample": False}) == {"temperature": 0.0}
    assert mini._options({"until": ["\n"]}) == {}


@pytest.mark.parametrize(("document", "count"), [(1, 0), (2, 2)])
def test_a_question_has_one_picture(mini: Any, document: int, count: int):
    with pytest.raises(BenchError, match=f"document {document} has {count} pictures"):
        mini.generate_until([request("What is this?", document)])


def test_what_the_runtime_cannot_do_is_refused(mini: Any):
    with pytest.raises(NotImplementedError, match="log-likelihoods"):
        mini.loglikelihood([])
    with pytest.raises(NotImplementedError, match="rounds"):
        mini.generate_until_multi_round([])


def test_the_old_name_of_mode_works_and_warns(plugin: ModuleType):
    with (
        pytest.warns(DeprecationWarning, match="way= is called mode= now"),
        pytest.raises(OptionError, match="mode='guess'"),
    ):
        plugin.EdgeET(way="guess")


def test_only_modes_that_answer_can_be_chosen(plugin: ModuleType):
    with pytest.raises(OptionError, match="one of extract-think, extract-answer, caption-think"):
        plugin.EdgeET(mode="extraction")
