"""How probable a model found a token, and what else it might have written.

In: logits ``[V]`` that a token was chosen from. Out: a `TokenLogprob`. Whether the token was the
most probable one is not known here: sampling, and what may not come next, are the caller's.
"""

import numpy as np
from numpy.typing import NDArray

from edge_et.llm import Tokenizer
from edge_et.results import TokenLogprob


def token_logprob(
    logits: NDArray[np.float32], token: int, top: int, tokenizer: Tokenizer
) -> TokenLogprob:
    """Return the logarithm of a token's probability, beside the most probable tokens.

    Args:
        logits: [V] float32, before any temperature.
        token: the one that was chosen.
        top: how many of the most probable ones are told, at least 0; of equals the smallest ids.
        tokenizer: tells their text.
    """
    exact = logits.astype(np.float64)
    logprobs = exact - exact.max()
    logprobs -= np.log(np.exp(logprobs).sum())
    top = min(top, len(logprobs))
    order: list[int] = []
    if top:
        # A sort of the whole vocabulary may take longer than a token of a small model.
        least = -np.partition(-logprobs, top - 1)[top - 1]
        among = np.flatnonzero(logprobs >= least)
        order = among[np.argsort(-logprobs[among], kind="stable")][:top].tolist()
    return TokenLogprob(
        text=tokenizer.decode([token]),
        logprob=float(logprobs[token]),
        token_bytes=tokenizer.token_bytes(token),
        top=tuple((tokenizer.decode([each]), float(logprobs[each])) for each in order),
    )
