// float32 to a narrower float: the steps of src/fanin/stream/narrow.py over a block of values.
#pragma once

#include <cstdint>
#include <cstring>

namespace fanin {
namespace {  // each build of the kernels has its own copy, made for its instruction set

template <int mantissa_bits, int exponent_bias, uint32_t largest_code, class Code, bool has_minus_zero>
struct Format {
    static constexpr int mantissa = mantissa_bits, bias = exponent_bias;
    static constexpr uint32_t largest = largest_code;
    static constexpr bool minus_zero = has_minus_zero;
    using code = Code;
};

using Float16 = Format<10, 15, 0x7BFF, uint16_t, true>;
using BFloat16 = Format<7, 127, 0x7F7F, uint16_t, true>;
using Float8E4M3 = Format<3, 7, 0x7E, uint8_t, true>;
using Float8E5M2 = Format<2, 15, 0x7B, uint8_t, true>;
using Float8E4M3Fnuz = Format<3, 8, 0x7F, uint8_t, false>;
using Float8E5M2Fnuz = Format<2, 16, 0x7F, uint8_t, false>;

template <class F>
inline typename F::code narrow(float value) {
    constexpr int shift = 23 - F::mantissa;
    constexpr int sign_shift = 32 - 8 * static_cast<int>(sizeof(typename F::code));
    constexpr uint32_t rebias = static_cast<uint32_t>(127 - F::bias) << 23;
    constexpr uint32_t smallest_normal = static_cast<uint32_t>(128 - F::bias) << 23;

    uint32_t raw;
    std::memcpy(&raw, &value, sizeof raw);
    const uint32_t magnitude = raw & 0x7FFFFFFFu;
    const uint32_t half = (1u << (shift - 1)) - 1;
    uint32_t code = (magnitude + half + ((magnitude >> shift) & 1u) - rebias) >> shift;
    if constexpr (F::bias != 127) {
        // Below the smallest normal the quantum is fixed: shift the explicit significand further.
        // (float32's own subnormals round to zero here, whatever their significand.)
        const uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
        uint32_t further = shift + (128 - F::bias) - (magnitude >> 23);
        further = further - 1u > 30u ? 31u : further;  // also where it is 0 or wrapped: unused then
        const uint32_t subnormal =
            (significand + (1u << (further - 1)) - 1 + ((significand >> further) & 1u)) >> further;
        code = magnitude >= smallest_normal ? code : subnormal;
    }
    code = code > F::largest ? F::largest : code;
    uint32_t sign = (raw >> sign_shift) & (1u << (31 - sign_shift));
    if constexpr (!F::minus_zero) sign = code == 0 ? 0u : sign;
    return static_cast<typename F::code>(code | sign);
}

template <class F>
inline void narrow(const float *in, int count, void *out) {
    auto *codes = static_cast<typename F::code *>(out);
    for (int i = 0; i < count; ++i) codes[i] = narrow<F>(in[i]);
}

}  // namespace
}  // namespace fanin
