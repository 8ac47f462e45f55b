"""`edge-et info`: what a bundle is, whether its files are whole, what a picture would cost."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_et.cli.console import megabytes, printable, progress_bar
from edge_et.cli.options import add_options
from edge_et.options import AnswerOptions

if TYPE_CHECKING:
    from edge_et.bundle import Bundle


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--verify/--no-verify", default=True, help="Hash every file, large ones too.")
@click.option("--image", type=click.Path(path_type=Path), help="Tell what this picture costs.")
@add_options(AnswerOptions, only=("max_tiles", "pooling"))
def info(
    model: str | None,
    as_json: bool,
    verify: bool,
    image: Path | None,
    max_tiles: int | None,
    pooling: int | None,
) -> None:
    """Verify a bundle, every byte of it, and print what it is made of.

    MODEL is a bundle's name or folder; the installed mini if omitted. With --no-verify only what a
    load checks is checked. With --image, one tile and a short prompt are run on this machine, and
    what the picture would take is estimated from them.
    """
    if image is None and (max_tiles, pooling) != (None, None):
        raise click.UsageError("--max-tiles and --pooling say what happens to the --image")
    import msgspec
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_et.bundle import find_bundle, load_bundle

    bundle = load_bundle(find_bundle(model))
    if verify:
        with progress_bar() as progress:
            bundle.verify(progress)
    manifest = bundle.manifest
    picture = None if image is None else _picture(bundle, image, max_tiles, pooling)
    if as_json:
        document = {"folder": str(bundle.folder), "verified": verify, "manifest": manifest}
        if picture is not None:
            document["image"] = picture
        print(msgspec.json.encode(document).decode())
        return

    console = Console()
    title = "Files, all verified" if verify else "Files, checked as by a load"
    files = Table("file", "size", "SHA-256", "lies in", title=title)
    for file in bundle.files:
        lies_in = file.ref.package or "the bundle"
        files.add_row(file.role, megabytes(file.ref.size_bytes), file.ref.sha256[:12], lies_in)
    sources = Table("source", "version", "licence", "used for", title="Made from")
    for source in manifest.sources:
        row = (source.name, source.version, source.license, source.used_for)
        sources.add_row(*(escape(printable(cell)) for cell in row))
    checks = Table("check", "value", "limit", "unit", title="Measured when it was made")
    for check in manifest.checks:
        limit = "-" if check.limit is None else f"{check.limit:g}"
        checks.add_row(escape(printable(check.name)), f"{check.value:g}", limit, check.unit)
    console.print(
        f"{manifest.name} {manifest.version}: {printable(manifest.description)}", markup=False
    )
    console.print(str(bundle.folder), markup=False, soft_wrap=True)
    for table in (files, sources, checks):
        console.print(table)
    if picture is not None:
        console.print(_told(picture), markup=False, highlight=False)


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
