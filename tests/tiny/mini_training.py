"""What the mini is trained on, small: two shards, an LLM, examples, samples."""

from pathlib import Path

import msgspec
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.vision.feature_shards import (
    SHARD_SCENES,
    FeatureShard,
    shard_path,
    write_shard,
)
from edge_et.tuning.training.example import Example
from edge_et.tuning.training.packed_samples import IGNORED, PackedSample
from tiny.mini_vision import CHANNELS, PIXEL_ROWS, WIDTH

WORDS = ("dog", "cat", "sun", "red square", "7", "s")


EXAMPLE = Example(
    kind="exists",
    question="Is there a <|im_end|> cat?",
    extraction="The picture shows dog (left). There is no cat.",
    reasoning="The description names no cat.",
    answer="no",
)


OTHER = Example(
    kind="where",
    question="Where is the dog?",
    extraction="The picture shows dog (left).",
    reasoning="The description places dog at the left.",
    answer="left",
)


class KilledError(Exception):
    pass


def tiny_llm() -> LlamaForCausalLM:
    """Make a frozen LLM of two layers, always the same."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=420,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).requires_grad_(requires_grad=False).eval()


def write_shards(folder: Path) -> list[Path]:
    """Write two shards in which a token's features tell its word.

    The classifier takes everything for a cat, most surely in the left half.
    """
    rng = np.random.default_rng(0)
    directions = 3 * rng.standard_normal((len(WORDS) + 1, CHANNELS))
    labels = [Label(word.split()[-1], None, word + "s") for word in WORDS]
    labels[WORDS.index("red square")] = Label("square", "red", "squares")
    labels.append(labels[0])
    paths = []
    for index in range(2):
        ids = rng.integers(-1, len(WORDS), size=(SHARD_SCENES, 64)).astype(np.int16)
        patches = np.repeat(np.repeat(ids.reshape(-1, 8, 8), 2, axis=1), 2, axis=2)
        early = directions[patches.reshape(SHARD_SCENES, 256)]
        hidden = np.concatenate([early[:, :1], early], axis=1)
        shares = np.zeros((SHARD_SCENES, 64, CHANNELS))
        shares[..., 0] = np.where(np.arange(64) % 8 < 4, 0.9, 0.5)
        read = np.zeros((SHARD_SCENES, recipe.READ_TOKENS, CHANNELS))
        places = rng.uniform(size=(SHARD_SCENES, len(labels), 2)).tolist()
        facts = [
            ObjectFacts(
                tuple(SceneObject(o, x, y, 0.3) for o, (x, y) in zip(labels, some, strict=True))
            )
            for some in places
        ]
        rows = [hidden, early, shares, read, np.zeros((SHARD_SCENES, PIXEL_ROWS, CHANNELS))]
        paths.append(shard_path(folder, index))
        write_shard(
            paths[-1],
            FeatureShard(
                features=np.concatenate([r.astype(np.float16) for r in rows], axis=1),
                words=np.array(WORDS),
                token_words=np.stack([ids, np.full_like(ids, -1)], axis=2),
                token_shares=np.stack([ids >= 0, np.zeros_like(ids)], axis=2).astype(np.float16),
                centres=ids == 0,
                facts=np.array([msgspec.json.encode(f).decode() for f in facts]),
            ),
        )
    return paths


def random_sample(rng: np.random.Generator, *branches: int) -> PackedSample:
    """Packs branches of random tokens, all but the first of each taught."""
    shared = 3 + recipe.IMAGE_TOKENS
    ids, targets = [1, 2, 3, *[0] * recipe.IMAGE_TOKENS], [IGNORED] * shared
    positions, owners = list(range(shared)), [0] * shared
    for number, length in enumerate(branches, 1):
        drawn = rng.integers(5, 400, length).tolist()
        ids += drawn
        targets += [*drawn[1:], IGNORED]
        positions += range(shared, shared + length)
        owners += [number] * length
    return PackedSample(np.array(ids), np.array(targets), np.array(positions), np.array(owners), 3)
