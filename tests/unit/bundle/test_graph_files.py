import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny.tower import write_tower

from edge_et.bundle.graph_files import check_graph_files
from edge_et.errors import ModelFileError

DATA = "vision.onnx.data"


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A graph with its weights beside it."""
    write_tower(tmp_path / "whole.onnx", width=32)
    onnx.save(
        onnx.load(tmp_path / "whole.onnx"),
        tmp_path / "vision.onnx",
        save_as_external_data=True,
        location=DATA,
        size_threshold=100,
    )
    return tmp_path / "vision.onnx"


def external(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, "f"), "extra")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_a_graph_may_read_what_the_manifest_names(split: Path) -> None:
    check_graph_files(split, split.with_name(DATA))
    check_graph_files(split.with_name("whole.onnx"))


def test_weights_that_the_manifest_does_not_name(split: Path) -> None:
    with pytest.raises(ModelFileError, match=r"reads the file 'vision\.onnx\.data'"):
        check_graph_files(split)
    shutil.copy(split.with_name(DATA), split.with_name("other"))
    with pytest.raises(ModelFileError, match="does not name"):
        check_graph_files(split, split.with_name("other"))


def test_tensors_are_found_wherever_they_stand(split: Path) -> None:
    """In the graph, in attributes of nodes, in graphs inside of these, and in functions."""
    tensor = external("elsewhere")
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    inner = helper.make_graph([node], "inner", [], [])
    outer = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    sparse = helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.arange(4)), [9])
    listed = helper.make_node("Listed", [], ["l"], domain="own")
    listed.attribute.append(helper.make_attribute("list", [tensor]))
    function = helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 17)])
    for place in ("initializer", "node", "inner graph", "sparse", "list", "function"):
        model = onnx.load(split, load_external_data=False)
        if place == "initializer":
            model.graph.initializer.append(tensor)
        elif place == "sparse":
            model.graph.sparse_initializer.append(sparse)
        elif place == "function":
            model.functions.append(function)
        else:
            model.graph.node.append({"node": node, "inner graph": outer, "list": listed}[place])
        split.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match="reads the file 'elsewhere'"):
            check_graph_files(split, split.with_name(DATA))
        model.Clear()
        shutil.copy(split.with_name("whole.onnx"), split)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x3a\x7f", b"\x3a" + b"\xff" * 20])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vision.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no ONNX graph"):
        check_graph_files(path)


def test_links_lead_where_onnx_runtime_follows_them(split: Path) -> None:
    """Both or none of the files in another folder: so lie the files in the hub's cache."""
    import onnxruntime

    blobs, folder = split.parent / "blobs", split.parent / "snapshot"
    blobs.mkdir()
    folder.mkdir()
    graph = shutil.copy(split, blobs / "a")
    weights = shutil.copy(split.with_name(DATA), blobs / "b")
    (folder / split.name).symlink_to(graph)
    (folder / DATA).symlink_to(weights)
    check_graph_files(folder / split.name, folder / DATA)
    onnxruntime.InferenceSession(folder / split.name, providers=["CPUExecutionProvider"])
    (folder / split.name).unlink()
    shutil.copy(split, folder / split.name)
    with pytest.raises(ModelFileError, match=r"vision\.onnx\.data: it is a link to .*blobs/b"):
        check_graph_files(folder / split.name, folder / DATA)
