"""`edge-et export`: convert trained checkpoints to the files of a bundle."""

from pathlib import Path

import click

from edge_et.cli.console import print_reports, progress_bar

PATH = click.Path(path_type=Path)


@click.group()
def export() -> None:
    """Convert trained checkpoints: vision tower to ONNX, LLM and LoRA to GGUF."""


@export.command()
@click.argument("backbone", type=PATH)
@click.argument("projector", type=PATH)
@click.option("--out", type=PATH, required=True, help="The ONNX file to write.")
@click.option("--image-size", type=int, help="Side of a tile, pixels; the checkpoint's own.")
@click.option("--feature-layer", type=int, help="Hidden state to take; the last if omitted.")
def vision(
    backbone: Path,
    projector: Path,
    out: Path,
    image_size: int | None,
    feature_layer: int | None,
) -> None:
    """Export a vision tower and its projector to one ONNX graph, compared with torch.

    BACKBONE is the folder of a DINOv2 or SigLIP checkpoint, PROJECTOR one with projector.json and
    projector.safetensors.
    """
    from edge_et.export.vision.export_tower import export_vision

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


@export.command()
@click.argument("checkpoint", type=PATH)
@click.option("--out", type=PATH, required=True, help="The GGUF to write.")
@click.option("--dtype", default="F16", help="How matrices are stored: F32, F16 or BF16.")
@click.option("--pre-tokenizer", help="llama.cpp's name of the text splitting, if not recognised.")
def llm(checkpoint: Path, out: Path, dtype: str, pre_tokenizer: str | None) -> None:
    """Export a language model to GGUF, its logits compared with transformers.

    CHECKPOINT is the folder of a Llama, Qwen2 or Qwen3 checkpoint, or of a LLaVA or LLaVA-OneVision
    checkpoint with a Qwen model inside.
    """
    from edge_et.export.llm.export_llm import export_llm

    with progress_bar() as progress:
        report = export_llm(
            checkpoint, out, dtype=dtype, pre_tokenizer=pre_tokenizer, progress=progress
        )
    print_reports([report])


@export.command()
@click.argument("adapter", type=PATH)
@click.argument("base", type=PATH)
@click.option("--out", type=PATH, required=True, help="The GGUF to write.")
def lora(adapter: Path, base: Path, out: Path) -> None:
    """Export a LoRA adapter to GGUF.

    ADAPTER is a PEFT folder, BASE what it was trained on: a checkpoint's folder or a GGUF.
    """
    from edge_et.export.llm.export_lora import export_lora

    with progress_bar() as progress:
        report = export_lora(adapter, base, out, progress=progress)
    print_reports([report])
