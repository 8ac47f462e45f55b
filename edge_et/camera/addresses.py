"""Addresses of cameras, which hold passwords.

In: a URL. Out: its parts, and what of it may be shown: scheme, host and port. Paths and queries may
hold passwords too, as some cameras want it.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from edge_et.errors import OptionError

SCHEMES = ("rtsp", "rtsps", "http", "https")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a camera is.

    Attributes:
        scheme: one of `SCHEMES`.
        shown: what may be logged.
        url: with everything, user and password too.
        bare_url: without user and password.
        user: None: there is none.
        password: None: there is none.
    """

    scheme: str
    shown: str
    url: str = field(repr=False)
    bare_url: str = field(repr=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)


def is_url(source: str) -> bool:
    """Return whether a text is meant as a URL rather than as a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def read_address(url: str) -> Address:
    """Take a camera's URL apart.

    Args:
        url: of the camera, with user and password if it asks for them.

    Raises:
        OptionError: it cannot be read, or is of another scheme. The URL is not in the message.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        raise _refused() from None
    behind = urlunsplit(("", "", parts.path, parts.query, parts.fragment))
    printable = url.isascii() and url.isprintable() and " " not in url
    if scheme not in SCHEMES or not host or "@" in behind or not printable:
        raise _refused()
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place += f":{port}"
    return Address(
        scheme,
        f"{scheme}://{place}",
        url,
        urlunsplit((scheme, place, parts.path or "/", parts.query, "")),
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def _refused() -> OptionError:
    return OptionError(
        "source",
        "<url>",
        f"a URL of {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]} with a host; in user and password "
        "write other characters than letters and digits as urllib.parse.quote(text, safe='') does",
    )
