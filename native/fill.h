// Drawing a run, or a whole region on several threads.
#pragma once

#include "law.h"
#include "region.h"

namespace fanin {

// Elements start ... start + count - 1 of the stream, to out[0 ... count - 1].
void fill_run(const Law &law, uint64_t key, uint64_t start, int64_t count, void *out);

// The region's elements, in local order. Threads change the time, never a bit.
void fill_region(const Law &law, uint64_t key, const Region &region, void *out, int threads);

// 32-bit words start ... start + count - 1 of the stream.
void fill_bits(uint64_t key, uint32_t purpose, uint64_t start, int64_t count, uint32_t *out);

}  // namespace fanin
