"""Native libraries, imported with what they look for in their environment in place.

In: the name of a module of ONNX Runtime, an engine, OpenVINO or Ray. Out: the module. A variable
that the user has set is left alone. What was loaded before us has read its variables already: that
is logged.
"""

import ctypes
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"
"""Without it ONNX Runtime 1.29 and later keep a device id in the user's caches and report its use
to its maker over the network. They read it when they are imported."""

SPIN_COUNT: Final = "GOMP_SPINCOUNT"
"""How often a thread of libgomp looks whether the others are done before it sleeps. Each libgomp of
a process reads it when it is loaded. The default is 300,000: where other programs use the CPU,
looking keeps the very thread from running that is waited for."""

USAGE_STATS: Final = "RAY_USAGE_STATS_ENABLED"
"""Without it Ray Data tells a cluster what it ran, and those that ``ray start`` has begun report it
to Ray's maker. Ray reads it whenever a cluster or the run of a dataset begins."""

_SPINS = "1000"  # 10,000 is slower than the default where one of two CPUs is busy
_DECIDES_SPINNING = (SPIN_COUNT, "OMP_WAIT_POLICY")  # the first goes before the second

_ENGINES = {"llama_cpp": "llama.cpp", "ik_llama_cpp": "ik_llama.cpp"}  # each may have its libgomp

_OPENVINO = ("openvino", "openvino_genai", "openvino_tokenizers")

_MAPS = Path("/proc/self/maps")
_READ_SHARED = "r--s"  # how a mapping may be used
_MAPS_FIELDS = 6  # of a line about a file; the first are its addresses, the last is its path

logger = logging.getLogger(__name__)

_lock = threading.RLock()
_checked: set[str] = set()  # the engines of which it was looked which libgomp they have
_soon_asleep: set[str] = set()  # the files that were loaded with fewer spins


def import_library(name: str) -> Any:
    """Import a module; nothing of ours imports those libraries in another way.

    Args:
        name: of the module.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    package = name.partition(".")[0]
    if package == "onnxruntime":
        _silence_onnxruntime()
    elif package in _ENGINES:
        with _lock, _short_spinning(package):
            return importlib.import_module(name)
    elif package == "ray":
        silence_ray()
    elif package in _OPENVINO:
        # Its import is reported to its maker, and leaves an id in the home folder. It goes without
        # where the package that does it cannot be imported; there is no variable.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module(name)


def silence_ray() -> None:
    """Turn off Ray's reports on its use, which other processes make too; Ray is not imported."""
    os.environ.setdefault(USAGE_STATS, "0")


def _silence_onnxruntime() -> None:
    if TELEMETRY in os.environ:
        return
    if "onnxruntime" in sys.modules:
        logger.warning(
            "onnxruntime was imported before edge-et, and may report its use over the network: "
            "set %s=1 before the program starts",
            TELEMETRY,
        )
    # It stays, for the processes that this one starts.
    os.environ[TELEMETRY] = "1"


@contextmanager
def _short_spinning(engine: str) -> Iterator[None]:
    """Let libgomp be loaded with fewer spins; whatever else this process loads has its own."""
    if engine in _checked or any(name in os.environ for name in _DECIDES_SPINNING):
        yield
        return
    before = {path for _, _, path in mapped_files()}
    os.environ[SPIN_COUNT] = _SPINS
    try:
        yield
    finally:
        del os.environ[SPIN_COUNT]
        _soon_asleep.update({path for _, _, path in mapped_files()} - before)
    _checked.add(engine)
    if (path := _libgomp_of(engine, before)) in before - _soon_asleep:
        logger.warning(
            "%s was loaded before edge-et, and %s shares it: beside other busy programs "
            "answers take several times as long; set %s=%s before the program starts",
            path,
            _ENGINES[engine],
            SPIN_COUNT,
            _SPINS,
        )


def _libgomp_of(engine: str, before: set[str]) -> str | None:
    """Return the file of the libgomp that an engine calls; None where there is none, or no telling.

    Several may be loaded. As the dynamic linker does, it is first looked among the libraries that
    all others see, as torch's are, then among those that the engine's own are linked with.

    Args:
        engine: its module; its libraries lie in a folder whose name begins so.
        before: the files that were mapped before it was loaded.
    """
    files = list(mapped_files())
    ggml = {
        path
        for _, _, path in files
        if Path(path).name.startswith("libggml") and (path not in before or f"/{engine}" in path)
    }
    for library in (None, *sorted(ggml)):
        try:
            function = ctypes.CDLL(library).GOMP_parallel
        except (AttributeError, OSError):
            continue
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        return next((path for start, end, path in files if start <= address < end), None)
    return None


def mapped_files(*, shared_to_read: bool = False) -> Iterator[tuple[int, int, str]]:
    """Yield addresses and paths of the files that this process has mapped; nothing but on Linux.

    Args:
        shared_to_read: leave out what this process may change, or has a copy of its own of.
    """
    try:
        lines = _MAPS.read_text(errors="surrogateescape").split("\n")
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=_MAPS_FIELDS - 1)
        if len(fields) == _MAPS_FIELDS and (not shared_to_read or fields[1] == _READ_SHARED):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            yield start, end, fields[-1]
