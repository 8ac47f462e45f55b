"""HEIC, as phones make it: decoded by libheif where the extra ``heic`` is installed.

In: a file. Out: a PIL image that is not decoded yet. Nothing else imports pillow_heif. Pillow is
not told of it, so a program that uses edge-et opens the pictures that it opened before.
"""

from typing import BinaryIO

from PIL import Image

from edge_et.errors import ImageDecodeError

# ISO/IEC 23008-12: brands of pictures in HEVC, still or in sequences. AVIF has others.
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
# Brands that leave open what codec it is; the compatible ones tell.
_CONTAINERS = frozenset({b"mif1", b"mif2", b"msf1"})
_HEAD_BYTES = 64

_OLDEST = (1, 8)  # the libheif in wheels of earlier versions has published vulnerabilities
_INSTALL = 'pip install "edge-et[heic]"'


def is_heic(file: BinaryIO) -> bool:
    """Say whether a file begins as HEIC does; it is read from its beginning."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head[4:8] != b"ftyp":
        return False
    major, end = head[8:12], min(int.from_bytes(head[:4], "big"), len(head))
    compatible = {head[place : place + 4] for place in range(16, end, 4)}
    return major in _BRANDS or (major in _CONTAINERS and not _BRANDS.isdisjoint(compatible))


def open_heic(file: BinaryIO) -> Image.Image:
    """Open a HEIC picture.

    Args:
        file: as `is_heic` leaves it. It is read whole.

    Returns:
        An image that knows its size, and is decoded when it is loaded: upright, with 8 bits, or
        16 where it is grey with more than 8.

    Raises:
        ImageDecodeError: the extra is missing or too old.
        Exception: whatever the decoder raises about a damaged file.
    """
    try:
        import pillow_heif
    except ImportError as err:
        raise ImageDecodeError(f"HEIC needs the extra heic: {_INSTALL}") from err
    version = pillow_heif.__version__
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise ImageDecodeError(
            f"pillow-heif {version} is too old to be trusted with HEIC: {_INSTALL}"
        )
    return pillow_heif.HeifImageFile(file)
