"""Alignment: image tokens name what they show, its place and its number."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from tiny.mini_training import WORDS, KilledError
from tiny.mini_vision import WIDTH

from edge_et.tuning.mini.concepts import PLACES
from edge_et.tuning.mini.vision.align import (
    AlignSettings,
    WordTargets,
    _objects_under,
    align,
    cell_accuracy,
)
from edge_et.tuning.mini.vision.feature_shards import load_shard


def test_alignment_names_cells_and_goes_on_after_a_kill(
    tokenizer, vision, shards: list[Path], tmp_path: Path
):
    torch.manual_seed(1)
    targets = WordTargets(torch.randn(420, WIDTH), tokenizer, WORDS)
    settings = AlignSettings(epochs=6, projector_rate=1e-2, checkpoint_steps=10)
    whole = vision()[1]
    align(whole, targets, shards[:1], tmp_path / "whole.pt", settings)
    assert cell_accuracy(whole, targets, shards[1:]) > 0.9

    def kill(record: dict) -> None:
        if record["step"] == 25:
            raise KilledError

    killed = vision()[1]
    with pytest.raises(KilledError):
        align(killed, targets, shards[:1], tmp_path / "killed.pt", settings, kill)
    resumed = vision()[1]
    align(resumed, targets, shards[:1], tmp_path / "killed.pt", settings)
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)


def test_all_tokens_of_an_object_tell_its_place_and_the_number_of_its_kind(shards: list[Path]):
    shard = load_shard(shards[0])
    places, counts = _objects_under(shard, 3)
    shown = shard.scene_facts(3).objects
    by_words = defaultdict(set)
    for item in shown:
        by_words[item.label.words].add(item.place)
    numbers = Counter(item.label.words for item in shown)
    names = [place for row in PLACES for place in row]
    for token, (place, count) in enumerate(zip(places, counts, strict=True)):
        word = shard.token_words[3, token, 0]
        if word < 0:
            assert place == count == -1
        else:
            words = str(shard.words[word])
            assert names[place] in by_words[words]
            assert count + 1 == numbers[words]
