// The two stages: docs/bundle.md.
#pragma once

#include "bundle.h"

struct Answer {
    string extraction, reasoning, answer;
};

// `image`: image tokens [S,D]. The most probable token is chosen, whatever `sampling` says.
Answer answer(const Bundle& bundle, const std::vector<float>& image, const string& asked);
