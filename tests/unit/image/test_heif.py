import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image

from edge_et.errors import ImageDecodeError, ImageTooLargeError
from edge_et.image import load_image

UPRIGHT = np.zeros((64, 96, 3), np.uint8)
UPRIGHT[:32, :48], UPRIGHT[32:, 48:] = (255, 0, 0), (0, 0, 255)


def heic(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


DATA = heic(Image.fromarray(UPRIGHT))


class Unseekable(io.RawIOBase):
    """A stream, such as a pipe."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.rest = data

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        size = len(self.rest) if size is None or size < 0 else size
        read, self.rest = self.rest[:size], self.rest[size:]
        return read


def test_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(DATA)
    for source in (path, DATA, io.BytesIO(DATA), memoryview(DATA), Unseekable(DATA)):
        loaded = load_image(source)  # type: ignore[arg-type]
        assert loaded.mode == "RGB"
        assert loaded.size == (96, 64)
        assert np.abs(np.asarray(loaded).astype(int) - UPRIGHT)[8:24].mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int) -> None:
    stored = {
        1: UPRIGHT,
        2: UPRIGHT[:, ::-1],
        3: UPRIGHT[::-1, ::-1],
        4: UPRIGHT[::-1],
        5: UPRIGHT.transpose(1, 0, 2),
        6: UPRIGHT.transpose(1, 0, 2)[::-1],
        7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
        8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    height, width, _ = stored.shape
    buffer = io.BytesIO()
    pillow_heif.encode("RGB", (width, height), stored.tobytes(), buffer, exif=exif.tobytes())
    loaded = np.asarray(load_image(buffer)).astype(int)
    assert loaded.shape == UPRIGHT.shape
    assert np.abs(loaded - UPRIGHT).mean() < 8


def test_transparency_is_put_on_white() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 64, 32))
    loaded = np.asarray(load_image(heic(image)))
    np.testing.assert_allclose(loaded[8], np.full((64, 3), 255), atol=6)
    np.testing.assert_allclose(loaded[56], [[255, 0, 0]] * 64, atol=6)


def test_grey_of_more_than_8_bits_has_its_range() -> None:
    image = Image.fromarray(np.full((64, 64), 50_000, np.uint16))
    assert np.abs(np.asarray(load_image(heic(image))).astype(int) - 195).max() < 4


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        load_image(DATA, max_pixels=6143)
    assert (caught.value.pixels, caught.value.limit) == (6144, 6143)


@pytest.mark.parametrize("size", [20, 60, 200, len(DATA) // 2, len(DATA) - 1])
def test_truncated_files_are_refused(size: int) -> None:
    with pytest.raises(ImageDecodeError):
        load_image(DATA[:size])


def test_other_files_of_that_container_are_none_of_the_formats() -> None:
    for brand in (b"avif", b"isom", b"mif1"):
        with pytest.raises(ImageDecodeError, match="none of the formats"):
            load_image(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + b"avif" + b"mp42" + bytes(100))


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    head = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"
    for data in (DATA, head, head.replace(b"ftypmif1", b"ftypheic")):
        with pytest.raises(ImageDecodeError, match=r'pip install "edge-et\[heic\]"'):
            load_image(data)


def test_a_version_with_known_faults_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif, "__version__", "1.7.0")
    with pytest.raises(ImageDecodeError, match=r"1\.7\.0 is too old"):
        load_image(DATA)


def test_pillow_is_left_as_it_was() -> None:
    script = (
        "import sys; from PIL import Image; from edge_et.image import load_image; Image.init(); "
        "before = set(Image.OPEN); assert 'pillow_heif' not in sys.modules; "
        "load_image(sys.stdin.buffer.read()); assert 'pillow_heif' in sys.modules; "
        "assert set(Image.OPEN) == before; print('HEIF' in before)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=DATA, capture_output=True)
    assert done.stdout == b"False\n", done.stderr
