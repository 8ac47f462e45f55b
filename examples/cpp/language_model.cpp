#include "language_model.h"

#include <dlfcn.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

namespace {
constexpr int kGroup = 8, kMost = 256;  // rows: docs/bundle.md, "Evaluating with a cache"
string last_error;

void remember_errors(ggml_log_level level, const char* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) last_error = text;
}

// Loads the kernels that fit this CPU, where they are in libraries of their own (GGML_BACKEND_DL):
// from beside libllama.so, where llama.cpp does not look by itself.
void load_kernels() {
    Dl_info library{};
    dladdr(reinterpret_cast<void*>(llama_backend_init), &library);
    const string path = library.dli_fname ? library.dli_fname : "";
    if (ggml_backend_reg_count() == 0)
        ggml_backend_load_all_from_path(path.substr(0, path.rfind('/')).c_str());
    if (ggml_backend_reg_count() == 0)
        throw Error(path + ": no kernels for this CPU beside it; put libggml-cpu*.so there");
}

// Whether the end is one block of 1 to 64 tokens, four times or more, over 96 tokens or more.
bool repeats(const std::vector<int>& tokens) {
    const int size = static_cast<int>(tokens.size());
    for (int block = 1; block <= 64 && block < size; block++) {
        int end = size - 1;
        while (end >= block && tokens[end] == tokens[end - block]) end--;
        if (size - 1 - end + block >= std::max(96, 4 * block) && end < size - 1) return true;
    }
    return false;
}
}  // namespace

LanguageModel::LanguageModel(const Bundle& bundle, const json& spec_)
    : spec(spec_), tokenizer(bundle.verified(spec["tokenizer"])) {
    for (const string stop : spec["chat"]["stop_tokens"]) {
        if (!tokenizer.added.count(stop)) throw Error("bundle.json: no added token is " + stop);
        stops_.insert(tokenizer.added.at(stop));
    }
    const int vocabulary_size = spec["vocabulary_size"];
    if (tokenizer.size() > vocabulary_size)
        throw Error("bundle.json: vocabulary_size is less than the tokenizer has ids");
    const string architecture = spec["architecture"];
    const auto path = bundle.verified(spec["weights"]);
    // llama.cpp finds the other files of a model in several by their names; nobody verified them.
    if (path.filename().string().find("-of-") != string::npos)
        throw Error(path.string() + ": a part of a model in several files is not supported");
    llama_log_set(remember_errors, nullptr);
    load_kernels();
    llama_model_kv_override overrides[3]{};  // the tokens in the file are not read
    overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    std::strcpy(overrides[0].key, "tokenizer.ggml.model");
    std::strcpy(overrides[0].val_str, "no_vocab");
    overrides[1].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    std::strcpy(overrides[1].key, (architecture + ".vocab_size").c_str());
    overrides[1].val_i64 = vocabulary_size;
    auto of_model = llama_model_default_params();
    of_model.load_mode = LLAMA_LOAD_MODE_NONE;
    of_model.kv_overrides = overrides;
    // With AMX such weights end the process (github.com/ggml-org/llama.cpp/issues/20824).
    of_model.use_extra_bufts = !std::strstr(llama_print_system_info(), "AMX_INT8 = 1");
    model_.reset(llama_model_load_from_file(path.c_str(), of_model));
    if (!model_) throw Error(path.string() + ": llama.cpp cannot open it: " + last_error);
    char found[64] = "";
    llama_model_meta_val_str(model_.get(), "general.architecture", found, sizeof found);
    if (architecture != found || llama_model_n_embd(model_.get()) != spec["embedding_width"])
        throw Error(path.string() + ": its architecture or width is not that of the manifest");
    auto of_context = llama_context_default_params();
    of_context.n_ctx = spec["context_length"];
    of_context.n_batch = of_context.n_ubatch = kMost;
    const auto threads = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
    of_context.n_threads = of_context.n_threads_batch = static_cast<int>(threads);
    of_context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_.reset(llama_init_from_model(model_.get(), of_context));
    if (!context_) throw Error("no memory for a KV cache: " + last_error);
    if (spec["adapter"].is_null()) return;
    const auto beside = bundle.verified(spec["adapter"]);
    llama_adapter_lora* adapter = llama_adapter_lora_init(model_.get(), beside.c_str());
    float scale = 1;
    if (!adapter || llama_set_adapters_lora(context_.get(), &adapter, 1, &scale) != 0)
        throw Error(beside.string() + ": it does not fit the model: " + last_error);
}

// In batches that begin at multiples of eight, with eight rows at least if there are so many.
void LanguageModel::read(std::vector<int> ids, std::vector<float> rows) {
    if (!pending_.empty()) read(std::exchange(pending_, {}));
    const int width = spec["embedding_width"];
    const int count = static_cast<int>(rows.empty() ? ids.size() : rows.size() / width);
    for (int start = 0, size; start < count; start += size) {
        size = std::min(count - start, kMost);
        if (const int left = count - start - size; left > 0 && left < kGroup) size -= kGroup;
        // Behind what the cache holds; the logits of the last row are wanted.
        const llama_batch batch{size, rows.empty() ? ids.data() + start : nullptr,
                                rows.empty() ? nullptr : rows.data() + size_t(start) * width,
                                nullptr, nullptr, nullptr, nullptr};
        if (llama_decode(context_.get(), batch) != 0)
            throw Error("llama.cpp cannot evaluate the prompt: " + last_error);
    }
}

void LanguageModel::write(int budget, string& bytes, const std::function<bool(int, int)>& refuses,
                          const string& marker) {
    std::vector<int> written;
    while (static_cast<int>(written.size()) < budget && !repeats(written)) {
        if (!pending_.empty()) read({});
        const float* found = llama_get_logits_ith(context_.get(), -1);
        if (!found) throw Error("bundle.json: a prompt is empty");
        std::vector<float> logits(found, found + tokenizer.size());
        int token;  // the most probable that is not refused
        for (;; logits[token] = -INFINITY) {
            const auto best = std::max_element(logits.begin(), logits.end());
            if (!std::isfinite(*best)) throw Error("the logits are not finite");
            token = static_cast<int>(best - logits.begin());
            if (!refuses(token, static_cast<int>(written.size()))) break;
        }
        if (stops_.count(token)) return;
        written.push_back(token);
        pending_ = {token};
        bytes += tokenizer.bytes(token);
        if (!marker.empty() && bytes.find(marker) != string::npos) return;
    }
}

string LanguageModel::write_answer(int budget, string begun, const std::set<int>& never) {
    write(budget, begun, [&](int token, int written) {
        if (never.count(token)) return true;
        if (!strip(to_text(begun, false)).empty()) return false;
        if (stops_.count(token)) return true;
        const string &bytes = tokenizer.bytes(token), alone = to_text(bytes);
        if (written + 1 == budget)
            return strip(alone).empty() || alone.find("\uFFFD") != string::npos;
        return written > 0 && bytes.find_first_not_of(" \t\n\r\v\f") == string::npos;
    });
    return strip(to_text(begun));
}

void LanguageModel::forget() {
    llama_memory_clear(llama_get_memory(context_.get()), false);
    pending_.clear();
}
