"""Licences: which ones let everybody do anything, and which ones a user has to accept first.

In: checkpoints, with the licences that their model cards state. Out: nothing, or `LicenseError`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from edge_et.export.errors import LicenseError

# As the Hugging Face hub writes them.
_PERMISSIVE = frozenset(
    (
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "isc",
        "zlib",
        "bsl-1.0",
        "unlicense",
        "cc0-1.0",
    )
)


class Licensed(Protocol):
    """A checkpoint, as far as its licence goes."""

    @property
    def name(self) -> str:
        """`owner/name`, or the name of a folder."""

    @property
    def license(self) -> str:
        """As its model card states it."""

    @property
    def url(self) -> str:
        """Where to read about it; empty for a folder."""


Approve = Callable[[Mapping[str, Licensed]], None]
"""Given checkpoints by role; raises what ends a build."""


def is_permissive(licence: str) -> bool:
    """Whether a licence asks for no more than that it is named; of several, all have to."""
    return all(name in _PERMISSIVE for name in licence.lower().split(", "))


def require_permissive(parts: Mapping[str, Licensed]) -> None:
    """Refuse checkpoints of the hub whose licence restricts use, or is not known.

    Args:
        parts: by role. Those in folders pass: whoever has the files has agreed to something.

    Raises:
        LicenseError: there are such parts.
    """
    refused = tuple(
        (role, part.name, part.license, part.url)
        for role, part in parts.items()
        if part.url and not is_permissive(part.license)
    )
    if refused:
        raise LicenseError(refused)
