#include "tokenizer.h"

#include <utf8proc.h>
#include <climits>
#include <codecvt>
#include <cstdlib>
#include <locale>
#include <set>

namespace {
constexpr size_t kAny = SIZE_MAX;

// `@` stands for how many digits are one word.
const string kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const string kModern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}@| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Characters = std::u32string;
using Utf8 = std::wstring_convert<std::codecvt_utf8<char32_t>, char32_t>;

// Makes bytes of a token's characters, each of which stands for a byte (`bytes_to_unicode` of
// GPT-2): printable ones of Latin-1 for themselves, the others are numbered from U+0100 on.
string to_bytes(const string& piece) {
    static const std::map<char32_t, char> bytes = [] {
        std::map<char32_t, char> made;
        for (int byte = 0, other = 0x100; byte < 256; byte++) {
            const bool prints = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
            made[prints ? byte : other++] = static_cast<char>(byte);
        }
        return made;
    }();
    string made;
    for (const char32_t character : Utf8().from_bytes(piece)) {
        if (!bytes.count(character)) return piece;  // no byte-level token; stands for its own text
        made += bytes.at(character);
    }
    return made;
}

bool is_between(int c, int least, int most) {
    return utf8proc_category(c) >= least && utf8proc_category(c) <= most;
}
bool is_letter(int c) { return is_between(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO); }
bool is_digit(int c) { return is_between(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }
bool is_space(int c) {
    const bool is_separator = is_between(c, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
    return is_separator || (c >= 9 && c <= 13) || c == 0x85;
}
bool is_line_end(int c) { return c == '\r' || c == '\n'; }
bool is_other(int c) { return !is_letter(c) && !is_digit(c) && !is_space(c); }
}  // namespace

string to_text(const string& bytes, bool is_all) {
    string text;
    for (size_t at = 0, size = 1; at < bytes.size(); at += size) {
        const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
        const int lead = byte(at);
        const bool leads = lead >= 0xC2 && lead <= 0xF4;
        const size_t whole = lead < 0x80 ? 1 : leads ? 2 + (lead > 0xDF) + (lead > 0xEF) : 0;
        int least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        int most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        for (size = 1; size < whole && at + size < bytes.size(); size++, least = 0x80, most = 0xBF)
            if (byte(at + size) < least || byte(at + size) > most) break;
        if (size == whole)
            text.append(bytes, at, size);
        else if (!is_all && whole > 0 && at + size == bytes.size())
            break;
        else
            text += "\uFFFD";
    }
    return text;
}

string strip(const string& text) {
    const auto is_text = [](int c) { return !is_space(c) && (c < 28 || c > 31); };
    const Characters all = Utf8().from_bytes(text);
    const auto first = std::find_if(all.begin(), all.end(), is_text);
    const auto last = std::find_if(all.rbegin(), std::make_reverse_iterator(first), is_text).base();
    return Utf8().to_bytes({first, last});
}

Tokenizer::Tokenizer(const std::filesystem::path& path) try {
    const auto require = [&](bool is_supported, const string& what) {
        if (!is_supported) throw Error(path.string() + ": " + what + " is not supported");
    };
    const json content = read_json(path);
    const auto parts = [&](const char* key, const char* inner) {
        const json part = content.value(key, json());
        if (part.is_null()) return json::array();
        return part.at("type") == "Sequence" ? part.at(inner) : json::array({part});
    };
    for (const json& part : parts("normalizer", "normalizers")) {
        normalizes_ = part.at("type") == "NFC";
        require(normalizes_, "the normaliser " + part.at("type").dump());
    }
    const auto add_regex = [&](const string& regex) {
        const size_t steps = steps_.size();
        if (regex == kGpt2) steps_.push_back({true, false, kAny});
        for (const auto& [digits, most] : {std::pair{"", size_t{1}}, {"{1,3}", 3}, {"+", kAny}})
            if (string(kModern).replace(kModern.find('@'), 1, digits) == regex)
                steps_.push_back({true, true, most});
        require(steps_.size() > steps, "the pre-tokenizer's expression " + regex);
    };
    for (const json& part : parts("pre_tokenizer", "pretokenizers")) {
        const string type = part.at("type");
        if (type == "Digits") {
            steps_.push_back({false, false, part.at("individual_digits") ? 1 : kAny});
        } else if (type == "Split") {
            require(part.at("behavior") == "Isolated" && !part.at("invert"), "such a Split");
            add_regex(part.at("pattern").at("Regex"));
        } else {
            const bool is_plain = type == "ByteLevel" && !part.at("add_prefix_space");
            require(is_plain, "the pre-tokenizer " + type);
            if (part.value("use_regex", true)) add_regex(kGpt2);
        }
    }
    bool is_byte_level = false;
    for (const json& part : parts("decoder", "decoders"))
        is_byte_level |= part.at("type") == "ByteLevel";
    require(is_byte_level, "another decoder than byte-level");
    const json& model = content.at("model");
    const std::set<json> off{nullptr, false, "", 0.0};
    require(model.value("type", "BPE") == "BPE", "another model than BPE");
    for (const char* key : {"dropout", "unk_token", "byte_fallback", "continuing_subword_prefix",
                            "end_of_word_suffix"})
        require(off.count(model.value(key, json())) > 0, string("a model with ") + key);
    takes_whole_words_ = off.count(model.value("ignore_merges", json())) == 0;
    const auto name = [&](const json& id, const string& text) {
        require(id.is_number_unsigned() && id <= size_t{1} << 24, "the id " + id.dump());
        if (bytes_.size() <= id) bytes_.resize(id.get<size_t>() + 1);
        bytes_[id.get<size_t>()] = text;
    };
    const json& vocabulary = model.at("vocab");
    for (const auto& [piece, id] : vocabulary.items()) {
        name(id, to_bytes(piece));
        ids_[to_bytes(piece)] = id;
    }
    int rank = 0;
    for (const json& entry : model.at("merges")) {
        const bool is_one = entry.is_string();  // "left right"
        const string text = is_one ? entry : entry.at(0), left = text.substr(0, text.find(' '));
        const size_t space = std::min(left.size() + 1, text.size());
        const string right = is_one ? text.substr(space) : string(entry.at(1));
        const long long first = vocabulary.at(left), second = vocabulary.at(right);
        merges_.emplace(first << 32 | second, Merge{rank++, vocabulary.at(left + right)});
    }
    for (const json& token : content.value("added_tokens", json::array())) {
        const string text = token.at("content");
        require(!text.empty(), "an added token without text");
        name(token.at("id"), token.at("special") ? "" : text);
        added[text] = token.at("id");
    }
} catch (const json::exception& err) {
    throw Error(path.string() + ": it is no tokenizer.json: " + err.what());
}

std::vector<int> Tokenizer::encode(const string& text) const {
    string normal = text;
    if (normalizes_) {
        utf8proc_uint8_t* made = nullptr;
        const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
        const auto size = utf8proc_map(bytes, static_cast<utf8proc_ssize_t>(text.size()), &made,
                                       utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        if (size < 0) throw Error("a text is too long to be normalised");
        normal.assign(made, made + size);
        std::free(made);
    }
    std::vector<Characters> words{Utf8().from_bytes(normal)};
    for (const Step& step : steps_) {
        std::vector<Characters> shorter;
        for (const Characters& word : words)
            for (size_t begin = 0, end; begin < word.size(); begin = end) {
                end = word_end(word, begin, step);
                shorter.push_back(word.substr(begin, end - begin));
            }
        words = std::move(shorter);
    }
    std::vector<int> ids;
    for (const Characters& word : words) merge(Utf8().to_bytes(word), ids);
    return ids;
}

// What the regular expressions match from `begin` on.
size_t Tokenizer::word_end(const std::u32string& text, size_t begin, const Step& step) {
    const auto run = [&](size_t at, bool (*belongs)(int), size_t most = kAny) {
        for (; at < text.size() && most > 0 && belongs(text[at]); at++) most--;
        return at;
    };
    const auto first = static_cast<int>(text[begin]);
    if (!step.is_regex) {
        if (const size_t end = run(begin, is_digit, step.most_digits); end > begin) return end;
        return run(begin, [](int c) { return !is_digit(c); });
    }
    const auto is = [&](size_t at, char letter) {
        const int c = at < text.size() ? static_cast<int>(text[at]) : 0;
        const bool is_alike = c == letter - 32 || (letter == 's' && c == 0x17F);  // a long s
        return c == letter || (step.is_modern && is_alike);
    };
    for (const string end : {"s", "t", "re", "ve", "m", "ll", "d"})
        if (first == '\'' && is(begin + 1, end[0]) && (end.size() == 1 || is(begin + 2, end[1])))
            return begin + 1 + end.size();
    const size_t spaced = begin + (first == ' ');
    const bool may_lead = !is_line_end(first) && !is_letter(first) && !is_digit(first);
    const size_t letters = step.is_modern ? begin + may_lead : spaced;
    if (const size_t end = run(letters, is_letter); end > letters) return end;
    const size_t digits = step.is_modern ? begin : spaced;
    if (const size_t end = run(digits, is_digit, step.most_digits); end > digits) return end;
    if (const size_t end = run(spaced, is_other); end > spaced)
        return step.is_modern ? run(end, is_line_end) : end;
    const size_t end = run(begin, is_space);
    for (size_t last = end; step.is_modern && last > begin; last--)
        if (is_line_end(text[last - 1])) return last;
    return end == text.size() || end - begin == 1 ? end : end - 1;
}

// Merges the pair of the lowest rank, of equal ones the first, while there is one.
void Tokenizer::merge(const string& word, std::vector<int>& ids) const {
    if (const auto whole = ids_.find(word); takes_whole_words_ && whole != ids_.end())
        return ids.push_back(whole->second);
    std::vector<int> tokens, ranks;  // and of each token and the next one
    for (const char byte : word)
        if (ids_.count(string(1, byte))) tokens.push_back(ids_.at(string(1, byte)));
    const auto merge_at = [&](size_t at) {
        if (at + 1 >= tokens.size()) return Merge{INT_MAX, -1};
        const auto found = merges_.find(static_cast<long long>(tokens[at]) << 32 | tokens[at + 1]);
        return found == merges_.end() ? Merge{INT_MAX, -1} : found->second;
    };
    for (size_t i = 0; i < tokens.size(); i++) ranks.push_back(merge_at(i).rank);
    while (!ranks.empty()) {
        const auto lowest = std::min_element(ranks.begin(), ranks.end());
        const size_t at = lowest - ranks.begin();
        if (*lowest == INT_MAX) break;
        tokens[at] = merge_at(at).id;
        tokens.erase(tokens.begin() + at + 1);
        ranks.erase(lowest + 1);
        ranks[at] = merge_at(at).rank;
        if (at > 0) ranks[at - 1] = merge_at(at - 1).rank;
    }
    ids.insert(ids.end(), tokens.begin(), tokens.end());
}
