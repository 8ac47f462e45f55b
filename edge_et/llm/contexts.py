"""The registry: what a model keeps of what it read -> the context that can go back there."""

from edge_et.llm.kv_protocol import KVCacheSettings
from edge_et.llm.llama import LlamaContext, LlamaModel
from edge_et.llm.model_shape import ModelShape
from edge_et.llm.recurrent import RecurrentContext
from edge_et.llm.windowed import WindowedContext


def new_context(
    model: LlamaModel, shape: ModelShape, settings: KVCacheSettings, batch_positions: int
) -> LlamaContext:
    """Make a context over a model; see `LlamaContext`.

    Args:
        model: applied with its adapter.
        shape: the model's sizes.
        settings: length, threads, number type, attention.
        batch_positions: most rows of a batch.

    Raises:
        DecodeError: there is not enough memory, or the model has no such cache.
        EngineError: the engine computes with no such number type.
    """
    kind = LlamaContext
    if model.is_recurrent:
        kind = RecurrentContext
    elif model.window:
        kind = WindowedContext
    return kind(model, shape, settings, batch_positions)
