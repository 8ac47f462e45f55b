"""What a process takes under a memory limit, beside the plan: `python scripts/measure_memory.py`.

Two pictures are asked about, and the second question about each nearly fills a context of 512
tokens. Told are the plan's peak and that of the process, and what was chosen. Linux alone tells it.
Nothing of the benchmarks is imported: what that takes would count.
"""

import re
from pathlib import Path
from typing import get_args

import click

import edge_et
from edge_et.cli.options import Bytes
from edge_et.options import EngineName

PICTURES = Path(__file__).resolve().parent.parent / "examples"
QUESTIONS = ("What is this?", "What is this?" + 40 * " It is on light ground.")
STATUS = Path("/proc/self/status")


@click.command()
@click.argument("model", required=False)
@click.option("--max-memory", type=Bytes(), required=True, help="Such as 320MB.")
@click.option("--engine", type=click.Choice(get_args(EngineName)), default="llama")
@click.option("--extraction-tokens", type=int, help="Budget of stage 1; the bundle's if omitted.")
@click.option("--thinking-tokens", type=int, help="Budget of the thoughts, likewise.")
@click.option("--cache-dir", help="Keeps what was read of pictures; an empty folder.")
def main(
    model: str | None,
    max_memory: int,
    engine: EngineName,
    extraction_tokens: int | None,
    thinking_tokens: int | None,
    cache_dir: str | None,
) -> None:
    """Load, ask, and tell."""
    with edge_et.load(
        model, engine=engine, use_profile=False, max_memory_bytes=max_memory, cache_dir=cache_dir
    ) as pipe:
        for name in ("cat.png", "coffee.png"):
            for question in QUESTIONS:
                pipe.answer(
                    PICTURES / name,
                    question,
                    max_extraction_tokens=extraction_tokens,
                    max_thinking_tokens=thinking_tokens,
                )
        plan = pipe.memory_plan
    found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
    if plan is None or found is None:
        raise click.ClickException(f"{STATUS} tells no peak")
    peak_bytes = int(found[1]) * 1024
    for what, size in plan.parts.items():
        print(f"{what + ':':<28}{size / 1e6:6.0f} MB")
    print(f"{'peak of the plan:':<28}{plan.peak_bytes / 1e6:6.0f} MB")
    print(f"{'peak of the process:':<28}{peak_bytes / 1e6:6.0f} MB")
    print(f"the tower {'stays open' if plan.keeps_tower else 'is opened for each new picture'}")


if __name__ == "__main__":
    main()
