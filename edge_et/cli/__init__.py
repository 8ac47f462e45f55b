"""The command line, `edge-et`. Data goes to stdout, everything else to stderr.

Exit status: 0 done, 1 one of our errors (told in one line), 2 wrong usage, 130 interrupted.
"""

import os
import sys

from edge_et.errors import EdgeETError


def main() -> None:
    """Run the command line; the entry point of the console script."""
    from edge_et.cli.app import app

    try:
        app()
    except EdgeETError as err:
        print(f"edge-et: {err}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader has gone (`edge-et ... | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
