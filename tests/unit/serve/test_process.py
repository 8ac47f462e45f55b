import socket

from edge_et.serve.process import listen
from edge_et.serve.settings import ServeSettings


def test_connections_send_at_once() -> None:
    with listen(ServeSettings(port=0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
