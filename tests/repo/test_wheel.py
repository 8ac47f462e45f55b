"""What `pip install` brings: every module of the tree, the server's page, and nothing else."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tiny.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from a copy of the tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree / name)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tree / folder)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", out, tree], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_the_page_and_nothing_else(wheel: set[str]):
    pages = (ROOT / "edge_et" / "serve" / "page").iterdir()
    expected = {"edge_et/py.typed", *(path.relative_to(ROOT).as_posix() for path in pages)}
    assert len(expected) > 3
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.relative_to(ROOT / folder).as_posix()
            expected.add(f"{package.replace('.', '/')}/{inner}")
    found = {name for name in wheel if ".dist-info/" not in name}
    assert found == expected


def test_the_wheel_tells_licence_and_command(wheel: set[str]):
    told = {Path(name).name for name in wheel if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= told
