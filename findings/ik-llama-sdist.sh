#!/usr/bin/env bash
# ik-llama-cpp-python 0.1.5: its source distribution cannot be compiled. CMake is told to run a script,
# common/cmake/build-info-gen-cpp.cmake, that is not among its files; minutes into the build that is an
# error. So there is no `pip install --no-binary` for a CPU that the wheels are not made for, neither
# for one without AVX2 nor to use AVX-512; the repository itself has to be cloned.
#
# Seen:
#   named by common/CMakeLists.txt: build-info-gen-cpp.cmake
#   files below common/cmake: 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

version=0.1.5
python3 -m venv venv
venv/bin/pip download --quiet --no-deps --no-binary ik-llama-cpp-python "ik-llama-cpp-python==$version"
tar xf "ik_llama_cpp_python-$version.tar.gz"
common="ik_llama_cpp_python-$version/vendor/ik_llama.cpp/common"

named=$(grep --only-matching 'build-info-gen-cpp.cmake' "$common/CMakeLists.txt" | head -n 1)
files=$(find "$common" -path '*/cmake/*' -type f | wc -l)
echo "named by common/CMakeLists.txt: $named"
echo "files below common/cmake: $files"
[ -n "$named" ] && [ "$files" -eq 0 ]
