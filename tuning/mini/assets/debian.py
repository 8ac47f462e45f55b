"""Files out of Debian's packages: fetched from its archive, checked, unpacked without dpkg."""

from __future__ import annotations

import hashlib
import io
import logging
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from edge_et.errors import AssetError
from edge_et.store import partial_folder

ARCHIVE = "http://deb.debian.org/debian/"

_log = logging.getLogger(__name__)
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianPackage:
    """One package of Debian's archive.

    Attributes:
        name: of the package.
        path: of its file in the archive.
        license: of what is used from it.
        sha256: of its file.
    """

    name: str
    path: str
    license: str
    sha256: str


def unpack(package: DebianPackage, folder: Path) -> Path:
    """Make sure that a package lies unpacked in a folder.

    Args:
        package: which.
        folder: where downloads live.

    Returns:
        The folder that stands for the package's root, the same every time.

    Raises:
        AssetError: it cannot be fetched, or is not the pinned file.
    """
    root = folder / "debian" / f"{package.name}-{package.sha256[:12]}"
    if root.exists():
        return root
    content = _fetch(package)
    root.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(root.parent) as partial:
        target = partial / "root"
        try:
            with tarfile.open(fileobj=io.BytesIO(_data_member(content, package))) as data:
                data.extractall(target, filter="data")
        except tarfile.TarError as err:
            raise AssetError(f"{package.path} cannot be unpacked: {err}") from err
        target.replace(root)
    return root


def _fetch(package: DebianPackage) -> bytes:
    url = ARCHIVE + package.path
    _log.info("fetching %s (%s)", url, package.license)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as err:
        raise AssetError(f"{url} cannot be fetched: {err}; check the network") from err
    digest = hashlib.sha256(content).hexdigest()
    if digest != package.sha256:
        raise AssetError(f"{url} has SHA-256 {digest}, expected {package.sha256}")
    return content


def _data_member(content: bytes, package: DebianPackage) -> bytes:
    """Return the compressed tar of a package's files; a .deb is an `ar` archive (man 5 deb)."""
    at = len(_AR_MAGIC) if content.startswith(_AR_MAGIC) else len(content)
    while at + _AR_HEADER <= len(content):
        name = content[at : at + 16].decode("ascii", "replace").strip().rstrip("/")
        size = int(content[at + 48 : at + 58])
        at += _AR_HEADER
        if name.startswith("data.tar"):
            return content[at : at + size]
        at += size + size % 2
    raise AssetError(f"{package.path} is no Debian package: it holds no data.tar")
