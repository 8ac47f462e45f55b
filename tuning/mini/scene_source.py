"""Training batches from feature shards: scenes in a new order every round, questions drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from edge_et.errors import TuningError
from edge_et.tuning.mini.facts import Facts, printed_words
from edge_et.tuning.mini.questions.ask import ask, caption, kinds_for
from edge_et.tuning.mini.questions.kinds import RELATION_KINDS, TWO_STEP_KINDS
from edge_et.tuning.mini.recipe import PROMPTS
from edge_et.tuning.mini.vision.feature_shards import SHARD_SCENES, FeatureShard, load_shard
from edge_et.tuning.training.conversations import (
    Turns,
    captioned,
    captioned_two_stage,
    direct,
    extraction_only,
    practice,
    two_stage,
)
from edge_et.tuning.training.example import Example
from edge_et.tuning.training.packed_samples import PackedSample, pack

# Where few kinds of question fit a picture, the one with nothing to see is left out at times.
_MANY_KINDS = 4
_REFUSED_SHARE = 0.4
# How much oftener than others the questions are drawn that are the hardest to learn.
_OFTENER = 2.0
_LOOKUP = "what_at"
_HARDEST = (*RELATION_KINDS, _LOOKUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What is taught about one scene.

    Attributes:
        extractions: questions answered in two stages.
        captions: descriptions without a question.
        direct: questions answered at once.
        practice: questions of two steps about another scene, behind what the extraction should say
            of that one. The reasoning alone is taught: to read the extraction, and not the picture.
        lookups: further extractions of what is at a place, of scenes that hold several things. They
            are short, and looking up takes many to learn.
        think_share: extractions and captions that are taught with the reasoning after them; those
            for questions of two steps are always, as reasoning is what they need.
    """

    extractions: int = 0
    captions: int = 0
    direct: int = 0
    practice: int = 0
    lookups: int = 0
    think_share: float = 0.3


class SceneSource:
    """Draws scenes and questions; the same step always draws the same ones.

    Args:
        shards: to draw from, one after the other, in a new order every round.
        mixture: what is taught about a scene.
        scenes_per_step: which divides `SHARD_SCENES`.
        tokenizer: the LLM's.
        seed: of orders and questions.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        mixture: Mixture,
        scenes_per_step: int,
        tokenizer: Tokenizer,
        seed: int,
    ) -> None:
        self._shards = shards
        self._mixture = mixture
        self._scenes_per_step = scenes_per_step
        self._tokenizer = tokenizer
        self._seed = seed
        self._open: tuple[Path, FeatureShard] | None = None

    def batch(self, step: int) -> tuple[torch.Tensor, list[PackedSample]]:
        """Return features float32 [B, ...] and one packed sample for each scene."""
        visit, within = divmod(step, SHARD_SCENES // self._scenes_per_step)
        round_, turn = divmod(visit, len(self._shards))
        order = np.random.default_rng([self._seed, round_]).permutation(len(self._shards))
        shard = self._load(self._shards[order[turn]])
        scenes = np.random.default_rng([self._seed, 1, visit]).permutation(SHARD_SCENES)
        rows = scenes[within * self._scenes_per_step :][: self._scenes_per_step]
        samples = []
        for row in rows:
            rng = np.random.default_rng([self._seed, 2, step, int(row)])
            facts = shard.scene_facts(int(row))
            turns = conversations(facts, self._mixture, rng)
            printed = [printed_words(facts)] * len(turns)
            for _ in range(self._mixture.practice):
                other, example = _two_steps(shard, rng)
                turns.append(practice(example, PROMPTS))
                printed.append(printed_words(other))
            samples.append(pack(turns, self._tokenizer, PROMPTS, printed))
        return torch.from_numpy(shard.features[rows]).float(), samples

    def _load(self, path: Path) -> FeatureShard:
        if self._open is None or self._open[0] != path:
            self._open = (path, load_shard(path))
        return self._open[1]


def conversations(facts: Facts, mixture: Mixture, rng: np.random.Generator) -> list[Turns]:
    """Draw what is taught about one scene, a branch each."""
    examples = _examples(facts, mixture.extractions + mixture.direct, rng)
    turns = []
    for example in examples[: mixture.extractions]:
        thinks = example.kind in TWO_STEP_KINDS or rng.random() < mixture.think_share
        turns.append(two_stage(example, PROMPTS) if thinks else extraction_only(example, PROMPTS))
    turns += [direct(example, PROMPTS) for example in examples[mixture.extractions :]]
    for _ in range(mixture.lookups if _LOOKUP in kinds_for(facts) else 0):
        lookup = ask(facts, _LOOKUP, rng)
        assert lookup is not None
        turns.append(extraction_only(lookup, PROMPTS))
    for _ in range(mixture.captions):
        about = _examples(facts, 1, rng)[0]
        if rng.random() < mixture.think_share:
            turns.append(captioned_two_stage(caption(facts), about, PROMPTS))
        else:
            turns.append(captioned(caption(facts), PROMPTS))
    return turns


def _two_steps(shard: FeatureShard, rng: np.random.Generator) -> tuple[Facts, Example]:
    """Draw a question of two steps about any scene of a shard that has one."""
    for scene in rng.permutation(SHARD_SCENES).tolist():
        facts = shard.scene_facts(scene)
        kinds = [kind for kind in kinds_for(facts) if kind in TWO_STEP_KINDS]
        if kinds:
            example = ask(facts, kinds[int(rng.integers(len(kinds)))], rng)
            assert example is not None
            return facts, example
    raise TuningError(
        "no scene of a feature shard has a question of two steps; train without 'practice'"
    )


def _examples(facts: Facts, count: int, rng: np.random.Generator) -> list[Example]:
    """Draw questions about one scene, of different kinds as far as there are any."""
    kinds = kinds_for(facts)
    if len(kinds) < _MANY_KINDS and rng.random() > _REFUSED_SHARE:
        kinds.remove("unknown")
    weights = np.array([_OFTENER if kind in _HARDEST else 1.0 for kind in kinds])
    order = rng.choice(kinds, len(kinds), replace=False, p=weights / weights.sum()).tolist()
    drawn = (ask(facts, order[i % len(order)], rng) for i in range(count))
    return [example for example in drawn if example is not None]
