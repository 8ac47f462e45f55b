#include <png.h>
#include <turbojpeg.h>
#include <algorithm>
#include <cmath>
#include <memory>

#include "image.h"

namespace {
Picture make_picture(unsigned width, unsigned height) {
    if (width == 0 || height == 0 || 1ULL * width * height > 50'000'000)
        throw Error("it has no pixels, or more than 50 million: scale it");
    return {static_cast<int>(width), static_cast<int>(height)};
}

Picture decode_jpeg(const string& data) {
    const std::unique_ptr<void, int (*)(void*)> decoder(tjInitDecompress(), tjDestroy);
    const auto check = [&](int status) {
        if (status) throw Error(string("the JPEG is damaged: ") + tjGetErrorStr2(decoder.get()));
    };
    const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
    int width = 0, height = 0, subsampling, colors;
    check(tjDecompressHeader3(decoder.get(), bytes, data.size(), &width, &height, &subsampling,
                              &colors));
    if (colors == TJCS_CMYK || colors == TJCS_YCCK) throw Error("a JPEG in CMYK is not supported");
    Picture picture = make_picture(width, height);
    check(tjDecompress2(decoder.get(), bytes, data.size(), picture.at(0, 0), width, 0, height,
                        TJPF_RGB, TJFLAG_ACCURATEDCT));
    return picture;
}

unsigned big_endian(const string& data, size_t at, int size) {
    const unsigned byte = static_cast<unsigned char>(data.at(at + size - 1));
    return size == 1 ? byte : big_endian(data, at, size - 1) << 8 | byte;
}

// Returns a PNG without what would make libpng correct colours, as Pillow does not. `exif` becomes
// the content of its eXIf.
string without_color_profiles(const string& data, string& exif) {
    string kept = data.substr(0, 8);
    exif.clear();
    for (size_t at = 8, size; at + 12 <= data.size(); at += size) {
        size = std::min(size_t{big_endian(data, at, 4)} + 12, data.size() - at);
        const string kind = data.substr(at + 4, 4);
        if (kind == "eXIf") exif = data.substr(at + 8, size - 12);
        if (kind != "gAMA" && kind != "cHRM" && kind != "iCCP" && kind != "sRGB")
            kept.append(data, at, size);
    }
    return kept;
}

Picture decode_png(const string& data, string& exif) {
    const string kept = without_color_profiles(data, exif);
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    const std::unique_ptr<png_image, void (*)(png_image*)> freed(&image, png_image_free);
    const auto check = [&](int is_done) {
        if (!is_done) throw Error(string("the PNG is damaged: ") + image.message);
    };
    check(png_image_begin_read_from_memory(&image, kept.data(), kept.size()));
    Picture picture = make_picture(image.width, image.height);
    image.format = PNG_FORMAT_RGBA;
    image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    std::vector<unsigned char> rgba(PNG_IMAGE_SIZE(image));
    check(png_image_finish_read(&image, nullptr, rgba.data(), 0, nullptr));
    for (size_t i = 0; i < picture.rgb.size(); i++) {
        const int alpha = rgba[i / 3 * 4 + 3], value = rgba[i / 3 * 4 + i % 3];
        picture.rgb[i] = ((value * alpha + 255 * (255 - alpha) + 127) / 255) & 255;
    }
    return picture;
}

// Returns the orientation that EXIF says, 1 to 8; 1 where it says none, or is damaged.
int orientation_of(const string& exif) {
    const bool is_little = exif.compare(0, 2, "II") == 0;
    const auto number = [&](size_t at, int size) {
        const string bytes = at < exif.size() ? exif.substr(at, size) : "";
        return big_endian(is_little ? string(bytes.rbegin(), bytes.rend()) : bytes, 0, size);
    };
    try {
        const size_t first = number(4, 4);
        for (size_t at = first + 2, count = number(first, 2); count > 0; at += 12, count--)
            if (number(at, 2) == 0x112 && number(at + 8, 2) <= 8)
                return std::max(static_cast<int>(number(at + 8, 2)), 1);
    } catch (const std::out_of_range&) {
    }
    return 1;
}

Picture upright(const Picture& picture, int orientation) {
    const bool turns = orientation >= 5;
    const bool mirrors_x = orientation == 2 || orientation == 3 || orientation > 6;
    const bool mirrors_y = orientation == 3 || orientation == 4 || (orientation | 1) == 7;
    Picture turned(turns ? picture.height : picture.width, turns ? picture.width : picture.height);
    for (int y = 0; y < picture.height; y++)
        for (int x = 0; x < picture.width; x++) {
            const int to_x = mirrors_x ? picture.width - 1 - x : x;
            const int to_y = mirrors_y ? picture.height - 1 - y : y;
            std::copy_n(picture.at(x, y), 3, turned.at(turns ? to_y : to_x, turns ? to_x : to_y));
        }
    return turned;
}

double weight(const string& filter, double x) {
    const auto sinc = [](double y) { return y == 0 ? 1 : std::sin(y * M_PI) / (y * M_PI); };
    if (filter == "lanczos") return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    x = std::abs(x);
    if (filter == "bilinear") return x < 1 ? 1 - x : 0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// What is resized along x or y: with its border a picture has `size` pixels, its own from `first`.
struct Span {
    float from, to;
    int first, size;
};

// Resizes along x or y to `size` pixels, rounded to 8 bits.
Picture resize_along(const Picture& in, bool is_x, int size, const Span& of, const string& filter,
                     const std::vector<int>& border = {}) {
    constexpr int kBits = 22;  // behind the point of weights in whole numbers
    const int in_size = is_x ? in.width : in.height, across = is_x ? in.height : in.width;
    const int step = is_x ? 3 : 3 * in.width;
    Picture out(is_x ? size : in.width, is_x ? in.height : size);
    const double scale = double(of.to - of.from) / size, stretch = std::max(scale, 1.0);
    const double support = (filter == "bilinear" ? 1 : filter == "bicubic" ? 2 : 3) * stretch;
    for (int i = 0; i < size; i++) {
        const double center = of.from + (i + 0.5) * scale;
        const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
        const int end = std::min(static_cast<int>(center + support + 0.5), of.size);
        std::vector<double> weights;
        double sum = 0;
        for (int x = begin; x < end; x++) {
            weights.push_back(weight(filter, (x - center + 0.5) * (1 / stretch)));
            sum += weights.back();
        }
        std::vector<int> whole;  // of the picture's own pixels
        int outside = 0;
        for (int x = begin; x < end; x++) {
            const double share = weights[x - begin] / sum * (1 << kBits);
            const int rounded = static_cast<int>(share + (share < 0 ? -0.5 : 0.5));
            if (x < of.first || x >= of.first + in_size)
                outside += rounded;
            else
                whole.push_back(rounded);
        }
        const int first = std::min(std::max(begin - of.first, 0), in_size - 1);
        for (int j = 0; j < across; j++)
            for (int channel = 0; channel < 3; channel++) {
                const unsigned char* from = is_x ? in.at(first, j) : in.at(j, first);
                int value = (1 << (kBits - 1)) + (outside ? outside * border[channel] : 0);
                for (size_t k = 0; k < whole.size(); k++)
                    value += whole[k] * from[k * step + channel];
                (is_x ? out.at(i, j) : out.at(j, i))[channel] =
                    static_cast<unsigned char>(std::min(std::max(value >> kBits, 0), 255));
            }
    }
    return out;
}
}  // namespace

Picture load_picture(const std::filesystem::path& path) {
    const string data = read_file(path);
    try {
        const bool is_jpeg = data.compare(0, 3, "\xFF\xD8\xFF") == 0;
        if (!is_jpeg && data.compare(0, 4, "\x89PNG") != 0)
            throw Error("it is no PNG and no JPEG; convert it");
        string exif = data.substr(std::min(data.find(string("Exif\0\0", 6)), data.size() - 6) + 6);
        const Picture picture = is_jpeg ? decode_jpeg(data) : decode_png(data, exif);
        return upright(picture, orientation_of(exif));
    } catch (const Error& err) {
        throw Error(path.string() + ": " + err.what());
    }
}

Picture resize(const Picture& picture, int width, int height, const string& filter, double left,
               double top) {
    const Span x{float(left), float(picture.width - left), 0, picture.width};
    const Span y{float(top), float(picture.height - top), 0, picture.height};
    const bool along_x = width != picture.width || x.from != 0 || x.to != float(width);
    const bool along_y = height != picture.height || y.from != 0 || y.to != float(height);
    const int lower = picture.height - height, narrower = picture.width - width;
    const bool y_first = lower > 0 && lower > narrower * 2;
    Picture result = picture;
    if (y_first && along_y) result = resize_along(result, false, height, y, filter);
    if (along_x) result = resize_along(result, true, width, x, filter);
    return y_first || !along_y ? result : resize_along(result, false, height, y, filter);
}

Picture resize_square(const Picture& picture, int width, int height, const string& filter,
                      const std::vector<int>& border) {
    const int side = std::max(picture.width, picture.height);
    const Span x{0, float(side), (side - picture.width) / 2, side};
    const Span y{0, float(side), (side - picture.height) / 2, side};
    const Picture narrowed = resize_along(picture, true, width, x, filter, border);
    return resize_along(narrowed, false, height, y, filter, border);
}
