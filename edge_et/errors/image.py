"""Errors of pictures."""

from typing import Self

from edge_et.errors.base import EdgeETError


class ImageError(EdgeETError):
    """A picture cannot be used; `picture` is its place in the list, counted from 0, if in one."""

    picture: int | None = None

    def at(self, picture: int, count: int) -> Self:
        """Tell which one of several pictures it is; return the error itself."""
        self.picture = picture
        self.args = (f"picture {picture + 1} of {count}: {self}",)
        return self


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
        "shape [height, width, 3]; or several in a list",
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


class TooManyImagesError(ImageError):
    """A question came with more pictures than the limit, or with none."""

    def __init__(self, count: int, limit: int) -> None:
        self.count = count
        self.limit = limit
        advice = "give fewer, or load the bundle with a larger max_images" if count else "give one"
        super().__init__(f"there are {count} pictures, the limit is {limit}: {advice}")


class ImagesTooLargeError(ImageError):
    """The pictures of one question have together more bytes than the limit; none was decoded."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the pictures have {size_bytes} bytes together, the limit is {limit_bytes}: give "
            "fewer or smaller ones, or load the bundle with a larger max_images_bytes"
        )
