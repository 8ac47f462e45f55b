"""Makes a virtual environment with pip, also where Debian's python3-venv is not installed.

Usage: python3 scripts/make_venv.py FOLDER

Without python3-venv, Debian's Python has no pip to put into an environment; then pip's wheel is
fetched from PyPI, checked by its SHA-256, and installs itself.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

PYPI = "https://pypi.org/pypi/pip/json"


def make(folder: Path) -> None:
    """Make the environment; one that is there already is kept.

    Args:
        folder: where it goes.
    """
    python = folder / "bin" / "python"
    if python.exists() and has_pip(python):
        return
    venv.create(folder, with_pip=False)
    ensured = subprocess.run(
        [python, "-m", "ensurepip", "--default-pip"], capture_output=True, check=False
    )
    if ensured.returncode != 0 or not has_pip(python):
        install_pip(python)


def has_pip(python: Path) -> bool:
    """Say whether an environment's Python can run pip."""
    command = [python, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def install_pip(python: Path) -> None:
    """Fetch pip's wheel and let it install itself."""
    with urllib.request.urlopen(PYPI) as answer:
        files = json.load(answer)["urls"]
    wheel = next(file for file in files if file["packagetype"] == "bdist_wheel")
    with urllib.request.urlopen(wheel["url"]) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != wheel["digests"]["sha256"]:
        sys.exit(f"{wheel['url']} arrived damaged; try again")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / wheel["filename"]
        path.write_bytes(content)
        command = [python, path / "pip", "install", "--quiet", "--no-index", path]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONNOUSERSITE": "1"})


if __name__ == "__main__":
    make(Path(sys.argv[1]))
