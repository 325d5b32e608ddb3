// Written by tools/coefficients.py from src/fanin/stream/elementary.py: edit there.
#pragma once

namespace fanin {

template <class Real>
struct Coefficients;

template <>
struct Coefficients<float> {
    static constexpr float central_from = 0x1.7000000000000p-6f;
    static constexpr float ln2 = 0x1.62e4300000000p-1f;
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
        0x1.243f6a0000000p-1f,
        -0x1.4abbae0000000p-1f,
        0x1.465bda0000000p-4f,
        -0x1.2d2fc20000000p-8f,
    };
    static constexpr float cos[] = {
        -0x1.3bd39c0000000p+0f,
        0x1.03b0660000000p-2f,
        -0x1.4e7d560000000p-6f,
    };
    static constexpr float central_numerator[] = {
        0x1.6bee640000000p-16f,
        0x1.dff00a0000000p-9f,
        0x1.2e73560000000p-4f,
        -0x1.10c02c0000000p-6f,
        -0x1.47a0f20000000p+0f,
        -0x1.6b0fae0000000p-3f,
    };
    static constexpr float central_denominator[] = {
        0x1.7b9c2c0000000p-18f,
        0x1.a9b3140000000p-10f,
        0x1.1667d60000000p-4f,
        0x1.36f2de0000000p-1f,
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
        0x1.243f6a8885a31p-1,
        -0x1.4abbce625be66p-1,
        0x1.466bc6775a59ap-4,
        -0x1.32d2cce450b50p-8,
        0x1.507830f3d7f58p-13,
        -0x1.e301487329289p-19,
        0x1.e4335287fdbb9p-25,
    };
    static constexpr double cos[] = {
        -0x1.3bd3cc9be45dep+0,
        0x1.03c1f081b5aaep-2,
        -0x1.55d3c7e3c927ep-6,
        0x1.e1f5068367848p-11,
        -0x1.a6d1ec7de4cbap-16,
        0x1.f9cc408ccc5fdp-22,
        -0x1.b263b92b64c46p-28,
    };
    static constexpr double central_numerator[] = {
        0x1.fee8d46359fefp-37,
        0x1.0ee5ca3665b6bp-26,
        0x1.e83382db7be07p-19,
        0x1.29c7b1cd787b7p-12,
        0x1.1eaad92ffe443p-7,
        0x1.b381da99d9907p-4,
        0x1.785d55cd2bef9p-2,
        -0x1.322633d4cb6e7p+0,
        -0x1.ea17813a47df8p+2,
        -0x1.2117ce0df5033p+3,
        -0x1.0818140c81a5ep+1,
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
