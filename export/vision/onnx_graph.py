"""Read, clean and run ONNX graphs of the form pixel_values -> image_tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_et.export.errors import GraphError
from edge_et.native_libraries import import_library
from edge_et.threads import choose_threads

INPUT = "pixel_values"
OUTPUT = "image_tokens"
NEWLINE = "image_newline"
MARKUP = "image_markup"
_OUTPUT_RANKS = {OUTPUT: 3, NEWLINE: 1, MARKUP: 2}


def data_path(path: Path) -> Path:
    """Return the path of the weights that a graph keeps outside its own file."""
    return path.with_name(f"{path.name}.data")


def open_any_session(path: Path, threads: int = 0) -> Any:
    """Open a graph of any inputs and outputs on the CPU.

    Args:
        path: the ONNX file.
        threads: CPU threads; 0: all CPUs of this process.

    Returns:
        The session.

    Raises:
        GraphError: not a graph, or one that ONNX Runtime does not run.
    """
    onnxruntime = import_library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = choose_threads(threads or None)
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")  # as the runtime does
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as err:  # its exceptions share no base class
        raise GraphError(f"{path} cannot be opened: {err}") from err


def open_session(path: Path, threads: int = 0) -> Any:
    """Open a graph on the CPU.

    Args:
        path: the ONNX file.
        threads: CPU threads; 0: all CPUs of this process.

    Returns:
        The session.

    Raises:
        GraphError: not a graph, or not pixel_values [N, 3, H, W] -> image_tokens [N, S, D], with or
            without image_newline [D] and image_markup [M, D].
    """
    session = open_any_session(path, threads)
    inputs = [(node.name, len(node.shape)) for node in session.get_inputs()]
    outputs = [(node.name, len(node.shape)) for node in session.get_outputs()]
    known = outputs[:1] == [(OUTPUT, 3)] and set(outputs) <= _OUTPUT_RANKS.items()
    if inputs != [(INPUT, 4)] or not known:
        raise GraphError(
            f"{path} is {inputs} -> {outputs}; expected {INPUT} [N, 3, H, W] -> "
            f"{OUTPUT} [N, S, D], and perhaps {NEWLINE} [D] or {MARKUP} [M, D]"
        )
    return session


def run_graph(session: Any, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a graph for its image tokens `[N, S, D]`; see `run_outputs`."""
    return run_outputs(session, pixel_values)[OUTPUT]


def run_outputs(session: Any, pixel_values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run a graph for all of its outputs.

    Args:
        session: from `open_session`.
        pixel_values: `[N, 3, H, W]`.

    Returns:
        `image_tokens [N, S, D]`, and `image_newline [D]` and `image_markup [M, D]` where the graph
        has them, by these names.

    Raises:
        GraphError: the run failed.
    """
    names = [node.name for node in session.get_outputs()]
    try:
        outputs = session.run(names, {INPUT: pixel_values})
    except Exception as err:  # as above
        raise GraphError(f"the graph failed on {list(pixel_values.shape)}: {err}") from err
    return {
        name: np.asarray(output, dtype=np.float32)
        for name, output in zip(names, outputs, strict=True)
    }


def strip_traces(model: onnx.ModelProto) -> None:
    """Name each node after its module and remove what depends on the exporting machine.

    torch writes stack traces with file paths into the graph, so that equal models would differ.

    Args:
        model: changed in place.
    """
    for index, node in enumerate(model.graph.node):
        scopes = {prop.key: prop.value for prop in node.metadata_props}.get("namespace", "")
        modules = [scope.partition(":")[0] for scope in scopes.split("/")][:-1]
        node.name = f"{modules[-1] if modules else ''}/{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del graph.metadata_props[:], model.metadata_props[:]
    graph.doc_string = model.doc_string = ""
