"""Write a vision tower and its projector, of random weights, as one ONNX graph.

``pixel_values [N,3,H,W]`` to ``image_tokens [N,S,D]``, float32, N free; ``image_markup [M,D]``
where tokens stand between tiles. The operators are those of edge-et's own export and of its 8-bit
quantization, `dynamic`: what ONNX Runtime fuses there it fuses here. Weights have the names that
llama.cpp gives them (tools/mtmd/clip-impl.h), so that another file may hold the same numbers. Their
order is llama.cpp's, too: a class token stands behind the patches.
"""

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.synthetic.random_onnx import Constant, write_onnx
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import onnx
    from onnx import TensorProto, helper

_OPSET = 20  # the first with Gelu as one operator
_IR_VERSION = 10

# Seven bits, as the quantizer uses of eight: four deviations.
_MOST_LEVELS = 64
_DEVIATION_LEVELS = 16

_BIAS_DEVIATION = 0.02

NORM_EPSILON = 1e-6
_PROJECTOR_EPSILON = 1e-5  # of InternVL's, as PyTorch has it where nothing is said

CLASS_TOKEN = "v.class_embd"
"""Name of the class token."""


def tower_bytes(shape: TowerShape, llm_width: int) -> int:
    """Return about how large the graph's file is, bytes."""
    width = shape.width
    layer = 4 * width**2 + 2 * width * shape.feed_forward
    projector = shape.shuffle**2 * width * llm_width
    if shape.projector == "qwen3vl_merger":
        projector += (shape.shuffle**2 * width) ** 2
    elif shape.projector == "lfm2":
        projector = (shape.shuffle**2 * width + llm_width) * shape.projector_width
    elif shape.projector != "idefics3":
        projector += llm_width**2
    positions = shape.patches
    if shape.projector in ("lfm2", "qwen3vl_merger"):
        positions = shape.positions_side**2
    return shape.layers * layer + projector + 4 * width * (positions + 3 * shape.patch**2)


def matrix_scale(rows: int) -> float:
    """Return what the levels -64 to 63 of a matrix are multiplied with.

    Args:
        rows: width of what it is multiplied with; its numbers have a variance of one over that.
    """
    return 1 / (_DEVIATION_LEVELS * sqrt(rows))


def write_tower(
    path: Path,
    shape: TowerShape,
    llm_width: int,
    seed: int,
    progress: Progress,
    *,
    marks: int = 0,
) -> None:
    """Write the graph.

    Args:
        path: the ONNX file.
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights.
        progress: told the bytes of the weights.
        marks: M, tokens that stand between tiles; 0: the graph does not give any.
    """
    graph = new_tower(shape, llm_width, seed)
    outputs = [port("image_tokens", "N", shape.image_tokens, llm_width)]
    if marks:
        outputs.append(add_marks(graph, marks, llm_width))
    pixels = port("pixel_values", "N", 3, shape.image, shape.image)
    write_graph(path, shape.name, graph, pixels, outputs, progress)


def add_marks(graph: "Graph", marks: int, llm_width: int) -> onnx.ValueInfoProto:
    """Add the embeddings of tokens between tiles, `[marks,llm_width]`, and give the output."""
    rows = graph.normal("markup_rows", (marks, llm_width), 1 / sqrt(llm_width))
    # A copy, since an output of a graph cannot be one of its weights.
    graph.add("Identity", rows, output="image_markup")
    return port("image_markup", marks, llm_width)


def write_graph(
    path: Path,
    name: str,
    graph: "Graph",
    pixels: onnx.ValueInfoProto,
    outputs: list[onnx.ValueInfoProto],
    progress: Progress,
) -> None:
    """Write a graph with its constants; see `write_tower`."""
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [pixels], outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    write_onnx(path, model, graph.constants, progress)


def new_tower(shape: TowerShape, llm_width: int, seed: int) -> "Graph":
    """Make the graph; its weights are drawn when they are asked for.

    Args:
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights.
    """
    graph = Graph(seed)
    hidden = _embed(graph, shape)
    for layer in range(shape.layers):
        hidden = add_block(graph, shape, hidden, f"v.blk.{layer}", rows=shape.positions)
    _project(graph, shape, hidden, llm_width)
    return graph


def port(name: str, *sizes: str | int) -> onnx.ValueInfoProto:
    """Describe an input or output of float32; a text is a size that is free."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)


def _embed(graph: "Graph", shape: TowerShape) -> str:
    """Add patches and places: `[N,3,H,W]` to `[N,P,C]`, the class token's row last, if any."""
    width, patch = shape.width, shape.patch
    inputs = ["pixel_values"]
    deviation = 1 / sqrt(3 * patch**2)
    inputs.append(graph.normal("v.patch_embd.weight", (width, 3, patch, patch), deviation))
    if shape.projector != "mlp":
        inputs.append(graph.normal("v.patch_embd.bias", (width,), _BIAS_DEVIATION))
    found = graph.add("Conv", *inputs, strides=[patch, patch], kernel_shape=[patch, patch])
    flat = graph.add("Reshape", found, graph.constant(np.array([0, width, -1])))
    rows = graph.add("Transpose", flat, perm=[0, 2, 1])
    if shape.positions > shape.patches:
        token = graph.normal(CLASS_TOKEN, (width,), 1.0)
        tiles = graph.add("Shape", rows, start=0, end=1)
        sizes = graph.add("Concat", tiles, graph.constant(np.array([1, width])), axis=0)
        rows = graph.add("Concat", rows, graph.add("Expand", token, sizes), axis=1)
    places = graph.normal("v.position_embd.weight", (shape.positions, width), 1.0)
    return graph.add("Add", rows, places)


def add_block(graph: "Graph", shape: TowerShape, hidden: str, name: str, *, rows: int) -> str:
    """Add one transformer block, `[N,P,C]` to the same.

    Args:
        graph: what it is added to.
        shape: the tower's dimensions.
        hidden: what goes in.
        name: its own, with which its weights' names begin.
        rows: P; -1: it is free.
    """
    width, heads = shape.width, shape.heads
    split = graph.constant(np.array([0, rows, heads, width // heads]))
    normed = graph.norm(f"{name}.ln1", hidden, width)
    scale = graph.constant(np.array(sqrt(heads / width), np.float32))
    scaled = graph.add("Mul", graph.linear(f"{name}.attn_q", normed, width, width), scale)
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, split), perm=perm)
        for part, perm in (
            (scaled, [0, 2, 1, 3]),
            (graph.linear(f"{name}.attn_k", normed, width, width), [0, 2, 3, 1]),
            (graph.linear(f"{name}.attn_v", normed, width, width), [0, 2, 1, 3]),
        )
    )
    weights = graph.add("Softmax", graph.add("MatMul", query, key), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant(np.array([0, rows, width])))
    attended = graph.linear(f"{name}.attn_out", joined, width, width)
    hidden = graph.add("Add", hidden, _scaled(graph, shape, attended, f"{name}.ls1"))
    normed = graph.norm(f"{name}.ln2", hidden, width)
    inner = graph.linear(f"{name}.ffn_up", normed, width, shape.feed_forward)
    exact = {} if shape.projector == "internvl" else {"approximate": "tanh"}
    inner = graph.add("Gelu", inner, **exact)
    inner = graph.linear(f"{name}.ffn_down", inner, shape.feed_forward, width)
    return graph.add("Add", hidden, _scaled(graph, shape, inner, f"{name}.ls2"))


def _scaled(graph: "Graph", shape: TowerShape, rows: str, name: str) -> str:
    """Scale the channels, where a tower does."""
    if shape.projector != "internvl":
        return rows
    return graph.add("Mul", rows, graph.normal(f"{name}.weight", (shape.width,), 1.0))


def _project(graph: "Graph", shape: TowerShape, hidden: str, llm_width: int) -> None:
    """Add what stands behind the blocks: `[N,P,C]` to `image_tokens [N,S,D]`."""
    width, output = shape.shuffle**2 * shape.width, "image_tokens"
    match shape.projector:
        case "mlp":
            hidden = graph.add("Gelu", graph.linear("mm.0", hidden, width, llm_width))
            graph.linear("mm.2", hidden, llm_width, llm_width, output=output)
        case "idefics3":
            blocks = _shuffled(graph, shape, graph.norm("v.post_ln", hidden, shape.width))
            graph.linear("mm.model.fc", blocks, width, llm_width, bias=False, output=output)
        case "internvl":
            blocks = _shuffled(graph, shape, graph.first_rows(hidden, shape.patches))
            name = "mm.model.mlp"
            normed = graph.norm(f"{name}.0", blocks, width, epsilon=_PROJECTOR_EPSILON)
            hidden = graph.add("Gelu", graph.linear(f"{name}.1", normed, width, llm_width))
            graph.linear(f"{name}.3", hidden, llm_width, llm_width, output=output)


def _shuffled(graph: "Graph", shape: TowerShape, rows: str) -> str:
    """Join blocks of patches; see `edge_et.export.vision.projector.pixel_shuffle`."""
    factor, side = shape.shuffle, shape.image // shape.patch // shape.shuffle
    split = np.array([0, side, factor, side, factor, shape.width])
    blocks = graph.add("Reshape", rows, graph.constant(split))
    blocks = graph.add("Transpose", blocks, perm=[0, 1, 3, 2, 4, 5])
    joined = np.array([0, side * side, factor**2 * shape.width])
    return graph.add("Reshape", blocks, graph.constant(joined))


class Graph:
    """Nodes, named by their numbers, and constants; weights have names of their own."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[Constant] = []
        self._seed = seed
        self._quantized: dict[str, list[str]] = {}  # int8 rows, scale and zero point, by rows

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def split(self, values: str, outputs: list[str], axis: int) -> None:
        """Split values in equal parts along an axis."""
        parts = len(outputs)
        node = helper.make_node("Split", [values], outputs, axis=axis, num_outputs=parts)
        self.nodes.append(node)

    def constant(self, values: NDArray[np.generic], name: str | None = None) -> str:
        """Add a constant and return its name."""
        name = name or f"c{len(self.constants)}"
        return self._keep(name, values.shape, values.dtype, lambda: values)

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        """Add a constant of normal numbers, float32; they are the same whenever they are drawn."""
        seed = (self._seed, len(self.constants))

        def draw() -> NDArray[np.generic]:
            drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
            return drawn * np.float32(deviation)

        return self._keep(name, shape, np.dtype(np.float32), draw)

    def _keep(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        make: Callable[[], NDArray[np.generic]],
    ) -> str:
        constant = Constant(name=name, shape=shape, dtype=dtype.newbyteorder("<"), make=make)
        self.constants.append(constant)
        return name

    def first_rows(self, rows: str, count: int) -> str:
        """Take the first rows of `[N,P,C]`."""
        ends = (self.constant(np.array([end])) for end in (0, count, 1))
        return self.add("Slice", rows, *ends)

    def linear(
        self,
        name: str,
        rows: str,
        width: int,
        out: int,
        *,
        bias: bool = True,
        output: str | None = None,
    ) -> str:
        """Multiply rows `[...,width]` with an 8-bit matrix and add a vector: `[...,out]`."""
        levels, row_scale, row_zero = self._quantize(rows)
        matrix = self._levels(f"{name}.weight", (width, out))
        zeros = self.constant(np.zeros(out, np.int8), f"{name}.zero_point")
        scales = np.full(out, matrix_scale(width), np.float32)
        scale = self.add("Mul", row_scale, self.constant(scales, f"{name}.scale"))
        summed = self.add("MatMulInteger", levels, matrix, row_zero, zeros)
        numbers = self.add("Cast", summed, to=TensorProto.FLOAT)
        if not bias:
            return self.add("Mul", numbers, scale, output=output)
        product = self.add("Mul", numbers, scale)
        vector = self.normal(f"{name}.bias", (out,), _BIAS_DEVIATION)
        return self.add("Add", product, vector, output=output)

    def _quantize(self, rows: str) -> list[str]:
        """Make rows 8-bit, once, by their own range."""
        if rows not in self._quantized:
            names = [f"{rows}.{part}" for part in ("levels", "scale", "zero_point")]
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [rows], names))
            self._quantized[rows] = names
        return self._quantized[rows]

    def _levels(self, name: str, shape: tuple[int, ...]) -> str:
        """Add an int8 constant of rounded normal numbers and return its name."""
        seed = (self._seed, len(self.constants))

        def draw() -> NDArray[np.generic]:
            drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
            levels = np.rint(drawn * _DEVIATION_LEVELS)
            return levels.clip(-_MOST_LEVELS, _MOST_LEVELS - 1).astype(np.int8)

        return self._keep(name, shape, np.dtype(np.int8), draw)

    def norm(self, name: str, rows: str, width: int, epsilon: float = NORM_EPSILON) -> str:
        """Normalise rows `[...,width]`."""
        one = self.constant(np.ones(width, np.float32), f"{name}.weight")
        zero = self.constant(np.zeros(width, np.float32), f"{name}.bias")
        return self.add("LayerNormalization", rows, one, zero, axis=-1, epsilon=epsilon)
