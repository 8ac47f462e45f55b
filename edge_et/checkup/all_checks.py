"""All checks, one after the other; one that fails stops no other.

In: a bundle's name or folder. Out: findings, as they come.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.checkup.answers import check_answer, check_model, check_tower
from edge_et.checkup.builds import EngineBuild, check_engine, check_onnxruntime, open_apart
from edge_et.checkup.bundle_files import (
    Progress,
    check_bundle,
    check_files,
    check_profile,
    check_use,
)
from edge_et.checkup.finding import Finding, Status
from edge_et.checkup.machine import Machine, check_disk, check_heat, check_memory, check_threads
from edge_et.checkup.software import check_processor, check_versions, known_of_versions
from edge_et.errors import EdgeETError, EngineError
from edge_et.llm import Engine, installed_engines
from edge_et.pipeline import apply_profile, models_of, prepare

STATUS_OF_ALL: Final[tuple[Status, ...]] = ("ok", "warning", "error")
"""From the best to the worst."""

OpenApart = Callable[[Engine], EngineBuild]


def check_up(
    model: str | None,
    *,
    progress: Progress,
    machine: Machine | None = None,
    open_apart: OpenApart = open_apart,
) -> Iterator[Finding]:
    """Check an installation, the machine and a bundle, and prepare what loads are faster with.

    Args:
        model: a bundle's name or folder; None: the installed mini.
        progress: told how far the hashing of files is.
        machine: where the system tells of itself; None: where Linux does.
        open_apart: opens an engine in a process of its own.

    Yields:
        What each check found. Those that need what another one found to be missing or broken are
        left out.
    """
    machine = machine or Machine()
    yield _guarded("versions", check_versions)
    yield from known_of_versions()
    yield _guarded("processor", lambda: check_processor(machine))
    yield _guarded("onnxruntime", lambda: check_onnxruntime(machine))
    engines = installed_engines()
    usable, is_deadly = [], False
    with ThreadPoolExecutor() as pool:  # each only waits for a process
        opened = pool.map(lambda engine: None if engine.missing else open_apart(engine), engines)
    for engine, build in zip(engines, opened, strict=True):
        finding = _guarded(
            f"engine.{engine.name}",
            partial(check_engine, engine, build, machine),
        )
        if build is not None and finding.status != "error":
            usable.append(engine)
        is_deadly |= finding.status == "error"
        yield finding
    if not engines:
        yield _failed("engine", EngineError.not_installed(None, ()))
    yield _guarded("heat", lambda: check_heat(machine))
    try:
        bundle = load_bundle(find_bundle(model))
    except EdgeETError as err:
        yield _guarded("threads", lambda: check_threads(machine, None))
        yield _failed("bundle", err)
        return
    yield check_bundle(bundle)
    profiled, profile = apply_profile(bundle)
    yield _guarded("threads", lambda: check_threads(machine, profile))
    yield _guarded("memory", lambda: check_memory(machine, profiled, profile))
    yield _guarded("files", lambda: check_files(bundle, progress))
    yield check_profile(profile)
    if usable and not is_deadly:
        yield from _check_models(bundle, usable)


def _check_models(bundle: Bundle, engines: list[Engine]) -> Iterator[Finding]:
    """Open the models, which an engine that ends the process must not do."""
    yield _guarded("disk", lambda: check_disk(bundle))
    yield from _guarded_all("engine_use", lambda: map(check_use, prepare(bundle)))
    known = bundle.manifest.known_answers
    if known is not None and known.tower is not None:
        tower = known.tower
        yield _guarded("answers.tower", lambda: check_tower(bundle, tower))
    for role, _ in models_of(bundle):
        expected = None if known is None else getattr(known, role)
        if expected is not None:
            yield _guarded(
                f"answers.{role}",
                partial(check_model, bundle, role, expected, engines),
            )
    yield _guarded("answer", lambda: check_answer(bundle))


def _guarded(check: str, found: Callable[[], Finding]) -> Finding:
    (finding,) = _guarded_all(check, lambda: (found(),))
    return finding


def _guarded_all(check: str, found: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check found, or that it failed."""
    try:
        return list(found())
    except Exception as err:
        return [_failed(check, err)]


def _failed(check: str, err: Exception) -> Finding:
    if isinstance(err, EdgeETError):
        return Finding(check=check, status="error", summary=str(err))
    if isinstance(err, MemoryError):
        return Finding(check=check, status="error", summary="there is not enough memory")
    if isinstance(err, OSError):
        return Finding(check=check, status="error", summary=f"the check could not be made: {err}")
    return Finding(
        check=check,
        status="error",
        summary=f"the check failed: {type(err).__name__}: {err}",
        advice=("this is a fault of edge-et: please report it",),
    )
