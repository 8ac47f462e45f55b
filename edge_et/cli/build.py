"""`edge-et build`: make a verified bundle, from checkpoints or from ready-made files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.build_names import LicenseReview, find_ready, find_wanted, require_export
from edge_et.cli.console import megabytes, print_reports, printable, progress_bar

if TYPE_CHECKING:
    from edge_et.export.building.bundle_plan import Built

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("name", required=False)
@click.option("--perceiver", help="The model that sees: hf:owner/name or a folder.")
@click.option("--reasoner", help="The model that thinks, likewise; the perceiver if omitted.")
@click.option("--tower", help="A ready-made vision tower: FILE.onnx or hf:owner/name/FILE.onnx.")
@click.option("--llm", help="The language model for it: FILE.gguf or hf:owner/name/FILE.gguf.")
@click.option("--processor", help="Their configs and tokenizer: hf:owner/name or a folder.")
@click.option("--reasoner-llm", help="A ready-made reasoner: FILE.gguf or hf:owner/name/FILE.gguf.")
@click.option("--reasoner-processor", help="Its tokenizer and template: hf:owner/name or a folder.")
@click.option("--out", type=PATH, help="The bundle's folder, to be made; NAME if omitted.")
@click.option("--quant", default="Q4_K_M", help="Of language models: llama.cpp's name, or F16.")
@click.option("--vision-quant", default="int8", help="Of the vision tower: int8 or none.")
@click.option("--pictures", type=PATH, help="Folder of pictures to evaluate the int8 tower on.")
@click.option("--importance", is_flag=True, help="Round weights by what matters for the prompts.")
@click.option("--context-length", type=int, help="Most tokens of a KV cache.")
@click.option("--max-tiles", type=int, help="Most tiles of a picture, all of it included.")
@click.option(
    "--paper-protocol",
    is_flag=True,
    help="Ask for an option's letter always, and think for up to 4096 tokens.",
)
@click.option("--accept-licence", is_flag=True, help="Accept licences that restrict use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def build(
    context: click.Context,
    name: str | None,
    perceiver: str | None,
    reasoner: str | None,
    tower: str | None,
    llm: str | None,
    processor: str | None,
    reasoner_llm: str | None,
    reasoner_processor: str | None,
    out: Path | None,
    quant: str,
    vision_quant: str,
    pictures: Path | None,
    importance: bool,
    context_length: int | None,
    max_tiles: int | None,
    paper_protocol: bool,
    accept_licence: bool,
    as_json: bool,
) -> None:
    """Make a bundle of a vision-language model and a reasoner.

    NAME is one of `edge-et models`. Or name the parts: hf:owner/name, hf:owner/name@revision, or a
    folder. Or name files that others have made, by --tower, --llm and --processor: their weights
    stay as they are, and torch is not needed. Downloads are kept in huggingface_hub's cache and go
    on where they broke off. Licences are shown before; a model of the hub whose licence may
    restrict what you do is built with --accept-licence only.
    """
    if (ready := find_ready(context)) is not None:
        review = LicenseReview(None, accepted=accept_licence)
        with progress_bar() as progress:
            from edge_et.export.building.build_from_files import build_from_files
            from edge_et.export.building.bundle_plan import PlanOptions
            from edge_et.export.building.ready_files import ReadyParts

            built = build_from_files(
                ReadyParts(**ready.places),
                ready.out,
                options=PlanOptions(
                    context_length=context_length,
                    max_tiles=max_tiles,
                    paper_protocol=paper_protocol,
                ),
                approve=review,
                progress=progress,
            )
    else:
        wanted = find_wanted(name, perceiver, reasoner, out)
        require_export()
        review = LicenseReview(wanted.entry, accepted=accept_licence)
        with progress_bar() as progress:
            from edge_et.export.building.build_bundle import build_bundle
            from edge_et.export.building.build_files import BuildOptions

            built = build_bundle(
                wanted.perceiver,
                wanted.out,
                reasoner=wanted.reasoner,
                options=BuildOptions(
                    quantization=quant,
                    vision_quantization=vision_quant,
                    pictures=pictures,
                    importance=importance,
                    context_length=context_length,
                    max_tiles=max_tiles,
                    paper_protocol=paper_protocol,
                ),
                approve=review,
                progress=progress,
            )
    if as_json:
        print(json.dumps(_document(built), indent=2))
        return
    print_reports(built.reports)
    for size in built.contexts:
        cache = megabytes(size.kv_bytes)
        print(f"{size.role}: a context of {size.tokens} tokens, {cache} of KV cache")
    for source in built.sources:
        print(printable(f"{source.name} {source.version}: licence {source.license}"))
    for line in _advice(built.path):
        print(line)
    print(built.path)


def _advice(path: Path) -> list[str]:
    """Tell what a new bundle's user meets first: what a picture costs, and a single stage."""
    from edge_et.bundle import load_bundle
    from edge_et.image import tile_counts

    manifest = load_bundle(path).manifest
    processing = manifest.vision.processing
    limit = None if processing.tiling is None else processing.tiling.max_tiles
    lines = []
    if (tiles := max(n for n in tile_counts(processing) if limit is None or n <= limit)) > 1:
        lines.append(
            f"a picture becomes up to {tiles} tiles, encoded one by one; --max-tiles makes them "
            f"fewer, and `edge-et info {path.name} --image PHOTO` tells the seconds"
        )
    if manifest.direct is not None and manifest.direct.default:
        lines.append("a free answer about one picture takes one stage: see docs/build.md")
    return lines


def _document(built: "Built") -> dict[str, object]:
    return {
        "bundle": str(built.path),
        "steps": [
            {name: value for name, value in asdict(report).items() if name != "path"}
            for report in built.reports
        ],
        "contexts": [asdict(context) for context in built.contexts],
        "sources": [
            {field: getattr(source, field) for field in source.__struct_fields__}
            for source in built.sources
        ],
    }
