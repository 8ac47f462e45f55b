import click
import pytest
from click.testing import CliRunner

from edge_et.cli.renamed import group_with_old_names
from edge_et.deprecation import GONE_WITH


@click.group(name="tool")
def tool() -> None:
    pass


@tool.group(name="inner", cls=group_with_old_names({"old": "new", "other": "new"}))
def inner() -> None:
    pass


@inner.command(name="new")
@click.option("--count", type=int, default=1)
def new(count: int) -> None:
    click.echo(f"done {count}")


@pytest.mark.parametrize("old", ["old", "other"])
def test_an_old_name_does_the_same_and_says_so_on_stderr(old: str) -> None:
    result = CliRunner().invoke(tool, ["inner", old, "--count", "3"])
    assert (result.exit_code, result.stdout) == (0, "done 3\n")
    assert result.stderr == (
        f"tool inner {old} is called tool inner new now; the old name goes with edge-et "
        f"{GONE_WITH}\n"
    )


def test_the_name_as_it_is_says_nothing() -> None:
    result = CliRunner().invoke(tool, ["inner", "new"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done 1\n", "")


def test_a_group_of_its_own_is_called_by_the_name_of_the_program() -> None:
    result = CliRunner().invoke(inner, ["old"])
    assert "edge-et old is called edge-et new now" in result.stderr


def test_old_names_are_not_offered() -> None:
    shown = CliRunner().invoke(tool, ["inner", "--help"]).output
    assert "new" in shown
    assert "old" not in shown


def test_a_name_that_never_was_is_wrong_usage() -> None:
    result = CliRunner().invoke(tool, ["inner", "nothing"])
    assert (result.exit_code, result.stdout) == (2, "")
