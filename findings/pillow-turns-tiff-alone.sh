#!/usr/bin/env bash
# Pillow 13.0.0: a TIFF is turned by its orientation tag while it is loaded, and the tag removed; a
# JPEG, PNG or WebP with the same tag is not. Already after open() the TIFF has the turned size, and
# still the tag: whoever reads the tag there and turns the loaded pixels has turned them twice.
#
# Seen, for a picture saved with (20, 10) and 6: TIFF (10, 20) 6 -> (10, 20) None; the others
# (20, 10) 6 -> (20, 10) 6.
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
    if kind == "TIFF":
        assert (before, after) == (((10, 20), 6), ((10, 20), None))
    else:
        assert (before, after) == (((20, 10), 6), ((20, 10), 6))
PYTHON
v/bin/python turn.py
