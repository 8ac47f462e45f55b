// The command line.
#include <cstdio>
#include <iostream>
#include <iterator>

#include "image.h"
#include "language_model.h"

namespace {
constexpr auto kUsage =
    "usage: edge-et-cpp [--json] [--package NAME=FOLDER]... BUNDLE PICTURE QUESTION\n"
    "       edge-et-cpp image-tokens BUNDLE PICTURE  (float32 [S,D] to stdout)\n"
    "       edge-et-cpp token-ids TOKENIZER_JSON     (texts from stdin to ids, as JSON)\n"
    "A package is one of Python that holds a file of the bundle; FOLDER is where it lies.\n";

int run(const std::vector<string>& arguments) {
    std::vector<string> given;
    std::map<string, std::filesystem::path> packages;
    bool as_json = false;
    for (size_t i = 0; i < arguments.size(); i++) {
        if (arguments[i] == "--json") {
            as_json = true;
        } else if (arguments[i] == "--package" && i + 1 < arguments.size()) {
            const string& pair = arguments[++i];
            packages[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
        } else {
            given.push_back(arguments[i]);
        }
    }
    if (given.size() == 2 && given[0] == "token-ids") {
        const string in{std::istreambuf_iterator<char>(std::cin), {}};
        const Tokenizer tokenizer(given[1]);
        json ids = json::array();
        for (const string text : json::parse(in)) ids.push_back(tokenizer.encode(text));
        std::cout << ids << '\n';
        return 0;
    }
    if (given.size() != 3) {
        std::cerr << kUsage;
        return 2;
    }
    const bool only_image = given[0] == "image-tokens";
    const Bundle bundle(given[only_image], packages);
    const string asked = only_image ? "-" : given[2];
    if (strip(to_text(asked)).empty() || to_text(asked) != asked || asked.size() > 1 << 16)
        throw Error("QUESTION: a text in UTF-8 that is not empty, of 65,536 bytes at most");
    const Picture picture = load_picture(given[1 + only_image]);
    const auto image = encode(bundle, to_tile(picture, bundle.manifest["vision"]["processing"]));
    if (only_image)
        return std::fwrite(image.data(), sizeof(float), image.size(), stdout) < image.size();
    const Answer found = answer(bundle, image, asked);
    if (as_json)
        std::cout << json{{"extraction", found.extraction},
                          {"reasoning", found.reasoning},
                          {"answer", found.answer}} << '\n';
    else
        std::cout << "Extraction: " << found.extraction << "\nReasoning: " << found.reasoning
                  << "\nAnswer: " << found.answer << '\n';
    return 0;
}
}  // namespace

int main(int count, char** arguments) {
    try {
        return run({arguments + 1, arguments + count});
    } catch (const std::exception& err) {
        std::cerr << "edge-et-cpp: " << err.what() << '\n';
        return 1;
    }
}
