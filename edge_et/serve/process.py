"""The process that serves: uvicorn over a socket, until a signal ends it.

In: settings. Out: replies, and on stderr where it listens.
"""

import ipaddress
import signal
import socket
import sys

import uvicorn

from edge_et.errors import OptionError
from edge_et.serve.app import create_app
from edge_et.serve.settings import GRACE_S, ServeSettings

_BACKLOG = 128


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT; what is under way then is answered first.

    Args:
        settings: of the server.

    Raises:
        BundleError: a bundle cannot be used.
        OptionError: a setting is wrong, or the address cannot be listened on.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http="h11",  # httptools, which uvicorn takes where it is installed, bounds no header
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=False,
    )
    with listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        print(f"edge-et serves on http://{where}:{port}", file=sys.stderr, flush=True)
        if settings.api_key is None and not ipaddress.ip_address(host).is_loopback:
            print(
                "edge-et: anybody who reaches this address can ask, and use up this machine's "
                "time; --api-key-file sets a key",
                file=sys.stderr,
                flush=True,
            )
        # uvicorn sends the signal that ended it once more; to be stopped is no failure.
        signal.signal(signal.SIGTERM, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Args:
        settings: of the server.

    Raises:
        OptionError: the address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as err:
        expected = f"an address of this machine with a free port ({err})"
        raise OptionError("host", f"{settings.host}:{settings.port}", expected) from err
    # asyncio sets it for sockets alone that name their protocol. Without it each reply, and each
    # part of a stream, waits up to 40 ms for the client's system to acknowledge the one before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
