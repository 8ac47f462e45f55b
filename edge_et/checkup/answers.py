"""Whether the models of a bundle compute what they computed when it was made.

In: a bundle, and the engines that may be opened. Out: findings; those that are off say which part
is, and what to do.
"""

import time
from collections.abc import Sequence
from math import isfinite

from PIL import Image, ImageDraw

from edge_et.bundle import Bundle, KnownModel, KnownTower
from edge_et.checkup.finding import Figure, Finding
from edge_et.errors import DecodeError, EngineError
from edge_et.llm import Engine
from edge_et.pipeline import (
    ModelDistance,
    Role,
    load,
    model_distance,
    other_distances,
    profile_folder,
    tower_distance,
)

_DAMAGED = "get the bundle again; where `files` above is ok, let memory be tested (memtest86+)"


def check_tower(bundle: Bundle, known: KnownTower) -> Finding:
    """Run the tower on the known picture and compare.

    Args:
        bundle: the bundle.
        known: what its tower should compute.
    """
    found = tower_distance(bundle, known)
    figures: dict[str, Figure] = {
        "cosine": found.cosine,
        "min_cosine": known.min_cosine,
        "difference": found.difference,
        "max_difference": known.max_difference,
    }
    told = f"cosine {found.cosine:.4f}, largest difference {found.difference:.3f}"
    if found.is_right:
        return Finding(check="answers.tower", status="ok", summary=told, figures=figures)
    return Finding(
        check="answers.tower",
        status="error",
        summary=f"the vision tower computes something else than when the bundle was made: {told} "
        f"(at least {known.min_cosine:g}, at most {known.max_difference:g})",
        advice=(
            _DAMAGED,
            "if the files are right, this build of onnxruntime is wrong for this CPU: "
            "pip install --force-reinstall --no-deps onnxruntime, or another version of it",
        ),
        figures=figures,
    )


def check_model(
    bundle: Bundle, role: Role, known: KnownModel, engines: Sequence[Engine]
) -> Finding:
    """Compute with a language model as a load does, compare, and look for what is off.

    Args:
        bundle: as `load_bundle` gave it.
        role: which model.
        known: what it should compute.
        engines: those that may be opened.
    """
    found = model_distance(bundle, role, known)
    figures: dict[str, Figure] = {
        "kl_nats": found.kl if isfinite(found.kl) else None,
        "max_kl_nats": known.max_kl,
        "engine": found.engine,
        "kv_type": found.kv_type,
        "is_converted": found.is_converted,
        "flash_attention": found.flash_attention,
    }
    told = f"{found.kl:.4f} nats off with {_told(found)}"
    check = f"answers.{role}"
    if found.is_right:
        return Finding(check=check, status="ok", summary=told, figures=figures)
    blame, advice = _diagnosis(bundle, role, known, engines, found)
    return Finding(
        check=check,
        status="error",
        summary=f"{told}, where {known.max_kl:g} are right: {blame}",
        advice=advice,
        figures=figures,
    )


def check_answer(bundle: Bundle) -> Finding:
    """Load the bundle, and let it answer a question about a drawn picture.

    Args:
        bundle: the bundle.
    """
    picture = Image.new("RGB", (224, 224), (236, 236, 240))
    ImageDraw.Draw(picture).ellipse((50, 50, 174, 174), fill=(214, 40, 40))
    started = time.perf_counter()
    with load(bundle.folder) as pipe:
        loaded = time.perf_counter()
        answer = pipe.answer(picture, "What color is the circle?")
        seconds = loaded - started, time.perf_counter() - loaded
    return Finding(
        check="answer",
        status="ok",
        summary=f"{answer.text!r} to a drawn red circle's colour, in {seconds[1]:.1f} s, loaded in "
        f"{seconds[0]:.1f} s",
        figures={"text": answer.text, "load_s": seconds[0], "answer_s": seconds[1]},
    )


def _diagnosis(
    bundle: Bundle,
    role: Role,
    known: KnownModel,
    engines: Sequence[Engine],
    off: ModelDistance,
) -> tuple[str, tuple[str, ...]]:
    """Say which part is off, and what to do."""
    try:
        right = next(
            (
                other
                for other in other_distances(bundle, role, known, list(engines), off)
                if other.is_right
            ),
            None,
        )
    except (DecodeError, EngineError) as err:
        return f"no other way to open it works: {err}", (_DAMAGED,)
    if right is None:
        return "no other way to open it is right either: its files, or the engine", (_DAMAGED,)
    if right.engine != off.engine:
        return f"it is right with {_told(right)}: the engine {off.engine} is wrong here", (
            f"load(engine={right.engine!r}), --engine {right.engine}, or install {off.engine} anew "
            "(docs/install.md)",
        )
    if off.is_converted:
        return f"it is right with {_told(right)}: the weights made on this machine are wrong", (
            f"delete {profile_folder(bundle)}, and the folder that `disk` names, or "
            "load(convert_weights=False)",
        )
    return f"it is right with {_told(right)}: its KV cache is not fit for this model", (
        f"load(kv_type='f16'); where `edge-et autotune` chose it, delete {profile_folder(bundle)}",
    )


def _told(found: ModelDistance) -> str:
    form = "converted weights" if found.is_converted else "the files as they are"
    flash = ", flash attention" if found.flash_attention else ""
    return f"{found.engine}, {form}, KV cache in {found.kv_type}{flash}"
