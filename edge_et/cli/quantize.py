"""`edge-et quantize`: smaller weights, judged by their outputs."""

from pathlib import Path
from typing import Annotated

import typer

from edge_et.cli.console import print_reports, progress_bar

quantize_app = typer.Typer(
    help="Quantize exported models; what changes the outputs too much is refused.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option("--out", help="The file to write.")]


@quantize_app.command()
def vision(
    graph: Annotated[Path, typer.Argument(help="The float32 ONNX graph.")],
    pictures: Annotated[Path, typer.Argument(help="Folder of real pictures to judge by.")],
    processing: Annotated[
        Path, typer.Option(help="A bundle.json whose image processing the tower uses.")
    ],
    out: Out,
    method: Annotated[str, typer.Option(help="auto, dynamic, static or weight-only.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the timing; 0: all.")] = 0,
) -> None:
    """Quantize a vision graph to 8 bits, keeping what preserves the image tokens."""
    from edge_et.bundle import read_manifest
    from edge_et.quantize.pictures import picture_halves
    from edge_et.quantize.vision import quantize_vision

    judged, calibration = picture_halves(pictures, read_manifest(processing).vision.processing)
    with progress_bar() as progress:
        result = quantize_vision(
            graph,
            out,
            judged,
            calibration,
            method=method,
            threads=threads,
            progress=progress,
        )
    print_reports(result.candidates)
    print(f"kept: {result.chosen.name}")


@quantize_app.command()
def llm(
    source: Annotated[Path, typer.Argument(help="A GGUF in F32, F16 or BF16.")],
    quantization: Annotated[str, typer.Argument(help="Such as Q4_K_M, Q8_0 or Q4_0.")],
    out: Out,
    max_mean_kl: Annotated[
        float | None, typer.Option(help="Largest mean divergence to accept, nats.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of the quantizer; 0: all.")] = 0,
) -> None:
    """Quantize a GGUF with llama.cpp and compare it with its source."""
    from edge_et.quantize.llm import quantize_llm

    with progress_bar() as progress:
        report = quantize_llm(
            source,
            out,
            quantization,
            max_mean_kl=max_mean_kl,
            threads=threads,
            progress=progress,
        )
    print_reports([report])
