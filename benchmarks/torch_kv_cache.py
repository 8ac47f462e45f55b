"""PyTorch in llama.cpp's place: a KV cache of the pipeline over a transformers model.

In: a GGUF and its adapter, dequantized when they are loaded. Out: a `KVCache`. Prompts, picture and
tokens are those of the runtime.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.cancellation import CancelToken
from edge_et.errors import BenchError, DecodeError, PromptTooLongError
from edge_et.export.steps import needing_extra
from edge_et.llm import (
    KVCacheSettings,
    Position,
    PrefillProgress,
    Segment,
    TokenSegment,
    common_prefix,
    generated,
    positions_of,
    read_shape,
)
from edge_et.options import KvType

with needing_extra("tuning"):
    import torch
    from transformers import DynamicCache

    from edge_et.tuning.training.gguf_model import load_llm
    from edge_et.tuning.training.lora_file import read_adapter

_ADAPTER_PREFIX = "base_model.model."


Number = Literal["float32", "bfloat16"]
"""What weights, activations and caches are kept in."""


class TorchModel:
    """Weights, with the adapter that goes with them added."""

    def __init__(
        self, weights: Path, adapter: Path | None, token_count: int, number: Number = "float32"
    ) -> None:
        """Load the model.

        Args:
            weights: GGUF file.
            adapter: LoRA as a GGUF file, added to the weights.
            token_count: ids that the tokenizer knows.
            number: what it computes in.

        Raises:
            BenchError: transformers cannot load it, or the processor has no such numbers.
        """
        if number == "bfloat16" and not has_bfloat16():
            raise BenchError(
                "this processor has no instructions for bfloat16 "
                "(avx512_bf16, amx_bf16, or bf16 of Armv8.6)"
            )
        self.shape = read_shape(weights)
        self.token_count = token_count
        self.number = number
        try:
            self.module: Any = load_llm(weights)
        except (ImportError, KeyError, OSError, RuntimeError, ValueError) as err:
            reason = str(err).partition("\n")[0]
            raise BenchError(f"transformers cannot load {weights.name}: {reason}") from err
        if adapter is not None:
            _merge(self.module, adapter, weights)
        self.module.to(getattr(torch, number))

    @classmethod
    def of(cls, bundle: Bundle, spec: LanguageModelSpec, token_count: int, number: Number) -> Self:
        """Load a model of a bundle."""
        adapter = None if spec.adapter is None else bundle.path(spec.adapter)
        return cls(bundle.path(spec.weights), adapter, token_count, number)

    def new_kv_cache(self, settings: KVCacheSettings) -> "TorchKVCache":
        """Make a cache over it.

        Args:
            settings: length and threads, of all that torch computes; the cache has the numbers of
                the model, torch chooses its kernel, and nothing is drafted.
        """
        torch.set_num_threads(settings.threads)
        return TorchKVCache(self, settings.context_length)

    def rest(self) -> None:
        """Keep everything: nothing of it is mapped."""

    def close(self) -> None:
        """Free what is held; may be called again."""
        self.module = None


class TorchKVCache:
    """One cache over one model, attention by `scaled_dot_product_attention`."""

    max_draft_tokens = 0

    def __init__(self, model: TorchModel, context_length: int) -> None:
        """Make an empty cache; see `TorchModel.new_kv_cache`."""
        self._model = model
        self.shape = model.shape
        self.context_length = context_length
        self.kv_type: KvType = "f32" if model.number == "float32" else "f16"  # by size
        self.clear()

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits [V] float32 behind the last position, of the ids that the tokenizer knows.

        Raises:
            DecodeError: nothing was evaluated yet.
        """
        if self._logits is None:
            raise DecodeError("there are no logits: nothing was evaluated yet")
        return self._logits

    def prefill(self, segments: Sequence[Segment]) -> PrefillProgress:
        """Make the cache hold exactly these segments; what is new goes through the model at once.

        Raises:
            PromptTooLongError: more positions than the context holds.
        """
        wanted = positions_of(segments)
        if len(wanted) > self.context_length:
            raise PromptTooLongError(len(wanted), self.context_length)
        keep = min(common_prefix(self._cached, wanted), len(wanted) - 1)
        self._crop(keep)
        with torch.inference_mode():
            rows = torch.cat([self._rows(segment) for segment in segments])[keep:]
            self._run(rows, wanted[keep:], keep)
        return PrefillProgress(reused=keep, evaluated=len(wanted) - keep)

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        """Do what `prefill` does, in one step."""
        yield self.prefill(segments)

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        """Evaluate one token, just written, behind what the cache holds; drafts are ignored.

        Raises:
            PromptTooLongError: the context is full.
        """
        if len(self._cached) == self.context_length:
            raise PromptTooLongError(len(self._cached) + 1, self.context_length)
        with torch.inference_mode():
            rows = self._rows(TokenSegment((token,)))
            self._run(rows, [generated(token)], len(self._cached))
        return 1

    def keep_image(self, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]) -> None:
        """Copy nothing: the baseline has one picture at a time."""

    def missing(self, segments: Sequence[Segment]) -> int:
        """Return how many positions of a prompt would have to be evaluated, about."""
        wanted = positions_of(segments)
        return len(wanted) - common_prefix(self._cached, wanted)

    def obey(self, cancel: CancelToken) -> None:
        """Go on: torch is not interrupted."""

    def clear(self) -> None:
        """Forget everything."""
        self._cached: list[Position] = []
        self._cache = DynamicCache()
        self._logits: NDArray[np.float32] | None = None

    def rewind(self, positions: int) -> None:
        """Drop what was evaluated behind the first positions; there are no logits then."""
        del self._cached[positions:]
        self._crop(positions)
        self._logits = None

    def close(self) -> None:
        """Free what is held; may be called again."""
        self.clear()

    def _rows(self, segment: Segment) -> torch.Tensor:
        embed = self._model.module.get_input_embeddings()
        if isinstance(segment, TokenSegment):
            embeddings: torch.Tensor = embed(torch.tensor(segment.ids))
            return embeddings
        return torch.from_numpy(np.array(segment.image.rows)).to(embed.weight.dtype)

    def _crop(self, positions: int) -> None:
        """Keep the first positions; transformers 5 asks how many are to go, negated."""
        self._cache.crop(positions - self._cache.get_seq_length())

    def _run(self, rows: torch.Tensor, held: Sequence[Position], start: int) -> None:
        """Evaluate rows [n,D] behind the first positions of the cache."""
        output = self._model.module(
            inputs_embeds=rows[None],
            past_key_values=self._cache,
            cache_position=torch.arange(start, start + len(rows)),
            use_cache=True,
            logits_to_keep=1,
        )
        self._cached[start:] = held
        self._logits = output.logits[0, -1, : self._model.token_count].float().numpy()


def has_bfloat16() -> bool:
    """Return whether torch sees that the processor has instructions for bfloat16."""
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in old ones
    return any(told.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _merge(model: Any, adapter: Path, weights: Path) -> None:
    """Add a LoRA to the weights of a model, as llama.cpp does with scale 1."""
    from gguf import GGUFReader

    alpha = float(GGUFReader(adapter).fields["adapter.lora.alpha"].contents())
    state = read_adapter(adapter, weights)
    with torch.no_grad():
        for name, down in state.items():
            if name.endswith(".lora_A.weight"):
                module = name.removesuffix(".lora_A.weight")
                up = state[f"{module}.lora_B.weight"]
                weight = model.get_parameter(f"{module.removeprefix(_ADAPTER_PREFIX)}.weight")
                weight += alpha / len(down) * (up @ down)
