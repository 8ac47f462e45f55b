// Pictures to image tokens: docs/bundle.md, "From a picture to pixel values".
#pragma once

#include <vector>

#include "bundle.h"

struct Picture {
    Picture(int w, int h) : width(w), height(h), rgb(size_t{3} * w * h) {}
    unsigned char* at(int x, int y) { return &rgb[3 * (size_t(y) * width + x)]; }
    const unsigned char* at(int x, int y) const { return &rgb[3 * (size_t(y) * width + x)]; }

    int width, height;
    std::vector<unsigned char> rgb;  // [height, width, 3]
};

// Steps 1 to 3: a PNG or a JPEG, upright, on white.
Picture load_picture(const std::filesystem::path& path);

// Step 6, Pillow's Image.resize. `left` and `top` are cut off on both sides before, in pixels; in
// single precision, as there.
Picture resize(const Picture& picture, int width, int height, const string& filter, double left = 0,
               double top = 0);

// The same of the picture in the middle of a square with a border, 8-bit RGB.
Picture resize_square(const Picture& picture, int width, int height, const string& filter,
                      const std::vector<int>& border);

// Step 4: the tile of the whole picture.
Picture to_tile(Picture picture, const json& processing);

// Runs the graph over one tile; returns image tokens [S,D].
std::vector<float> encode(const Bundle& bundle, const Picture& tile);
