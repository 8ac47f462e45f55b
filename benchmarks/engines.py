"""The engines that can be measured, by name, and what a process imports for each.

An engine's module has a function ``open_subject(bundle, job)``, which returns a `Subject`.
"""

import importlib
from dataclasses import dataclass

from edge_et.benchmarks.subject import Job, Subject
from edge_et.bundle import Bundle
from edge_et.native_libraries import import_library

_RUNTIME = (
    "edge_et.pipeline.api",
    "onnxruntime",
)  # loading decides which engine's library it needs
_TORCH = ("edge_et.pipeline.api", "onnxruntime", "torch", "transformers")
_OPENVINO = ("openvino", "openvino_genai")


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine is.

    Attributes:
        module: has its `open_subject`.
        libraries: what a program that uses it imports before it can load anything; empty: it is a
            program of its own, whose start belongs to loading.
    """

    module: str
    libraries: tuple[str, ...]


ENGINES = {
    "edge-et": Engine("edge_et.benchmarks.runtime", _RUNTIME),
    "llama": Engine("edge_et.benchmarks.runtime", _RUNTIME),
    "prebuilt": Engine("edge_et.benchmarks.runtime", _RUNTIME),
    "torch-float32": Engine("edge_et.benchmarks.runtime", _TORCH),
    "torch-bfloat16": Engine("edge_et.benchmarks.runtime", _TORCH),
    "mtmd": Engine("edge_et.benchmarks.rivals.mtmd", ("llama_cpp",)),
    "llama-server": Engine("edge_et.benchmarks.rivals.llama_server", ()),
    "openvino-int8": Engine("edge_et.benchmarks.rivals.openvino", _OPENVINO),
    "openvino-int4": Engine("edge_et.benchmarks.rivals.openvino", _OPENVINO),
}


def import_libraries(engine: str) -> None:
    """Import what an engine needs.

    Args:
        engine: a key of `ENGINES`.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    for name in (*ENGINES[engine].libraries, ENGINES[engine].module):
        import_library(name)


def open_subject(bundle: Bundle, job: Job) -> Subject:
    """Open a bundle with the engine that a job names.

    Args:
        bundle: the job's.
        job: says how.

    Raises:
        BundleError: a model cannot be used.
        BenchError: the engine cannot run it, or there are no words to write.
    """
    module = importlib.import_module(ENGINES[job.engine].module)
    subject: Subject = module.open_subject(bundle, job)
    return subject
