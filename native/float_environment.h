// Rounding to nearest and gradual underflow while kernels run, whatever the caller's thread has set.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fanin {

class FloatEnvironment {
  public:
#if defined(__SSE2__)
    FloatEnvironment() : saved_(_mm_getcsr() & ~0x3Fu) {  // without the sticky flags
        if (saved_ != strict) _mm_setcsr(strict);
    }
    ~FloatEnvironment() {
        if (saved_ != strict) _mm_setcsr(saved_);
    }

  private:
    static constexpr unsigned strict = 0x1F80;  // all exceptions masked, no flush to zero
    unsigned saved_;
#elif defined(__aarch64__)
    FloatEnvironment() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
        __asm__ volatile("msr fpcr, %0" ::"r"(uint64_t{0}));
    }
    ~FloatEnvironment() { __asm__ volatile("msr fpcr, %0" ::"r"(saved_)); }

  private:
    uint64_t saved_;
#endif
};

}  // namespace fanin
