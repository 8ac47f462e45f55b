"""A process that is watched: what it writes, and whether it asks for the network."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Not CI and its like: where they are set, ONNX Runtime reports nothing of its own accord.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")

# Not every processor has those with a question mark.
_OPENS = "openat,?open,?creat"
_MAKES = "mkdirat,renameat2,linkat,symlinkat,?mkdir,?rename,?renameat,?link,?symlink"

# Output ends when the code has run; the process does when its input ends.
_WAIT = """
import os, sys
sys.stdout.flush()
os.dup2(2, 1)
sys.stdin.read()
"""


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the variables that a process needs to start, and those that are given."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **more}


def strace_works() -> bool:
    """Say whether strace is here, and may look at processes."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-f", "true"], capture_output=True, check=False).returncode == 0
    )


class Watched:
    """A Python process that runs some code and then waits.

    It has a folder of its own, with its home, where it works, and where it puts temporary files.
    """

    def __init__(self, code: str, folder: Path, **environment: str) -> None:
        self._folder, self._trace = folder, folder / "trace"
        home, self._work, temporary = (folder / name for name in ("home", "work", "tmp"))
        for made in (home, self._work, temporary):
            made.mkdir(parents=True)
        command = [sys.executable, "-c", f"{code}\n{_WAIT}"]
        self.is_traced = strace_works()
        if self.is_traced:
            calls = f"trace=socket,connect,{_OPENS},{_MAKES}"
            command = ["strace", "-fyqq", "-o", str(self._trace), "-e", calls, *command]
        self._process = subprocess.Popen(
            command,
            cwd=self._work,
            env=bare_environment(home, TMPDIR=str(temporary), **environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._output = ""
        self._ran_at: float | None = None

    def output(self) -> str:
        """Wait until the code has run, and return what it printed."""
        assert self._process.stdout is not None
        if self._ran_at is None:
            self._output = self._process.stdout.read()
            self._ran_at = time.monotonic()
        return self._output

    def live(self, seconds: float) -> None:
        """Wait until so long after the code has run."""
        self.output()
        assert self._ran_at is not None
        time.sleep(max(0.0, self._ran_at + seconds - time.monotonic()))

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()
        assert self._process.returncode == 0

    def kept(self, *folders: str) -> list[str]:
        """Return the files in some of its folders: ``home``, ``work`` or ``tmp``."""
        paths = (path for name in folders for path in (self._folder / name).rglob("*"))
        return sorted(str(path.relative_to(self._folder)) for path in paths if path.is_file())

    def sockets(self) -> list[str]:
        """Return the calls that asked for the network."""
        return [call for call in self._calls() if re.search(r"\bsocket\(AF_INET6?\b", call)]

    def connections(self) -> list[str]:
        """Return the calls that connected to another machine, such as that which knows names."""
        return [call for call in self._calls() if re.search(r"\bconnect\(.*\bAF_INET6?\b", call)]

    def written_outside(self) -> list[str]:
        """Return the calls that wrote or made a file elsewhere."""
        return [call for call in self._calls() if any(map(self._is_outside, _written(call)))]

    def _is_outside(self, path: str) -> bool:
        whole = self._work / path
        return not whole.is_relative_to(self._folder) and not whole.is_relative_to("/dev")

    def _calls(self) -> list[str]:
        return self._trace.read_text(errors="replace").splitlines()


def _written(call: str) -> list[str]:
    """Return the paths that a call writes or makes; those without a folder are where it works."""
    name = re.match(r"\d+ +(\w+)\(", call)  # the second half of an interrupted call has none
    if name is None or name[1] in ("socket", "connect") or " = -1 " in call:
        return []
    if name[1].startswith("open") and not re.search(r"\bO_(WRONLY|RDWR|CREAT)\b", call):
        return []
    named = re.findall(r'(?:<([^>]*)>, )?"([^"]*)"', call)
    return [os.path.join(folder, name) for folder, name in named]
