import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_et.errors import (
    ImageDecodeError,
    ImageInputError,
    ImagesTooLargeError,
    TooManyImagesError,
)
from edge_et.image import ImageTokens
from edge_et.image.picture_list import ImageLimits, list_pictures, told_apart

ARRAY = np.zeros((4, 5, 3), np.uint8)


def listed(images: Any, max_images: int = 3, max_bytes: int = 10**6) -> tuple[Any, ...]:
    return list_pictures(images, ImageLimits(images=max_images, size_bytes=max_bytes))


@pytest.mark.parametrize("image", [ARRAY, "a.png", b"abc", None, 5, iter("ab")])
def test_what_is_no_list_is_one_picture_and_looked_at_later(image: Any) -> None:
    (picture,) = listed(image, max_images=1, max_bytes=0)
    assert picture is image


def test_lists_and_tuples_are_taken_in_their_order() -> None:
    pictures = [ARRAY, "a.png", b"abc"]
    listing = listed(pictures)
    pictures.clear()
    assert listing[0] is ARRAY
    assert listing[1:] == ("a.png", b"abc")
    assert listed((ARRAY,), max_bytes=0) == (ARRAY,)  # as if it were no list


def test_too_many_pictures_or_none_are_told_with_numbers() -> None:
    with pytest.raises(TooManyImagesError, match="there are 4 pictures, the limit is 3") as caught:
        listed([ARRAY] * 4)
    assert (caught.value.count, caught.value.limit) == (4, 3)
    for empty in ([], ()):
        with pytest.raises(TooManyImagesError, match=r"there are 0 pictures.*give one"):
            listed(empty)


class Named:
    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


@pytest.mark.parametrize(
    "odd",
    [None, 5, [ARRAY], (), io.StringIO("x"), {"a": 1}, iter([ARRAY]), object(), float("nan")],
    ids=lambda odd: type(odd).__name__,
)
def test_what_is_no_picture_is_refused_by_its_place(odd: Any) -> None:
    with pytest.raises(ImageInputError, match=r"^picture 2 of 2: a .* not an accepted") as caught:
        listed([ARRAY, odd])
    assert caught.value.picture == 1
    with pytest.raises(ImageInputError, match=r"^a ") as caught:
        listed([odd])
    assert caught.value.picture is None


class Pipe(io.BytesIO):
    def seek(self, *args: Any) -> int:
        raise io.UnsupportedOperation("seek")


class OnlyReads:
    def read(self, size: int = -1) -> bytes:
        return b""


def sized(tmp_path: Path) -> Iterator[tuple[Any, int]]:
    path = tmp_path / "picture.png"
    path.write_bytes(bytes(70))
    rows = np.zeros((2, 8), np.float32)
    yield path, 70
    yield str(path), 70
    yield Named(os.fsencode(path)), 70
    yield bytes(7), 7
    yield bytearray(7), 7
    yield memoryview(bytes(8)).cast("H"), 8
    yield io.BytesIO(bytes(9)), 9
    yield ARRAY, 60
    yield Image.new("RGBA", (2, 3)), 24
    yield ImageTokens(rows, "a"), 64
    released = memoryview(b"abc")
    released.release()
    closed = io.BytesIO(b"abc")
    closed.close()
    broken = ImageTokens(None, "a")  # type: ignore[arg-type]
    for unknown in ("none.png", "a\0b", Named(5), Pipe(b"abc"), OnlyReads(), released, closed):
        yield unknown, 0
    yield broken, 0


def test_bytes_are_counted_of_whatever_a_picture_is(tmp_path: Path) -> None:
    for picture, size_bytes in sized(tmp_path):
        two = [picture, picture]
        assert len(listed(two, max_bytes=2 * size_bytes)) == 2
        if size_bytes:
            with pytest.raises(ImagesTooLargeError) as caught:
                listed(two, max_bytes=2 * size_bytes - 1)
            error = caught.value
            assert (error.size_bytes, error.limit_bytes) == (2 * size_bytes, 2 * size_bytes - 1)


def test_what_a_file_object_raises_comes_as_it_is() -> None:
    class Failing(io.BytesIO):
        def seek(self, *args: Any) -> int:
            raise TimeoutError("network")

    with pytest.raises(TimeoutError, match="network"):
        listed([ARRAY, Failing(b"abc")])


def test_errors_tell_which_picture_they_are_about() -> None:
    with (
        pytest.raises(ImageDecodeError, match=r"^picture 3 of 4: cannot decode") as err,
        told_apart(2, 4),
    ):
        raise ImageDecodeError("damaged")
    assert (err.value.picture, err.value.reason) == (2, "damaged")
    with pytest.raises(ImageDecodeError, match=r"^cannot decode"), told_apart(0, 1):
        raise ImageDecodeError("damaged")
