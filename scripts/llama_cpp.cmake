# What the build of llama-cpp-python reads where CMAKE_ARGS names this file as
# CMAKE_PROJECT_llama_cpp_INCLUDE (scripts/install.py): no library for llama.cpp's own programs. The
# Python package neither loads nor ships it beside its own, and sets its option by force, but only
# in CMake's cache, before which a variable goes.
set(LLAMA_BUILD_COMMON OFF)
