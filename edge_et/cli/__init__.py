"""The command line, `edge-et`. Data goes to stdout, everything else to stderr.

Exit status: 0 done, 1 one of our errors (told in one line), 2 wrong usage, 130 interrupted.
"""

import os
import sys

from edge_et.errors import EdgeETError


def main() -> None:
    """Run the command line; the entry point of the console script."""
    import click

    from edge_et.cli.app import app

    try:
        status = app.main(standalone_mode=False)
    except EdgeETError as err:
        print(f"edge-et: {err}", file=sys.stderr)
        sys.exit(1)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except click.Abort:  # what click makes of Ctrl-C
        print("edge-et: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone (`edge-et ... | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
