"""The engine that the tests of both engines run on: EDGE_ET_TEST_ENGINE, or what is installed."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

ON_PREBUILT: Final = os.environ.get("EDGE_ET_TEST_ENGINE") == "prebuilt"
"""Whether llama.cpp is hidden, so that its fork evaluates everything."""

_HIDDEN: Final = 'import sys\n\nsys.modules["llama_cpp"] = None\n'

about_llama_cpp: Final = pytest.mark.skipif(ON_PREBUILT, reason="it is about llama.cpp itself")
applies_adapters: Final = pytest.mark.skipif(ON_PREBUILT, reason="the engine applies no adapters")
has_f32_caches: Final = pytest.mark.skipif(ON_PREBUILT, reason="the engine has no caches in F32")
OTHER_KV_TYPE: Final = "q8_0" if ON_PREBUILT else "f32"
"""A number type of KV caches besides F16."""
ALLOCATED: Final = r"(?:llama_kv_cache: size|KV self size) += +([\d.]+) MiB"
"""What an engine logs of each KV cache that it makes."""


def hide_llama_cpp(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let neither this process nor those that it starts find llama.cpp.

    Args:
        patch: undoes it.
        folder: will hold what Python imports when it starts.
    """
    patch.setitem(sys.modules, "llama_cpp", None)
    (folder / "sitecustomize.py").write_text(_HIDDEN)
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
