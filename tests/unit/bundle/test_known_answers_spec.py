"""Known answers of a manifest: numbers that fit together, or an error that names what does not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.manifests import change

from edge_et.bundle import KnownModel, KnownTower, load_bundle
from edge_et.errors import ManifestSchemaError

TOWER = {"values": [0.5, -1.0], "min_cosine": 0.99, "max_difference": 0.1}
TOKEN = {"position": 1, "ids": [3, 4], "logprobs": [-0.7, -1.5]}
MODEL = {"prompt": [1, 2, 3], "tokens": [TOKEN], "max_kl": 0.1}


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"values": []}, "values"),
        ({"values": [0.0, 0.0]}, "all 0"),
        ({"min_cosine": 1.5}, "min_cosine"),
        ({"max_difference": 0}, "max_difference"),
        ({"more": 1}, "more"),
    ],
)
def test_a_tower_that_tells_nothing_is_refused(edit: dict[str, Any], told: str) -> None:
    assert msgspec.convert(TOWER, KnownTower).values == (0.5, -1.0)
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(TOWER | edit, KnownTower)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"position": 3}, "position 3 lies behind"),
        ({"position": -1}, "position"),
        ({"ids": [3]}, "1 `ids` and 2 `logprobs`"),
        ({"ids": [3, 3]}, "twice"),
        ({"logprobs": [-0.1, -0.2]}, "sum is more than 1"),
        ({"logprobs": [0.1, -5.0]}, "logprobs"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(edit: dict[str, Any], told: str) -> None:
    assert msgspec.convert(MODEL, KnownModel).max_kl == 0.1
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(MODEL | {"tokens": [TOKEN | edit]}, KnownModel)


def test_known_answers_are_of_models_that_there_are(folder: Path) -> None:
    def know(**parts: Any) -> None:
        change(folder, lambda content: content.update(known_answers=parts))

    change(folder, lambda content: content.pop("known_answers"))
    assert load_bundle(folder).manifest.known_answers is None
    know(reasoner=MODEL)
    found = load_bundle(folder).manifest.known_answers
    assert found is not None
    assert found.tower is None
    assert found.reasoner == msgspec.convert(MODEL, KnownModel)
    know(perceiver=MODEL | {"prompt": [1, 2**20, 3]})
    with pytest.raises(ManifestSchemaError, match="id 1048576 in a vocabulary of"):
        load_bundle(folder)
    know(reasoner=MODEL)
    change(folder, lambda content: content.update(reasoner=None))
    with pytest.raises(ManifestSchemaError, match="of a reasoner, and there is none"):
        load_bundle(folder)
