// tokenizer.json, byte-level BPE: text to token ids and back. docs/bundle.md, "From text to token
// ids"; the tokenizer inside the GGUF is not asked.
#pragma once

#include <unordered_map>
#include <vector>

#include "bundle.h"

// Makes text of bytes as Python does; what is none becomes U+FFFD. Bytes at the end that may still
// become a character are left out unless `is_all`.
string to_text(const string& bytes, bool is_all = true);

// str.strip()
string strip(const string& text);

class Tokenizer {
  public:
    explicit Tokenizer(const std::filesystem::path& path);

    // Ids of plain text: whatever it holds, no added token.
    std::vector<int> encode(const string& text) const;

    // What a token stands for: UTF-8, possibly a part of a character; nothing where it is special.
    const string& bytes(int token) const { return bytes_.at(token); }

    // One more than the largest id.
    int size() const { return static_cast<int>(bytes_.size()); }

    std::map<string, int> added;  // ids of added tokens by their text

  private:
    struct Step {  // of the pre-tokenizer: a regular expression, or runs of digits and of others
        bool is_regex, is_modern;
        size_t most_digits;
    };
    struct Merge {
        int rank, id;
    };

    static size_t word_end(const std::u32string& text, size_t begin, const Step& step);
    void merge(const string& word, std::vector<int>& ids) const;

    bool normalizes_ = false, takes_whole_words_ = false;
    std::vector<Step> steps_;
    std::vector<string> bytes_;
    std::unordered_map<string, int> ids_;  // by bytes
    std::unordered_map<long long, Merge> merges_;  // by two ids
};
