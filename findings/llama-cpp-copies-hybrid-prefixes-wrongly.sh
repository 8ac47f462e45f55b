#!/usr/bin/env bash
# llama.cpp as llama-cpp-python 0.3.36 carries it, a model with short convolutions beside attention
# (arch lfm2; random weights, written by gguf). How to keep the prefix of a prompt and go on
# differently behind it:
#   - llama_memory_seq_rm refuses to drop the end, and changes nothing: the caller is told.
#   - llama_memory_seq_cp of the prefix into another sequence, the way that is right for models of
#     attention alone, copies the convolutions' state of the *end*. Nobody is told: the last position is
#     that of the prefix, state bytes are as many, decoding works, and the logits are wrong. The first
#     position (llama_memory_seq_pos_min) is behind the last one then, which no one would ask for.
#   - what helps is to copy the state at the prefix's end beforehand (LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY),
#     and to put it back *before* the end is dropped: seq_rm agrees then, and all bits are right. The
#     copied sequence is mended by the same state, put into that sequence.
#
# Seen:
#   drop the end: False
#   copied prefix ends at 39, begins at 55: logits off by 0.18
#   state put back, then dropped: True, logits off by 0.00
#   copied prefix with that state ends at 39, begins at 39: logits off by 0.00
#
# llama-cpp-python is compiled, for some minutes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet llama-cpp-python==0.3.36 gguf==0.19.0 numpy==2.4.6

cat > tiny.py <<'PY'
import gguf
import numpy as np

WIDTH, HEADS, KV_HEADS, WORDS = 64, 4, 2, 320
random = np.random.default_rng(1)


def matrix(rows, columns, scale=2.0):
    return random.normal(0, scale / np.sqrt(columns), (rows, columns)).astype(np.float32)


writer = gguf.GGUFWriter("tiny.gguf", "lfm2")
layers = (False, True, False, True)  # which are attention
writer.add_context_length(4096)
writer.add_embedding_length(WIDTH)
writer.add_block_count(len(layers))
writer.add_feed_forward_length(96)
writer.add_head_count(HEADS)
writer.add_head_count_kv([KV_HEADS * attention for attention in layers])
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(1e6)
writer.add_vocab_size(WORDS)
writer.add_shortconv_l_cache(3)
writer.add_tokenizer_model("no_vocab")
head = WIDTH // HEADS
ones = np.ones(WIDTH, np.float32)
tensors = {"token_embd.weight": matrix(WORDS, WIDTH, 8.0), "token_embd_norm.weight": ones}
for layer, attention in enumerate(layers):
    block = {"attn_norm.weight": ones, "ffn_norm.weight": ones, "ffn_gate.weight": matrix(96, WIDTH)}
    block |= {"ffn_up.weight": matrix(96, WIDTH), "ffn_down.weight": matrix(WIDTH, 96)}
    if attention:
        block |= {"attn_q.weight": matrix(WIDTH, WIDTH), "attn_output.weight": matrix(WIDTH, WIDTH)}
        block |= {f"attn_{name}.weight": matrix(KV_HEADS * head, WIDTH) for name in "kv"}
        block |= {f"attn_{name}_norm.weight": np.ones(head, np.float32) for name in "qk"}
    else:
        block |= {"shortconv.conv.weight": matrix(WIDTH, 3)}
        block |= {"shortconv.in_proj.weight": matrix(3 * WIDTH, WIDTH)}
        block |= {"shortconv.out_proj.weight": matrix(WIDTH, WIDTH)}
    tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}
for name, values in tensors.items():
    writer.add_tensor(name, values)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
PY
venv/bin/python tiny.py

cat > prefix.py <<'PY'
import ctypes

import llama_cpp as llama
import numpy as np

WORDS, PREFIX = 320, 40
llama.llama_backend_init()
params = llama.llama_model_default_params()
params.n_gpu_layers = 0
model = llama.llama_model_load_from_file(b"tiny.gguf", params)
assert llama.llama_model_is_hybrid(model)
random = np.random.default_rng(0)
prefix, one, other = (random.integers(0, WORDS, count) for count in (PREFIX, 16, 16))
whole, partial = 0, llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


def new_context():
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads = 512, 256, 256, 1
    params.n_seq_max, params.kv_unified, params.n_threads_batch = 2, True, 1
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.llama_init_from_model(model, params)


def evaluate(context, ids, start):
    batch = llama.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for row, token in enumerate(ids):
        batch.token[row], batch.pos[row] = int(token), start + row
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        batch.logits[row] = row + 1 == len(ids)
    assert llama.llama_decode(context, batch) == 0
    llama.llama_batch_free(batch)
    logits = llama.llama_get_logits_ith(context, -1)
    return np.ctypeslib.as_array(logits, shape=(WORDS,)).copy()


def read(context, sequence, flags):
    size = llama.llama_state_seq_get_size_ext(context, sequence, flags)
    data = (ctypes.c_uint8 * size)()
    assert llama.llama_state_seq_get_data_ext(context, data, size, sequence, flags) == size
    return data


def put(context, sequence, data, flags):
    size = len(data)
    assert llama.llama_state_seq_set_data_ext(context, data, size, sequence, flags) == size


def drop_end(context):
    return bool(llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, PREFIX, -1))


def off(logits):
    return float(np.abs(logits - expected).max())


def copied(context, state=None):
    """Return where a copied prefix ends and begins, and how far logits behind it are off."""
    memory = llama.llama_get_memory(context)
    llama.llama_memory_seq_cp(memory, 0, 1, 0, PREFIX)
    if state is not None:
        put(context, 1, state, partial)
    last, first = llama.llama_memory_seq_pos_max(memory, 1), llama.llama_memory_seq_pos_min(memory, 1)
    data = read(context, 1, whole)
    llama.llama_memory_seq_rm(memory, 1, -1, -1)
    empty = new_context()
    put(empty, 0, data, whole)
    return last, first, off(evaluate(empty, other, PREFIX))


context = new_context()
evaluate(context, prefix, 0)
expected = evaluate(context, other, PREFIX)

context = new_context()
evaluate(context, prefix, 0)
state = read(context, 0, partial)
evaluate(context, one, PREFIX)
refused = drop_end(context)
last, first, wrong = copied(context)
mended_last, mended_first, mended = copied(context, state)
put(context, 0, state, partial)
agreed = drop_end(context)
back = off(evaluate(context, other, PREFIX))
print("drop the end:", refused)
print(f"copied prefix ends at {last}, begins at {first}: logits off by {wrong:.2f}")
print(f"state put back, then dropped: {agreed}, logits off by {back:.2f}")
print(
    f"copied prefix with that state ends at {mended_last}, begins at {mended_first}: "
    f"logits off by {mended:.2f}"
)
assert not refused and (last, first) == (PREFIX - 1, PREFIX + 15) and wrong > 0.01
assert agreed and back == 0.0
assert (mended_last, mended_first) == (PREFIX - 1, PREFIX - 1) and mended == 0.0
PY
venv/bin/python prefix.py 2> log || { cat log; exit 1; }
