// The command line.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "image.h"
#include "language_model.h"

namespace {
constexpr auto kUsage =
    "usage: edge-et-cpp [--json] [--package NAME=FOLDER]... BUNDLE PICTURE QUESTION\n"
    "       edge-et-cpp image-tokens BUNDLE PICTURE  (float32 [S,D] to stdout)\n"
    "       edge-et-cpp token-ids TOKENIZER_JSON     (texts from stdin to ids, as JSON)\n"
    "A package is one of Python that holds a file of the bundle; FOLDER is where it lies.\n";

// Returns what goes to stdout.
string run(const std::vector<string>& arguments) {
    std::vector<string> given;
    std::map<string, std::filesystem::path> packages;
    bool as_json = false;
    for (size_t i = 0; i < arguments.size(); i++) {
        if (arguments[i] == "--json") {
            as_json = true;
        } else if (arguments[i] == "--package") {
            const string pair = ++i < arguments.size() ? arguments[i] : "";
            if (pair.find('=') == string::npos) throw std::invalid_argument(kUsage);
            packages[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
        } else {
            given.push_back(arguments[i]);
        }
    }
    if (given.size() == 2 && given[0] == "token-ids") {
        const json texts = json::parse(std::cin, nullptr, false);
        const auto is_text = [](const json& one) { return one.is_string(); };
        if (!texts.is_array() || !std::all_of(texts.begin(), texts.end(), is_text))
            throw Error("stdin: it has to be a JSON array of texts");
        const Tokenizer tokenizer(given[1]);
        json ids = json::array();
        for (const string text : texts) ids.push_back(tokenizer.encode(text));
        return ids.dump() + "\n";
    }
    if (given.size() != 3) throw std::invalid_argument(kUsage);
    const bool only_image = given[0] == "image-tokens";
    const Bundle bundle(given[only_image], packages);
    const Picture picture = load_picture(given[1 + only_image]);
    const auto image = encode(bundle, to_tile(picture, bundle.manifest["vision"]["processing"]));
    const auto* bytes = reinterpret_cast<const char*>(image.data());
    if (only_image) return {bytes, image.size() * sizeof(float)};
    const auto [extraction, reasoning, text] = answer(bundle, image, given[2]);
    const json all{{"extraction", extraction}, {"reasoning", reasoning}, {"answer", text}};
    if (as_json) return all.dump() + "\n";
    return "Extraction: " + extraction + "\nReasoning: " + reasoning + "\nAnswer: " + text + "\n";
}
}  // namespace

int main(int count, char** arguments) try {
    const string out = run({arguments + 1, arguments + count});
    if (std::fwrite(out.data(), 1, out.size(), stdout) < out.size() || std::fflush(stdout))
        throw Error("stdout: it cannot be written; is the disk full?");
} catch (const std::invalid_argument& usage) {
    std::cerr << usage.what();
    return 2;
} catch (const std::exception& err) {
    const bool is_full = dynamic_cast<const std::bad_alloc*>(&err) != nullptr;
    string line = is_full ? "there is too little memory" : strip(to_text(err.what()));
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::cerr << "edge-et-cpp: " << line << '\n';
    return 1;
}
