"""Errors of pictures."""

from edge_et.errors.base import EdgeETError


class ImageError(EdgeETError):
    """A picture cannot be used."""


class ImageFileError(ImageError):
    """The path of a picture cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"cannot read the image {path}: {reason}")


class ImageInputError(ImageError):
    """The argument is not a kind of image that is accepted."""

    def __init__(
        self,
        found: str,
        advice: str = "give a path, bytes, a binary file object, a PIL image or a uint8 array of "
        "shape [height, width, 3]",
    ) -> None:
        self.found = found
        super().__init__(f"{found} is not an accepted image: {advice}")


class ImageDecodeError(ImageError):
    """The bytes are no image of a known format, or a damaged one."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot decode the image: {reason}")


class ImageTooLargeError(ImageError):
    """A picture has more pixels than the limit; it was not decoded."""

    def __init__(
        self, pixels: int, limit: int, advice: str = "load the bundle with a larger max_pixels"
    ) -> None:
        self.pixels = pixels
        self.limit = limit
        super().__init__(
            f"the image has {pixels} pixels, the limit is {limit}: scale it down, or {advice}"
        )
