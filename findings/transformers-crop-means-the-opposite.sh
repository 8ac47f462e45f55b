#!/usr/bin/env bash
# transformers: `DynamicCache.crop(n)` kept the first n positions in 4.57.6. In 5.24.0 its argument is
# how many to remove, written as a negative number. A positive one raises an error that says so, but
# crop(0) raises nothing and keeps everything: code that cut a cache to the length of a common prefix
# goes on behind the old conversation wherever that prefix is empty.
#
# Seen, of a cache that holds 8 positions:
#   4.57.6: crop(5) leaves 5, crop(0) leaves 0, crop(-2) leaves 6
#   5.24.0: crop(5) raises ValueError, crop(0) leaves 8, crop(-2) leaves 6
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > crop.py <<'PYTHON'
import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes, **heads)).eval()


def cropped(argument):
    cache = DynamicCache(config=model.config)
    model(torch.arange(8)[None], past_key_values=cache, use_cache=True)
    try:
        cache.crop(argument)
    except ValueError:
        return f"crop({argument}) raises ValueError"
    return f"crop({argument}) leaves {cache.get_seq_length()}"


print(f"{transformers.__version__}: {', '.join(map(cropped, (5, 0, -2)))}")
PYTHON

for version in 4.57.6 5.24.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet torch==2.13.0 "transformers==$version"
    "venv-$version/bin/python" crop.py 2>> warnings.txt
done | tee seen.txt

diff seen.txt - <<'SEEN'
4.57.6: crop(5) leaves 5, crop(0) leaves 0, crop(-2) leaves 6
5.24.0: crop(5) raises ValueError, crop(0) leaves 8, crop(-2) leaves 6
SEEN
