import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from tiny.alarms import check_handlers_pass

from edge_et.errors import ImageDecodeError, ImageFileError, ImageInputError, ImageTooLargeError
from edge_et.image import load_image


def picture(width: int = 7, height: int = 5) -> Image.Image:
    values = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> list[Any]:
    return np.asarray(image).tolist()


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    image = picture()
    data = encoded(image)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    sources: list[Any] = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        image,
        np.asarray(image),
    ]
    for source in sources:
        loaded = load_image(source)
        assert loaded.mode == "RGB"
        assert pixels(loaded) == pixels(image)
    with path.open("rb") as file:
        assert pixels(load_image(file)) == pixels(image)


def turned(upright: Image.Image, orientation: int) -> Image.Image:
    """Return a picture as it is stored under an orientation (TIFF 6.0, tag 274)."""
    pixels = np.asarray(upright)
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    return Image.fromarray(np.ascontiguousarray(stored))


def oriented(orientation: int, kind: str, image: Image.Image, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(image, kind, exif=exif, **options)


LOSSLESS = {
    "TIFF": {},
    "TIFF, packed": {"compression": "tiff_lzw"},
    "PNG": {},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", LOSSLESS)
def test_orientation_is_applied_once(kind: str, orientation: int, tmp_path: Path) -> None:
    upright = picture()
    format_, options = kind.partition(",")[0], LOSSLESS[kind]
    data = oriented(orientation, format_, turned(upright, orientation), **options)
    path = tmp_path / "picture"
    path.write_bytes(data)
    opened = Image.open(path)
    opened.load()
    asked_before = Image.open(io.BytesIO(data))
    asked_before.getexif()
    sources: list[Any] = [
        path,
        data,
        io.BytesIO(data),
        Image.open(io.BytesIO(data)),
        opened,
        asked_before,
        Image.open(path).copy(),
        Image.open(path).convert("RGB"),
        ImageOps.exif_transpose(Image.open(path)),
        load_image(data),
    ]
    for index, source in enumerate(sources):
        assert pixels(load_image(source)) == pixels(upright), index


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpegs_is_applied_once(orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("red", (0, 0, 16, 8))
    data = oriented(orientation, "JPEG", turned(upright, orientation), subsampling=0)
    opened = Image.open(io.BytesIO(data))
    opened.load()
    for source in (data, io.BytesIO(data), Image.open(io.BytesIO(data)), opened):
        loaded = np.asarray(load_image(source)).astype(int)
        assert loaded.shape == (16, 32, 3)
        assert np.abs(loaded - np.asarray(upright)).max() < 40


def test_transparency_is_put_on_white() -> None:
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (0, 0, 0, 128))
    assert pixels(load_image(encoded(rgba))) == [[[255] * 3, [127] * 3]]
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert pixels(load_image(encoded(palette))) == [[[10, 20, 30]] * 2]
    assert pixels(load_image(encoded(palette, transparency=1))) == [[[255] * 3] * 2]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert pixels(load_image(encoded(grey))) == [[[255] * 3]]


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(load_image(data))[0][0] == [255, 0, 0]


def test_the_result_shares_no_memory_with_the_source() -> None:
    array = np.zeros((2, 2, 3), np.uint8)
    image = Image.new("RGB", (2, 2))
    from_array, from_image = load_image(array), load_image(image)
    array[:] = 9
    image.putpixel((0, 0), (9, 9, 9))
    assert np.asarray(from_array).max() == np.asarray(from_image).max() == 0


def test_too_many_pixels_are_refused_before_decoding() -> None:
    data = encoded(picture(100, 60))
    assert load_image(data, max_pixels=6000).size == (100, 60)
    with pytest.raises(ImageTooLargeError) as caught:
        load_image(data[:100], max_pixels=5999)  # cut off: decoding would fail
    assert (caught.value.pixels, caught.value.limit) == (6000, 5999)
    for source in (picture(100, 60), np.zeros((60, 100, 3), np.uint8)):
        with pytest.raises(ImageTooLargeError):
            load_image(source, max_pixels=5999)


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("side", [12_000, 20_000])
def test_decompression_bombs_are_too_large(side: int, action: Any) -> None:
    header = bytearray(encoded(picture()))
    header[16:24] = side.to_bytes(4, "big") * 2
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises((ImageTooLargeError, ImageDecodeError)):
            load_image(bytes(header))


def test_the_limit_that_a_message_names_is_the_one_that_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(picture(100, 60))

    def refused(max_pixels: int) -> ImageTooLargeError:
        with pytest.raises(ImageTooLargeError) as caught:
            load_image(data, max_pixels=max_pixels)
        assert caught.value.pixels == 6000
        return caught.value

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    assert refused(5500).limit == 5500
    assert "larger max_pixels" in str(refused(5500))
    assert refused(10**9).limit == 5000
    assert "the limit is 5000: scale it down, or raise Pillow's own" in str(refused(10**9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(10**9).limit == 4000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(data, max_pixels=6000).size == (100, 60)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = encoded(picture(64, 64), kind)
    for size in (len(data) // 2, 20):
        with pytest.raises(ImageDecodeError):
            load_image(data[:size])


@pytest.mark.parametrize("data", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n" * 50])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageDecodeError):
        load_image(data)
    with pytest.raises(ImageDecodeError):
        load_image(io.BytesIO(data))


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, "a\0b"):
        with pytest.raises(ImageFileError):
            load_image(path)
    with pytest.raises(ImageFileError, match="URLs are not fetched"):
        load_image("https://example.org/cat.png")


class PathOf:
    """Anything as a path."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


def test_paths_may_be_bytes(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(picture()))
    assert pixels(load_image(PathOf(os.fsencode(path)))) == pixels(picture())
    with pytest.raises(ImageFileError, match=r"none\.png"):
        load_image(PathOf(os.fsencode(tmp_path / "none.png")))
    with pytest.raises(ImageInputError, match="a PathOf that is no path"):
        load_image(PathOf(5))


def test_memoryviews_of_any_layout() -> None:
    data = encoded(picture())
    spread = bytearray(2 * len(data))
    spread[::2] = data
    for view in (memoryview(spread)[::2], memoryview(data[::-1])[::-1]):
        assert pixels(load_image(view)) == pixels(picture())
    released = memoryview(data)
    released.release()
    with pytest.raises(ImageInputError, match="released"):
        load_image(released)


class Failing(io.BytesIO):
    """A file that raises an exception once it is told to."""

    error: Exception | None = None

    def read(self, size: int | None = -1) -> bytes:
        if self.error is not None:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("error", [TimeoutError("network"), ValueError("x"), RuntimeError("x")])
def test_what_a_file_object_raises_comes_as_it_is(error: Exception) -> None:
    file = Failing(encoded(picture()))
    opened = Image.open(file)
    file.error = error
    for source in (opened, file):
        with pytest.raises(type(error)) as caught:
            load_image(source)
        assert caught.value is error


def test_what_a_handler_raises_while_a_picture_is_decoded_comes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "picture.ppm"
    path.write_bytes(b"P5 300 300 1000\n" + bytes(300 * 300 * 2))  # decoded in Python
    for source in (path, path.read_bytes()):
        check_handlers_pass(lambda source=source: load_image(source), after_s=0.03)  # type: ignore[misc]


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        Image.new("RGB", (0, 3)),
        io.StringIO("text"),
        None,
        5,
    ],
)
def test_other_things_are_refused(source: Any) -> None:
    with pytest.raises(ImageInputError):
        load_image(source)
