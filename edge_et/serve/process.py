"""The process that serves: uvicorn over a socket, until a signal ends it.

In: settings. Out: replies, and on stderr where it listens.
"""

import asyncio
import ipaddress
import socket
import sys
from types import FrameType

import uvicorn

from edge_et.errors import OptionError
from edge_et.serve.app import create_app
from edge_et.serve.ending import Ending
from edge_et.serve.settings import GRACE_S, LAST_WORDS_S, ServeSettings

_BACKLOG = 128

_POLL_S = 0.1


def serve(settings: ServeSettings, *, grace_s: float = GRACE_S) -> None:
    """Serve until SIGTERM or SIGINT; what is under way then is answered first.

    Args:
        settings: of the server.
        grace_s: seconds after which it is ended; a second signal ends it at once.

    Raises:
        BundleError: a bundle cannot be used.
        OptionError: a setting is wrong, or the address cannot be listened on.
    """
    ending = Ending(create_app(settings))
    config = uvicorn.Config(
        ending,
        http="h11",  # httptools, which uvicorn takes where it is installed, bounds no header
        log_level="warning",
        access_log=False,
        server_header=False,
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
        _Server(config, ending, grace_s).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends calls by replies of their own protocol, where uvicorn only cancels them."""

    def __init__(self, config: uvicorn.Config, ending: Ending, grace_s: float) -> None:
        super().__init__(config)
        self._ending = ending
        self._grace_s = grace_s
        self._is_hurried = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end, or at the second signal hurry it.

        uvicorn's own sends itself the signal once more at the end; to be stopped is no failure.
        """
        self._is_hurried = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, then end them; a client that reads nothing is left."""
        closing = asyncio.create_task(super().shutdown(sockets))
        ending = asyncio.create_task(self._end())
        done, left = await asyncio.wait([closing, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        for task in done:
            task.result()

    async def _end(self) -> None:
        self._ending.begin()
        until = asyncio.get_running_loop().time() + self._grace_s
        while not self._is_hurried and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_POLL_S)
        self._ending.end_waiting()
        await self.lifespan.shutdown()
        await asyncio.sleep(LAST_WORDS_S)


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
    except (OSError, OverflowError, ValueError) as err:  # a name may be none that DNS can have
        expected = f"an address of this machine with a free port ({err})"
        raise OptionError("host", f"{settings.host}:{settings.port}", expected) from err
    # asyncio sets it for sockets alone that name their protocol. Without it each reply, and each
    # part of a stream, waits up to 40 ms for the client's system to acknowledge the one before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
