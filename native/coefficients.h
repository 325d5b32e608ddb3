// Written by tools/coefficients.py from src/fanin/stream/elementary.py: edit there.
#pragma once

namespace fanin {

template <class Real>
struct Coefficients;

template <>
struct Coefficients<float> {
    static constexpr float central_from = 0x1.7000000000000p-6f;
    static constexpr float ln2 = 0x1.62e4300000000p-1f;
    static constexpr float turn = 0x1.921fb60000000p-30f;
    static constexpr float log[] = {
        -0x1.fffffa0000000p-2f,
        0x1.5556f40000000p-2f,
        -0x1.0004b00000000p-2f,
        0x1.98d29a0000000p-3f,
        -0x1.535a700000000p-3f,
        0x1.31854e0000000p-3f,
        -0x1.2512ba0000000p-3f,
        0x1.65dd000000000p-4f,
    };
    static constexpr float sin[] = {
        -0x1.0aa2660000000p-25f,
        -0x1.55553e0000000p-3f,
        0x1.11062c0000000p-7f,
        -0x1.9906420000000p-13f,
    };
    static constexpr float cos[] = {
        -0x1.ffffb00000000p-2f,
        0x1.553e600000000p-5f,
        -0x1.64498c0000000p-10f,
    };
    static constexpr float central_numerator[] = {
        0x1.2c980c0000000p-15f,
        0x1.fa07fe0000000p-8f,
        0x1.f33b6c0000000p-3f,
        0x1.806c480000000p+0f,
        0x1.385fa00000000p+0f,
        -0x1.6b16900000000p-3f,
    };
    static constexpr float central_denominator[] = {
        0x1.7b9c3c0000000p-18f,
        0x1.a9b3200000000p-10f,
        0x1.1667d40000000p-4f,
        0x1.36f2b00000000p-1f,
        0x1.0000000000000p+0f,
    };
    static constexpr float tail_numerator[] = {
        0x1.28638c0000000p+6f,
        0x1.db60a20000000p+5f,
        0x1.494aea0000000p+2f,
        0x1.9aae6a0000000p-7f,
    };
    static constexpr float tail_denominator[] = {
        0x1.bf07d00000000p+4f,
        0x1.df82720000000p+5f,
        0x1.47cd540000000p+4f,
        0x1.0000000000000p+0f,
    };
};

template <>
struct Coefficients<double> {
    static constexpr double central_from = 0x1.7000000000000p-6;
    static constexpr double ln2 = 0x1.62e42fefa39efp-1;
    static constexpr double turn = 0x1.921fb54442d18p-62;
    static constexpr double log[] = {
        -0x1.0000000000003p-1,
        0x1.555555555551ep-2,
        -0x1.fffffffffdca2p-3,
        0x1.99999999a11c3p-3,
        -0x1.55555556f2791p-3,
        0x1.24924922797c8p-3,
        -0x1.fffffeefd5051p-4,
        0x1.c71c71be8246ep-4,
        -0x1.9999c9cee7e78p-4,
        0x1.745d48a6354f8p-4,
        -0x1.555068a86b497p-4,
        0x1.3b0a823809c7fp-4,
        -0x1.24dc91471a168p-4,
        0x1.11db4c6b5ddc3p-4,
        -0x1.fb711a39f37fap-5,
        0x1.cf928adf8ce04p-5,
        -0x1.d123e0b699f48p-5,
        0x1.0b7634ea0606bp-4,
        -0x1.ec14095014e79p-5,
        0x1.ace769d44cae3p-6,
    };
    static constexpr double sin[] = {
        0x1.678694e532f5ap-55,
        -0x1.5555555555556p-3,
        0x1.111111111110bp-7,
        -0x1.a01a01a018802p-13,
        0x1.71de3a5309e57p-19,
        -0x1.ae6452645811bp-26,
        0x1.612075ff62fe5p-33,
        -0x1.aa98a1afd87adp-41,
    };
    static constexpr double cos[] = {
        -0x1.0000000000000p-1,
        0x1.5555555555556p-5,
        -0x1.6c16c16c16c0bp-10,
        0x1.a01a01a01849ep-16,
        -0x1.27e4fb7581f59p-22,
        0x1.1eed8c316fda3p-29,
        -0x1.9392c9a836312p-37,
        0x1.aa99fc44fa58cp-45,
    };
    static constexpr double central_numerator[] = {
        0x1.88d06a8400645p-36,
        0x1.d613a17eb6f51p-26,
        0x1.de0176eb13312p-18,
        0x1.520df7707c95fp-11,
        0x1.90a41ce6699dfp-6,
        0x1.ae2a66eaf3ed3p-2,
        0x1.a9a3d42fab830p+1,
        0x1.768023a542ca9p+3,
        0x1.0756f3446e923p+4,
        0x1.cb8c2d67ce054p+2,
        0x1.bf3f5f9bf2d12p-2,
    };
    static constexpr double central_denominator[] = {
        0x1.b78ccdd43e0f8p-39,
        0x1.3eafbeda1b970p-28,
        0x1.763f88c88867dp-20,
        0x1.2ea9ca76008d1p-13,
        0x1.9bb11a1710c62p-8,
        0x1.0107f369fe074p-3,
        0x1.2ee0212b38040p+0,
        0x1.4a3721b316938p+2,
        0x1.34b0a94266d4ep+3,
        0x1.9f17ea34b004bp+2,
        0x1.0000000000000p+0,
    };
    static constexpr double tail_numerator[] = {
        0x1.2e3538b61a40cp+18,
        0x1.7cad209dbdac9p+20,
        0x1.b72ae56997a5cp+20,
        0x1.f46e86580c312p+19,
        0x1.0803ea686dcf2p+18,
        0x1.a393c71fabeb6p+14,
        0x1.b785c9c9aa941p+9,
        0x1.c32356f48e63bp+2,
        0x1.202c4c600990fp-9,
    };
    static constexpr double tail_denominator[] = {
        0x1.66d0b8ac7af77p+16,
        0x1.793ecd1daebddp+19,
        0x1.56666c397042bp+20,
        0x1.0d0388e64e1a2p+20,
        0x1.c5175daf827fcp+18,
        0x1.5bd1594849113p+16,
        0x1.a0f25f583a3ecp+12,
        0x1.505c7aa307864p+7,
        0x1.0000000000000p+0,
    };
};

}  // namespace fanin
