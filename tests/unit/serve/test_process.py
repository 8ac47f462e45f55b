import socket

import pytest

from edge_et.errors import OptionError
from edge_et.serve.process import listen
from edge_et.serve.settings import ServeSettings


def test_connections_send_at_once() -> None:
    with listen(ServeSettings(port=0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["a" * 64 + ".local", "a..local", "no\0name"])
def test_a_host_that_no_machine_can_have_is_told(host: str) -> None:
    with pytest.raises(OptionError, match=r"host=.* expected an address of this machine"):
        listen(ServeSettings(host=host, port=0))
