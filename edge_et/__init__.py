"""Answers questions about images on small CPUs, by extraction and then reasoning.

Importing it loads no model library; a name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_et.bundle import Bundle, load_bundle
    from edge_et.camera import watch
    from edge_et.cancellation import CancelToken
    from edge_et.errors import EdgeETError
    from edge_et.pipeline import ExtractThink, Session, aload, answer, load
    from edge_et.results import Answer, AnswerToken, ExtractionToken, Progress, ReasoningToken

__all__ = [
    "Answer",
    "AnswerToken",
    "Bundle",
    "CancelToken",
    "EdgeETError",
    "ExtractThink",
    "ExtractionToken",
    "Progress",
    "ReasoningToken",
    "Session",
    "aload",
    "answer",
    "load",
    "load_bundle",
    "watch",
]

_HOMES = {
    "Answer": "edge_et.results",
    "AnswerToken": "edge_et.results",
    "Bundle": "edge_et.bundle",
    "CancelToken": "edge_et.cancellation",
    "EdgeETError": "edge_et.errors",
    "ExtractThink": "edge_et.pipeline",
    "ExtractionToken": "edge_et.results",
    "Progress": "edge_et.results",
    "ReasoningToken": "edge_et.results",
    "Session": "edge_et.pipeline",
    "aload": "edge_et.pipeline",
    "answer": "edge_et.pipeline",
    "load": "edge_et.pipeline",
    "load_bundle": "edge_et.bundle",
    "watch": "edge_et.camera",
}


def __getattr__(name: str) -> Any:
    if name == "errors":  # edge_et.errors works without an import of its own
        return importlib.import_module("edge_et.errors")
    if name == "Cut":
        from edge_et.deprecation import warn_renamed
        from edge_et.results import Cut

        warn_renamed("edge_et.Cut", "Answer.finish_reasons")
        return Cut
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "errors"])
