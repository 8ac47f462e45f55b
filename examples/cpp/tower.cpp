#include <onnxruntime_cxx_api.h>
#include <algorithm>
#include <cmath>

#include "image.h"

Picture to_tile(Picture picture, const json& processing) {
    const int width = processing["width"], height = processing["height"];
    const string filter = processing["resample"], fit = processing["fit"];
    const long long w = picture.width, h = picture.height;
    const auto color = processing.value("pad_color", std::vector<int>{0, 0, 0});
    if (fit == "expand") {
        if (const double scale = 16'384.0 / std::max(w, h); scale < 1)
            picture = resize(picture, int(std::max(w * scale, 1.0)), int(std::max(h * scale, 1.0)),
                             filter);
        return resize_square(picture, width, height, filter, color);
    }
    if (fit == "crop") {
        const double scale = std::min(double(w) / width, double(h) / height);
        return resize(picture, width, height, filter, std::max((w - width * scale) / 2, 0.0),
                      std::max((h - height * scale) / 2, 0.0));
    }
    if (fit == "pad") {
        const int scaled_w = static_cast<int>(std::min<long long>((w * height + h - 1) / h, width));
        const int scaled_h = static_cast<int>(std::min<long long>((h * width + w - 1) / w, height));
        const Picture scaled = resize(picture, scaled_w, scaled_h, filter);
        Picture tile(width, height);
        for (size_t i = 0; i < tile.rgb.size(); i++) tile.rgb[i] = color[i % 3] & 255;
        for (int y = 0; y < scaled_h; y++)
            std::copy_n(scaled.at(0, y), 3 * scaled_w,
                        tile.at((width - scaled_w) / 2, (height - scaled_h) / 2 + y));
        return tile;
    }
    if (h > 65'536) picture = resize(picture, picture.width, 65'536, filter);
    return resize(picture, width, height, filter);
}

std::vector<float> encode(const Bundle& bundle, const Picture& tile) {
    const json &vision = bundle.manifest["vision"], &processing = vision["processing"];
    const auto graph = bundle.verified_graph();
    const double rescale = processing["rescale"];
    const std::vector<float> mean = processing["mean"], deviation = processing["std"];
    std::vector<float> values(tile.rgb.size());  // steps 7 and 8: [3,H,W]
    for (size_t i = 0, pixels = values.size() / 3; i < values.size(); i++) {
        const size_t channel = i / pixels;
        const auto scaled = static_cast<float>(tile.rgb[3 * (i % pixels) + channel] * rescale);
        values[i] = (scaled - mean[channel]) / deviation[channel];
    }
    try {
        Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "edge-et-cpp");
        Ort::SessionOptions options;
        options.AddConfigEntry("session.x64quantprecision", "1");
        options.AddConfigEntry("session.intra_op.allow_spinning", "0");
        Ort::Session session(env, graph.c_str(), options);
        const std::vector<int64_t> shape{1, 3, tile.height, tile.width};
        const Ort::Value input = Ort::Value::CreateTensor<float>(
            Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault), values.data(),
            values.size(), shape.data(), shape.size());
        const char *input_name = "pixel_values", *output_name = "image_tokens";
        const auto outputs = session.Run({}, &input_name, &input, 1, &output_name, 1);
        const auto made = outputs[0].GetTensorTypeAndShapeInfo();
        const size_t count = made.GetElementCount();
        const std::vector<int64_t> expected{1, vision["image_tokens_per_tile"],
                                            vision["embedding_width"]};
        if (made.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ||
            made.GetShape() != expected)
            throw Error(graph.string() + ": its image_tokens are not what the manifest says");
        const auto* rows = outputs[0].GetTensorData<float>();
        if (!std::all_of(rows, rows + count, [](float x) { return std::isfinite(x); }))
            throw Error(graph.string() + ": its image tokens are not finite");
        return {rows, rows + count};
    } catch (const Ort::Exception& err) {
        throw Error(graph.string() + ": ONNX Runtime: " + err.what());
    }
}
