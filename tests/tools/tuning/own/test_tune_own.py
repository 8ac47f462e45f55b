"""Tuning on own pictures: what is taught, how it is scored, which bundles can be tuned."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny.tokenizer import write_tokenizer

from edge_et.errors import TuningError
from edge_et.tuning.mini import recipe
from edge_et.tuning.own.own_pictures import OwnPicture, OwnPictures
from edge_et.tuning.own.tune_own import _OwnSource, score, tune_own
from edge_et.tuning.training.packed_samples import IGNORED


class Pipe:
    """Stands in for a bundle that takes everything for a washer."""

    def encode_image(self, picture: Image.Image) -> SimpleNamespace:
        colour = np.asarray(picture).mean() / 255
        return SimpleNamespace(rows=np.full((recipe.IMAGE_TOKENS, 8), colour, np.float32))

    def answer(self, image: object, question: str) -> SimpleNamespace:
        yes = "yes" if "washer" in question else "no"
        return SimpleNamespace(text="A washer." if question == "What is this?" else yes)


def picture(label: str, grey: int) -> OwnPicture:
    return OwnPicture(label, Path(f"{label}.png"), Image.new("RGB", (60, 40), (grey,) * 3))


PICTURES = OwnPictures(
    training=(picture("hex bolt", 40), picture("washer", 200)),
    held_out=(picture("hex bolt", 50), picture("washer", 190), picture("washer", 210)),
    broken=(),
)


def test_naming_and_existence_are_scored_for_every_label():
    found = score(Pipe(), PICTURES.held_out, PICTURES.labels)
    assert (found.naming.right, found.naming.asked) == (2, 3)
    assert (found.existence.right, found.existence.asked) == (4, 6)


def test_every_picture_is_taught_with_its_own_label_and_anothers_absence(tmp_path: Path):
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer.no_padding()
    bundle = SimpleNamespace(
        path=lambda ref: ref,
        manifest=SimpleNamespace(perceiver=SimpleNamespace(tokenizer=tmp_path / "tokenizer.json")),
    )
    source = _OwnSource(Pipe(), PICTURES, bundle)
    features, samples = source.batch(4)
    again, same = source.batch(4)
    assert features.shape == (8, recipe.IMAGE_TOKENS, 8)
    assert np.array_equal(features, again)
    for rows, sample, other in zip(features, samples, same, strict=True):
        assert np.array_equal(sample.token_ids, other.token_ids)
        label, absent = ("hex bolt", "washer") if rows.mean() < 0.45 else ("washer", "hex bolt")
        taught = sample.targets[sample.targets != IGNORED].tolist()
        text = tokenizer.decode(taught, skip_special_tokens=False)
        assert f"The picture shows {label} (center). There is no {absent}." in text
        assert f"Answer: {label}" in text
        assert f"Answer: {absent}" not in text


def test_only_bundles_of_the_mini_recipe_are_tuned(tmp_path: Path):
    manifest = SimpleNamespace(
        perceiver=SimpleNamespace(adapter=None),
        extract=SimpleNamespace(prompt=recipe.EXTRACT_PROMPT),
        think=SimpleNamespace(prompt=recipe.THINK_PROMPT),
    )
    bundle = SimpleNamespace(manifest=manifest, folder=tmp_path)
    with pytest.raises(TuningError, match="no bundle of the mini recipe"):
        tune_own(PICTURES, bundle, tmp_path / "out", tmp_path, 1, print)
    assert not (tmp_path / "out").exists()
