"""The vision head: it is what is exported, and what it lists and trusts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.mini_vision import PIXEL_ROWS, WIDTH

from edge_et.errors import TuningError
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.vision.backbone import pixel_values
from edge_et.tuning.mini.vision.crop_classifier import NAMES
from edge_et.tuning.mini.vision.feature_shards import load_shard
from edge_et.tuning.mini.vision.vision_head import VisionHead


def test_trunk_and_head_are_the_tower_that_is_exported(vision):
    trunk, head, tower = vision()
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (224, 224, 3)).astype(np.uint8) for _ in range(2)]
    for tensor in (head.projector.place_codes, head.trust.vectors, head.trust.decide.bias):
        torch.nn.init.normal_(tensor)
    with torch.no_grad():
        whole = tower(pixel_values(pictures))
        parts = head(torch.from_numpy(trunk(pictures)).float())[:, : -recipe.READ_TOKENS]
    assert whole.shape == (
        2,
        recipe.SEEN_TOKENS + recipe.THING_TOKENS * recipe.LISTED_THINGS,
        WIDTH,
    )
    # The trunk works in bfloat16 where the processor can, and is kept in float16.
    torch.testing.assert_close(parts, whole, atol=0.05, rtol=0.05)


def test_without_trust_the_tokens_are_the_projectors(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:4]).float()
    torch.nn.init.constant_(head.trust.decide.bias, -1e4)
    torch.nn.init.normal_(head.trust.vectors)
    with torch.no_grad():
        seen = head(features)[:, : recipe.SEEN_TOKENS]
        torch.testing.assert_close(seen, head.own_tokens(features))


def test_features_of_another_version_are_told_by_name(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:1, :-PIXEL_ROWS]).float()
    with pytest.raises(TuningError, match="remove the folder 'features'"):
        head(features)


def test_of_a_photograph_the_classifiers_word_is_listed_alone(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:4]).float()
    torch.nn.init.normal_(head.trust.vectors)
    torch.nn.init.normal_(head.projector.place_codes)
    listing = head.inventory
    listing.begin_as(
        numbers=torch.randn(recipe.LISTED_THINGS, WIDTH),
        places=torch.randn(9, WIDTH),
        names=torch.randn(len(NAMES), WIDTH),
        size=torch.randn(WIDTH),
        otherwise=torch.randn(WIDTH),
        nothing=torch.zeros(WIDTH),
    )
    torch.nn.init.constant_(head.trust.decide.bias, 1e4)
    with torch.no_grad():
        listed = head(features)[:, recipe.SEEN_TOKENS : -recipe.READ_TOKENS]
        overall = head.judged(features)[1].mean(dim=1)
    word = overall**3 / (overall**3).sum(dim=-1, keepdim=True) @ head.trust.vectors
    assert (listed[:, 0] == listing.numbers[0] + listing.places[4]).all()
    # The fifth token of the fifth row lies in the middle.
    place = head.projector.place_codes[36] + 0.5 * listing.places[4]
    torch.testing.assert_close(listed[:, 1], word + place)
    assert (listed[:, 2:] == 0).all()
