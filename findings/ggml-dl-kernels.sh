#!/usr/bin/env bash
# llama.cpp as llama-cpp-python 0.3.36 carries it (ggml 0.25.3), built with GGML_BACKEND_DL so that one
# build serves several CPUs: ggml_backend_load_all looks for the kernels beside the program, which for
# Python is its own bin folder, and in the working folder. It does not look beside libggml.so, where the
# build puts them. So a Python program finds no CPU backend, unless it is started in that very folder;
# ggml_backend_load_all_from_path has to be given the library's folder.
#
# Seen:
#   beside libggml.so: libggml-cpu.so
#   backends in another working folder: 0
#   backends with the library's folder given: 1
#   backends in the library's folder: 1
#
# It compiles for a minute or two; needs cmake and a C++ compiler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

version=0.3.36
python3 -m venv venv
venv/bin/pip download --quiet --no-deps --no-binary llama-cpp-python "llama-cpp-python==$version"
tar xf "llama_cpp_python-$version.tar.gz"
cmake -S "llama_cpp_python-$version/vendor/llama.cpp" -B build -DCMAKE_BUILD_TYPE=Release \
    -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF \
    -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_OPENSSL=OFF > configure.log
cmake --build build --target ggml ggml-cpu -j 2 > build.log

libraries="$work/build/bin"
cat > count.py <<'PY'
import ctypes
import sys

ggml = ctypes.CDLL(f"{sys.argv[1]}/libggml.so")
ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
if sys.argv[2] == "given":
    ggml.ggml_backend_load_all_from_path(sys.argv[1].encode())
else:
    ggml.ggml_backend_load_all()
print(ggml.ggml_backend_reg_count())
PY
count() { "$work/venv/bin/python" "$work/count.py" "$libraries" "$1" 2> "$work/count.log"; }

beside=$(cd "$libraries" && ls libggml-cpu.so)
elsewhere=$(count alone)
given=$(count given)
inside=$(cd "$libraries" && count alone)
echo "beside libggml.so: $beside"
echo "backends in another working folder: $elsewhere"
echo "backends with the library's folder given: $given"
echo "backends in the library's folder: $inside"
[ "$elsewhere" -eq 0 ] && [ "$given" -eq 1 ] && [ "$inside" -eq 1 ]
