#!/usr/bin/env bash
# Pillow 13.0.0: three pictures of 16-bit (or 12-bit) grey whose 8-bit twins are read right.
#
# - TIFF where white is zero: 8 bits are inverted to Pillow's "black is zero", 16 bits are not.
# - PNG with a transparent grey value: convert("RGBA") makes it transparent at 8 bits, not at 16.
# - TIFF of 12 bits: the mode is I;16, and the values stay 0..4095; nothing in the image tells it.
#
# Seen: [255, 155, 0], [0, 25700, 65535]; alpha [0, 255], [255, 255]; I;16 with at most 4095.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy

cat > grey.py <<'PYTHON'
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def png(bits: int, transparent: int, values: list[int]) -> bytes:
    """A grey PNG of one row, with a value that is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    row = b"\0" + np.array(values, ">u2" if bits == 16 else "u1").tobytes()
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", struct.pack(">H", transparent))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )


seen = {}
for kind, values in (("u1", [0, 100, 255]), ("u2", [0, 25700, 65535])):
    tifffile.imwrite(f"{kind}.tif", np.array([values], kind), photometric="miniswhite")
    seen[f"white is zero, {kind}"] = np.asarray(Image.open(f"{kind}.tif")).ravel().tolist()
for bits, values in ((8, [7, 200]), (16, [7 * 256, 200 * 256])):
    with open(f"{bits}.png", "wb") as file:
        file.write(png(bits, values[0], values))
    alpha = np.asarray(Image.open(f"{bits}.png").convert("RGBA"))[..., 3]
    seen[f"transparent, {bits} bits"] = alpha.ravel().tolist()

# 12 bits: one strip of two samples in three bytes, written by hand, as scanners do.
entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
entries += [(277, 3, 1), (278, 3, 1), (279, 4, 3)]
tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
strip = bytes([0x80, 0x0F, 0xFF]) + b"\0"  # 0x800 and 0xFFF
with open("12.tif", "wb") as file:
    file.write(b"II*\0" + struct.pack("<I", 12) + strip)
    file.write(struct.pack("<H", len(entries)) + tags + struct.pack("<I", 0))
image = Image.open("12.tif")
seen["12 bits"] = [image.mode, *np.asarray(image).ravel().tolist()]

for name, value in seen.items():
    print(f"{name}: {value}")
assert seen == {
    "white is zero, u1": [255, 155, 0],
    "white is zero, u2": [0, 25700, 65535],
    "transparent, 8 bits": [0, 255],
    "transparent, 16 bits": [255, 255],
    "12 bits": ["I;16", 2048, 4095],
}
PYTHON
v/bin/python grey.py
