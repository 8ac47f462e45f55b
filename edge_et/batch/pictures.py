"""Pictures by what they hold: which rows are about equal ones, and which cannot be read.

In: the rows. Out: groups of rows, each with one picture, and errors. Files are read in blocks and
hashed; nothing is decoded.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edge_et.batch.inputs import Inputs
from edge_et.errors import ImageError, ImageFileError, ImageInputError

_BLOCK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by their pictures.

    Attributes:
        rows: the SHA-256 of each picture, in the order of their first rows, with all its rows.
        sha256: of each row's picture; None: it cannot be read.
        errors: why, by row.
    """

    rows: dict[str, list[int]] = field(default_factory=dict)
    sha256: list[str | None] = field(default_factory=list)
    errors: dict[int, ImageError] = field(default_factory=dict)


def group(inputs: Inputs, tell: Callable[[int], object]) -> Groups:
    """Read all pictures once.

    Args:
        inputs: the rows.
        tell: is called with the number of rows that are done.
    """
    found = Groups()
    known: dict[str, str] = {}
    for row in range(len(inputs)):
        picture = inputs.picture(row)
        try:
            if not isinstance(picture, str):
                sha256 = sha256_of(picture)
            else:
                if picture not in known:
                    known[picture] = sha256_of(picture)
                sha256 = known[picture]
        except ImageError as err:
            found.errors[row] = err
            found.sha256.append(None)
        else:
            found.rows.setdefault(sha256, []).append(row)
            found.sha256.append(sha256)
        tell(row + 1)
    return found


def sha256_of(picture: object) -> str:
    """Return the SHA-256 of a picture's file.

    Args:
        picture: a path, or the bytes of a file.

    Raises:
        ImageFileError: it cannot be read.
        ImageInputError: it is neither.
    """
    if isinstance(picture, str):
        return _of_file(picture)
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    raise ImageInputError(
        f"{type(picture).__name__} in a table", "give a path, or in Parquet bytes"
    )


def _of_file(path: str) -> str:
    """Return the SHA-256 of a file; one that is no regular file is not opened: it may never end.

    Raises:
        ImageFileError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageFileError(path, "it is no regular file")
        with open(path, "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
    except (OSError, ValueError) as err:  # ValueError: a null character in the path
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        if "://" in path:
            reason = "URLs are not fetched; fetch it yourself and name the file"
        raise ImageFileError(path, reason) from err
    return found.hexdigest()
