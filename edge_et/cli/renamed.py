"""Commands that were called otherwise: their old names work for one release, and warn on stderr."""

from collections.abc import Mapping

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
