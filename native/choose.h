// Which k of `length` places a slice of a sparse matrix picks (src/fanin/stream/choice.py).
#pragma once

#include <cstdint>

namespace fanin {

// Row s of `out` receives the k places picked for slice first_slice + s, in the order picked.
void choose(uint64_t key, uint64_t first_slice, int64_t num_slices, int64_t length, int64_t k,
            int64_t *out);

}  // namespace fanin
