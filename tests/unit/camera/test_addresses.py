import pytest
from tiny.cameras import PASSWORD

from edge_et.camera.addresses import is_url, read_address
from edge_et.errors import OptionError


def test_what_is_shown_holds_no_secret() -> None:
    url = f"rtsp://admin:{PASSWORD}@10.0.0.7:554/{PASSWORD}/ch0?pwd={PASSWORD}"
    address = read_address(url)
    assert address.shown == "rtsp://10.0.0.7:554"
    assert PASSWORD not in repr(address)
    assert address.url == url


def test_user_and_password_are_taken_out_and_unquoted() -> None:
    address = read_address("HTTP://us%40er:a%2Fb%3A@[::1]:80/video?x=1")
    assert (address.user, address.password) == ("us@er", "a/b:")
    assert address.bare_url == "http://[::1]:80/video?x=1"
    assert read_address("https://camera").bare_url == "https://camera/"
    assert read_address("https://camera").user is None


@pytest.mark.parametrize(
    "rest",
    ["/x", "#x", "?x", "[", " ", "\n", "\u00e9"],
)
def test_a_password_that_is_not_quoted_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_address(f"rtsp://admin:{PASSWORD}{rest}@camera/video")
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(vars(caught.value))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["ftp://camera/x", "file:///etc/passwd", "rtsp://", "http://c:x/"])
def test_other_addresses_are_refused(url: str) -> None:
    assert is_url(url)
    with pytest.raises(OptionError, match="rtsp, rtsps, http or https"):
        read_address(url)


@pytest.mark.parametrize("path", ["frames", "/srv/frames", "C:\\frames", "./a://b"])
def test_paths_are_none(path: str) -> None:
    assert not is_url(path)
