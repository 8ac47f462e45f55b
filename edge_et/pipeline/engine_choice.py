"""Which engine evaluates a bundle's language models.

In: what the caller asked for, and what is installed. Out: an engine.
"""

from edge_et.llm import Engine, default_engine
from edge_et.options import EngineName


def choose_engine(asked: EngineName | None) -> Engine:
    """Return the engine that was asked for, else the reference if it is installed.

    Args:
        asked: by the caller; None: whatever is right.

    Raises:
        EngineError: it is not installed, or none is.
    """
    return default_engine(asked)
