"""What the stages need of a KV cache: the seam between them and llama.cpp, or a test's fake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.llm.model_shape import DecoderShape, KvType
from edge_et.llm.prompt import Segment


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What evaluating segments did, or has done so far.

    Attributes:
        reused: positions of the segments that the cache held already.
        evaluated: positions that went through the model.
    """

    reused: int
    evaluated: int


class Evaluator(Protocol):
    """One KV cache; `edge_et.llm.kv_cache.Context` is the real one, and says more."""

    @property
    def shape(self) -> DecoderShape:
        """Sizes of the model."""

    @property
    def kv_type(self) -> KvType:
        """Number type of the cache."""

    @property
    def context_length(self) -> int:
        """Positions that the cache can hold."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] behind the last position, of the ids that the tokenizer knows."""

    def steps(self, segments: Sequence[Segment]) -> Iterator[Evaluation]:
        """Make the cache hold exactly these segments; tell before each batch how far it is."""

    def feed(self, segments: Sequence[Segment]) -> Iterator[Evaluation]:
        """Make the cache begin with these segments, the last of which will go on; as `steps`."""

    def append(self, token: int, guesses: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds.

        Args:
            token: the token.
            guesses: what may be written next. They may be evaluated with it, or not; nothing shows
                of them but that it is fast to append them.

        Returns:
            Tokens that were evaluated, 0 if this one was guessed before.
        """

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None:
        """Free what is held; may be called again."""
