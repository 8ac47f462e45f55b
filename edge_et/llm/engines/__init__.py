"""The engines that evaluate language models: llama.cpp, and a fork of it that needs no compiler.

In: what is installed. Out: an `Engine`, and behind it a library whose functions mean the same in
all of them. Weights, contexts and what they hold are not known here.
"""

from edge_et.llm.engines.engine import Engine
from edge_et.llm.engines.installed import default_engine, installed_engines
from edge_et.llm.engines.llama_cpp import lays_out_weights, load_library, native_log
from edge_et.llm.engines.native_library import ABORTED, NativeLibrary

__all__ = [
    "ABORTED",
    "Engine",
    "NativeLibrary",
    "default_engine",
    "installed_engines",
    "lays_out_weights",
    "load_library",
    "native_log",
]
