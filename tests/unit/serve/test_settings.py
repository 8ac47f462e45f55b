import math
import os
from typing import Any

import pytest
from click.testing import CliRunner

from edge_et.cli.serve import serve
from edge_et.errors import OptionError
from edge_et.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("deadline_s", math.nan, "more than 0 and up to"),
        ("deadline_s", math.inf, "more than 0 and up to"),
        ("deadline_s", 0.0, "more than 0 and up to"),
        ("keep_alive_s", math.nan, "below 0 for ever"),
        ("keep_alive_s", math.inf, "below 0 for ever"),
        ("keep_alive_s", 1e15, "below 0 for ever"),
        ("max_memory_bytes", 0, "a whole number from 1"),
        ("max_memory_bytes", -5, "a whole number from 1"),
        ("max_memory_bytes", 2**63, "a whole number from 1"),
        ("allowed_hosts", ("http://x:1/",), "without scheme, port or path"),
        ("allowed_hosts", ("nas.local:8890",), "without scheme, port or path"),
        ("allowed_hosts", ("nas.local", "*"), "without scheme, port or path"),
        ("allowed_hosts", ("",), "without scheme, port or path"),
        ("image_hosts", ("http://x/",), "without scheme, port or path"),
        ("cors_origins", ("x/",), "a scheme and no path"),
        ("cors_origins", ("nas.local",), "a scheme and no path"),
        ("cors_origins", ("http://nas.local/",), "a scheme and no path"),
    ],
)
def test_what_no_request_could_fit_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        ServeSettings(**{name: value})
    assert caught.value.name == name


@pytest.mark.parametrize(
    "key", ["", " secret", "secret\n", "schl\u00fcssel", "secret\udcff", "sec\tret"]
)
def test_a_key_that_clients_cannot_send_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(OptionError, match="printable ASCII") as caught:
        ServeSettings(api_key=key)
    assert not key or key not in str(caught.value)


def test_names_are_kept_as_clients_send_them() -> None:
    settings = ServeSettings(
        allowed_hosts=("NAS.local.", "FD00::0001"),
        image_hosts=("Pics.Example",),
        cors_origins=("https://Page.Example:8443", "http://[::1]:80", "*", "null"),
    )
    assert settings.allowed_hosts == ("nas.local", "fd00::1")
    assert settings.image_hosts == ("pics.example",)
    assert settings.cors_origins == ("https://page.example:8443", "http://[::1]", "*", "null")


def test_times_without_an_end_are_numbers_below_0() -> None:
    assert ServeSettings(keep_alive_s=-1).keep_alive_s == -1


@pytest.mark.parametrize(
    ("value", "key"), [(b"secret\n", "secret"), (b"a key", "a key"), (b"", None), (None, None)]
)
def test_the_key_of_the_environment(
    value: bytes | None, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[ServeSettings] = []
    monkeypatch.setattr("edge_et.serve.serve", served.append)
    assert run_with_key(value, monkeypatch) is None
    assert [settings.api_key for settings in served] == [key]


@pytest.mark.parametrize("value", [b"\n", b"key\xff"])
def test_a_key_of_the_environment_that_is_none(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_et.serve.serve", pytest.fail)
    assert isinstance(run_with_key(value, monkeypatch), OptionError)


def run_with_key(value: bytes | None, monkeypatch: pytest.MonkeyPatch) -> BaseException | None:
    monkeypatch.delenv("EDGE_ET_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("EDGE_ET_API_KEY", os.fsdecode(value))
    return CliRunner().invoke(serve, []).exception
