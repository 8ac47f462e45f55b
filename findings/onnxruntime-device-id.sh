#!/usr/bin/env bash
# onnxruntime 1.32.0 (PyPI wheel, Linux x86-64): opening one session leaves a device id and a data
# base in the user's caches, under a folder of the vendor. 1.28.0 leaves nothing.
#
# A test that runs in CI does not see it: with CI set, nothing is left. The documented function
# disable_telemetry_events(), called right after the import, comes too late. What works is
# ORT_DISABLE_TELEMETRY=1 in the environment before onnxruntime is imported.
#
# Seen: files after "plain" and "function", none after "ci", "variable" and "older".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > session.py <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

if sys.argv[1] == "function":
    onnxruntime.disable_telemetry_events()
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
session.run(None, {"x": np.zeros(1, np.float32)})
PYTHON

for version in 1.28.0 1.32.0; do
  python3 -m venv "v$version"
  "v$version/bin/pip" install --quiet "onnxruntime==$version" onnx==1.20.1
done

# Usage: left NAME VERSION [VARIABLE=VALUE ...]; prints the files that a session left in a new home.
left() {
  local name=$1 version=$2
  shift 2
  mkdir -p "home-$name"
  env -u CI -u ORT_RUNNING_UNIT_TESTS -u ORT_DISABLE_TELEMETRY -u XDG_CACHE_HOME \
    HOME="$work/home-$name" "$@" "v$version/bin/python" session.py "$name"
  (cd "home-$name" && find . -type f | sort)
}

failed=0
for name in plain function; do
  found=$(left "$name" 1.32.0)
  echo "$name: $found"
  [[ $found == *deviceid* && $found == *.db* ]] || failed=1
done
for case in "ci 1.32.0 CI=true" "variable 1.32.0 ORT_DISABLE_TELEMETRY=1" "older 1.28.0"; do
  # shellcheck disable=SC2086  # the words of a case are arguments
  found=$(left $case)
  echo "${case%% *}: ${found:-nothing}"
  [[ -z $found ]] || failed=1
done
exit "$failed"
