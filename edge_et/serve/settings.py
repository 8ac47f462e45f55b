"""What whoever starts the server decides."""

from dataclasses import dataclass
from pathlib import Path

from edge_et.options import DEFAULT_MAX_IMAGES, DEFAULT_MAX_PIXELS

MAX_BODY_BYTES = 64 * 2**20
"""Sixteen camera pictures of 3 MB, as base64."""

GRACE_S = 30
"""What is under way when the server is stopped may end within that time, seconds."""

LAST_WORDS_S = 2
"""What was ended then may tell its client within that time, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

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
    keep_alive_s: float = -1.0
    cache_dir: Path | None = None
