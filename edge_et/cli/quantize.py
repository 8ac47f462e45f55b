"""`edge-et quantize`: smaller weights, evaluated by their outputs."""

from pathlib import Path

import click

from edge_et.cli.console import print_reports, progress_bar

PATH = click.Path(path_type=Path)


@click.group()
def quantize() -> None:
    """Quantize exported models; what changes the outputs too much is refused."""


@quantize.command()
@click.argument("graph", type=PATH)
@click.argument("pictures", type=PATH)
@click.option("--processing", type=PATH, required=True, help="A bundle.json, how pictures enter.")
@click.option("--out", type=PATH, required=True, help="The ONNX file to write.")
@click.option("--method", default="auto", help="auto, dynamic, static or weight-only.")
@click.option("--threads", type=int, default=0, help="Threads of the timing; 0: all CPUs.")
def vision(
    graph: Path, pictures: Path, processing: Path, out: Path, method: str, threads: int
) -> None:
    """Quantize a vision graph to 8 bits, keeping what preserves the image tokens.

    GRAPH is the float32 ONNX file, PICTURES a folder of real pictures to evaluate on.
    """
    from edge_et.bundle import read_manifest
    from edge_et.quantize.pictures import picture_halves
    from edge_et.quantize.quantize_vision import quantize_vision

    evaluation, calibration = picture_halves(pictures, read_manifest(processing).vision.processing)
    with progress_bar() as progress:
        result = quantize_vision(
            graph,
            out,
            evaluation,
            calibration,
            method=method,
            threads=threads,
            progress=progress,
        )
    print_reports(result.candidates)
    print(f"kept: {result.chosen.name}")


@quantize.command()
@click.argument("source", type=PATH)
@click.argument("quantization")
@click.option("--out", type=PATH, required=True, help="The GGUF to write.")
@click.option("--max-mean-kl", type=float, help="Largest mean divergence to accept, nats.")
@click.option(
    "--importance",
    type=PATH,
    help="Text file with prompts of the kind that the model is for, an empty line between two; "
    "special tokens in it are special. What matters for them is rounded more carefully.",
)
@click.option("--threads", type=int, default=0, help="Threads of the quantizer; 0: all CPUs.")
def llm(
    source: Path,
    quantization: str,
    out: Path,
    max_mean_kl: float | None,
    importance: Path | None,
    threads: int,
) -> None:
    """Quantize a GGUF with llama.cpp and compare it with its source.

    SOURCE is a GGUF in F32, F16 or BF16, QUANTIZATION such as Q4_K_M, Q8_0 or Q4_0.
    """
    from edge_et.quantize.importance_matrix import collect_importance, read_prompts
    from edge_et.quantize.quantize_llm import quantize_llm, require_type

    require_type(quantization, with_importance=importance is not None)
    with progress_bar() as progress:
        matrix = None
        if importance is not None:
            prompts = read_prompts(importance, source)
            matrix = collect_importance(source, prompts, progress=progress)
        report = quantize_llm(
            source,
            out,
            quantization,
            max_mean_kl=max_mean_kl,
            importance=matrix,
            threads=threads,
            progress=progress,
        )
    print_reports([report])
