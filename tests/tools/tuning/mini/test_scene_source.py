"""Batches of scenes: the same for a step, and questions of the kinds that were asked for."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny.mini_vision import CHANNELS, PIXEL_ROWS

from edge_et.errors import TuningError
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.scene_source import Mixture, SceneSource, conversations
from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES, load_shard, write_shard
from edge_et.tuning.training.packed_samples import IGNORED, PackedSample


def test_a_step_always_draws_the_same_batch(tokenizer, shards: list[Path]):
    mixture = Mixture(extractions=1, captions=1, direct=2)

    def draw(step: int) -> tuple[torch.Tensor, list[PackedSample]]:
        return SceneSource(shards, mixture, 16, tokenizer, 0).batch(step)

    features, samples = draw(7)
    again, same = draw(7)
    assert torch.equal(features, again)
    assert features.shape == (16, 609 + PIXEL_ROWS, CHANNELS)
    for one, other in zip(samples, same, strict=True):
        assert np.array_equal(one.token_ids, other.token_ids)
        assert one.branches.max() == 4
    assert not torch.equal(features, draw(8)[0])
    scenes = torch.cat([draw(step)[0] for step in range(16)])
    assert len(torch.unique(scenes, dim=0)) == SHARD_SCENES


def test_practice_is_of_two_steps_about_any_scene_and_takes_nothing_from_the_others(
    tokenizer, shards: list[Path]
):
    plain, practised = (
        SceneSource(shards, Mixture(extractions=1, practice=number), 16, tokenizer, 0)
        for number in (0, 2)
    )
    for sample, more in zip(plain.batch(3)[1], practised.batch(3)[1], strict=True):
        shared = len(sample.token_ids)
        assert np.array_equal(more.token_ids[:shared], sample.token_ids)
        assert more.branches.max() == 3
        for branch in (2, 3):
            text = tokenizer.decode(more.token_ids[more.branches == branch].tolist())
            taught = more.targets[(more.branches == branch) & (more.targets != IGNORED)]
            assert "Describe the picture. Pay attention to:" in text
            assert "\nAnswer: " in tokenizer.decode(taught.tolist())
            assert "Describe" not in tokenizer.decode(taught.tolist())


def test_what_is_at_a_place_is_looked_up_where_several_things_are():
    cat, dog = (
        SceneObject(Label(name, None, f"{name}s"), x, 0.5, 0.3)
        for name, x in (("cat", 0.2), ("dog", 0.8))
    )
    mixture = Mixture(extractions=1, lookups=3, think_share=0.0)

    def further(*objects: SceneObject) -> list[str]:
        rng = np.random.default_rng(0)
        turns = conversations(ObjectFacts(objects), mixture, rng)[1:]
        assert all(use != "recalled" for turn in turns for _, use in turn)
        return ["".join(text for text, use in turn if use == "taught") for turn in turns]

    assert further(cat) == []
    told = further(cat, dog)
    assert len(told) == 3
    assert set(told) <= {
        f"The {place} of the picture shows {name}.<|im_end|>\n"
        for place, name in (("left", "cat"), ("right", "dog"))
    }


def test_nothing_to_practise_on_is_told(tokenizer, shards: list[Path], tmp_path: Path):
    shard = load_shard(shards[0])
    alone = ObjectFacts((SceneObject(Label("cat", None, "cats"), 0.5, 0.5, 0.5),))
    facts = np.array([msgspec.json.encode(alone).decode()] * SHARD_SCENES)
    write_shard(tmp_path / "shard.npz", replace(shard, features=shard.features[:, :1], facts=facts))
    source = SceneSource([tmp_path / "shard.npz"], Mixture(practice=1), 16, tokenizer, 0)
    with pytest.raises(TuningError, match="train without 'practice'"):
        source.batch(0)
