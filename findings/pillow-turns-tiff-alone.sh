#!/usr/bin/env bash
# Pillow 13.0.0: loading a TIFF turns its pixels by the orientation tag and removes the tag; loading
# a JPEG, PNG or WebP with the same tag does neither. So the size changes under load(), and whoever
# reads the tag after open() and turns the pixels after load() has turned a TIFF twice.
#
# Seen: TIFF (20, 10) 6 -> (10, 20) None; the others (20, 10) 6 -> (20, 10) 6.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip install --quiet pillow==13.0.0

cat > turn.py <<'PYTHON'
import io

from PIL import Image

ORIENTATION = 274
exif = Image.Exif()
exif[ORIENTATION] = 6
for kind in ("TIFF", "JPEG", "PNG", "WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, kind, exif=exif)
    image = Image.open(file)
    before = image.size, image.getexif().get(ORIENTATION)
    image.load()
    after = image.size, image.getexif().get(ORIENTATION)
    print(kind, *before, "->", *after)
    turned = ((10, 20), None) if kind == "TIFF" else ((20, 10), 6)
    assert (before, after) == (((20, 10), 6), turned)
PYTHON
v/bin/python turn.py
