"""`edge-et info`: what a bundle is, whether its files are whole, what an answer would cost."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_et.cli.console import megabytes, printable, progress_bar
from edge_et.cli.options import add_options
from edge_et.options import AnswerOptions, LoadOptions

if TYPE_CHECKING:
    from rich.table import Table

    from edge_et.bundle import Bundle
    from edge_et.pipeline import MemoryPlan


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--verify/--no-verify", default=True, help="Hash every file, large ones too.")
@click.option("--image", type=click.Path(path_type=Path), help="Tell what this picture costs.")
@add_options(AnswerOptions, only=("max_tiles", "pooling"))
@add_options(LoadOptions, only=("max_memory_bytes",))
def info(
    model: str | None,
    as_json: bool,
    verify: bool,
    image: Path | None,
    max_tiles: int | None,
    pooling: int | None,
    max_memory_bytes: int | None,
) -> None:
    """Verify a bundle, every byte of it, and print what it is made of.

    MODEL is a bundle's name or folder; the installed mini if omitted. With --no-verify only what a
    load checks is checked. It is told which engine a load would use, and why. With --image, one
    tile and a short prompt are run on this machine, and what the picture would take is estimated
    from them. With --max-memory it is told how the bundle would be opened within that, and what
    each part takes; nothing is opened. Where `edge-et autotune` has measured this machine, it is
    told how long an answer takes at most.
    """
    if image is None and (max_tiles, pooling) != (None, None):
        raise click.UsageError("--max-tiles and --pooling say what happens to the --image")
    import msgspec
    from rich.console import Console
    from rich.markup import escape

    from edge_et.bundle import find_bundle, load_bundle
    from edge_et.pipeline import engine_uses

    bundle = load_bundle(find_bundle(model))
    if verify:
        with progress_bar() as progress:
            bundle.verify(progress)
    manifest = bundle.manifest
    picture = None if image is None else _picture(bundle, image, max_tiles, pooling)
    answer = _longest_answer(bundle, picture)
    plan = None if max_memory_bytes is None else _memory(bundle, max_memory_bytes)
    uses = engine_uses(bundle)
    if as_json:
        document = {"folder": str(bundle.folder), "verified": verify, "manifest": manifest}
        document["longest_answer"] = answer
        document["engines"] = uses
        if plan is not None:
            document["memory"] = plan
        if picture is not None:
            document["image"] = picture
        print(msgspec.json.encode(document).decode())
        return

    console = Console()
    title = "Files, all verified" if verify else "Files, checked as by a load"
    files = _table(title, "file", "size", "SHA-256", "lies in")
    for file in bundle.files:
        lies_in = file.ref.package or "the bundle"
        files.add_row(file.role, megabytes(file.ref.size_bytes), file.ref.sha256[:12], lies_in)
    sources = _table("Made from", "source", "version", "licence", "used for")
    for source in manifest.sources:
        row = (source.name, source.version, source.license, source.used_for)
        sources.add_row(*(escape(printable(cell)) for cell in row))
    checks = _table("Measured when it was made", "check", "value", "limit", "unit")
    for check in manifest.checks:
        limit = "-" if check.limit is None else f"{check.limit:g}"
        checks.add_row(escape(printable(check.name)), f"{check.value:g}", limit, check.unit)
    console.print(
        f"{manifest.name} {manifest.version}: {printable(manifest.description)}", markup=False
    )
    console.print(str(bundle.folder), markup=False, soft_wrap=True)
    for table in (files, sources, checks):
        console.print(table)
    for use in uses:
        told = f"The {use.role} here: {use}"
        console.print(printable(told), markup=False, highlight=False, soft_wrap=True)
    if plan is not None:
        console.print(_told_memory(plan), markup=False, highlight=False)
    if picture is not None:
        console.print(_told(picture), markup=False, highlight=False)
    if manifest.direct is not None and manifest.direct.default:
        console.print(
            "A free answer about one picture takes one stage; a hint, a form or a budget of the "
            "stages asks for two."
        )
    console.print(_told_answer(answer), markup=False, highlight=False)


def _table(title: str, *heads: str) -> "Table":
    """Return a table that breaks what is too wide for its lines, and cuts nothing off."""
    from rich.table import Column, Table

    return Table(*(Column(head, overflow="fold") for head in heads), title=title)


def _picture(
    bundle: "Bundle", image: Path, max_tiles: int | None, pooling: int | None
) -> dict[str, Any]:
    """Return what a picture costs, and what that was estimated from."""
    from edge_et.image import load_image, plan_image
    from edge_et.llm import read_shape
    from edge_et.options import parse_options
    from edge_et.pipeline import image_cost, measure

    options = parse_options({"max_tiles": max_tiles, "pooling": pooling})
    spec = bundle.manifest.perceiver
    size = load_image(image).size
    plan = plan_image(
        bundle.manifest.vision, size, max_tiles=options.max_tiles, pooling=options.pooling
    )
    shape = read_shape(bundle.path(spec.weights))
    calibration = measure(bundle)
    return {
        "width": size[0],
        "height": size[1],
        **asdict(image_cost(plan, shape, "f16", calibration)),
        "context_length": spec.context_length,
        "calibration": asdict(calibration),
    }


def _told(picture: dict[str, Any]) -> str:
    """Write what a picture costs for people."""
    measured, tiles = picture["calibration"], picture["tiles"]
    return (
        f"The picture, {picture['width']} x {picture['height']} pixels: {tiles} "
        f"tile{'' if tiles == 1 else 's'}, {picture['image_tokens']} image tokens of the "
        f"{picture['context_length']} that the context holds, "
        f"{megabytes(picture['kv_bytes'])} of KV cache, about {picture['seconds']:.1f} s.\n"
        f"Estimated from one tile ({measured['tile_seconds']:.2f} s) and a prompt of "
        f"{measured['prefill_positions']} tokens ({measured['prefill_seconds']:.2f} s), "
        "run on this machine just now."
    )


def _memory(bundle: "Bundle", limit_bytes: int) -> "MemoryPlan":
    """Return how a load with a memory limit would open a bundle, in a process as this one."""
    from edge_et.options import parse_load_options
    from edge_et.pipeline import Settings, apply_profile, plan_memory

    options = parse_load_options({"max_memory_bytes": limit_bytes})
    profiled, profile = apply_profile(bundle)
    return plan_memory(profiled, Settings.of(options, profile), options)


def _told_memory(plan: "MemoryPlan") -> str:
    """Write a memory plan for people."""
    parts = ", ".join(f"{name} {megabytes(size)}" for name, size in plan.parts.items())
    tower = "stays open" if plan.keeps_tower else "is opened for each new picture"
    weights = "stay in their file" if plan.maps_weights else "are opened as the engine does"
    rows = plan.batch_positions or "as many as are fastest"
    lengths = " and ".join(map(str, plan.context_lengths))
    kept = megabytes(plan.image_cache_bytes), megabytes(plan.image_kv_bytes)
    return (
        f"Memory: {megabytes(plan.peak_bytes)} of {megabytes(plan.limit_bytes)} ({parts}).\n"
        f"The tower {tower}; weights {weights}; rows of a batch: {rows}; contexts of {lengths} "
        f"tokens; pictures of up to {plan.max_pixels / 1e6:.1f} million pixels; remembered: "
        f"{kept[0]} of image tokens, {kept[1]} of what KV caches held."
    )


def _longest_answer(
    bundle: "Bundle", picture: dict[str, Any] | None
) -> dict[str, float | None] | None:
    """Return what an answer takes at most on this machine; None: nobody measured it."""
    from edge_et.pipeline import apply_profile, longest_answer

    tuned, profile = apply_profile(bundle)
    image_tokens = None if picture is None else picture["image_tokens"]
    found = None if profile is None else longest_answer(tuned, profile, image_tokens)
    if found is None:
        return None
    picture_s = None if picture is None else picture["seconds"]
    total = found.seconds + (picture_s or 0)
    return {"seconds": total, "picture_s": picture_s, **asdict(found)}


def _told_answer(answer: dict[str, float | None] | None) -> str:
    """Write what an answer takes at most for people."""
    if answer is None:
        return "How long an answer takes on this machine: `edge-et autotune` measures it."
    stages = ("picture", "hint", "extract", "think", "answer")
    words = ("the picture", "the hint", "the extraction", "the thought", "the answer")
    parts = [
        f"{word} {seconds:.1f} s"
        for stage, word in zip(stages, words, strict=True)
        if (seconds := answer[f"{stage}_s"])
    ]
    behind = ", once the picture is read" if answer["picture_s"] is None else ""
    return (
        f"An answer in two stages that uses up all budgets: about {answer['seconds']:.1f} s on "
        f"this machine{behind} ({', '.join(parts)}).\n"
        "Estimated from what `edge-et autotune` measured."
    )
