"""PNG and TIFF files of given samples, for what Pillow does not write."""

import struct
import zlib
from collections.abc import Sequence

Shape = tuple[int, int]  # width, height


def png(shape: Shape, bits: int, colour: int, rows: Sequence[bytes], *, key: bytes = b"") -> bytes:
    """Return a PNG.

    Args:
        shape: width and height.
        bits: of a sample.
        colour: the type, 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA.
        rows: packed samples.
        key: content of tRNS, the transparent colour.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", *shape, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", key) if key else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


def tiff(
    shape: Shape,
    bits: int,
    photometric: int,
    data: bytes,
    *,
    order: str = "<",
    samples: int = 1,
    **tags: int,
) -> bytes:
    """Return a TIFF of one strip, not compressed.

    Args:
        shape: width and height.
        bits: of a sample.
        photometric: 0 grey where white is zero, 1 grey, 2 RGB, 5 CMYK, 8 LAB.
        data: packed samples in `order`.
        order: of bytes, ``<`` or ``>``.
        samples: of a pixel.
        tags: `extra`, what the last sample is; `format`, 2 signed, 3 floating point.
    """
    width, height = shape
    data += b"\0" * (len(data) % 2)
    fields = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * samples),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [samples]),
        278: (4, [height]),
        279: (4, [len(data)]),
    }
    if "extra" in tags:
        fields[338] = (3, [tags["extra"]])
    if "format" in tags:
        fields[339] = (3, [tags["format"]] * samples)
    behind = 8 + len(data) + 2 + 12 * len(fields) + 4
    directory, long = struct.pack(f"{order}H", len(fields)), b""
    for tag, (kind, values) in fields.items():
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            long, packed = long + packed, struct.pack(f"{order}I", behind + len(long))
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + directory + bytes(4) + long
