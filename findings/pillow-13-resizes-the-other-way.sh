#!/usr/bin/env bash
# Pillow 13.0.0: Image.resize filters in two passes with 8-bit values between them, and the order of
# the passes decides the result. Up to 12.1 the horizontal pass always came first. 13.0 begins with the
# vertical one in many pictures that get lower, so that the same call gives other pixels: of noise up to
# 20 grey levels, of photographs 1 to 3. Other target sizes keep the old order.
#
# A vision model's reference pixels, caches of image tokens and golden files therefore belong to a
# version of Pillow; transformers' PIL backend moves along with it.
#
# Seen, of 480 x 640 pixels of noise, bicubic; which pass is first (largest difference from the other):
#   12.1.1: 512x512 horizontal (20), 384x384 horizontal (12), 224x224 horizontal (4)
#   13.0.0: 512x512 vertical (20), 384x384 vertical (12), 224x224 horizontal (4)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > order.py <<'PYTHON'
import numpy as np
import PIL
from PIL import Image

BICUBIC = Image.Resampling.BICUBIC
pixels = np.random.default_rng(0).integers(0, 256, (640, 480, 3), dtype=np.uint8)
picture = Image.fromarray(pixels)


def differ(one, other):
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


told = []
for side in (512, 384, 224):
    at_once = picture.resize((side, side), BICUBIC)
    horizontal = picture.resize((side, 640), BICUBIC).resize((side, side), BICUBIC)
    vertical = picture.resize((480, side), BICUBIC).resize((side, side), BICUBIC)
    first = "horizontal" if differ(at_once, horizontal) == 0 else "vertical"
    assert differ(at_once, {"horizontal": horizontal, "vertical": vertical}[first]) == 0
    told.append(f"{side}x{side} {first} ({differ(horizontal, vertical)})")
print(f"{PIL.__version__}: {', '.join(told)}")
PYTHON

for version in 12.1.1 13.0.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet numpy==2.2.6 "pillow==$version"
    "venv-$version/bin/python" order.py
done | tee seen.txt

diff seen.txt - <<'SEEN'
12.1.1: 512x512 horizontal (20), 384x384 horizontal (12), 224x224 horizontal (4)
13.0.0: 512x512 vertical (20), 384x384 vertical (12), 224x224 horizontal (4)
SEEN
