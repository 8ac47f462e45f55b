import pytest

from edge_et.cli.console import megabytes, printable, progress_bar

REPLACED = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red ball, 日本 ü 🙂\n\tyes", "a red ball, 日本 ü 🙂\n\tyes"),
        ("\x1b[31mred\x1b[0m", f"{REPLACED}[31mred{REPLACED}[0m"),
        ("a\rb\x00c\x7f\x9bd", f"a{REPLACED}b{REPLACED}c{REPLACED}{REPLACED}d"),
        ("left\u202eright\u200b", f"left{REPLACED}right{REPLACED}"),
        ("", ""),
    ],
)
def test_nothing_that_steers_a_terminal_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_sizes_are_in_powers_of_ten() -> None:
    assert megabytes(1_250_000) == "1.2 MB"
    assert megabytes(0) == "0.0 MB"


def test_progress_is_nobodys_data(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("reads", 1, 2)
        progress("reads", 2, 2)
    assert capsys.readouterr() == ("", "")
