"""Quantize a float GGUF by llama.cpp's own quantizer.

In: a GGUF in F32, F16 or BF16. Out: the same model in fewer bits, and how far its next-token
distributions are from the source's.
"""

from collections.abc import Sequence
from pathlib import Path

from edge_et.export.errors import ParityError, QuantizationError, UnknownQuantizationError
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
)

with needing_extra("export"):
    from edge_et.export.child_process import in_child
    from edge_et.export.llm.compare_logits import PROMPTS
    from edge_et.export.llm.llama_logits import llama_tokens, prompt_logits, require_runs
    from edge_et.export.numeric_comparison import compare_logits
    from edge_et.llm import Segment, TokenSegment
    from edge_et.quantize.importance_matrix import Importance
    from edge_et.quantize.llama_quantizer import run_quantizer

TYPES = (
    "Q2_K",
    "Q3_K_S",
    "Q3_K_M",
    "Q3_K_L",
    "IQ3_S",
    "IQ3_M",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_1",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_0",
    "Q5_1",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
)
"""The types of llama.cpp that need no importance matrix."""

TYPES_BY_IMPORTANCE = (
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "Q2_K_S",
    "IQ3_XXS",
    "IQ3_XS",
)
"""The types that are useless without one."""


def quantize_llm(
    source: Path,
    out: Path,
    quantization: str,
    *,
    max_mean_kl: float | None = None,
    prompts: Sequence[Sequence[Segment]] | None = None,
    importance: Importance | None = None,
    threads: int = 0,
    progress: Progress = no_progress,
) -> StepReport:
    """Quantize a GGUF and compare it with its source.

    Args:
        source: a GGUF in F32, F16 or BF16; quantizing twice is refused.
        out: the GGUF to write, replaced if it exists.
        quantization: one of `TYPES`; with an importance matrix, of `TYPES_BY_IMPORTANCE` too.
        max_mean_kl: largest mean divergence to accept, nats; None only tells it.
        prompts: what to compare on, in the model's own tokens; None: a few texts.
        importance: from `collect_importance` on the same model.
        threads: CPU threads of the quantizer; 0: all CPUs of this process.
        progress: told the steps.

    Returns:
        What was written, its mean divergence, and the size before.

    Raises:
        OptionError: `threads` is out of its range.
        UnknownQuantizationError: no such type; the message lists those that exist.
        QuantizationError: the type needs an importance matrix, there is no source, or llama.cpp
            refuses it.
        NativeModelError: the source is no whole GGUF, or llama.cpp cannot run source or result.
        ParityError: the divergence is above `max_mean_kl`. Nothing is left behind.
    """
    require_type(quantization, with_importance=importance is not None)
    watch = Stopwatch()
    if not source.is_file():
        raise QuantizationError(f"{source} does not exist")
    require_runs(source)
    with atomic_output(out) as temporary:
        progress(f"quantize to {quantization}", 0, 2)
        in_child(
            str(source),
            run_quantizer,
            source,
            temporary,
            quantization,
            importance=importance,
            threads=threads,
        )
        progress("compare logits", 1, 2)
        read = prompts or [(TokenSegment(tuple(ids)),) for ids in llama_tokens(source, PROMPTS)]
        reference = list(prompt_logits(source, read))  # only one model is mapped at a time
        difference = compare_logits(prompt_logits(temporary, read), reference)
        if max_mean_kl is not None and not difference.mean_kl <= max_mean_kl:
            raise ParityError(
                f"{quantization} of {source}", "mean KL, nats", difference.mean_kl, max_mean_kl
            )
    progress("compare logits", 2, 2)
    return StepReport(
        name=f"llm {quantization}{'' if importance is None else ' by importance'}",
        path=out,
        size_bytes=out.stat().st_size,
        measure="mean KL, nats",
        error=difference.mean_kl,
        limit=max_mean_kl,
        seconds=watch.seconds,
        details={
            "source_size_bytes": source.stat().st_size,
            "max_abs_logit_error": difference.max_abs,
            "mean_logit_cosine": difference.mean_cosine,
            "same_top_token_share": difference.same_top,
        },
    )


def require_type(quantization: str, *, with_importance: bool) -> None:
    """Check that a quantization exists, before hours of work.

    Args:
        quantization: its name.
        with_importance: whether there will be an importance matrix.

    Raises:
        UnknownQuantizationError: no such type.
        QuantizationError: it needs an importance matrix.
    """
    if quantization in TYPES_BY_IMPORTANCE and not with_importance:
        raise QuantizationError(f"{quantization} needs an importance matrix")
    if quantization not in TYPES + TYPES_BY_IMPORTANCE:
        raise UnknownQuantizationError(quantization, TYPES + TYPES_BY_IMPORTANCE)
