"""`edge-et export`: trained checkpoints to the files of a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from edge_et.cli.console import print_reports, progress_bar

export_app = typer.Typer(
    help="Convert trained checkpoints: vision tower to ONNX, LLM and LoRA to GGUF.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option("--out", help="The file to write.")]


@export_app.command()
def vision(
    backbone: Annotated[Path, typer.Argument(help="Folder of a DINOv2 or SigLIP checkpoint.")],
    projector: Annotated[Path, typer.Argument(help="Folder with projector.json and its weights.")],
    out: Out,
    image_size: Annotated[
        int | None, typer.Option(help="Side of a tile, pixels; the checkpoint's own if omitted.")
    ] = None,
    feature_layer: Annotated[
        int | None, typer.Option(help="Hidden state to take; the last if omitted.")
    ] = None,
) -> None:
    """Export a vision tower and its projector to one ONNX graph, compared with torch."""
    from edge_et.export.vision import export_vision

    with progress_bar() as progress:
        report = export_vision(
            backbone,
            projector,
            out,
            image_size=image_size,
            feature_layer=feature_layer,
            progress=progress,
        )
    print_reports([report])


@export_app.command()
def llm(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a Llama or Qwen3 checkpoint.")],
    out: Out,
    dtype: Annotated[str, typer.Option(help="How matrices are stored: F32, F16 or BF16.")] = "F16",
    pre_tokenizer: Annotated[
        str | None, typer.Option(help="llama.cpp's name of the text splitting, if not recognised.")
    ] = None,
) -> None:
    """Export a language model to GGUF, its logits compared with transformers."""
    from edge_et.export.llm import export_llm

    with progress_bar() as progress:
        report = export_llm(
            checkpoint,
            out,
            dtype=dtype,
            pre_tokenizer=pre_tokenizer,
            progress=progress,
        )
    print_reports([report])


@export_app.command()
def lora(
    adapter: Annotated[Path, typer.Argument(help="Folder of a PEFT adapter.")],
    base: Annotated[Path, typer.Argument(help="What it was trained on: a folder or a GGUF.")],
    out: Out,
) -> None:
    """Export a LoRA adapter to GGUF."""
    from edge_et.export.lora import export_lora

    with progress_bar() as progress:
        report = export_lora(adapter, base, out, progress=progress)
    print_reports([report])
