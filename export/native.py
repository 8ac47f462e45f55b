"""llama.cpp for the tools: the runtime's loader, so that the process has one native log."""

from typing import Any

from edge_et.llm import load_library, native_log


def native_library() -> Any:
    """Give the module llama_cpp, its log routed into Python's."""
    return load_library()


def native_errors() -> str:
    """Tell what llama.cpp last complained about, as the end of a message, and forget it."""
    return native_log.last_errors()
