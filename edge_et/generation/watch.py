"""How probable what a model writes is, seen while its tokens are chosen.

In: the logits ``[V]`` that each token is chosen from, those that may not come at minus infinity.
Out: a `Certainty` for each stage, and what was chosen, so that the same can be written once more
behind another prompt. What the tokens mean is not known here.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_et.generation.sampling import Sampler, greedy
from edge_et.results import Certainty, Stage


class Watch:
    """Watches the samplers of one call.

    A stage may ask its sampler several times before it takes a token. What was said last counts,
    over what it was left to choose from.

    Attributes:
        begun: text of the answer that came in one token with what stands before it.
    """

    def __init__(self, script: Sequence[int] | None = None, begun: str = "") -> None:
        """Begin with nothing seen.

        Args:
            script: what samplers say, one after the other, whatever the logits are; from `said` of
                the same stages under the same rules. None: they choose for themselves.
            begun: of the answer that the script goes on with.
        """
        self.begun = begun
        self._script = None if script is None else iter(script)
        self._said: list[int] = []
        self._found: tuple[float, float] | None = None
        self._seen: dict[Stage, _Seen] = {}

    def over(self, sampler: Sampler) -> Sampler:
        """Return a sampler that is watched."""

        def choose(logits: NDArray[np.float32]) -> int:
            token = sampler(logits) if self._script is None else next(self._script)
            self._said.append(token)
            self._found = look(logits, token)
            return token

        return choose

    def keep(self, stage: Stage) -> None:
        """Count what the sampler said last, if it was asked since, as written in a stage."""
        if self._found is not None:
            seen = self._seen.setdefault(stage, _Seen())
            logprob, margin = self._found
            seen.logprobs.append(logprob)
            seen.margin = min(seen.margin, margin)
            seen.said += self._said
            self._said, self._found = [], None

    def said(self, stage: Stage) -> Sequence[int]:
        """Return all that samplers said in a stage, refused tokens and the last one too."""
        return self._seen[stage].said if stage in self._seen else ()

    @property
    def certainties(self) -> Mapping[Stage, Certainty]:
        """What was seen of each stage in which a sampler was asked."""
        return {stage: seen.certainty for stage, seen in self._seen.items()}


class _Seen:
    """What was seen of one stage."""

    def __init__(self) -> None:
        self.logprobs: list[float] = []
        self.margin = 1.0
        self.said: list[int] = []

    @property
    def certainty(self) -> Certainty:
        count = len(self.logprobs)
        return Certainty(
            tokens=count,
            mean=math.exp(math.fsum(self.logprobs) / count),
            least=math.exp(min(self.logprobs)),
            margin=self.margin,
        )


def look(logits: NDArray[np.float32], token: int) -> tuple[float, float]:
    """Return how probable a token is, and how far apart the two most probable ones are.

    Args:
        logits: [V] float32, before any temperature; at least one is a number.
        token: the one that was chosen.

    Returns:
        The natural logarithm of its probability, minus infinity for one that may not come; and the
        difference of the two largest probabilities, 0 to 1.

    Raises:
        DecodeError: the logits are not numbers.
    """
    first = greedy(logits)
    weights = logits - logits[first]
    distance = float(weights[token])
    np.exp(weights, out=weights)
    total = float(weights.sum(dtype=np.float64))
    weights[first] = 0.0
    return distance - math.log(total), (1.0 - float(weights.max())) / total
