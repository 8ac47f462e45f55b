"""Starts the server with the options that a user of Home Assistant has set."""

import json
import os
import pwd
import socket
from pathlib import Path
from typing import Any

OPTIONS = Path("/data/options.json")  # written by the Supervisor, for root alone
BUNDLES = Path("/share/edge-et")
USER = "edge-et"
PROGRAM = "/opt/edge-et/bin/edge-et"


def command(options: dict[str, Any], bundles: Path = BUNDLES) -> list[str]:
    """Return the command line of the server."""
    line = [PROGRAM, "serve", "--host", "0.0.0.0"]
    line += ["--deadline-s", str(options["deadline_s"])]
    # Home Assistant and its apps know this one by the name of its container.
    for host in (socket.gethostname(), *options["hosts"]):
        line += ["--allow-host", host]
    for name in options["bundles"]:
        folder = bundles / name
        line.append(str(folder) if folder.is_dir() else name)
    return line


def main() -> None:
    """Become the server, as a user who may do nothing else."""
    options = json.loads(OPTIONS.read_text())
    user = pwd.getpwnam(USER)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    environment = {"PATH": os.environ["PATH"], "TZ": os.environ.get("TZ", "UTC")}
    if options.get("api_key"):
        environment["EDGE_ET_API_KEY"] = options["api_key"]
    line = command(options)
    os.execve(line[0], line, environment)


if __name__ == "__main__":
    main()
