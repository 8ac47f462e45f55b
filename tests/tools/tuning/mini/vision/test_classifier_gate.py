"""The gate: the classifier is trusted where it is right."""

from pathlib import Path

import torch
from tiny.mini_training import WORDS
from tiny.mini_vision import CLASS_WORDS, WIDTH

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.vision.classifier_gate import fit_trust
from edge_et.tuning.mini.vision.feature_shards import load_shard
from edge_et.tuning.mini.vision.vision_head import VisionHead


def test_the_classifier_is_trusted_where_it_is_right(head: VisionHead, shards: list[Path]):
    vectors = torch.randn(len(CLASS_WORDS), WIDTH)
    own = {name: tensor.clone() for name, tensor in head.projector.state_dict().items()}
    fit_trust(head, CLASS_WORDS, vectors, shards[:1], 0)
    for name, tensor in head.projector.state_dict().items():
        assert torch.equal(tensor, own[name])
    shard = load_shard(shards[1])
    features = torch.from_numpy(shard.features[:32]).float()
    with torch.no_grad():
        tokens = head(features)[:, : recipe.SEEN_TOKENS] - head.projector.place_codes
        trust = head.trust.logits(*head.judged(features)).sigmoid()
    a_cat = torch.from_numpy(shard.token_words[:32, :, 0] == WORDS.index("cat"))
    assert trust[a_cat].mean() > 0.9
    assert trust[~a_cat].mean() < 0.1
    likeness = torch.nn.functional.cosine_similarity(tokens, vectors[0], dim=-1)
    assert likeness[trust > 0.95].min() > 0.8
