#include <optional>

#include "language_model.h"

namespace {
struct Part {
    enum { trusted, plain, image } kind;
    string text;
};
using Parts = std::vector<Part>;
using Segments = std::vector<std::vector<int>>;  // an empty one is the image

Parts joined(std::initializer_list<Parts> all) {
    Parts parts;
    for (const Parts& some : all) parts.insert(parts.end(), some.begin(), some.end());
    return parts;
}

Parts trusted(const json& object, const char* key) {
    return {{Part::trusted, object.value(key, "")}};
}

// Puts texts, or the image, into a template's places.
Parts fill(const json& text_of, const std::map<string, Part>& values) {
    const string text = text_of;
    Parts parts;
    size_t begin = 0;
    for (size_t open = text.find('{'); open != string::npos; open = text.find('{', open + 1)) {
        const size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", open + 1);
        if (end == string::npos || text[end] != '}' || end == open + 1) continue;
        const string name = text.substr(open + 1, end - open - 1);
        if (!values.count(name)) throw Error("bundle.json: unknown place {" + name + "}: " + text);
        if (open > begin) parts.push_back({Part::trusted, text.substr(begin, open - begin)});
        parts.push_back(values.at(name));
        begin = end + 1;
    }
    if (begin < text.size()) parts.push_back({Part::trusted, text.substr(begin)});
    return parts;
}

Parts turn_start(const json& chat, const string& role) {
    const string name = chat.value("roles", json::object()).value(role, role);
    return fill(chat["turn_start"], {{"role", {Part::trusted, name}}});
}

// A user's turn, and the opening of the assistant's.
Parts user_turn(const json& chat, const Parts& content) {
    const bool is_shown = !content.empty() && content[0].kind == Part::image;
    return joined({turn_start(chat, "user"), is_shown ? Parts{} : trusted(chat, "before_text"),
                   content, trusted(chat, "turn_end"), turn_start(chat, "assistant"),
                   trusted(chat, "assistant_start_suffix")});
}

Parts system_turn(const json& chat) {
    if (chat["system"].is_null()) return trusted(chat, "start");
    return joined({trusted(chat, "start"), turn_start(chat, "system"), trusted(chat, "before_text"),
                   trusted(chat, "system"), trusted(chat, "turn_end")});
}

// Tokenizes texts that touch as one run; an added token in trusted text, or the image, ends it.
Segments to_segments(const Parts& parts, const Tokenizer& tokenizer) {
    Segments segments(1);
    string run;
    const auto end_run = [&] {
        for (const int id : tokenizer.encode(run)) segments.back().push_back(id);
        run.clear();
    };
    for (const Part& part : parts) {
        if (part.kind == Part::image) {
            end_run();
            if (!segments.back().empty()) segments.emplace_back();
            segments.emplace_back();
        }
        if (part.kind == Part::plain) run += part.text;
        for (size_t at = 0, size; part.kind == Part::trusted && at < part.text.size(); at += size) {
            size = 0;  // of the longest added token that begins here, the last of them in order
            for (const auto& [text, id] : tokenizer.added)
                if (part.text.compare(at, text.size(), text) == 0) size = text.size();
            if (size > 0) {
                end_run();
                segments.back().push_back(tokenizer.added.at(part.text.substr(at, size)));
            } else {
                run += part.text[at];
                size = 1;
            }
        }
    }
    end_run();
    if (segments.back().empty()) segments.pop_back();
    return segments;
}
}  // namespace

Answer answer(const Bundle& bundle, const std::vector<float>& image, const string& asked) {
    if (strip(to_text(asked)).empty() || to_text(asked) != asked || asked.size() > 1 << 16)
        throw Error("QUESTION: it has to be a text in UTF-8, not empty, of 65,536 bytes at most");
    const json &extract = bundle.manifest["extract"], &think = bundle.manifest["think"];
    const json &second = bundle.manifest["reasoner"], found = think.value("thoughts", json());
    const json thoughts = found.is_null() ? json::object() : found;
    LanguageModel perceiver(bundle, bundle.manifest["perceiver"]);
    std::optional<LanguageModel> reasoner;
    if (!second.is_null()) reasoner.emplace(bundle, second);
    LanguageModel& thinker = reasoner ? *reasoner : perceiver;
    const json &chat = perceiver.spec["chat"], &thinker_chat = thinker.spec["chat"];
    const bool goes_on = !reasoner && think.value("sees", "conversation") == "conversation";
    const int extraction_tokens = extract["max_extraction_tokens"];
    const int thinking_tokens = think["max_thinking_tokens"];
    const int answer_tokens = think["max_answer_tokens"];

    const string question = strip(asked), marker = think["answer_marker"];
    const bool ends = extract["prompt"].dump().find("{hint}.") != string::npos;
    const string hint = question.substr(0, question.size() - (ends && question.back() == '.'));
    std::map<string, Part> places{{"image", {Part::image, ""}},
                                  {"question", {Part::plain, question}},
                                  {"hint", {Part::plain, hint}},
                                  {"extraction", {Part::plain, ""}}};
    const Parts shown = user_turn(chat, fill(extract["prompt"], places));
    const Segments prompt = to_segments(joined({system_turn(chat), shown}), perceiver.tokenizer);
    const auto think_prompt = [&] {
        const Parts before = goes_on ? trusted(chat, "turn_end") : system_turn(thinker_chat);
        const Parts told = user_turn(thinker_chat, fill(think["prompt"], places));
        return to_segments(joined({before, told, trusted(thoughts, "skip")}), thinker.tokenizer);
    };
    std::set<int> never;  // tokens of thoughts
    for (const char* key : {"start", "end"})
        if (const string token = thoughts.value(key, ""); thinker.tokenizer.added.count(token))
            never.insert(thinker.tokenizer.added.at(token));

    size_t most = thinking_tokens + answer_tokens + thinker.tokenizer.encode("\n" + marker).size();
    for (const auto& ids : think_prompt()) most += ids.size();
    if (think["prompt"].dump().find("{extraction}") != string::npos) most += extraction_tokens;
    const bool fits = most <= thinker.spec["context_length"];
    most = extraction_tokens + bundle.manifest["vision"]["image_tokens_per_tile"].get<int>() +
           (goes_on ? most : 0);
    for (const auto& ids : prompt) most += ids.size();
    if (!fits || most > perceiver.spec["context_length"])
        throw Error("QUESTION: it does not fit with the picture and all budgets; make it shorter");

    string written, prose, begun;
    for (const auto& ids : prompt) perceiver.read(ids, ids.empty() ? image : std::vector<float>{});
    perceiver.write(extraction_tokens, written, [](int, int) { return false; });
    const string extraction = places["extraction"].text = strip(to_text(written));
    if (!goes_on) thinker.forget();
    for (const auto& ids : think_prompt()) thinker.read(ids);
    const auto refuses = [&](int token, int) { return never.count(token) > 0; };
    thinker.write(thinking_tokens, prose, refuses, marker);
    if (const size_t at = prose.find(marker); at != string::npos) {
        begun = prose.substr(at + marker.size());
        prose.resize(at);
    } else {
        prose = to_text(prose);
        const bool is_on_line = prose.empty() || prose.back() == '\n';
        thinker.read(thinker.tokenizer.encode((is_on_line ? "" : "\n") + marker));
    }
    const string text = thinker.write_answer(answer_tokens, begun, never);
    return {extraction, strip(to_text(prose)), text};
}
