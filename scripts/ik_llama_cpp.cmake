# What the build of ik-llama-cpp-python 0.1.5 reads where CMAKE_ARGS names this file as
# CMAKE_PROJECT_ik_llama_cpp_python_INCLUDE (docs/install.md).

# Its source distribution lacks the script that writes down what it was built from, and by which
# compiler. This one leaves that open.
file(WRITE vendor/ik_llama.cpp/common/cmake/build-info-gen-cpp.cmake [[
set(BUILD_NUMBER 0)
set(COMMON ${CMAKE_CURRENT_LIST_DIR}/..)
configure_file(${COMMON}/build-info.cpp.in ${COMMON}/build-info.cpp @ONLY)
]])

# libllama.so finds libggml.so beside it.
set(CMAKE_INSTALL_RPATH $ORIGIN)

# Attention over quantized keys and values of kinds that nobody asks for takes minutes to compile.
set(GGML_IQK_FA_ALL_QUANTS OFF CACHE BOOL "")
