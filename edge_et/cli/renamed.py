"""Commands and options by their old names: they work for one release, and warn on stderr."""

from collections.abc import Mapping, Sequence

import click

from edge_et.deprecation import GONE_WITH


def group_with_old_names(old_names: Mapping[str, str]) -> type[click.Group]:
    """Return the class of a group whose commands go by older names too.

    Args:
        old_names: the name of a command by the one that it had.
    """

    class Group(click.Group):
        def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
            if name in old_names:
                path = f"{ctx.parent.command_path} {ctx.command.name}" if ctx.parent else "edge-et"
                click.echo(
                    f"{path} {name} is called {path} {old_names[name]} now; the old name goes "
                    f"with edge-et {GONE_WITH}",
                    err=True,
                )
            return super().get_command(ctx, old_names.get(name, name))

    return Group


class CommandWithMode(click.Command):
    """A command whose option `--mode` goes by its old name `--way` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments with old names replaced."""
        return super().parse_args(ctx, replace_old_options(ctx, args, {"--way": "--mode"}))


def replace_old_options(
    ctx: click.Context, args: Sequence[str], old_names: Mapping[str, str]
) -> list[str]:
    """Return arguments with the new names of options; warn once for each old name.

    Args:
        ctx: of the command.
        args: as they were typed.
        old_names: the name of an option by the one that it had.
    """
    replaced = []
    found = dict.fromkeys(name for arg in args if (name := arg.partition("=")[0]) in old_names)
    for old in found:
        click.echo(
            f"{ctx.command_path} {old} is called {old_names[old]} now; the old name goes "
            f"with edge-et {GONE_WITH}",
            err=True,
        )
    for arg in args:
        name, equals, value = arg.partition("=")
        replaced.append(old_names.get(name, name) + equals + value)
    return replaced
