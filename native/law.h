// What to draw: a distribution of one dtype, as numbers (src/fanin/stream/laws.py forms them).
#pragma once

#include <cstdint>

namespace fanin {

enum class Kind : int { uniform, normal, truncated };

enum class Dtype : int {
    float32,
    float64,
    float16,
    bfloat16,
    float8_e4m3fn,
    float8_e5m2,
    float8_e4m3fnuz,
    float8_e5m2fnuz,
};

// Static: each build of the kernels has its own copy, made for its instruction set.
static inline int size_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::float64: return 8;
        case Dtype::float32: return 4;
        case Dtype::float16:
        case Dtype::bfloat16: return 2;
        default: return 1;
    }
}

struct Law {
    Kind kind;
    Dtype dtype;
    double shift, scale;          // value = shift + scale * (u or z)
    double lowest, highest;       // clamp
    double lower, upper, mass;    // truncated: outside the two bounds, and between them
    uint64_t last_from_below;     // truncated: draws up to this one count from the lower end ...
    bool any_from_below;          // ... if any does
};

// Elements 64 * first ... 64 * (first + count) - 1 of the stream, written next to one another.
using DrawGranules = void (*)(const Law &, uint64_t key, uint64_t first, uint64_t count, void *out);

}  // namespace fanin
