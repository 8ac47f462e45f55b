"""The command line, `edge-et`. Data goes to stdout, everything else to stderr.

Exit status: 0 done, 1 an error (told in one line), 2 wrong usage, 130 interrupted.
"""

import contextlib
import io
import os
import signal
import sys
import tempfile
import traceback
from types import FrameType

from edge_et.errors import EdgeETError


def main() -> None:
    """Run the command line; the entry point of the console script."""
    sys.exit(_run_and_tell())


class _Interrupt:
    """Remembers Ctrl-C, of which native code that imports or calls back makes another exception.

    Attributes:
        came: whether it was pressed.
    """

    def __init__(self) -> None:
        self.came = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def _run_and_tell() -> int:
    """Run the command line; tell in one line on stderr what went wrong.

    Returns:
        The exit status.
    """
    if sys.stderr is None:  # closed; print() would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        return _fail("stdout is closed; send it to /dev/null if it is not wanted")
    if isinstance(sys.stdout, io.TextIOWrapper):  # terminals that lack a letter get its code
        sys.stdout.reconfigure(errors="backslashreplace")
    interrupt = _Interrupt()
    try:
        status = _run()
        sys.stdout.flush()  # or a full disk would be told at exit, when nobody can catch it
    except (KeyboardInterrupt, Exception) as err:
        if not interrupt.came and not isinstance(err, KeyboardInterrupt):
            return _fail_for(err)
        # Python remembers an interrupt of exec(), as in dataclasses, until the next exec(), and
        # then exits as if nobody had caught it: by the signal, not with the status.
        exec("")
        return _fail("interrupted", 130)
    # What a library imports may catch an interrupt, and go on.
    return _fail("interrupted", 130) if interrupt.came else status


def _run() -> int:
    """Run the command line; wrong usage is told by click.

    Returns:
        The exit status.
    """
    import click

    from edge_et.cli.app import app

    try:
        status = app.main(standalone_mode=False)
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except click.Abort as err:  # what click makes of Ctrl-C, and of any EOFError
        if isinstance(err.__cause__, EOFError):
            raise err.__cause__ from None
        raise KeyboardInterrupt from err
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = 1) -> int:
    with contextlib.suppress(OSError):  # stderr may be full
        print(f"edge-et: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    return status


def _fail_for(err: Exception) -> int:
    if isinstance(err, EdgeETError):
        return _fail(str(err))
    if isinstance(err, MemoryError):
        return _fail("there is not enough memory")
    if isinstance(err, OSError):  # of the machine: a disk that is full, a folder that is locked
        reason = err.strerror or str(err)
        if err.filename is not None:
            return _fail(f"{os.fsdecode(err.filename)}: {reason}")
        # It may be stdout, which Python would try to write to once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Where the reader has gone (`edge-et ... | head`), nobody wants to know.
        return 1 if isinstance(err, BrokenPipeError) else _fail(reason)
    return _fail_for_fault(err)


def _fail_for_fault(err: Exception) -> int:
    """Tell of a fault of our own. What shows it may have taken hours, so its traceback is kept."""
    message = f"{type(err).__name__}: {err}: this is a fault of edge-et"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="edge-et-", suffix=".txt", delete=False, errors="backslashreplace"
        ) as file:
            traceback.print_exception(err, file=file)
    except OSError:
        traceback.print_exception(err)
        return _fail(message)
    return _fail(f"{message}; please report it, with its traceback in {file.name}")
