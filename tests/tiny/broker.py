"""A stand-in for an MQTT broker: takes what is published, by MQTT 3.1.1, and keeps nothing."""

import socketserver
import threading
from typing import Any, NamedTuple


class Published(NamedTuple):
    """A message."""

    topic: str
    content: bytes
    is_retained: bool


class _Client(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        broker = self.server
        assert isinstance(broker, Broker)
        while head := self.rfile.read(1):
            kind, flags = head[0] >> 4, head[0] & 15
            size, shift = 0, 0
            while True:
                byte = self.rfile.read(1)[0]
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            body = self.rfile.read(size)
            if kind == 1:  # CONNECT
                broker.connects.append(body)
                self.wfile.write(b"\x20\x02\x00\x00")
            elif kind == 3:  # PUBLISH
                length = int.from_bytes(body[:2], "big")
                topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
                if flags & 6:
                    self.wfile.write(b"\x40\x02" + rest[:2])
                    rest = rest[2:]
                with broker.changed:
                    broker.published.append(Published(topic, rest, bool(flags & 1)))
                    broker.changed.notify_all()
            elif kind == 14:  # DISCONNECT
                return


class Broker(socketserver.ThreadingTCPServer):
    """Listens on a port of this machine while its block runs."""

    daemon_threads = True

    def __init__(self) -> None:
        self.connects: list[bytes] = []
        self.published: list[Published] = []
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Client)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def wait_for(self, messages: int) -> list[Published]:
        """Return what was published, when it is so many messages."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.published) >= messages, 10)
            return list(self.published)

    def __exit__(self, *raised: Any) -> None:
        self.shutdown()
        self._thread.join()
        super().__exit__(*raised)
