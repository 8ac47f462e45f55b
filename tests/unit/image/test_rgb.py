"""Pixels of every mode, compared with the samples in the files."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny.picture_files import png, tiff

from edge_et.errors import ImageInputError
from edge_et.image import load_image

VALUES = [0, 1, 128, 129, 257, 4095, 32896, 50000, 65535]
SHAPE = (len(VALUES), 1)
WHITE = [255, 255, 255]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def loaded(data: bytes) -> Image.Image:
    image = opened(data)
    image.load()
    return image


def row(source: Any) -> list[list[int]]:
    return np.asarray(load_image(source))[0].tolist()  # type: ignore[no-any-return]


def greys(source: Any) -> list[int]:
    found = row(source)
    assert all(len(set(pixel)) == 1 for pixel in found)
    return [pixel[0] for pixel in found]


def of_16_bits(values: list[int]) -> list[int]:
    return [round(value / 257) for value in values]


def big_endian(values: list[int]) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


SIXTEEN_BITS = {
    "PNG": png(SHAPE, 16, 0, [big_endian(VALUES)]),
    "TIFF": tiff(SHAPE, 16, 1, np.array(VALUES, "<u2").tobytes()),
    "TIFF, big-endian": tiff(SHAPE, 16, 1, big_endian(VALUES), order=">"),
    "PGM": b"P5 %d %d 65535\n" % SHAPE + big_endian(VALUES),
}


@pytest.mark.parametrize("kind", SIXTEEN_BITS)
@pytest.mark.parametrize("how", [bytes, opened, loaded])
def test_grey_of_16_bits_has_their_range(kind: str, how: Any) -> None:
    assert greys(how(SIXTEEN_BITS[kind])) == of_16_bits(VALUES)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_arrays_of_16_bits_have_their_range(dtype: str) -> None:
    image = Image.fromarray(np.array([VALUES], dtype))
    assert image.mode.startswith("I;16")
    assert greys(image) == of_16_bits(VALUES)


@pytest.mark.parametrize("how", [bytes, opened, loaded])
def test_grey_where_white_is_zero(how: Any) -> None:
    assert greys(how(tiff((8, 1), 1, 0, b"\xa0"))) == [0, 255, 0, *[255] * 5]
    assert greys(how(tiff((2, 1), 4, 0, b"\x0f"))) == [255, 0]
    assert greys(how(tiff((2, 1), 8, 0, b"\x00\xc8"))) == [255, 55]
    data = tiff(SHAPE, 16, 0, np.array(VALUES, "<u2").tobytes())
    assert greys(how(data)) == [255 - value for value in of_16_bits(VALUES)]


def test_packed_grey_where_white_is_zero() -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.array([VALUES], np.uint16))
    image.save(buffer, "TIFF", compression="tiff_deflate", tiffinfo={262: 0})
    assert opened(buffer.getvalue()).tag_v2[262] == 0  # type: ignore[attr-defined]
    assert greys(buffer.getvalue()) == [255 - value for value in of_16_bits(VALUES)]


@pytest.mark.parametrize("how", [bytes, opened, loaded])
def test_grey_of_12_bits_has_their_range(how: Any) -> None:
    values = bytes([0x10, 0x0F, 0xFF, 0x80, 0x00, 0x00])  # 0x100, 0xfff, 0x800, 0
    assert greys(how(tiff((4, 1), 12, 1, values))) == [16, 255, 128, 0]


def test_grey_maps_have_the_range_that_they_say() -> None:
    data = struct.pack(">4H", 0, 1000, 500, 4)
    assert greys(b"P5 4 1 1000\n" + data) == [0, 255, 128, 1]
    assert greys(b"P2 4 1 1000\n0 1000 500 4\n") == [0, 255, 128, 1]
    assert greys(b"P5 2 1 15\n\x0f\x05") == [255, 85]


UNKNOWN_RANGES = {
    "array of small integers": Image.fromarray(np.full((2, 2), 200, np.int32)),
    "8 bits made integers": Image.new("L", (2, 2), 200).convert("I"),
    "16 bits made integers": Image.fromarray(np.full((2, 2), 9000, np.uint16)).convert("I"),
    "floats": Image.fromarray(np.ones((2, 2), np.float32)),
    "transparent floats": Image.new("F", (2, 2)),
    "TIFF of 32 bits": tiff((1, 1), 32, 1, struct.pack("<I", 200)),
    "TIFF of signed bytes": tiff((2, 1), 8, 1, struct.pack("bb", 100, -3), format=2),
    "TIFF of signed 16 bits": tiff((1, 1), 16, 1, struct.pack("<h", 200), format=2),
    "TIFF of floats": tiff((1, 1), 32, 1, struct.pack("<f", 0.5), format=3),
    "TIFF of floats where white is zero": tiff((1, 1), 32, 0, struct.pack("<f", 0.5), format=3),
    "map of floats": b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5),
}
UNKNOWN_RANGES["transparent floats"].info["transparency"] = 0  # type: ignore[union-attr]


@pytest.mark.parametrize("name", UNKNOWN_RANGES)
def test_values_without_a_known_range_are_refused(name: str) -> None:
    with pytest.raises(ImageInputError, match=r"no known range.*scale them to 0 to 255"):
        load_image(UNKNOWN_RANGES[name])


def test_the_advice_about_unknown_ranges_helps() -> None:
    for dtype in (np.int32, np.float32):
        values = np.array([[0, 1, 200, 255]], dtype)
        assert greys(Image.fromarray(values).convert("L")) == [0, 1, 200, 255]


def test_the_transparent_grey_of_a_png_is_white() -> None:
    samples = {
        1: (b"\x50", [0, 255, 0, 255], 1),
        2: (b"\x1b", [0, 85, 170, 255], 2),
        4: (b"\x0f\x5a", [0, 255, 85, 170], 5),
        8: (b"\x00\x05\x0a\xff", [0, 5, 10, 255], 5),
        16: (big_endian([0, 257, 1000, 65535]), [0, 1, 4, 255], 1000),
    }
    transparent = {1: [1, 3], 2: [2], 4: [2], 8: [1], 16: [2]}
    for bits, (data, expected, key) in samples.items():
        whole = png((4, 1), bits, 0, [data])
        keyed = png((4, 1), bits, 0, [data], key=struct.pack(">H", key))
        assert greys(whole) == expected, bits
        for place in transparent[bits]:
            expected[place] = 255
        assert greys(keyed) == greys(opened(keyed)) == expected, bits


def test_the_transparent_colour_of_a_png_is_white() -> None:
    colours = [(0, 0, 0), (1, 2, 3), (3, 2, 1), (200, 200, 200)]
    expected = [[0, 0, 0], WHITE, [3, 2, 1], [200, 200, 200]]
    data = bytes(value for colour in colours for value in colour)
    assert row(png((4, 1), 8, 2, [data], key=struct.pack(">3H", 1, 2, 3))) == expected
    data = big_endian([value * 256 + 77 for colour in colours for value in colour])
    key = struct.pack(">3H", *(value * 256 + 77 for value in (1, 2, 3)))
    assert row(png((4, 1), 16, 2, [data], key=key)) == expected


def test_alpha_of_16_bits() -> None:
    half = 0x7FFF
    found = row(png((2, 1), 16, 4, [big_endian([0x0A00, half, 0x0A00, 0])]))
    np.testing.assert_allclose(found, [[132, 132, 132], WHITE], atol=1)
    found = row(png((2, 1), 16, 6, [big_endian([0x0A00, 0x1400, 0x1E00, half, 0, 0, 0, 0])]))
    np.testing.assert_allclose(found, [[132, 137, 142], WHITE], atol=1)


def test_alpha_in_tiffs() -> None:
    """Extra sample 1: colours were multiplied with alpha; 2: they were not; 0: it is none."""
    grey, colour = bytes([50, 128, 10, 0]), bytes([10, 20, 30, 128])
    for extra, expected in ((0, [50, 10]), (1, [177, 255]), (2, [152, 255])):
        found = greys(tiff((2, 1), 8, 1, grey, samples=2, extra=extra))
        np.testing.assert_allclose(found, expected, atol=1)
    for extra, expected in ((0, [10, 20, 30]), (1, [137, 147, 157]), (2, [132, 137, 142])):
        found = row(tiff((1, 1), 8, 2, colour, samples=4, extra=extra))[0]
        np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_alpha_in_images(mode: str) -> None:
    half = Image.new("RGBA", (1, 1), (40, 40, 40, 128))
    image = half.convert("LA").convert("La") if mode == "La" else half.convert(mode)
    np.testing.assert_allclose(row(image), [[147, 147, 147]], atol=2)


def test_palettes() -> None:
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert row(image) == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    image.info["transparency"] = 1
    assert row(image) == [[10, 20, 30], WHITE, [70, 80, 90]]
    image.info["transparency"] = bytes([255, 255, 0])
    assert row(image) == [[10, 20, 30], [40, 50, 60], WHITE]
    with_alpha = Image.new("P", (2, 1))
    with_alpha.putdata([0, 1])
    with_alpha.putpalette([10, 20, 30, 255, 40, 50, 60, 0], "RGBA")
    assert row(with_alpha) == [[10, 20, 30], WHITE]


def test_other_colour_spaces() -> None:
    assert row(tiff((2, 1), 8, 5, bytes([0, 255, 255, 0, 0, 0, 0, 255]), samples=4)) == [
        [255, 0, 0],
        [0, 0, 0],
    ]
    lab = row(tiff((2, 1), 8, 8, struct.pack("BbbBbb", 255, 0, 0, 136, 81, 70), samples=3))
    np.testing.assert_allclose(lab, [WHITE, [255, 0, 0]], atol=6)  # red is L 54, a 81, b 70 (D50)
    for mode in ("YCbCr", "HSV", "CMYK", "RGBX"):
        np.testing.assert_allclose(
            row(Image.new("RGB", (1, 1), (200, 40, 90)).convert(mode)), [[200, 40, 90]], atol=3
        )


def test_inks_in_jpegs_of_adobe_are_inverted() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    assert b"Adobe" in buffer.getvalue()
    np.testing.assert_allclose(row(buffer.getvalue())[8], [255, 0, 0], atol=3)


def test_a_transparency_that_a_mode_cannot_have_is_none() -> None:
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    image.info["transparency"] = 0
    assert row(image) == [[255, 0, 0]]
    for mode in ("L", "RGB"):
        image = Image.new(mode, (1, 1))
        image.info["transparency"] = b"\0"
        assert row(image) == [[0, 0, 0]]


def test_the_source_is_left_as_it_was() -> None:
    for mode in ("1", "L", "RGB"):
        image = Image.new(mode, (2, 1))
        image.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
        before = image.copy()
        assert row(image) == [WHITE, WHITE]
        assert (image.tobytes(), image.info) == (before.tobytes(), before.info)
