#include "choose.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fill.h"
#include "shares.h"

namespace fanin {
namespace {

constexpr uint32_t choices_purpose = 2;
constexpr int64_t smallest_share = 1 << 14;  // picks that repay starting a thread

// Floyd's sampling, slice by slice: k draws, each place equally likely up to length * 2^-32.
class Chooser {
  public:
    Chooser(uint64_t key, int64_t length, int64_t k)
        : key_(key), length_(length), words_(k), picked_in_(length, 0) {}

    template <class Body>
    void pick(uint64_t slice, Body body) {
        ++round_;
        const int64_t k = static_cast<int64_t>(words_.size());
        const uint64_t start = slice * static_cast<uint64_t>(length_);
        fill_bits(key_, choices_purpose, start, k, words_.data());
        for (int64_t t = 0; t < k; ++t) {
            const uint64_t last = static_cast<uint64_t>(length_ - k + t);
            uint64_t place = words_[t] * (last + 1) >> 32;
            if (picked_in_[place] == round_) place = last;
            picked_in_[place] = round_;
            body(t, static_cast<int64_t>(place));
        }
    }
    bool picked(int64_t place) const { return picked_in_[place] == round_; }

  private:
    uint64_t key_;
    int64_t length_;
    std::vector<uint32_t> words_;
    std::vector<uint32_t> picked_in_;  // the round that picked each place last
    uint32_t round_ = 0;
};

template <int item_size>
void zero(char *entry) {
    std::memset(entry, 0, item_size);
}

// Slices that lie one after another.
template <int item_size>
void clear_rows(Chooser &chooser, uint64_t first_slice, bool keep, const Slices &slices,
                int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
        char *const slice = slices.data + s * slices.slice_stride;
        chooser.pick(first_slice + static_cast<uint64_t>(s), [&](int64_t, int64_t place) {
            if (!keep) zero<item_size>(slice + place * slices.entry_stride);
        });
        if (keep)
            for (int64_t place = 0; place < slices.length; ++place)
                if (!chooser.picked(place)) zero<item_size>(slice + place * slices.entry_stride);
    }
}

// Slices that lie side by side: 64 are chosen for together, one bit each, and then memory is
// written in its own order. A column at a time would miss the cache at every entry.
template <int item_size>
void clear_columns(Chooser &chooser, uint64_t first_slice, bool keep, const Slices &slices,
                   int64_t begin, int64_t end) {
    std::vector<uint64_t> picked(static_cast<size_t>(slices.length));
    for (int64_t block = begin; block < end; block += 64) {
        const int64_t width = std::min<int64_t>(64, end - block);
        const uint64_t all = width == 64 ? ~0ull : (1ull << width) - 1;
        std::fill(picked.begin(), picked.end(), 0);
        for (int64_t s = 0; s < width; ++s)
            chooser.pick(first_slice + static_cast<uint64_t>(block + s),
                         [&](int64_t, int64_t place) { picked[place] |= 1ull << s; });
        for (int64_t place = 0; place < slices.length; ++place) {
            char *const row = slices.data + place * slices.entry_stride + block * slices.slice_stride;
            for (uint64_t left = keep ? ~picked[place] & all : picked[place]; left; left &= left - 1)
                zero<item_size>(row + __builtin_ctzll(left) * slices.slice_stride);
        }
    }
}

template <int item_size>
void clear_share(uint64_t key, uint64_t first_slice, int64_t zeros, const Slices &slices,
                 int64_t begin, int64_t end) {
    const int64_t k = std::min(zeros, slices.length - zeros);
    Chooser chooser(key, slices.length, k);
    const auto clear = slices.slice_stride < slices.entry_stride ? clear_columns<item_size>
                                                                 : clear_rows<item_size>;
    clear(chooser, first_slice, k < zeros, slices, begin, end);
}

}  // namespace

void choose(uint64_t key, uint64_t first_slice, int64_t num_slices, int64_t length, int64_t k,
            int64_t *out) {
    Chooser chooser(key, length, k);
    for (int64_t s = 0; s < num_slices; ++s, out += k)
        chooser.pick(first_slice + static_cast<uint64_t>(s),
                     [&](int64_t t, int64_t place) { out[t] = place; });
}

void clear(uint64_t key, uint64_t first_slice, int64_t zeros, const Slices &slices, int threads) {
    const auto share = slices.item_size == 1   ? clear_share<1>
                       : slices.item_size == 2 ? clear_share<2>
                       : slices.item_size == 4 ? clear_share<4>
                       : slices.item_size == 8 ? clear_share<8>
                                               : clear_share<16>;
    const int64_t picks = slices.count * std::min(zeros, slices.length - zeros);
    in_shares(slices.count, picks / smallest_share, threads, [&](int64_t begin, int64_t end) {
        share(key, first_slice, zeros, slices, begin, end);
    });
}

}  // namespace fanin
