"""Native libraries, imported with what they read from the environment in place.

In: the name of a module of ONNX Runtime or llama.cpp. Out: the module. A variable that the user has
set is left alone. What was loaded before us has read the environment already: that is logged.
"""

import importlib
import logging
import os
import sys
from typing import Any, Final

TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"
"""Without it ONNX Runtime 1.29 and later keep a device id in the user's caches and report its use
to its maker over the network. They read it when they are imported."""

logger = logging.getLogger(__name__)


def import_library(name: str) -> Any:
    """Import a module of onnxruntime or llama_cpp; nothing of ours imports them in another way.

    Args:
        name: of the module.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    if name.partition(".")[0] == "onnxruntime":
        _silence_onnxruntime()
    return importlib.import_module(name)


def _silence_onnxruntime() -> None:
    if TELEMETRY in os.environ:
        return
    if "onnxruntime" in sys.modules:
        logger.warning(
            "onnxruntime was imported before edge-et, and may report its use over the network: "
            "set %s=1 before the program starts",
            TELEMETRY,
        )
    # It stays, for the processes that this one starts.
    os.environ[TELEMETRY] = "1"
