#include "fill.h"

#include <cstring>

#include "float_environment.h"
#include "kernels.h"
#include "philox.h"
#include "shares.h"

namespace fanin {
namespace {

constexpr int64_t smallest_share = 1 << 17;  // elements that repay starting a thread

void run(const Law &law, uint64_t key, uint64_t start, int64_t count, char *out) {
    const DrawGranules draw = active_build().draw;
    const int64_t size = size_of(law.dtype);
    alignas(64) char granule[granule_size * sizeof(double)];

    const int64_t skip = static_cast<int64_t>(start % granule_size);
    uint64_t at = start / granule_size;
    if (skip) {
        const int64_t head = std::min<int64_t>(granule_size - skip, count);
        draw(law, key, at++, 1, granule);
        std::memcpy(out, granule + skip * size, head * size);
        out += head * size;
        count -= head;
    }
    const uint64_t whole = static_cast<uint64_t>(count / granule_size);
    draw(law, key, at, whole, out);
    if (const int64_t tail = count % granule_size) {
        draw(law, key, at + whole, 1, granule);
        std::memcpy(out + whole * granule_size * size, granule, tail * size);
    }
}

}  // namespace

void fill_run(const Law &law, uint64_t key, uint64_t start, int64_t count, void *out) {
    const FloatEnvironment strict;
    run(law, key, start, count, static_cast<char *>(out));
}

void fill_region(const Law &law, uint64_t key, const Region &region, void *out, int threads) {
    const int64_t size = size_of(law.dtype);
    const auto draw = [&](int64_t begin, int64_t end) {
        const FloatEnvironment strict;
        region.walk(begin, end, [&](uint64_t index, int64_t length, int64_t local) {
            run(law, key, index, length, static_cast<char *>(out) + local * size);
        });
    };
    in_shares(region.count(), region.count() / smallest_share, threads, draw);
}

void fill_bits(uint64_t key, uint32_t purpose, uint64_t start, int64_t count, uint32_t *out) {
    Words<granule_blocks> words;
    for (int64_t done = 0; done < count;) {
        const uint64_t at = start + static_cast<uint64_t>(done);
        const int64_t skip = static_cast<int64_t>(at % granule_size);
        const int64_t length = std::min<int64_t>(granule_size - skip, count - done);
        philox(key, at / granule_size * granule_blocks, purpose, words);
        std::memcpy(out + done, &words.word[0][0] + skip, length * sizeof(uint32_t));
        done += length;
    }
}

}  // namespace fanin
