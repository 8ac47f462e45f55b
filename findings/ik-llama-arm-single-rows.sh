#!/usr/bin/env bash
# ik_llama.cpp on 64-bit ARM, as the wheel of ik-llama-cpp-python 0.1.5 carries it: the product of a
# quantized matrix and a *single* row leaves out the columns behind the last whole 128, without a word.
# With two rows or more it is right. So a model of 1024 columns shows nothing, and one of 576, such as
# SmolLM2-135M, reads its prompt well and computes every written token wrongly. Only rows that have
# logits go through the last layer, so the last token's logits of a prompt are wrong as well. On x86 the
# same version is right.
#
# The sum of so many ones (weights in Q8_0), for batches of one, two and eight rows. Seen:
#   512 ones: 512 512 512
#   576 ones: 512 576 576
#   640 ones: 640 640 640
#   960 ones: 896 960 960
#
# On another machine than ARM it makes the user space of Debian 13 and an emulator, which takes some
# minutes and needs root and mmdebstrap.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 ik-llama-cpp-python==0.1.5
venv/bin/python -m zipfile -e ik_llama_cpp_python-0.1.5-*.whl wheel
if [ "$(uname -m)" = aarch64 ]; then
    arm() { python3 "$@"; }
else
    mmdebstrap --variant=extract --quiet --architectures=arm64 \
        --include=python3,libstdc++6,libgomp1 trixie "$work/root"
    for name in bin lib sbin; do ln -s "usr/$name" "root/$name"; done
    mmdebstrap --variant=extract --quiet --include=qemu-user trixie "$work/emulator"
    arm() {
        "$work/emulator/usr/bin/qemu-aarch64" -L "$work/root" -cpu cortex-a76 \
            "$work/root/usr/bin/python3.13" "$@"
    }
fi

cat > mul.py <<'PY'
import ctypes
import struct
import sys

Q8_0 = 8
ggml = ctypes.CDLL(sys.argv[1])


class Params(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("empty", ctypes.c_bool)]


ggml.ggml_init.argtypes, ggml.ggml_init.restype = [Params], ctypes.c_void_p
for name, arguments in (
    ("ggml_new_tensor_2d", "pill"),
    ("ggml_mul_mat", "ppp"),
    ("ggml_get_data", "p"),
    ("ggml_new_graph", "p"),
    ("ggml_build_forward_expand", "pp"),
    ("ggml_graph_compute_with_ctx", "ppi"),
):
    function = getattr(ggml, name)
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64}
    function.argtypes = [kinds[kind] for kind in arguments]
    function.restype = ctypes.c_void_p
context = ggml.ggml_init(Params(64 * 2**20, None, False))


def product(columns, rows):
    """Return the sums of so many ones, in 8 bits, for as many rows at once."""
    weights = ggml.ggml_new_tensor_2d(context, Q8_0, columns, 16)
    block = struct.pack("<e32b", 1.0, *[1] * 32)
    content = block * (columns // 32 * 16)
    ctypes.memmove(ggml.ggml_get_data(weights), content, len(content))
    inputs = ggml.ggml_new_tensor_2d(context, 0, columns, rows)
    ones = struct.pack(f"<{columns * rows}f", *[1.0] * (columns * rows))
    ctypes.memmove(ggml.ggml_get_data(inputs), ones, len(ones))
    outputs = ggml.ggml_mul_mat(context, weights, inputs)
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, outputs)
    ggml.ggml_graph_compute_with_ctx(context, graph, 1)
    return ctypes.cast(ggml.ggml_get_data(outputs), ctypes.POINTER(ctypes.c_float))[0]


for columns in (512, 576, 640, 960):
    print(columns, "ones:", *(f"{product(columns, rows):.0f}" for rows in (1, 2, 8)))
PY
arm mul.py "$work/wheel/ik_llama_cpp/lib/libggml.so" | tee found
diff - found <<'TXT'
512 ones: 512 512 512
576 ones: 512 576 576
640 ones: 640 640 640
960 ones: 896 960 960
TXT
