// Logarithm, cosine, sine and normal quantile: the operations of src/fanin/stream/elementary.py in
// the same order, each rounded on its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "coefficients.h"

namespace fanin {
namespace {  // each build of the kernels has its own copy, made for its instruction set

template <class To, class From>
inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// Unsigned words as floats, rounded once: both halves are exact, their sum rounds.
inline float to_float(uint32_t w) {
    return static_cast<float>(static_cast<int32_t>(w >> 16)) * 0x1p16f +
           static_cast<float>(static_cast<int32_t>(w & 0xFFFFu));
}
inline double to_double(uint32_t w) {
    return bits_as<double>(0x4330000000000000ull | w) - 0x1p52;
}
inline double to_double(uint32_t high, uint32_t low) {
    return to_double(high) * 0x1p32 + to_double(low);
}

// c[0] + x (c[1] + x (c[2] + ...)); a highest coefficient of 1 costs no multiplication.
template <class Real, int count>
inline Real horner(const Real (&c)[count], Real x) {
    Real total = (c[count - 1] == Real(1) ? x : x * c[count - 1]) + c[count - 2];
#pragma GCC unroll 32
    for (int i = count - 3; i >= 0; --i) total = total * x + c[i];
    return total;
}

template <class Real>
struct Float;
template <>
struct Float<float> {
    using Signed = int32_t;
    static constexpr int digits = 23;
    static constexpr Signed root_half = 0x3F3504F3;
};
template <>
struct Float<double> {
    using Signed = int64_t;
    static constexpr int digits = 52;
    static constexpr Signed root_half = 0x3FE6A09E667F3BCD;
};

inline float exponent_to_real(int32_t k) { return static_cast<float>(k); }
inline double exponent_to_real(int64_t k) { return static_cast<double>(static_cast<int32_t>(k)); }

// ln(x 2^-scale) of a positive normal x.
template <class Real, int scale = 0>
inline Real log_scaled(Real x) {
    using F = Float<Real>;
    using C = Coefficients<Real>;
    using Signed = typename F::Signed;
    const Signed bits = bits_as<Signed>(x) - (F::root_half + (Signed(scale) << F::digits));
    const Real k = exponent_to_real(bits >> F::digits);
    const Real m = bits_as<Real>((bits & ((Signed(1) << F::digits) - 1)) + F::root_half);
    const Real f = m - Real(1);
    return k * C::ln2 + (f + (f * f) * horner(C::log, f));
}

template <class Real>
inline Real log_unit(Real u) {
    return log_scaled<Real, 0>(u);
}

template <class Real>
struct Turn {
    Real cosine, sine;
};

// x: the angle left in the quarter, in quarter turns; quarter: 0 ... 3.
template <class Real>
inline Turn<Real> turn_of(Real x, uint32_t quarter) {
    using C = Coefficients<Real>;
    const Real square = x * x;
    const Real s = x + x * horner(C::sin, square);
    const Real c = Real(1) + square * horner(C::cos, square);
    const bool odd = quarter & 1;
    const Real sine = odd ? c : s, cosine = odd ? s : c;
    return {((quarter + 1) & 2) ? -cosine : cosine, (quarter & 2) ? -sine : sine};
}

// Two bits up, the word's sign is that of the angle left, and its value 4 times as many steps.
inline Turn<float> cosine_sine(uint32_t word) {
    const float x = static_cast<float>(static_cast<int32_t>(word << 2)) * 0x1p-32f;
    return turn_of(x, (word + (1u << 29)) >> 30);
}

inline Turn<double> cosine_sine(uint32_t high, uint32_t low) {
    const int32_t left = static_cast<int32_t>(high << 2 | low >> 30);
    const double x = (static_cast<double>(left) * 0x1p32 + to_double(low << 2)) * 0x1p-64;
    return turn_of(x, (high + (1u << 29)) >> 30);
}

// The z that a standard normal exceeds with probability p: for p from central_from to 1/2 ...
template <class Real>
inline Real central_quantile(Real p) {
    using C = Coefficients<Real>;
    const Real r = p * (Real(1) - p);
    const Real slope = horner(C::central_numerator, r) / horner(C::central_denominator, r);
    return (Real(0.5) - p) * (Real(2.5) + slope);
}

// ... and for p below.
template <class Real>
inline Real tail_quantile(Real p) {
    using C = Coefficients<Real>;
    const Real s = std::sqrt(log_scaled<Real, 24>(p * Real(0x1p24)) * Real(-2));
    return s - horner(C::tail_numerator, s) / horner(C::tail_denominator, s);
}

}  // namespace
}  // namespace fanin
