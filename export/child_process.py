"""Do in a process of its own what native code may end the process over.

In: a function of a module and its arguments. Out: what it returned or raised; and an error of ours
where the process died.
"""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from edge_et.export.errors import NativeModelError

P = ParamSpec("P")
T = TypeVar("T")

_CHILD = "from edge_et.export.child_process import serve; serve()"
_ASSERTION = "GGML_ASSERT"


def in_child(what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a process of its own, which ends when this one does.

    Args:
        what: the file that is worked on, for the message.
        work: a function that can be imported.
        args: its arguments, which can be pickled, as can what it returns.
        kwargs: its keyword arguments.

    Raises:
        NativeModelError: the process died.
        Exception: what the function raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome"
        with subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, str(outcome)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        ) as child:
            assert child.stdin is not None
            assert child.stderr is not None
            try:
                # It stays open: its end tells the child that this process is gone.
                child.stdin.write(pickle.dumps((work, args, kwargs)))
                child.stdin.flush()
                complaint = child.stderr.read().decode(errors="replace")
                child.wait()
            except BaseException:
                child.kill()
                raise
        if not outcome.is_file():
            raise NativeModelError(
                f"{what} made llama.cpp end its process ({_cause(child.returncode, complaint)}): "
                "the file is damaged, or not of a kind that this release of it knows"
            )
        returned, result = pickle.loads(outcome.read_bytes())
    if not returned:
        raise result
    value: T = result
    return value


def serve() -> None:
    """Be the child: take the work from stdin, and leave its outcome in the file that is named."""
    work, args, kwargs = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    outcome: tuple[bool, Any]
    try:
        outcome = True, work(*args, **kwargs)
    except Exception as err:
        outcome = False, err
    path = Path(sys.argv[1])
    draft = path.with_suffix(".partial")
    draft.write_bytes(pickle.dumps(outcome))
    draft.rename(path)


def _end_with_the_parent() -> None:
    # Not by sys.stdin: its lock, which this thread would hold, makes a child that ends wait for a
    # second, and abort.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _cause(status: int, complaint: str) -> str:
    lines = complaint.strip().splitlines()
    asserted = [line for line in lines if _ASSERTION in line]
    told = (asserted or lines or ["it said nothing"])[-1]
    return f"signal {-status}: {told}" if status < 0 else f"status {status}: {told}"
