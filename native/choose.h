// Which k of `length` places a slice of a sparse matrix picks (src/fanin/stream/choice.py).
#pragma once

#include <cstdint>

namespace fanin {

// Row s of `out` receives the k places picked for slice first_slice + s, in the order picked.
void choose(uint64_t key, uint64_t first_slice, int64_t num_slices, int64_t length, int64_t k,
            int64_t *out);

// A matrix in memory, one slice after another; strides are in bytes.
struct Slices {
    char *data;
    int64_t item_size, count, length, slice_stride, entry_stride;
};

// Sets `zeros` entries of each slice to zero: those picked, or the others when that is fewer picks.
void clear(uint64_t key, uint64_t first_slice, int64_t zeros, const Slices &slices, int threads);

}  // namespace fanin
