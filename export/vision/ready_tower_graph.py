"""Rewrite a ready-made tower's graph, so that it takes tiles and gives image tokens.

In: the model, the shape that it shall have, the projector's arrays. Out: the same model, changed,
and what there is to compare. Nothing is run or written here.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edge_et.export.errors import AssemblyError, GraphError, UnsupportedModelError
from edge_et.export.vision.onnx_graph import INPUT, OUTPUT
from edge_et.export.vision.onnx_nodes import NodeList, remove_unused
from edge_et.export.vision.projector_arrays import ProjectorArrays

FEATURES = "patch_features"

Precision = Literal["float32", "float16", "8 bits", "4 bits"]

_MASK = "pixel_attention_mask"
_TOKENS, _HIDDEN = "image_features", "last_hidden_state"
_OPERATORS: dict[str, Precision] = {
    "MatMulNBits": "4 bits",
    "MatMulBnb4": "4 bits",
    "DynamicQuantizeLinear": "8 bits",
}
_LAYER_NORM = re.compile(r"encoder\.layers\.(\d+)\.layer_norm1\.weight$")
_LAST_NORM = "post_layernorm.weight"
_NOT_ZERO = 2.0**-14  # the smallest number that float16 holds with all its digits

_FLOAT, _FLOAT16 = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """What the graph shall take and give.

    Attributes:
        height: H of a tile, pixels.
        width: W of a tile, pixels.
        image_tokens: S, image tokens of a tile.
        embedding_width: D, of the language model.
    """

    height: int
    width: int
    image_tokens: int
    embedding_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What became of a graph.

    Attributes:
        features: its last output is patch_features [N,P,C] float32, what the projector takes.
        has_projector: it came with its projector.
        precision: of its weights, and with 8 bits of what is multiplied by them.
    """

    features: bool
    has_projector: bool
    precision: Precision


class TowerGraph:
    """A graph that is being rewritten."""

    def __init__(self, model: onnx_ir.Model, source: str) -> None:
        """Take a model, which is changed in place.

        Args:
            model: from `read_model`.
            source: its file, for messages.
        """
        self._model, self._graph, self._source = model, model.graph, source
        self._front = NodeList(self._graph, "front")
        self._behind = NodeList(self._graph, "behind")

    def rewrite(
        self,
        shape: TowerShape,
        projector: ProjectorArrays | None,
        feature_layer: int | None,
        constants: dict[str, NDArray[np.float32]],
    ) -> Rewritten:
        """Make it pixel_values [N,3,H,W] -> image_tokens [N,S,D], constants, perhaps features.

        Args:
            shape: H, W, S and D.
            projector: behind a graph that gives features.
            feature_layer: which ones; see `adapt_tower`.
            constants: further outputs by name.

        Raises:
            GraphError: it is no vision tower.
            UnsupportedModelError: the features cannot be found, or a projector is needed.
            AssemblyError: it has another shape.
        """
        precision = self._precision()
        outputs = {value.name: value for value in self._graph.outputs}
        has_projector = _TOKENS in outputs
        features: onnx_ir.Value | None
        if has_projector:
            features = self._find_features(feature_layer)
            tokens = outputs[_TOKENS]
            self._check_output(tokens, shape.image_tokens, shape.embedding_width)
            if tokens.dtype != _FLOAT:
                tokens = self._behind.add("Cast", tokens, to=_FLOAT)
            if features is not None:
                features = self._behind.add("Cast", features, to=_FLOAT)
        else:
            features = self._features(outputs, feature_layer)
            if projector is None:
                raise UnsupportedModelError(
                    f"{self._source} has no projector inside, and none is known to go behind it"
                )
            patches = shape.image_tokens * projector.factor**2
            self._check_width(projector.vision_width)
            self._check_output(features, patches, projector.vision_width)
            features = self._behind.add("Cast", features, to=_FLOAT)
            tokens = self._project(features, shape, projector)
        self._take_tiles(shape)
        named: dict[str, tuple[onnx_ir.Value, list[int | str]]]
        named = {OUTPUT: (tokens, ["N", shape.image_tokens, shape.embedding_width])}
        for name, array in constants.items():
            value = self._behind.constant(name, array.astype(np.float32))
            named[name] = self._behind.add("Identity", value), list(array.shape)
        if features is not None:
            named[FEATURES] = features, ["N", "P", "C"]
        self._graph.extend(self._behind.nodes)
        self._graph.outputs.clear()
        for name, (value, dims) in named.items():
            value.name, value.dtype, value.shape = name, _FLOAT, onnx_ir.Shape(dims)
            self._graph.outputs.append(value)
        remove_unused(self._model)
        self._model.ir_version = max(self._model.ir_version or 0, 4)  # weights are no inputs
        return Rewritten(
            features=features is not None, has_projector=has_projector, precision=precision
        )

    def _precision(self) -> Precision:
        for node in self._graph.all_nodes():
            if known := _OPERATORS.get(node.op_type):
                return known
        halves = (value.dtype == _FLOAT16 for value in self._graph.initializers.values())
        return "float16" if any(halves) else "float32"

    def _features(
        self, outputs: dict[str | None, onnx_ir.Value], feature_layer: int | None
    ) -> onnx_ir.Value:
        if feature_layer is None and _HIDDEN in outputs:
            return outputs[_HIDDEN]
        if _HIDDEN not in outputs:
            raise GraphError(
                f"{self._source} gives {_listed(outputs)}: expected {_TOKENS} or {_HIDDEN}, as "
                "the vision towers of transformers.js and optimum do"
            )
        found = self._find_features(feature_layer)
        if found is None:
            raise UnsupportedModelError(
                f"{self._source}: hidden_states[{feature_layer}] cannot be found, since the "
                "layernorms' weights have lost their names (encoder.layers.0.layer_norm1.weight) "
                "or are shared; export the tower again without optimizing it"
            )
        return found

    def _find_features(self, feature_layer: int | None) -> onnx_ir.Value | None:
        """Find what the projector takes by the names of the layernorms; None: they are not there.

        Raises:
            UnsupportedModelError: the tower has fewer layers.
        """
        before: dict[int, onnx_ir.Value] = {}
        last = None
        for name, value in self._graph.initializers.items():
            if match := _LAYER_NORM.search(name):
                norm = _normalized(value)
                if norm is None or int(match[1]) in before:
                    return None
                before[int(match[1])] = norm[0]
            elif name.endswith(_LAST_NORM):
                last = _normalized(value)
        layers = len(before)
        if last is None or sorted(before) != list(range(layers)):
            return None
        if feature_layer is None:
            return last[1]
        if not -layers <= feature_layer <= -1:
            raise UnsupportedModelError(
                f"{self._source}: feature layer {feature_layer}: expected -{layers} to -1, or none"
            )
        return last[0] if feature_layer == -1 else before[layers + 1 + feature_layer]

    def _check_output(self, value: onnx_ir.Value, rows: int, width: int) -> None:
        """Compare what the file says about an output with what there should be."""
        if value.producer() is None or value.dtype not in (None, _FLOAT, _FLOAT16):
            raise GraphError(
                f"{self._source} gives {value.name!a} {value.dtype}: expected floats, computed"
            )
        if value.shape is None:
            return
        dims = list(value.shape)
        if len(dims) != 3:
            raise GraphError(f"{self._source} gives {value.name!a} of {len(dims)} axes: expected 3")
        for what, found, expected in zip(
            ("rows", "values a row"), dims[1:], (rows, width), strict=True
        ):
            if isinstance(found, int) and found != expected:
                raise AssemblyError(
                    f"{self._source} gives {value.name!a} with {found} {what} of a tile, and the "
                    f"processor's model has {expected}: take tower and processor of one model"
                )

    def _check_width(self, width: int) -> None:
        """Compare the tower's width with the projector's, where the last layernorm tells it."""
        for name, value in self._graph.initializers.items():
            dims = list(value.shape or [])
            if name.endswith(_LAST_NORM) and dims != [width]:
                raise AssemblyError(
                    f"{self._source} has features {dims} of a patch, and the projector takes "
                    f"{[width]}"
                )

    def _take_tiles(self, shape: TowerShape) -> None:
        """Put one input pixel_values [N,3,H,W] float32 before the graph."""
        inputs = {
            value.name: value
            for value in self._graph.inputs
            if value.name not in self._graph.initializers
        }
        if not {INPUT} <= inputs.keys() <= {INPUT, _MASK}:
            raise GraphError(
                f"{self._source} takes {_listed(inputs)}: expected {INPUT}, and perhaps {_MASK}, "
                "as a vision tower does"
            )
        pixels, mask = inputs[INPUT], inputs.get(_MASK)
        dims = list(pixels.shape or [])
        images = len(dims) == 5  # transformers.js: batch and images
        if pixels.dtype not in (_FLOAT, _FLOAT16) or len(dims) not in (4, 5):
            raise GraphError(
                f"{self._source} takes {INPUT} {pixels.dtype} {dims}: expected floats [N,3,H,W] "
                "or [batch,images,3,H,W]"
            )
        if isinstance(dims[-4], int):
            raise GraphError(
                f"{self._source} takes {dims[-4]} tiles at a time: export it with a dynamic number"
            )
        height_width = [shape.height, shape.width]
        for found, expected in zip(dims[-3:], [3, *height_width], strict=True):
            if isinstance(found, int) and found != expected:
                raise AssemblyError(
                    f"{self._source} takes tiles {dims[-3:]}, and the processor makes "
                    f"{[3, *height_width]}"
                )
        tiles = onnx_ir.Value(
            name=INPUT,
            shape=onnx_ir.Shape(["N", 3, *height_width]),
            type=onnx_ir.TensorType(_FLOAT),
        )
        taken = self._without_zeros(tiles) if images else tiles
        if pixels.dtype != _FLOAT:
            taken = self._front.add("Cast", taken, to=pixels.dtype)
        if images:
            of_batch = np.array([1, -1, 3, *height_width], np.int64)
            taken = self._front.add("Reshape", taken, self._front.constant("batch", of_batch))
        pixels.replace_all_uses_with(taken)
        if mask is not None:
            mask.replace_all_uses_with(self._all_true(tiles, mask, images))
        self._graph.insert_before(self._graph[0], self._front.nodes)
        self._graph.inputs.clear()
        self._graph.inputs.append(tiles)

    def _without_zeros(self, tiles: onnx_ir.Value) -> onnx_ir.Value:
        """Replace zeros, since Idefics3 takes a tile without anything else for padding.

        No value of a picture is 0 after the mean and deviation of 0.5 that these checkpoints have.
        """
        zero = self._front.constant("zero", np.zeros((), np.float32))
        tiny = self._front.constant("not_zero", np.array(_NOT_ZERO, np.float32))
        return self._front.add("Where", self._front.add("Equal", tiles, zero), tiny, tiles)

    def _all_true(self, tiles: onnx_ir.Value, mask: onnx_ir.Value, images: bool) -> onnx_ir.Value:
        """Make a mask that leaves out no pixel: [N,H,W], or [1,N,H,W] with images."""
        if mask.dtype not in (onnx_ir.DataType.BOOL, onnx_ir.DataType.INT64):
            raise GraphError(f"{self._source} takes {_MASK} {mask.dtype}: expected bool")
        axes = self._front.constant("mask_axes", np.array([0, 2, 3], np.int64))
        dims = self._front.add("Gather", self._front.add("Shape", tiles), axes)
        if images:
            one = self._front.constant("one", np.ones(1, np.int64))
            dims = self._front.add("Concat", one, dims, axis=0)
        true = self._front.constant("true", np.ones((), mask.dtype.numpy()))
        return self._front.add("Expand", true, dims)

    def _project(
        self, features: onnx_ir.Value, shape: TowerShape, projector: ProjectorArrays
    ) -> onnx_ir.Value:
        """Put the projector behind [N,P,C]."""
        hidden = features
        if (factor := projector.factor) > 1:
            side, width = math.isqrt(shape.image_tokens), projector.vision_width
            split = np.array([-1, side, factor, side, factor, width], np.int64)
            joined = np.array([-1, side**2, factor**2 * width], np.int64)
            hidden = self._behind.add("Reshape", hidden, self._behind.constant("blocks", split))
            hidden = self._behind.add("Transpose", hidden, perm=[0, 1, 3, 2, 4, 5])
            hidden = self._behind.add("Reshape", hidden, self._behind.constant("joined", joined))
        for index, linear in enumerate(projector.linears):
            if index:
                hidden = self._gelu(hidden)
            array = np.ascontiguousarray(linear.weight.T, np.float32)
            weight = self._behind.constant(f"weight_{index}", array)
            hidden = self._behind.add("MatMul", hidden, weight)
            if linear.bias is not None:
                bias = self._behind.constant(f"bias_{index}", linear.bias.astype(np.float32))
                hidden = self._behind.add("Add", hidden, bias)
        return hidden

    def _gelu(self, hidden: onnx_ir.Value) -> onnx_ir.Value:
        """Add GELU in the operators of older opsets, which ONNX Runtime joins to one."""
        root, one, half = (
            self._behind.constant(name, np.array(value, np.float32))
            for name, value in (("root_of_2", math.sqrt(2)), ("one_float", 1.0), ("half", 0.5))
        )
        error = self._behind.add("Erf", self._behind.add("Div", hidden, root))
        scaled = self._behind.add("Mul", hidden, self._behind.add("Add", error, one))
        return self._behind.add("Mul", scaled, half)


def _normalized(scale: onnx_ir.Value) -> tuple[onnx_ir.Value, onnx_ir.Value] | None:
    """Return what goes into and comes out of the one layernorm with this scale, or None.

    Below opset 17 it is a row of operators: (x - mean) / deviation * scale + bias.
    """
    nodes = list(scale.consumers())
    if len(nodes) != 1:
        return None
    node = nodes[0]
    if node.op_type == "LayerNormalization":
        return _pair(node.inputs[0], node.outputs[0])
    if node.op_type != "Mul":
        return None
    quotient = next((value for value in node.inputs if value is not scale), None)
    divided = _producer(quotient, "Div")
    centred = _producer(divided.inputs[0], "Sub") if divided else None
    biased = [user for user in node.outputs[0].consumers() if user.op_type == "Add"]
    if centred is None or len(biased) != 1:
        return None
    return _pair(centred.inputs[0], biased[0].outputs[0])


def _pair(
    before: onnx_ir.Value | None, behind: onnx_ir.Value
) -> tuple[onnx_ir.Value, onnx_ir.Value] | None:
    return None if before is None else (before, behind)


def _producer(value: onnx_ir.Value | None, op_type: str) -> onnx_ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _listed(names: Iterable[str | None]) -> str:
    shown = [ascii(name) for name in names]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) or "nothing") + more
