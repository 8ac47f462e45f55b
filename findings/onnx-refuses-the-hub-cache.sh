#!/usr/bin/env bash
# onnx 1.23.2 and onnx-ir 1.1.0 cannot load a model with external weights from where huggingface_hub
# put it: in the cache, graph and weights are links to blobs, and both libraries take only regular
# files inside the graph's own folder. onnxruntime 1.32.0 opens the same path. Resolving the link does
# not help, since the blob's name is not the one that the graph asks for.
#
# `onnx.load(hf_hub_download(...))` therefore works for small models and fails for large ones, or for
# all that transformers.js keeps in an .onnx_data file. A copy of both files works
# (hf_hub_download with local_dir), or tensors that the caller points at the resolved files.
#
# Seen:
#   onnxruntime: 64.0
#   onnx: ValidationError, it is a symbolic link
#   onnx_ir: ValueError, outside the base directory
#   onnxruntime, link resolved: Fail, External data path does not exist
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0
cat > load.py <<'PYTHON'
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "weights")
rows = ["rows", 64]
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weights"], ["y"])],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, rows)],
    [weights],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnx.save(
    model, "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
)
# As huggingface_hub lays out its cache.
snapshot, blobs = Path("cache/snapshots/commit/onnx"), Path("cache/blobs")
snapshot.mkdir(parents=True)
blobs.mkdir()
for number, name in enumerate(("model.onnx", "model.onnx_data")):
    shutil.move(name, blobs / str(number))
    (snapshot / name).symlink_to(f"../../../blobs/{number}")
path = snapshot / "model.onnx"


def told(who, load, phrase):
    try:
        print(f"{who}: {load()}")
    except Exception as error:
        assert phrase in str(error), error
        print(f"{who}: {type(error).__name__}, {phrase}")


def run(place):
    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((1, 64), np.float32)})[0][0, 0]


def first_weight():
    return onnx_ir.load(path).graph.initializers["weights"].const_value.numpy()[0, 0]


told("onnxruntime", lambda: run(path), "")
told("onnx", lambda: onnx.load(path), "it is a symbolic link")
told("onnx_ir", first_weight, "outside the base directory")
told(
    "onnxruntime, link resolved",
    lambda: run(path.resolve()),
    "External data path does not exist",
)
PYTHON
venv/bin/python load.py | tee seen.txt

diff seen.txt - <<'SEEN'
onnxruntime: 64.0
onnx: ValidationError, it is a symbolic link
onnx_ir: ValueError, outside the base directory
onnxruntime, link resolved: Fail, External data path does not exist
SEEN
