"""What the stages need of a KV cache: the seam between them and llama.cpp, or a test's fake."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.prompt import Segment
from edge_et.options import KvType


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCacheSettings:
    """How a KV cache is made.

    Attributes:
        context_length: positions that it can hold, at least 1.
        threads: threads for prefill and decode, at least 1.
        kv_type: number type of keys and values.
        flash_attention: whether attention never makes its whole matrix; q8_0 always has it. On a
            CPU it rounds keys and values to F16 and, for few rows, sums in F16: logits of
            SmolLM2-135M (F16 weights) move by 0.27, by 0.03 with an F16 cache alone.
        max_draft_tokens: most draft tokens that `KVCache.decode` evaluates; each takes memory for
            its logits. None: as many as round in one batch as one at a time, which may be 0.
        batch_positions: most rows of a batch, which takes memory for each; nothing else follows
            from it. None: as many as are fastest.
    """

    context_length: int
    threads: int
    kv_type: KvType = "f16"
    flash_attention: bool = False
    max_draft_tokens: int | None = 0
    batch_positions: int | None = None

    @property
    def has_flash_attention(self) -> bool:
        """Whether attention is flash attention, asked for or because the number type needs it."""
        return self.flash_attention or self.kv_type == "q8_0"


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """What a prefill did, or has done so far.

    Attributes:
        reused: positions of the prompt that the cache held already.
        evaluated: positions that went through the model.
    """

    reused: int
    evaluated: int


class KVCache(Protocol):
    """One KV cache; `edge_et.llm.LlamaKVCache` is the real one, and says more."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""

    @property
    def kv_type(self) -> KvType:
        """Number type of the cache."""

    @property
    def context_length(self) -> int:
        """Positions that the cache can hold."""

    @property
    def max_draft_tokens(self) -> int:
        """Most draft tokens that `decode` evaluates."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] behind the last position, of the ids that the tokenizer knows."""

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Make the cache hold exactly these segments; tell before each batch how far it is."""

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds.

        Args:
            token: the token.
            draft: what may be written next. It may be evaluated in the same batch, or not; nothing
                shows of it but that these tokens are decoded at once.

        Returns:
            Tokens that were evaluated, 0 if this one was drafted before.
        """

    def keep_image(self, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]) -> None:
        """Copy what is held of a prompt's image, so that it comes back when it was displaced.

        Args:
            segments: the prompt, just evaluated.
            beside: prompts whose copies must not make room for this one.
        """

    def missing(self, segments: Sequence[Segment]) -> int:
        """Return how many positions of a prompt would have to be evaluated, about."""

    def rewind(self, positions: int) -> None:
        """Drop what was evaluated behind the first positions, so that something else can come.

        Args:
            positions: how many stay, at most those that are held.
        """

    def obey(self, cancel: CancelToken) -> None:
        """Let `prefill_steps` and `decode` end early from now on.

        Args:
            cancel: when it is cancelled they raise a `CancelledError`, and hold what they held
                before the step; of a model with a recurrent state the beginning of it.
        """

    def clear(self) -> None:
        """Forget everything, copies as well."""

    def close(self) -> None:
        """Free what is held; may be called again."""
