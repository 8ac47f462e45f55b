"""What whoever starts the server decides."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from edge_et.errors import OptionError
from edge_et.options import DEFAULT_MAX_IMAGES, DEFAULT_MAX_PIXELS, parse_load_options

MAX_BODY_BYTES = 64 * 2**20
"""Sixteen camera pictures of 3 MB, as base64."""

GRACE_S = 30
"""What is under way when the server is stopped may end within that time, seconds."""

LAST_WORDS_S = 2
"""What was ended then may tell its client within that time, seconds."""

_LONGEST_S = 365 * 24 * 3600
"""Timers and dates hold no time that is much longer."""

_HOST_NAME = re.compile(r"[a-z0-9._-]+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Hosts and origins are kept in the form in which clients send them.

    Attributes:
        bundles: names or folders of bundles; the first one answers where no model is named.
        host: address to listen on.
        port: of it; 0: any free one.
        api_key: what clients have to send as ``Authorization: Bearer``; None: nothing.
        deadline_s: after which an answer is cut short, seconds from the arrival of its request.
        max_waiting: requests that may wait, beside one for each context.
        contexts: calls under way at once over one bundle; see `edge_et.load`.
        threads: of each bundle; None: as `edge_et.load` chooses.
        max_tokens: most tokens of an answer, whatever a client asks for.
        max_body_bytes: most bytes of a request's body.
        max_images: most pictures of a request.
        max_pixels: most pixels of a picture.
        allowed_hosts: names that a Host header may hold, beside addresses and ``localhost``.
        image_hosts: hosts from which pictures are fetched; others are refused.
        cors_origins: origins whose pages may call the server from a browser.
        max_memory_bytes: of the process while a bundle is loaded into it; None: any number. See
            `edge_et.load`.
        keep_alive_s: seconds that a bundle stays loaded after its last call; below 0: for ever.
        cache_dir: as for `edge_et.load`.
    """

    bundles: tuple[str, ...] = ("mini",)
    host: str = "127.0.0.1"
    port: int = 8890
    api_key: str | None = None
    deadline_s: float = 50.0
    max_waiting: int = 16
    contexts: int = 1
    threads: int | None = None
    max_tokens: int = 1024
    max_body_bytes: int = MAX_BODY_BYTES
    max_images: int = DEFAULT_MAX_IMAGES
    max_pixels: int = DEFAULT_MAX_PIXELS
    allowed_hosts: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_memory_bytes: int | None = None
    keep_alive_s: float = -1.0
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what would start a server that nobody can use.

        Raises:
            OptionError: a setting is wrong.
        """
        if not 0 < self.deadline_s <= _LONGEST_S:
            expected = f"more than 0 and up to {_LONGEST_S} seconds"
            raise OptionError("deadline_s", self.deadline_s, expected)
        if not self.keep_alive_s <= _LONGEST_S:
            expected = f"up to {_LONGEST_S} seconds, or a number below 0 for ever"
            raise OptionError("keep_alive_s", self.keep_alive_s, expected)
        parse_load_options({"max_memory_bytes": self.max_memory_bytes})
        if self.api_key is not None and not _is_key(self.api_key):
            expected = "a key of printable ASCII characters, without space at its ends"
            raise OptionError("api_key", "...", expected)
        for name in ("allowed_hosts", "image_hosts"):
            hosts = tuple(_host_of(name, host) for host in getattr(self, name))
            object.__setattr__(self, name, hosts)
        origins = tuple(_origin_of(origin) for origin in self.cors_origins)
        object.__setattr__(self, "cors_origins", origins)


def _is_key(text: str) -> bool:
    """Return whether all clients can send a text in a header, and send it as the same bytes."""
    return text != "" and text.isascii() and text.isprintable() and text == text.strip()


def _host_of(name: str, given: str) -> str:
    host = given.lower().rstrip(".")
    if _HOST_NAME.fullmatch(host):
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError as err:
        expected = "a host's name alone, without scheme, port or path: nas.local"
        raise OptionError(name, given, expected) from err


def _origin_of(given: str) -> str:
    origin = given.lower()
    if origin in ("*", "null"):
        return origin
    if _ORIGIN.fullmatch(origin):
        # Browsers leave out a scheme's own port.
        return origin.removesuffix(":443" if origin.startswith("https:") else ":80")
    expected = "an origin, which has a scheme and no path: http://nas.local:3000; or *"
    raise OptionError("cors_origins", given, expected)
