import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tiny.places import ROOT

from edge_et.errors import ToolError
from edge_et.export.errors import (
    AssemblyError,
    GraphError,
    ParityError,
    UnsupportedModelError,
)
from edge_et.export.vision.onnx_graph import open_session, run_outputs
from edge_et.export.vision.projector import MlpProjector
from edge_et.export.vision.ready_tower import (
    Linear,
    ProjectorArrays,
    TowerShape,
    adapt_tower,
)

DATA = ROOT / "tests" / "data" / "ready_towers"
SIGLIP, SMOLVLM = DATA / "siglip" / "model.onnx", DATA / "smolvlm" / "vision_encoder.onnx"
SMOLVLM_SHAPE = TowerShape(height=32, width=32, image_tokens=16, embedding_width=24)
LLAVA_SHAPE = TowerShape(height=32, width=32, image_tokens=64, embedding_width=20)

Change = Callable[[onnx.ModelProto], None]


def golden(kind: str) -> dict[str, NDArray[np.float32]]:
    """What transformers computed, and the pixel values that it was given."""
    arrays = dict(np.load(DATA / kind / "golden.npz"))
    levels = arrays.pop("levels").astype(np.float32) / np.float32(255)
    return {"pixel_values": (levels - np.float32(0.5)) / np.float32(0.5), **arrays}


def arrays_of(module: MlpProjector) -> ProjectorArrays:
    linears = tuple(
        Linear(
            part.weight.detach().numpy(), None if part.bias is None else part.bias.detach().numpy()
        )
        for part in module
        if isinstance(part, torch.nn.Linear)
    )
    return ProjectorArrays(linears=linears, factor=module.factor)


def llava_projector() -> MlpProjector:
    torch.manual_seed(3)
    return MlpProjector(16, 20)


def connector() -> ProjectorArrays:
    tensors = load_file(DATA / "smolvlm" / "model.safetensors")
    weight = tensors["model.connector.modality_projection.proj.weight"]
    return ProjectorArrays(linears=(Linear(weight),), factor=2)


def tokens_of(path: Path, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
    return run_outputs(open_session(path), pixel_values)["image_tokens"]


def relative(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def changed(folder: Path, source: Path, change: Change) -> Path:
    model = onnx.load(source)
    change(model)
    path = folder / source.name
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("suffix", "limit"),
    [
        ("", 1e-5),
        ("_fp16", 2e-3),
        ("_int8", 0.05),
        ("_quantized", 0.05),
        ("_q4", 0.2),
        ("_q4f16", 0.2),
        ("_bnb4", 0.2),
    ],
)
def test_towers_of_transformers_js_give_the_checkpoints_image_tokens(
    tmp_path: Path, suffix: str, limit: float
) -> None:
    expected = golden("smolvlm")
    out = tmp_path / "vision.onnx"
    source = DATA / "smolvlm" / f"vision_encoder{suffix}.onnx"
    report = adapt_tower(source, out, SMOLVLM_SHAPE, projector=connector())
    assert relative(tokens_of(out, expected["pixel_values"]), expected["image_features"]) < limit
    assert report.error is not None
    assert report.limit is not None
    assert 0 < report.error < report.limit
    files = {out, tmp_path / "vision.onnx.data"}
    assert set(tmp_path.iterdir()) == files
    assert report.size_bytes == sum(path.stat().st_size for path in files)


def transpose_weights(model: onnx.ModelProto) -> None:
    """Store weights as torch does, and transpose them in the graph."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type in ("MatMul", "MatMulInteger") and node.input[1] in weights:
            name = node.input[1]
            array = numpy_helper.to_array(weights[name])
            weights[name].CopyFrom(numpy_helper.from_array(array.T.copy(), name))
            node.input[1] = f"{name}.turned"
            turn = helper.make_node("Transpose", [name], [node.input[1]], perm=[1, 0])
            model.graph.node.append(turn)
        model.graph.node.append(node)


@pytest.mark.parametrize("suffix", ["", "_fp16", "_int8", "_quantized"])
def test_weights_are_stored_as_products_read_them(tmp_path: Path, suffix: str) -> None:
    source = DATA / "smolvlm" / f"vision_encoder{suffix}.onnx"
    turned = changed(tmp_path / "in", source, transpose_weights)
    pixel_values = golden("smolvlm")["pixel_values"]
    tokens, stored = [], []
    for path in (source, turned):
        out = tmp_path / f"{len(tokens)}.onnx"
        adapt_tower(path, out, SMOLVLM_SHAPE, projector=connector())
        tokens.append(tokens_of(out, pixel_values))
        graph = onnx.load(out).graph
        names = {tensor.name for tensor in graph.initializer}
        assert not [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in names]
        stored.append(sorted(tuple(tensor.dims) for tensor in graph.initializer))
    assert np.array_equal(*tokens)
    assert stored[0] == stored[1]


@pytest.mark.parametrize("name", ["model.onnx", "model_opset_14.onnx"])
@pytest.mark.parametrize(
    ("layer", "features"),
    [(None, "last_hidden_state"), (-1, "hidden_states_2"), (-2, "hidden_states_1")],
)
def test_a_projector_is_put_behind_the_towers_of_optimum(
    tmp_path: Path, name: str, layer: int | None, features: str
) -> None:
    expected = golden("siglip")
    projector = llava_projector()
    out = tmp_path / "vision.onnx"
    report = adapt_tower(
        DATA / "siglip" / name,
        out,
        LLAVA_SHAPE,
        projector=arrays_of(projector),
        feature_layer=layer,
    )
    with torch.inference_mode():
        tokens = projector(torch.from_numpy(expected[features])).numpy()
    assert relative(tokens_of(out, expected["pixel_values"]), tokens) < 1e-5
    assert report.error is not None
    assert report.error < 1e-4


def test_blocks_of_patches_are_joined_as_torch_does(tmp_path: Path) -> None:
    expected = golden("siglip")
    torch.manual_seed(4)
    projector = MlpProjector(16, 24, layers=1, bias=False, factor=2)
    out = tmp_path / "vision.onnx"
    adapt_tower(SIGLIP, out, SMOLVLM_SHAPE, projector=arrays_of(projector))
    with torch.inference_mode():
        tokens = projector(torch.from_numpy(expected["last_hidden_state"])).numpy()
    assert relative(tokens_of(out, expected["pixel_values"]), tokens) < 1e-5


def test_what_nothing_needs_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "vision.onnx"
    adapt_tower(SIGLIP, out, LLAVA_SHAPE, projector=arrays_of(llava_projector()), feature_layer=-2)
    names = {tensor.name for tensor in onnx.load(out).graph.initializer}
    assert any("layers.0.mlp" in name for name in names)
    assert not [name for name in names if "layers.1." in name or ".head." in name]


def test_constants_become_outputs(tmp_path: Path) -> None:
    newline = np.arange(24, dtype=np.float32)
    markup = np.arange(72, dtype=np.float32).reshape(3, 24)
    out = tmp_path / "vision.onnx"
    adapt_tower(SMOLVLM, out, SMOLVLM_SHAPE, newline=newline, markup=markup)
    made = run_outputs(open_session(out), golden("smolvlm")["pixel_values"])
    assert list(made) == ["image_tokens", "image_newline", "image_markup"]
    assert np.array_equal(made["image_newline"], newline)
    assert np.array_equal(made["image_markup"], markup)


def test_inputs_and_outputs_of_float16(tmp_path: Path) -> None:
    def keep_half(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        cast = next(node for node in model.graph.node if "image_features" in node.output)
        cast.attribute[0].i = TensorProto.FLOAT16

    source = SMOLVLM.with_name("vision_encoder_fp16.onnx")
    path = changed(tmp_path / "in", source, keep_half)
    out = tmp_path / "vision.onnx"
    adapt_tower(path, out, SMOLVLM_SHAPE)
    expected = golden("smolvlm")
    assert relative(tokens_of(out, expected["pixel_values"]), expected["image_features"]) < 2e-3


def test_a_tile_of_zeros_is_no_padding(tmp_path: Path) -> None:
    pixel_values = golden("smolvlm")["pixel_values"]
    pixel_values[0] = 0
    inputs = {
        "pixel_values": pixel_values[None],
        "pixel_attention_mask": np.ones((1, 2, 32, 32), bool),
    }
    source = onnxruntime.InferenceSession(str(SMOLVLM), providers=["CPUExecutionProvider"])
    (left,) = source.run(None, inputs)
    out = tmp_path / "vision.onnx"
    adapt_tower(SMOLVLM, out, SMOLVLM_SHAPE)
    tokens = tokens_of(out, pixel_values)
    assert len(left) == 1
    assert relative(tokens[1:], left) < 1e-5
    black = np.full_like(pixel_values, 1e-3)
    assert relative(tokens[:1], tokens_of(out, black[:1])) < 1e-2


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    names = [node.name.encode() for node in onnx.load(SIGLIP).graph.node]
    path = tmp_path / "model.onnx"
    path.write_bytes(SIGLIP.read_bytes().replace(names[0], b"\xff" + names[0][1:]))
    with pytest.raises(GraphError, match=r"model\.onnx cannot be written again"):
        adapt_tower(path, tmp_path / "v.onnx", LLAVA_SHAPE, projector=arrays_of(llava_projector()))
    assert list(tmp_path.iterdir()) == [path]


def test_a_graph_that_drops_tiles_is_refused(tmp_path: Path) -> None:
    def make_flat(model: onnx.ModelProto) -> None:
        shape = helper.make_node("Constant", [], ["five"], value_ints=[1, -1, 3, 32, 32])
        reshape = helper.make_node("Reshape", ["pixels", "five"], ["pixel_values"])
        mask = helper.make_node("Constant", [], ["three"], value_ints=[1, 2, 32, 32])
        true = helper.make_node(
            "ConstantOfShape",
            ["three"],
            ["pixel_attention_mask"],
            value=helper.make_tensor("true", TensorProto.BOOL, [1], [True]),
        )
        for node in (true, mask, reshape, shape):
            model.graph.node.insert(0, node)
        del model.graph.input[:]
        model.graph.input.append(
            helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 32, 32])
        )
        rename(model, "pixels", "pixel_values", "tiles")

    path = changed(tmp_path / "in", SMOLVLM, make_flat)
    refuse(path, tmp_path, GraphError, "gives the tokens of 0 tiles for one")


def rename(model: onnx.ModelProto, name: str, new: str, instead: str) -> None:
    """Give a value a name that another one has had, which is then called `instead`."""
    names = {name: new, new: instead}
    for node in model.graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for port in model.graph.input:
        port.name = names.get(port.name, port.name)


def test_neither_torch_nor_transformers_is_imported(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from edge_et.export.vision.ready_tower import TowerShape, adapt_tower
shape = TowerShape(height=32, width=32, image_tokens=16, embedding_width=24)
adapt_tower(Path({str(SMOLVLM)!r}), Path({str(tmp_path / "vision.onnx")!r}), shape)
print(sorted({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    """As transformers.js has them beyond 2 GiB, and as the hub's cache keeps them: by links."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    path, data = blobs / "vision_encoder.onnx", "vision_encoder.onnx_data"
    onnx.save(
        onnx.load(SMOLVLM),
        path,
        save_as_external_data=True,
        location=data,
        size_threshold=0,
        convert_attribute=True,
    )
    for name in (path.name, data):
        (blobs / name).rename(blobs / f"of-{name}")
        (snapshot / name).symlink_to(blobs / f"of-{name}")
    out = tmp_path / "vision.onnx"
    adapt_tower(snapshot / path.name, out, SMOLVLM_SHAPE, projector=connector())
    expected = golden("smolvlm")
    assert relative(tokens_of(out, expected["pixel_values"]), expected["image_features"]) < 1e-5


def with_external(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    path, data = folder / "vision_encoder.onnx", folder / "weights"
    onnx.save(
        onnx.load(SMOLVLM), path, save_as_external_data=True, location=data.name, size_threshold=0
    )
    return path, data


def test_weights_that_are_missing_or_short(tmp_path: Path) -> None:
    path, data = with_external(tmp_path / "in")
    data.write_bytes(data.read_bytes()[:-4])
    refuse(path, tmp_path, GraphError, "weights does not hold tensor")
    data.unlink()
    refuse(path, tmp_path, GraphError, "weights with the weights of .* get both files")


@pytest.mark.parametrize("location", ["../weights", "sub/weights", "/etc/hostname", ".."])
def test_weights_elsewhere(tmp_path: Path, location: str) -> None:
    path, data = with_external(tmp_path / "in")
    (tmp_path / "weights").write_bytes(data.read_bytes())
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    refuse(path, tmp_path, GraphError, "outside the folder of the graph")


def test_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    path, data = with_external(tmp_path / "in")
    data.rename(tmp_path / "weights")
    data.symlink_to(tmp_path / "weights")
    refuse(path, tmp_path, GraphError, "is a link to .* outside the folder")


def refuse(
    source: Path,
    tmp_path: Path,
    error: type[ToolError],
    message: str,
    shape: TowerShape = SMOLVLM_SHAPE,
    **arguments: Any,
) -> None:
    out = tmp_path / "out" / "vision.onnx"
    with pytest.raises(error, match=message):
        adapt_tower(source, out, shape, **arguments)
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    path = tmp_path / "vision_encoder.onnx"
    refuse(path, tmp_path, GraphError, "cannot be read: No such file")
    content = SMOLVLM.read_bytes()
    parts = [content[: len(content) * part // 40] for part in range(1, 40)]
    for damaged in (b"", b"<html>not found</html>", *parts):
        path.write_bytes(damaged)
        refuse(path, tmp_path, GraphError, "no ONNX file, or damaged")


def test_a_tensor_that_is_cut_off(tmp_path: Path) -> None:
    def cut(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name.endswith("layer_norm1.weight"))
        tensor.raw_data = tensor.raw_data[:-4]

    path = changed(tmp_path / "in", SMOLVLM, cut)
    refuse(path, tmp_path, GraphError, "not as long as its shape says")


def test_a_language_models_graph(tmp_path: Path) -> None:
    decoder, encoder = tmp_path / "decoder.onnx", tmp_path / "encoder.onnx"
    for path, output in ((decoder, "logits"), (encoder, "last_hidden_state")):
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "sequence", 16])
        table = numpy_helper.from_array(np.ones((9, 16), np.float32), "table")
        node = helper.make_node("Gather", ["table", "input_ids"], [output])
        graph = helper.make_graph([node], "text", [ids], [made], [table])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    refuse(decoder, tmp_path, GraphError, "gives 'logits': expected image_features")
    refuse(
        encoder,
        tmp_path,
        GraphError,
        "takes 'input_ids': expected pixel_values",
        LLAVA_SHAPE,
        projector=arrays_of(llava_projector()),
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("height", 48, "expected|processor makes"),
        ("image_tokens", 25, r"16 rows of a tile, .* has 25"),
        ("embedding_width", 32, r"24 values a row of a tile, .* has 32"),
    ],
)
def test_another_shape_than_the_checkpoints(
    tmp_path: Path, field: str, value: int, message: str
) -> None:
    sizes = {"height": 32, "width": 32, "image_tokens": 16, "embedding_width": 24, field: value}

    def fix_size(model: onnx.ModelProto) -> None:
        for dimension, size in zip(
            model.graph.input[0].type.tensor_type.shape.dim[2:], (3, 32, 32), strict=True
        ):
            dimension.dim_value = size

    path = changed(tmp_path / "in", SMOLVLM, fix_size)
    refuse(path, tmp_path, AssemblyError, message, TowerShape(**sizes))


def test_a_size_that_is_dynamic_in_name_alone(tmp_path: Path) -> None:
    """optimum calls height and width dynamic, and fixes the positions all the same."""
    shape = TowerShape(height=48, width=48, image_tokens=144, embedding_width=20)
    arguments = {"projector": arrays_of(llava_projector())}
    refuse(SIGLIP, tmp_path, GraphError, "fails on tiles of 48 x 48 pixels", shape, **arguments)


def test_projectors_that_do_not_fit(tmp_path: Path) -> None:
    refuse(SIGLIP, tmp_path, UnsupportedModelError, "no projector inside")
    narrow = arrays_of(MlpProjector(8, 20))
    refuse(
        SIGLIP,
        tmp_path,
        AssemblyError,
        r"has features \[16\] of a patch, .* takes \[8\]",
        LLAVA_SHAPE,
        projector=narrow,
    )
    other = arrays_of(MlpProjector(16, 24))
    refuse(SIGLIP, tmp_path, AssemblyError, "vectors of 24 values", LLAVA_SHAPE, projector=other)


def test_another_projector_inside_than_the_checkpoints(tmp_path: Path) -> None:
    (linear,) = connector().linears
    other = ProjectorArrays(linears=(Linear(linear.weight + np.float32(0.01)),), factor=2)
    refuse(SMOLVLM, tmp_path, ParityError, "against its projector in numpy", projector=other)
    reversed_rows = ProjectorArrays(linears=(Linear(linear.weight[::-1]),), factor=2)
    for suffix in ("q4", "quantized"):
        path = SMOLVLM.with_name(f"vision_encoder_{suffix}.onnx")
        refuse(path, tmp_path, ParityError, "relative error", projector=reversed_rows)


def lose_names(model: onnx.ModelProto) -> None:
    names = {tensor.name: f"weight_{index}" for index, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def share_a_layernorm(model: onnx.ModelProto) -> None:
    """Use a layer's weight for the next one too, as exporters do with equal weights."""
    for node in model.graph.node:
        node.input[:] = [
            name.replace("layers.1.layer_norm1.weight", "layers.0.layer_norm1.weight")
            for name in node.input
        ]
    kept = [
        t for t in model.graph.initializer if not t.name.endswith("layers.1.layer_norm1.weight")
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


@pytest.mark.parametrize("change", [lose_names, share_a_layernorm])
def test_layers_that_cannot_be_told_apart(tmp_path: Path, change: Change) -> None:
    path = changed(tmp_path / "in", SIGLIP, change)
    arguments = {"projector": arrays_of(llava_projector())}
    refuse(
        path,
        tmp_path,
        UnsupportedModelError,
        r"hidden_states\[-2\] cannot be found",
        LLAVA_SHAPE,
        feature_layer=-2,
        **arguments,
    )
    adapt_tower(path, tmp_path / "vision.onnx", LLAVA_SHAPE, **arguments)


def test_a_projector_inside_is_not_compared_where_its_input_has_no_name(tmp_path: Path) -> None:
    path = changed(tmp_path / "in", SMOLVLM, lose_names)
    out = tmp_path / "vision.onnx"
    report = adapt_tower(path, out, SMOLVLM_SHAPE, projector=connector())
    assert report.error is None
    assert report.measure == ""
    expected = golden("smolvlm")
    assert relative(tokens_of(out, expected["pixel_values"]), expected["image_features"]) < 1e-5


def test_a_layer_that_the_tower_has_not(tmp_path: Path) -> None:
    refuse(
        SIGLIP,
        tmp_path,
        UnsupportedModelError,
        "feature layer -3: expected -2 to -1",
        LLAVA_SHAPE,
        projector=arrays_of(llava_projector()),
        feature_layer=-3,
    )


def mix_tiles(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["own" if name == "image_features" else name for name in node.output]
    mean = helper.make_node("ReduceMean", ["own"], ["all"], axes=[0], keepdims=1)
    model.graph.node.extend([mean, helper.make_node("Add", ["own", "all"], ["image_features"])])


def fix_number(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def take_doubles(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def overflow(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name.endswith("post_layernorm.bias"))
    tensor.raw_data = np.full(16, np.inf, np.float32).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (mix_tiles, "mixes its tiles"),
        (fix_number, "takes 1 tiles at a time"),
        (take_doubles, "DOUBLE"),
        (overflow, "not finite"),
    ],
)
def test_towers_that_the_runtime_cannot_use(tmp_path: Path, change: Change, message: str) -> None:
    refuse(changed(tmp_path / "in", SMOLVLM, change), tmp_path, GraphError, message)


def of_another_vendor(model: onnx.ModelProto) -> None:
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def of_opset_9(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9


def with_a_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Same", ["x"], ["y"], body, opset))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_vendor, "'com.example', which ONNX Runtime has not"),
        (of_opset_9, "opset 9, expected 11 or later"),
        (with_a_function, "functions of its own"),
    ],
)
def test_graphs_that_cannot_be_expressed(tmp_path: Path, change: Change, message: str) -> None:
    path = changed(tmp_path / "in", SMOLVLM, change)
    refuse(path, tmp_path, UnsupportedModelError, message)
