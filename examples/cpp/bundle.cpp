#include "bundle.h"

#include <openssl/evp.h>
#include <fstream>
#include <memory>

#include "schema.h"

namespace fs = std::filesystem;

namespace {
// Fields of which this loader supports one value alone.
const std::map<string, json> kSupported{
    {"vision.processing.tiling", nullptr}, {"vision.processing.whole_size", nullptr},
    {"vision.arrangement", "flat"}, {"vision.pooling", 1}, {"vision.markup", nullptr}, {"vision.places", "line"},
    {"extract.hint", nullptr}, {"direct.default", false}, {"think.thoughts.default", false}};

[[noreturn]] void fail(const string& field, const string& what) {
    throw Error("bundle.json: " + field + " " + what);
}

// Compares a value with a JSON schema, as far as docs/bundle.schema.json uses the language; but for
// `pattern`, whose texts are compared with others: hashes, names of packages.
void check(const json& value, const json& schema, const string& path) {
    static const json root = json::parse(kSchema);
    if (schema.contains("$ref")) {
        const string ref = schema["$ref"];  // "#/$defs/NAME"
        return check(value, root["$defs"].at(ref.substr(ref.rfind('/') + 1)), path);
    }
    if (schema.contains("anyOf"))  // something, or null
        for (const json& one : schema["anyOf"])
            if ((one.value("type", "") == "null") == value.is_null())
                return check(value, one, path);
    if (schema.contains("enum")) {
        for (const json& one : schema["enum"])
            if (one == value) return;
        fail(path, "is " + value.dump() + ", which is none of " + schema["enum"].dump());
    }
    const string type = schema["type"];
    if (type == "integer" ? !value.is_number_integer() : type != value.type_name())
        fail(path, "is not of the type " + type);
    if (value.is_number() && (value < schema.value("minimum", value) ||
                              value > schema.value("maximum", value) ||
                              value <= schema.value("exclusiveMinimum", json(-1e300))))
        fail(path, "is " + value.dump() + ", which is out of its range");
    const size_t size = value.is_string() ? value.get_ref<const string&>().size() : value.size();
    if (size < schema.value(value.is_string() ? "minLength" : "minItems", size_t{0}) ||
        size > schema.value("maxItems", size))
        fail(path, "has the wrong length");
    for (size_t i = 0; value.is_array() && i < size; i++)
        check(value[i], schema.contains("prefixItems") ? schema["prefixItems"][i] : schema["items"],
              path + "." + std::to_string(i));
    if (!value.is_object()) return;
    const string dot = path.empty() ? "" : path + ".";
    for (const string key : schema.value("required", json::array()))
        if (!value.contains(key)) fail(dot + key, "is missing");
    for (const auto& [key, inner] : value.items()) {
        if (!schema["properties"].contains(key)) fail(dot + key, "is no field of this format");
        check(inner, schema["properties"][key], dot + key);
        if (kSupported.count(dot + key) && kSupported.at(dot + key) != inner)
            fail(dot + key, "is supported by edge-et, but not by this loader");
    }
}

string sha256_of(std::ifstream& file) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(),
                                                                       EVP_MD_CTX_free);
    EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr);
    std::vector<char> buffer(1 << 20);
    while (file.read(buffer.data(), 1 << 20), file.gcount() > 0)
        EVP_DigestUpdate(hash.get(), buffer.data(), static_cast<size_t>(file.gcount()));
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(hash.get(), digest, nullptr);
    string text;
    for (int i = 0; i < 64; i++) text += "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return text;
}
}  // namespace

string read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    string content;
    if (fs::is_regular_file(path)) content.assign(std::istreambuf_iterator<char>(file), {});
    if (content.empty()) throw Error(path.string() + ": it cannot be read, or is empty");
    return content;
}

json read_json(const fs::path& path) try {
    // What is nested deeper belongs to no format, and copying it could exhaust the stack.
    const auto is_kept = [](int depth, json::parse_event_t, json&) { return depth <= 64; };
    return json::parse(read_file(path), is_kept);
} catch (const json::exception& err) {
    throw Error(path.string() + ": it is no JSON of a known kind: " + err.what());
}

Bundle::Bundle(fs::path folder_, std::map<string, fs::path> packages_)
    : folder(std::move(folder_)), packages(std::move(packages_)) {
    manifest = read_json(folder / "bundle.json");
    const json version = manifest.is_object() ? manifest.value("format_version", json()) : json();
    if (!version.is_number_integer() || version < 1 || version > 4 ||
        manifest.value("format", json()) != "edge-et-bundle")
        throw Error(folder.string() + ": it is no bundle of version 1 to 4");
    check(manifest, json::object({{"$ref", "#/$defs/Manifest"}}), "");
    if (manifest["vision"]["embedding_width"] != manifest["perceiver"]["embedding_width"])
        fail("vision.embedding_width", "differs from perceiver.embedding_width");
}

fs::path Bundle::verified(const json& reference) const {
    const string name = reference["path"], parts = "/" + name + "/";
    if (parts.find("/../") != string::npos || parts.find("//") != string::npos ||
        name.find_first_of(string("\\:\0", 3)) != string::npos)
        fail(name, "is no relative path without \"..\", backslash and colon");
    fs::path path = folder / name;
    if (const json package = reference.value("package", json()); package.is_string()) {
        const auto found = packages.find(package);
        if (found == packages.end())
            throw Error(name + ": it lies in a Python package; tell where that is: --package " +
                        string(package) + "=FOLDER");
        path = found->second / name;
    }
    std::error_code failed;
    const auto size = fs::file_size(path, failed);
    std::ifstream file(path, std::ios::binary);
    if (failed || !file) throw Error(path.string() + ": it is missing, or cannot be read");
    if (reference["size_bytes"] != size || sha256_of(file) != reference["sha256"])
        throw Error(path.string() + ": its size or SHA-256 is not the manifest's; get it again");
    return path;
}

fs::path Bundle::verified_graph() const {
    const fs::path graph = verified(manifest["vision"]["graph"]);
    const json weights = manifest["vision"].value("weights", json());
    const fs::path beside = weights.is_null() ? graph : verified(weights);
    const string known = weights.is_null() ? "" : beside.filename().string();
    if (beside.parent_path() != graph.parent_path())
        fail("vision.weights", "must lie beside the graph");
    // ONNX Runtime reads whatever file a tensor names: an entry of two texts, "location" and the
    // name, as protobuf writes it. A length before that word ends with 8, or 0 where it is padded.
    const string data = read_file(graph), word = "location", key = "\x0A\x08" + word + "\x12";
    const string pair = key + static_cast<char>(known.size()) + known;
    const string expected = "j" + string(1, static_cast<char>(pair.size())) + pair;
    for (size_t at = data.find(word, 1); at != string::npos; at = data.find(word, at + 1)) {
        if (data[at - 1] != 8 && data[at - 1] != 0) continue;
        if (known.empty() || at < 4 || data.compare(at - 4, expected.size(), expected) != 0)
            throw Error(graph.string() + ": it reads a file that the manifest does not name");
    }
    return graph;
}
