// The inner loops, compiled once for each instruction set (FANIN_ISA names the namespace).
//
// Everything is a plain loop over lanes that the compiler turns into vector code, and every
// operation rounds on its own: the build turns contraction off, so all builds give equal bits.
#include "kernels.h"

#include <type_traits>

#include "elementary.h"
#include "narrow.h"
#include "philox.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

constexpr uint32_t values_purpose = 0, low_halves_purpose = 1;

// Where element (word, lane) of a group stands among the group's values.
template <int lanes, class Body>
inline void for_each_lane(int word, Body body) {
    for (int granule = 0; granule < lanes; granule += granule_blocks)
        for (int lane = 0; lane < granule_blocks; ++lane)
            body(granule + lane, 4 * granule + word * granule_blocks + lane);
}

// 32 random bits an element, for float32 arithmetic.
template <int lanes>
struct Bits32 {
    Words<lanes> high;

    Bits32(uint64_t key, uint64_t block) { philox(key, block, values_purpose, high); }
    float unit_24(int word, int lane) const {
        return static_cast<float>(static_cast<int32_t>(high.word[word][lane] >> 8)) * 0x1p-24f;
    }
    // (w + 1/2) 2^-32
    float unit(int word, int lane) const {
        return (to_float(high.word[word][lane]) + 0.5f) * 0x1p-32f;
    }
    Turn<float> angle(int word, int lane) const { return cosine_sine(high.word[word][lane]); }
    // The share of the mass between a bound and the draw, counted from the nearer side.
    float share(const Law &law, int word, int lane, bool &below) const {
        const uint32_t t = high.word[word][lane];
        below = law.any_from_below & (t <= static_cast<uint32_t>(law.last_from_below));
        return (to_float(below ? t : ~t) + 0.5f) * 0x1p-32f;
    }
};

// 64 random bits an element, for float64 arithmetic.
template <int lanes>
struct Bits64 {
    Words<lanes> high, low;

    Bits64(uint64_t key, uint64_t block) {
        philox(key, block, values_purpose, high);
        philox(key, block, low_halves_purpose, low);
    }
    double unit_24(int word, int lane) const {
        const uint32_t h = high.word[word][lane], l = low.word[word][lane];
        return (to_double(h) * 0x1p21 + to_double(l >> 11)) * 0x1p-53;
    }
    double unit(int word, int lane) const {
        return (to_double(high.word[word][lane], low.word[word][lane]) + 0.5) * 0x1p-64;
    }
    Turn<double> angle(int word, int lane) const {
        return cosine_sine(high.word[word][lane], low.word[word][lane]);
    }
    double share(const Law &law, int word, int lane, bool &below) const {
        const uint32_t h = high.word[word][lane], l = low.word[word][lane];
        const uint64_t t = static_cast<uint64_t>(h) << 32 | l;
        below = law.any_from_below & (t <= law.last_from_below);
        return (to_double(below ? h : ~h, below ? l : ~l) + 0.5) * 0x1p-64;
    }
};

template <class Real, int lanes>
using Bits = std::conditional_t<sizeof(Real) == 8, Bits64<lanes>, Bits32<lanes>>;

template <class Real, int lanes>
inline void uniform(const Law &, const Bits<Real, lanes> &bits, Real *out) {
    for (int word = 0; word < 4; ++word)
        for_each_lane<lanes>(word, [&](int lane, int at) { out[at] = bits.unit_24(word, lane); });
}

template <class Real, int lanes>
inline void normal(const Law &, const Bits<Real, lanes> &bits, Real *out) {
    for (int word = 0; word < 4; word += 2)
        for_each_lane<lanes>(word, [&](int lane, int at) {
            const Real radius = std::sqrt(log_unit(bits.unit(word, lane)) * Real(-2));
            const Turn<Real> turn = bits.angle(word + 1, lane);
            out[at] = radius * turn.cosine;
            out[at + granule_blocks] = radius * turn.sine;
        });
}

// Two passes: within two sigma no draw needs the tail of the quantile, so most groups skip it.
template <class Real, int lanes>
inline void truncated(const Law &law, const Bits<Real, lanes> &bits, Real *out) {
    const Real lower = static_cast<Real>(law.lower), upper = static_cast<Real>(law.upper);
    const Real mass = static_cast<Real>(law.mass);
    alignas(64) Real p[4 * lanes], sign[4 * lanes];
    int tails = 0;
    for (int word = 0; word < 4; ++word)
        for_each_lane<lanes>(word, [&](int lane, int at) {
            bool below;
            const Real share = bits.share(law, word, lane, below);
            p[at] = (below ? lower : upper) + share * mass;
            sign[at] = below ? Real(-1) : Real(1);
        });
    for (int i = 0; i < 4 * lanes; ++i) {
        tails |= p[i] < Coefficients<Real>::central_from;
        out[i] = central_quantile(p[i]);
    }
    if (tails)
        for (int i = 0; i < 4 * lanes; ++i)
            out[i] = p[i] < Coefficients<Real>::central_from ? tail_quantile(p[i]) : out[i];
    for (int i = 0; i < 4 * lanes; ++i) out[i] *= sign[i];
}

template <class Real>
inline void place(const Law &law, const Real *values, int count, Real *out) {
    const Real shift = static_cast<Real>(law.shift), scale = static_cast<Real>(law.scale);
    const Real lowest = static_cast<Real>(law.lowest), highest = static_cast<Real>(law.highest);
    for (int i = 0; i < count; ++i) {
        Real value = shift + scale * values[i];
        value = value < lowest ? lowest : value;
        out[i] = value > highest ? highest : value;
    }
}

template <class Real, int lanes>
inline void draw_group(const Law &law, uint64_t key, uint64_t block, Real *out) {
    const Bits<Real, lanes> bits(key, block);
    alignas(64) Real values[4 * lanes];
    switch (law.kind) {
        case Kind::uniform: uniform<Real, lanes>(law, bits, values); break;
        case Kind::normal: normal<Real, lanes>(law, bits, values); break;
        case Kind::truncated: truncated<Real, lanes>(law, bits, values); break;
    }
    place(law, values, 4 * lanes, out);
}

inline void narrow_group(Dtype dtype, const float *values, int count, void *out) {
    switch (dtype) {
        case Dtype::float16: narrow<Float16>(values, count, out); break;
        case Dtype::bfloat16: narrow<BFloat16>(values, count, out); break;
        case Dtype::float8_e4m3fn: narrow<Float8E4M3>(values, count, out); break;
        case Dtype::float8_e5m2: narrow<Float8E5M2>(values, count, out); break;
        case Dtype::float8_e4m3fnuz: narrow<Float8E4M3Fnuz>(values, count, out); break;
        case Dtype::float8_e5m2fnuz: narrow<Float8E5M2Fnuz>(values, count, out); break;
        default: break;
    }
}

template <int lanes>
inline void draw_group(const Law &law, uint64_t key, uint64_t block, void *out) {
    switch (law.dtype) {
        case Dtype::float64: draw_group<double, lanes>(law, key, block, static_cast<double *>(out)); break;
        case Dtype::float32: draw_group<float, lanes>(law, key, block, static_cast<float *>(out)); break;
        default: {
            alignas(64) float values[4 * lanes];
            draw_group<float, lanes>(law, key, block, values);
            narrow_group(law.dtype, values, 4 * lanes, out);
        }
    }
}

}  // namespace

void draw_granules(const Law &law, uint64_t key, uint64_t first, uint64_t count, void *out) {
    constexpr int many = 64, one = granule_blocks;  // blocks a group
    const int64_t bytes = granule_size * size_of(law.dtype);
    char *to = static_cast<char *>(out);
    uint64_t block = first * granule_blocks;
    for (; count >= many / one; count -= many / one, block += many, to += bytes * (many / one))
        draw_group<many>(law, key, block, to);
    for (; count > 0; --count, block += one, to += bytes) draw_group<one>(law, key, block, to);
}

}  // namespace FANIN_ISA
}  // namespace fanin
