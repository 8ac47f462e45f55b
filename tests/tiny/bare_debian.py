"""Runs the steps of our Containerfiles in a bare Debian, without Docker.

As root, with mmdebstrap and util-linux. Mounts and networks are those of namespaces that end with
their processes. What pip has compiled before is taken from its cache.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tiny.containerfile import Stage

TOOLS = ("mmdebstrap", "unshare", "nsenter", "chroot", "ip", "tar")
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def what_is_missing() -> str:
    """Return why no root can be made here; empty: nothing is missing."""
    if os.geteuid() != 0:
        return "only root may make namespaces and roots"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"there is no {', '.join(missing)}" if missing else ""


def make_archive(suite: str, archive: Path) -> None:
    """Write a bare Debian as an archive.

    Args:
        suite: name of the release.
        archive: where it goes; ends with ``.tar``.
    """
    command = ["mmdebstrap", "--variant=minbase", "--quiet", suite, archive, MIRROR]
    subprocess.run(command, check=True)


def cache_of_pip() -> Path:
    """Return pip's cache: the user's own, where tests have another folder for caches."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return Path(subprocess.check_output(command, env=environment, text=True).strip())


def pip_settings(cache: Path) -> dict[str, str]:
    """Return how pip finds its certificates and what it compiled before, by its cache."""
    found = sorted((cache / "wheels").rglob("llama_cpp_python-*.whl"))
    settings = {"PIP_CERT": "/host-certificates.crt", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if found:
        folder = found[-1].parent.relative_to(cache)
        settings["PIP_FIND_LINKS"] = f"/root/.cache/pip/{folder}"
    return settings


class Root:
    """A folder that is the root of a system."""

    def __init__(self, folder: Path, archive: Path) -> None:
        """Unpack an archive into a folder that is not there yet."""
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["tar", "--extract", "--file", archive, "--directory", folder], check=True)
        shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
        if CERTIFICATES.exists():
            shutil.copy(CERTIFICATES, folder / "host-certificates.crt")

    def build(self, stage: Stage, context: Path, others: dict[str, "Root"]) -> None:
        """Carry out the steps of a stage.

        Args:
            stage: of a Containerfile.
            context: the folder that it copies from.
            others: roots of earlier stages, by name.
        """
        copies = iter(stage.copies())
        place = "/"
        for keyword, value in stage.steps:
            if keyword == "WORKDIR":
                place = value
                self.at(place).mkdir(parents=True, exist_ok=True)
            elif keyword == "COPY":
                other, sources, target = next(copies)
                start = others[other].folder if other else context
                for source in sources:
                    self._copy(start / source.lstrip("/"), place, target, len(sources) > 1)
            elif keyword == "RUN":
                self._run(value, place)

    def at(self, path: str) -> Path:
        """Return where a path of this system is."""
        return self.folder / path.lstrip("/")

    def _copy(self, source: Path, place: str, target: str, several: bool) -> None:
        goal = self.at(os.path.join(place, target))
        if source.is_dir():
            shutil.copytree(source, goal, symlinks=True, dirs_exist_ok=True)
            return
        if several or target.endswith("/"):
            goal.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, goal)

    def _run(self, line: str, place: str) -> None:
        cache, kept = cache_of_pip(), self.at("/root/.cache/pip")
        cache.mkdir(parents=True, exist_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        words = ["/bin/sh", "-c", f"cd {place} && {line}"]
        subprocess.run(
            self._command(words, binds={cache: kept}),
            env={"PATH": PATH, "HOME": "/root", **pip_settings(cache)},
            stdin=subprocess.DEVNULL,
            check=True,
        )

    def start(
        self, words: Sequence[str], *, user: str = "root", hostname: str = "edge-et"
    ) -> subprocess.Popen[str]:
        """Start a program as the first process of namespaces, one of them a network of its own."""
        command = self._command(words, user=user, network=True, hostname=hostname)
        return subprocess.Popen(command, env={"PATH": PATH}, text=True, stderr=subprocess.PIPE)

    def beside(self, process: subprocess.Popen[str], words: Sequence[str]) -> list[str]:
        """Return the command that runs a program in the network of one that was started."""
        return ["nsenter", f"--net=/proc/{first_of(process)}/ns/net", "chroot", self.folder, *words]

    def _command(
        self,
        words: Sequence[str],
        *,
        binds: dict[Path, Path] | None = None,
        user: str = "root",
        network: bool = False,
        hostname: str = "edge-et",
    ) -> list[str]:
        script = [
            f"hostname {hostname}",
            f"mount -t proc proc {self.folder}/proc",
            f"mount --rbind /dev {self.folder}/dev",
            *(f"mount --bind {source} {target}" for source, target in (binds or {}).items()),
            *(["ip link set lo up"] if network else []),
            'exec chroot "$@"',
        ]
        spaces = ["--mount", "--pid", "--uts", "--fork", "--kill-child"]
        spaces += ["--net"] if network else []
        place = [f"--userspec={user}:{user}", str(self.folder)]
        return ["unshare", *spaces, "sh", "-ec", "\n".join(script), "sh", *place, *words]


def first_of(process: subprocess.Popen[str]) -> int:
    """Return the process that was started in the namespaces."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)
