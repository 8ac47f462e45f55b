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

    Its home is the folder `home` in a folder of its own, and nothing outside that is to be written.
    """

    def __init__(self, code: str, folder: Path, **environment: str) -> None:
        self.folder, self.home = folder, folder / "home"
        self._work, self._trace = folder / "work", folder / "trace"
        self.home.mkdir(parents=True)
        self._work.mkdir()
        command = [sys.executable, "-c", f"{code}\n{_WAIT}"]
        self.is_traced = strace_works()
        if self.is_traced:
            calls = f"trace=socket,{_OPENS},{_MAKES}"
            command = ["strace", "-fyqq", "-o", str(self._trace), "-e", calls, *command]
        self._process = subprocess.Popen(
            command,
            cwd=self._work,
            env=bare_environment(self.home, TMPDIR=str(self._work), **environment),
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

    def kept_at_home(self) -> list[str]:
        """Return what lies in its home folder."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    def sockets(self) -> list[str]:
        """Return the calls that asked for the network."""
        return [call for call in self._calls() if re.search(r"\bsocket\(AF_INET6?\b", call)]

    def written_outside(self) -> list[str]:
        """Return the calls that wrote or made a file elsewhere."""
        return [call for call in self._calls() if any(map(self._is_outside, _written(call)))]

    def _is_outside(self, path: str) -> bool:
        return not (self._work / path).is_relative_to(self.folder) and path != "/dev/null"

    def _calls(self) -> list[str]:
        return self._trace.read_text(errors="replace").splitlines()


def _written(call: str) -> list[str]:
    """Return the paths that a call writes or makes; those without a folder are where it works."""
    name = re.match(r"\d+ +(\w+)\(", call)  # the second half of an interrupted call has none
    if name is None or name[1] == "socket" or " = -1 " in call:
        return []
    if name[1].startswith("open") and not re.search(r"\bO_(WRONLY|RDWR|CREAT)\b", call):
        return []
    named = re.findall(r'(?:<([^>]*)>, )?"([^"]*)"', call)
    return [os.path.join(folder, name) for folder, name in named]
