"""Whether an engine is right for a model: how far its logits are from those that numpy computes.

In: a case, and the logits of both. Out: a verdict. What is done with it is not known here.
"""

from math import inf, isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.llm import Engine, KVCacheSettings
from edge_et.pipeline.device_profile import device_name
from edge_et.pipeline.prepared_weights import JUDGEMENT, Case, Verdict
from edge_et.weights import RECIPE, compare

# Measured with the mini on an AMD Zen 4, each over 48 tokens: llama.cpp's Q4_0, Q4_1, IQ4_NL, Q8_0
# and K-quants are 0.002 to 0.006 nats from numpy's, since it rounds activations to 8 bits, F16 is
# 0.000003, and another token is best where the two best are 0.3 apart or less. Without the LoRA it
# is 1.8 nats, and 5.3. ik-llama-cpp-python 0.1.5 is as near with most, and 1.1 to 1.4 nats off with
# Q4_1 and Q5_1 in a batch, though not token by token. Over the 80 tokens of the mini's probe its
# own weights with the LoRA, and both engines' merged ones, are 0.004 to 0.008 off, and 0.5.
MAX_KL: Final = 0.03
"""Mean KL divergence of an engine that is right, nats."""
MAX_FLIPPED: Final = 1.0
"""Most that the two best logits are apart where such an engine finds another one best."""


def case_of(
    engine: Engine, spec: LanguageModelSpec, settings: KVCacheSettings, *, merged: bool
) -> Case:
    """Return what a verdict would be about.

    Args:
        engine: the engine.
        spec: what the bundle says of the model.
        settings: of the KV cache.
        merged: whether merged weights are opened.
    """
    return Case(
        engine=f"{engine.name} {engine.version}",
        build=engine.build,
        device=device_name(),
        weights=spec.weights.sha256,
        adapter=None if spec.adapter is None else spec.adapter.sha256,
        recipe=RECIPE if merged else None,
        kv_type=settings.kv_type,
        flash_attention=settings.has_flash_attention,
        max_kl=MAX_KL,
        max_flipped=MAX_FLIPPED,
        judgement=JUDGEMENT,
    )


def judge(
    case: Case,
    reference: NDArray[np.floating],
    single: NDArray[np.floating],
    batch: NDArray[np.floating],
) -> Verdict:
    """Compare an engine's outputs with what they should be.

    Args:
        case: what it is about.
        reference: the logits that are right, [n, V].
        single: the engine's, token by token, [n, V].
        batch: the engine's of all tokens in one batch, [n, V].
    """
    found = [compare(reference, single), compare(reference, batch), compare(single, batch)]
    kl_single, kl_batch, kl_between = (_finite(distance.kl) for distance in found)
    return Verdict(
        case=case,
        kl_single=kl_single,
        kl_batch=kl_batch,
        kl_between=kl_between,
        flipped=_finite(max(distance.flipped for distance in found)),
    )


def refusal(verdict: Verdict) -> str:
    """Say why an engine is not right.

    Args:
        verdict: that it is not.
    """
    case, reasons = verdict.case, []
    if inf in (verdict.kl, verdict.most_flipped):
        return f"{case}: it computes numbers that are not finite"
    if verdict.kl > case.max_kl:
        reasons.append(f"it is off by {verdict.kl:.2g} nats")
    if verdict.most_flipped > case.max_flipped:
        reasons.append(
            f"another token is best where {verdict.most_flipped:.2g} lie between the two best"
        )
    return f"{case}: {' and '.join(reasons)}"


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None
