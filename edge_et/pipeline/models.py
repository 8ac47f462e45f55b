"""The models of one loaded bundle, by what they do in a call."""

from collections.abc import Iterator
from dataclasses import dataclass

from edge_et.cancellation import CancelToken
from edge_et.generation import ChatModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Models:
    """Who takes part.

    Attributes:
        perceiver: reads image tokens.
        reasoner: thinks, in a cache of its own; None lets the perceiver do it, behind stage 1.
        hint_model: is asked for hints, in a cache of its own; None where the bundle has none
            written.
    """

    perceiver: ChatModel
    reasoner: ChatModel | None = None
    hint_model: ChatModel | None = None

    @property
    def thinking_model(self) -> ChatModel:
        """Who runs stage 2."""
        return self.reasoner or self.perceiver

    def stage_2_seconds(self, positions: int, tokens: int) -> float:
        """Return the seconds that stage 2 would take to read and then to write.

        A reasoner that has read nothing yet is taken to be as fast for its size as the perceiver.

        Args:
            positions: to read, 0 or more.
            tokens: to write, 0 or more.
        """
        model, perceiver = self.thinking_model, self.perceiver
        if model.throughput.position_s > 0:
            return model.throughput.seconds_for(positions, tokens)
        sizes = [one.kv_cache.shape.prefill_flops(1) for one in (model, perceiver)]
        return perceiver.throughput.seconds_for(positions, tokens) * sizes[0] / sizes[1]

    def forget(self) -> None:
        """Empty all caches."""
        for chat_model in self._all():
            chat_model.forget()

    def obey(self, cancel: CancelToken) -> None:
        """Let all evaluation end early when a token is cancelled."""
        for chat_model in self._all():
            chat_model.kv_cache.obey(cancel)

    def _all(self) -> Iterator[ChatModel]:
        chat_models = (self.perceiver, self.reasoner, self.hint_model)
        return (chat_model for chat_model in chat_models if chat_model is not None)
