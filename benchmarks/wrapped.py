"""A language model whose contexts something is put around: a script, or a watch."""

from collections.abc import Callable

from edge_et.decoder import KvType
from edge_et.evaluator import Evaluator
from edge_et.loading import Model


class WrappedModel:
    """What a pipeline needs of a model; see `edge_et.loading.Model`."""

    def __init__(self, inner: Model, wrap: Callable[[Evaluator], Evaluator]) -> None:
        """Begin without contexts.

        Args:
            inner: closed together with this one.
            wrap: is given each new context, and returns what the pipeline gets.
        """
        self._inner = inner
        self._wrap = wrap

    def new_context(
        self,
        context_length: int,
        threads: int,
        kv_type: KvType,
        *,
        flash_attention: bool = False,
        most_guesses: int = 0,
    ) -> Evaluator:
        """Make a KV cache, and put something around it."""
        return self._wrap(
            self._inner.new_context(
                context_length,
                threads,
                kv_type,
                flash_attention=flash_attention,
                most_guesses=most_guesses,
            )
        )

    def close(self) -> None:
        """Free the model and its KV caches."""
        self._inner.close()
