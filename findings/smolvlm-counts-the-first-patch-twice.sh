#!/usr/bin/env bash
# transformers 4.57.6: the vision towers of SmolVLM and Idefics3 give the patches of a full tile the
# positions 0, 0, 1, ..., n-2 along each side: the first is counted twice, and the last embedding of a
# row and of a column is never used. 5.24.0 gives 0 to n-1. Both load the same checkpoint without a
# word, so that their image tokens differ. 4.57 takes the places i/n times
# (1 - 1e-6) and puts them in buckets whose bounds are exactly i/n: every one falls short of its own.
#
# A converter that is checked against one of the two is right by that one alone.
#
# Seen, of a tile of 4 x 4 patches:
#   4.57.6: [0, 0, 1, 2, 0, 0, 1, 2, 4, 4, 5, 6, 8, 8, 9, 10]
#   5.24.0: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > positions.py <<'PYTHON'
import torch
import transformers
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

seen = []
for config, kind in (
    (Idefics3VisionConfig, Idefics3VisionEmbeddings),
    (SmolVLMVisionConfig, SmolVLMVisionEmbeddings),
):
    embeddings = kind(config(image_size=32, patch_size=8, hidden_size=16))
    embeddings.position_embedding.register_forward_hook(
        lambda module, given, made: seen.append(given[0].flatten().tolist())
    )
    embeddings(torch.zeros(1, 3, 32, 32), torch.ones(1, 4, 4, dtype=torch.bool))
assert seen[0] == seen[1], seen
print(f"{transformers.__version__}: {seen[0]}")
PYTHON

for version in 4.57.6 5.24.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet torch==2.13.0 pillow "transformers==$version"
    "venv-$version/bin/python" positions.py 2>> warnings.txt
done | tee seen.txt

diff seen.txt - <<'SEEN'
4.57.6: [0, 0, 1, 2, 0, 0, 1, 2, 4, 4, 5, 6, 8, 8, 9, 10]
5.24.0: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
SEEN
