// The folder of a bundle. What this loader does not support is refused here, by its name.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

using nlohmann::json;
using std::string;

// What was wrong, with which file or argument.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

string read_file(const std::filesystem::path& path);
json read_json(const std::filesystem::path& path);

struct Bundle {
    // Reads bundle.json; afterwards every field is there, or may be left out, and is in its range.
    // `packages`: folders of Python packages that hold files of bundles, by the packages' names.
    Bundle(std::filesystem::path folder, std::map<string, std::filesystem::path> packages);

    // Returns where a file lies whose size and SHA-256 are those of its reference.
    std::filesystem::path verified(const json& reference) const;

    // Returns where the graph lies, which reads no file but that of its weights.
    std::filesystem::path verified_graph() const;

    std::filesystem::path folder;
    std::map<string, std::filesystem::path> packages;
    json manifest;
};
