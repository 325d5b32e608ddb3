#include "choose.h"

#include <vector>

#include "fill.h"

namespace fanin {

constexpr uint32_t choices_purpose = 2;

// Floyd's sampling: k draws, each place equally likely up to length * 2^-32.
void choose(uint64_t key, uint64_t first_slice, int64_t num_slices, int64_t length, int64_t k,
            int64_t *out) {
    std::vector<uint32_t> words(static_cast<size_t>(k));
    std::vector<uint64_t> picked_by(static_cast<size_t>(length), 0);  // 1 + the last slice's number
    for (int64_t s = 0; s < num_slices; ++s, out += k) {
        const uint64_t slice = first_slice + static_cast<uint64_t>(s);
        const uint64_t mark = static_cast<uint64_t>(s) + 1;
        fill_bits(key, choices_purpose, slice * static_cast<uint64_t>(length), k, words.data());
        for (int64_t t = 0; t < k; ++t) {
            const int64_t last = length - k + t;
            const uint64_t scaled = static_cast<uint64_t>(words[t]) * static_cast<uint64_t>(last + 1);
            int64_t pick = static_cast<int64_t>(scaled >> 32);
            if (picked_by[pick] == mark) pick = last;
            picked_by[pick] = mark;
            out[t] = pick;
        }
    }
}

}  // namespace fanin
