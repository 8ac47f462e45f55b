"""What is refused before Ray does anything."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from edge_et.errors import MissingExtraError, OptionError
from edge_et.ray import answer_dataset
from edge_et.ray.dataset import _check_columns, _room


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_cpus": 0}, "num_cpus"),
        ({"num_cpus": 0.5}, "num_cpus"),
        ({"num_cpus": True}, "num_cpus"),
        ({"actors": 0}, "actors"),
        ({"blocks": 0}, "blocks"),
        ({"ask": " "}, "question"),
        ({"model": 3}, "model"),
        ({"temperature": -1}, "temperature"),
        ({"kind": "number", "choices": ("a", "b")}, "kind"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as caught:
        answer_dataset(None, **arguments)
    assert caught.value.name == name


def test_unknown_options_are_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="temprature"):
        answer_dataset(None, temprature=1)  # type: ignore[call-arg]


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pip install "edge-et\[ray\]"'):
        answer_dataset(None)


class Dataset:
    """A dataset that tells its columns."""

    def __init__(self, **columns: str) -> None:
        self._columns = columns

    def schema(self) -> SimpleNamespace | None:
        names, types = list(self._columns), list(self._columns.values())
        return SimpleNamespace(names=names, types=types) if names else None


@pytest.mark.parametrize("kind", ["string", "binary", "large_string", "object", "null"])
def test_columns_that_fit_are_taken(kind: str) -> None:
    _check_columns(Dataset(id="int64", path=kind, question="string"), {"image": "path"})


def test_a_dataset_without_rows_is_taken() -> None:
    _check_columns(Dataset(), {"image": "image", "question": "question"})


@pytest.mark.parametrize(
    ("columns", "name", "told"),
    [
        ({"path": "string", "question": "string"}, "image", "one of the columns path, question"),
        ({"image": "string", "ask": "string"}, "question", "one of the columns image, ask"),
        ({"image": "int64", "question": "string"}, "image", "paths or bytes, this is int64"),
        ({"image": "string", "question": "string", "text": "string"}, "dataset", "columns text"),
    ],
)
def test_other_columns_are_refused(columns: dict[str, str], name: str, told: str) -> None:
    with pytest.raises(OptionError, match=told) as caught:
        _check_columns(Dataset(**columns), {"image": "image", "question": "question"})
    assert caught.value.name == name


def cluster(*cpus: float) -> Any:
    nodes = [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]
    gone = {"Alive": False, "Resources": {"CPU": 64.0}}
    driver = {"Alive": True, "Resources": {}}
    return SimpleNamespace(nodes=lambda: [*nodes, gone, driver])


@pytest.mark.parametrize(
    ("cpus", "num_cpus", "room"),
    [
        ((4.0, 4.0, 4.0), 1, 12),
        ((4.0, 4.0, 4.0), 4, 3),
        ((4.0, 4.0, 4.0), 3, 3),
        ((2.0, 8.0), 4, 2),
    ],
)
def test_an_actor_stands_on_one_machine(cpus: tuple[float, ...], num_cpus: int, room: int) -> None:
    assert _room(cluster(*cpus), num_cpus) == room


def test_more_cpus_than_any_machine_has_are_refused() -> None:
    """Ray would wait for such a machine, and say nothing."""
    with pytest.raises(OptionError, match=r"num_cpus=8: expected at most .* of the cluster, 4"):
        _room(cluster(4.0, 2.0), 8)
