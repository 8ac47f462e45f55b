import numpy as np
import pytest
from PIL import Image

from edge_et.camera.frames import decode_picture, to_rgb
from edge_et.errors import ImageError, ImageInputError

RGB = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
X = np.full((1, 2, 1), 255, np.uint8)


@pytest.mark.parametrize(
    ("layout", "array"),
    [
        ("RGB", RGB),
        ("BGR", RGB[..., ::-1]),
        ("RGBX", np.concatenate([RGB, X], axis=2)),
        ("BGRX", np.concatenate([RGB[..., ::-1], X], axis=2)),
    ],
)
def test_every_layout_becomes_rgb(layout: str, array: np.ndarray) -> None:
    assert to_rgb(array, layout).tolist() == RGB.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "array",
    [RGB[..., :2], RGB[0], RGB.astype(np.float32), np.zeros((0, 2, 3), np.uint8), np.uint8(3)],
    ids=["two channels", "two axes", "floats", "empty", "a number"],
)
def test_arrays_of_another_shape_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageInputError, match="RGB has the shape"):
        to_rgb(array, "RGB")


def test_pictures_are_decoded_and_what_is_none_is_refused() -> None:
    assert decode_picture(Image.fromarray(RGB)).tolist() == RGB.tolist()
    with pytest.raises(ImageError):
        decode_picture(b"no picture")
