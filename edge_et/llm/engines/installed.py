"""Which engines are installed, found without opening one."""

import functools
import hashlib
import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import get_args

from edge_et.cpu_flags import missing_for
from edge_et.errors import EngineError
from edge_et.llm.batch_rules import IN_GROUPS
from edge_et.llm.engines import ik_llama_cpp, llama_cpp
from edge_et.llm.engines.engine import UNKNOWN, Engine
from edge_et.options import EngineName, KvType


def installed_engines() -> tuple[Engine, ...]:
    """Return the engines that are installed, the reference first."""
    found = []
    if (number := _version(llama_cpp)) is not None:
        found.append(
            Engine(
                name="llama",
                title="llama.cpp",
                package=llama_cpp.PACKAGE,
                version=number,
                build=_build(llama_cpp),
                rules=IN_GROUPS,
                flash_rules=IN_GROUPS,
                kv_types=get_args(KvType),
                applies_adapters=True,
                open=llama_cpp.open_library,
            )
        )
    if (number := _version(ik_llama_cpp)) is not None:
        found.append(
            Engine(
                name="prebuilt",
                title="ik_llama.cpp",
                package=ik_llama_cpp.PACKAGE,
                version=number,
                build=_build(ik_llama_cpp),
                rules=ik_llama_cpp.RULES,
                flash_rules=ik_llama_cpp.FLASH_RULES,
                kv_types=ik_llama_cpp.KV_TYPES,
                applies_adapters=False,
                missing=missing_for("prebuilt"),
                open=functools.partial(ik_llama_cpp.open_library, number),
            )
        )
    return tuple(found)


def default_engine(name: EngineName | None = None) -> Engine:
    """Return an installed engine.

    Args:
        name: which; None: the reference if it is installed, else the other one.

    Raises:
        EngineError: it is not installed, or none is.
    """
    engines = installed_engines()
    for engine in engines:
        if name in (None, engine.name):
            return engine
    raise EngineError.not_installed(name, [engine.name for engine in engines])


def _version(engine: ModuleType) -> str | None:
    """Return the version of an engine's package; None: it is not there."""
    if importlib.util.find_spec(engine.MODULE) is None:
        return None
    try:
        return version(engine.PACKAGE)
    except PackageNotFoundError:  # as in a frozen program
        return UNKNOWN


def _build(engine: ModuleType) -> str:
    """Return what changes when an engine's library is compiled anew, without opening it."""
    spec = importlib.util.find_spec(engine.MODULE)
    packages = [] if spec is None else spec.submodule_search_locations or []
    named = os.environ.get(engine.LIBRARY_VARIABLE)
    places = [Path(named)] if named else [Path(package, "lib") for package in packages]
    try:
        files = [file for place in places for file in _files(place)]
        marks = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:  # as in a frozen program
        return UNKNOWN
    return hashlib.sha256(repr(marks).encode()).hexdigest()[:16]


def _files(place: Path) -> list[Path]:
    return sorted(place.iterdir()) if place.is_dir() else [place]
