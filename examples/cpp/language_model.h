// A language model with its tokenizer and one conversation, in llama.cpp; and the two stages.
#pragma once

#include <llama.h>
#include <functional>
#include <memory>
#include <set>

#include "tokenizer.h"

class LanguageModel {
  public:
    // `spec_`: `perceiver` or `reasoner` of the manifest.
    LanguageModel(const Bundle& bundle, const json& spec_);

    // Evaluates a segment of a prompt: tokens, or where `rows` are given [n,D], image tokens.
    void read(std::vector<int> ids, std::vector<float> rows = {});

    // Appends to `bytes` what is written, until a stop token, or the budget's end, or `marker`.
    // `refuses` is asked about a token and how many were written before it.
    void write(int budget, string& bytes, const std::function<bool(int, int)>& refuses,
               const string& marker = "");

    // Writes on behind `begun` until there is an answer, which is never empty; no token of `never`.
    string write_answer(int budget, string begun, const std::set<int>& never);

    // Begins another conversation.
    void forget();

    const json spec;
    const Tokenizer tokenizer;

  private:
    std::unique_ptr<llama_model, void (*)(llama_model*)> model_{nullptr, llama_model_free};
    std::unique_ptr<llama_context, void (*)(llama_context*)> context_{nullptr, llama_free};
    std::set<int> stops_;
    std::vector<int> pending_;  // written and not evaluated yet
};

struct Answer {
    string extraction, reasoning, answer;
};

// `image`: image tokens [S,D]. The most probable token is chosen, whatever `sampling` says.
Answer answer(const Bundle& bundle, const std::vector<float>& image, const string& asked);
