// Philox4x32-10: a counter in, 128 random bits out. Salmon et al., SC'11.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#define FANIN_WIDE_MULTIPLY 1
#endif

namespace fanin {

constexpr int granule_blocks = 16;               // sixteen neighbours come from sixteen blocks
constexpr int granule_size = 4 * granule_blocks; // elements

// Word w of block `lane` is word[w][lane]: one vector register holds one word of many blocks.
template <int lanes>
struct Words {
    alignas(64) uint32_t word[4][lanes];
};

namespace {  // each build of the kernels has its own copy, made for its instruction set

constexpr uint32_t multiplier_0 = 0xD2511F53u, multiplier_1 = 0xCD9E8D57u;
constexpr uint32_t weyl_0 = 0x9E3779B9u, weyl_1 = 0xBB67AE85u;

#ifdef FANIN_WIDE_MULTIPLY
// Compilers turn `uint64_t(uint32) * uint32` over lanes into shuffles or into the slow 64-bit
// multiply. So the state lives in 64-bit lanes whose high halves are ignored: one multiply
// instruction reads the low halves and gives both halves of the product.
#if defined(__AVX512F__)
using Register = __m512i;
inline Register multiply(Register a, Register b) { return _mm512_mul_epu32(a, b); }
#elif defined(__AVX2__)
using Register = __m256i;
inline Register multiply(Register a, Register b) { return _mm256_mul_epu32(a, b); }
#else
using Register = __m128i;
inline Register multiply(Register a, Register b) { return _mm_mul_epu32(a, b); }
#endif
constexpr int width = sizeof(Register) / sizeof(uint64_t);
typedef uint64_t Wide __attribute__((vector_size(sizeof(Register))));

inline Wide multiply_low(Wide a, uint32_t b) {
    return (Wide)multiply((Register)a, (Register)(Wide{} + b));
}

// Blocks first, first + 2, first + 4, ... in the lanes of one register.
struct State {
    Wide c0, c1, c2, c3;

    inline void start(uint64_t first, uint32_t purpose) {
        Wide block;
        for (int i = 0; i < width; ++i) block[i] = first + 2 * i;
        c0 = block;
        c1 = block >> 32;
        c2 = Wide{};
        c3 = Wide{} + purpose;
    }

    inline void round(uint32_t k0, uint32_t k1) {
        const Wide p0 = multiply_low(c0, multiplier_0);
        const Wide p1 = multiply_low(c2, multiplier_1);
        c0 = (p1 >> 32) ^ c1 ^ (Wide{} + k0);
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ (Wide{} + k1);
        c3 = p0;
    }
};

// The low halves of `even` and `odd`, interleaved.
inline void store(Wide even, Wide odd, uint32_t *out) {
    const Wide both = (even & 0xFFFFFFFFull) | (odd << 32);
    std::memcpy(out, &both, sizeof both);
}
#endif

// Blocks first_block ... first_block + lanes - 1 of the stream that `key` selects.
template <int lanes>
inline void philox(uint64_t key, uint64_t first_block, uint32_t purpose, Words<lanes> &out) {
    const uint32_t key_0 = static_cast<uint32_t>(key), key_1 = static_cast<uint32_t>(key >> 32);
#ifdef FANIN_WIDE_MULTIPLY
    // Independent pairs of registers in flight hide the latency.
    constexpr int together = lanes >= 4 * width ? 2 : 1;
    for (int lane = 0; lane < lanes; lane += 2 * width * together) {
        State even[together], odd[together];
        for (int i = 0; i < together; ++i) {
            even[i].start(first_block + lane + 2 * width * i, purpose);
            odd[i].start(first_block + lane + 2 * width * i + 1, purpose);
        }
        uint32_t k0 = key_0, k1 = key_1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round, k0 += weyl_0, k1 += weyl_1) {
            for (int i = 0; i < together; ++i) {
                even[i].round(k0, k1);
                odd[i].round(k0, k1);
            }
        }
        for (int i = 0; i < together; ++i) {
            uint32_t *at = &out.word[0][lane + 2 * width * i];
            store(even[i].c0, odd[i].c0, at);
            store(even[i].c1, odd[i].c1, at + lanes);
            store(even[i].c2, odd[i].c2, at + 2 * lanes);
            store(even[i].c3, odd[i].c3, at + 3 * lanes);
        }
    }
#else
    for (int lane = 0; lane < lanes; ++lane) {
        const uint64_t block = first_block + static_cast<uint64_t>(lane);
        uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
        uint32_t c2 = 0, c3 = purpose, k0 = key_0, k1 = key_1;
        for (int round = 0; round < 10; ++round, k0 += weyl_0, k1 += weyl_1) {
            const uint64_t p0 = static_cast<uint64_t>(multiplier_0) * c0;
            const uint64_t p1 = static_cast<uint64_t>(multiplier_1) * c2;
            c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
            c1 = static_cast<uint32_t>(p1);
            c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
            c3 = static_cast<uint32_t>(p0);
        }
        out.word[0][lane] = c0;
        out.word[1][lane] = c1;
        out.word[2][lane] = c2;
        out.word[3][lane] = c3;
    }
#endif
}

}  // namespace
}  // namespace fanin
