"""Pictures from other hosts: only from those that are allowed by name, and never from private ones.

In: a URL. Out: the bytes behind it. A host is resolved once, what it resolves to is checked, and
the connection goes there; redirects are not followed.
"""

import asyncio
import http.client
import ipaddress
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from time import monotonic
from urllib.parse import urlsplit

from edge_et.serve.errors import RequestError
from edge_et.serve.settings import ServeSettings

TIMEOUT_S = 10.0
"""For all of a picture."""

_CHUNK_BYTES = 2**16

# Of its own, so that a slow host keeps nothing else waiting.
_threads = ThreadPoolExecutor(4, thread_name_prefix="edge-et-fetch")


async def fetch_picture(url: str, settings: ServeSettings) -> bytes:
    """Fetch a picture.

    Args:
        url: of http or https.
        settings: name the hosts, and the most bytes.

    Raises:
        RequestError: the host is not allowed or has a private address, or the picture cannot be
            had.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as err:
        raise _refused("an image's url cannot be read") from err
    if parts.username is not None or host not in settings.image_hosts:
        raise _refused(
            "an image's url names a host that this server does not fetch from: send the picture "
            "as a data URL, or start the server with --image-host"
        )
    is_https = parts.scheme.lower() == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    work = asyncio.get_running_loop().run_in_executor(
        _threads,
        _fetch,
        *(host, port or (443 if is_https else 80), target, is_https, settings.max_body_bytes),
    )
    try:
        return await asyncio.wait_for(work, TIMEOUT_S)
    except (OSError, ValueError, http.client.HTTPException) as err:
        raise _refused("an image cannot be fetched from its host") from err


def _fetch(host: str, port: int, target: str, is_https: bool, limit_bytes: int) -> bytes:
    end = monotonic() + TIMEOUT_S
    address = _public_address(host, port)
    with socket.create_connection((address, port), timeout=TIMEOUT_S) as connection:
        if is_https:
            context = ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=host)
        client = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        client.sock = connection
        with closing(client):
            client.request("GET", target, headers={"Accept": "image/*"})
            response = client.getresponse()
            if response.status != 200:
                raise _refused(f"an image's host answers with status {response.status}")
            data = bytearray()
            while chunk := response.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > limit_bytes:
                    raise _refused(f"an image has more than {limit_bytes} bytes")
                if monotonic() > end:
                    raise TimeoutError
    return bytes(data)


def _public_address(host: str, port: int) -> str:
    """Resolve a host once.

    Raises:
        RequestError: one of its addresses belongs to no host of the public internet.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(where[0]) for *_, where in found]
    for address in addresses:
        number = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(number, "ipv4_mapped", None)
        if not (mapped or number).is_global or (mapped or number).is_multicast:
            raise _refused("an image's host has an address that is not public")
    return addresses[0]


def _refused(message: str) -> RequestError:
    return RequestError(400, "invalid_image", message)
