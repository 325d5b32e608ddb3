// Work cut into equal shares of consecutive pieces, each on a thread of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace fanin {

// Calls body(begin, end) for shares that cover 0 ... count - 1: as many as threads are asked for,
// or as are worth one. Threads live for one call: starting one takes microseconds, and no pool has
// to survive a fork.
template <class Body>
void in_shares(int64_t count, int64_t worthwhile, int threads, Body body) {
    const int64_t shares = std::max<int64_t>(1, std::min<int64_t>({threads, worthwhile, count}));
    const auto cut = [&](int64_t share) {
        return count / shares * share + count % shares * share / shares;
    };
    std::vector<std::thread> workers;
    int64_t share = 1;
    try {
        for (; share < shares; ++share) workers.emplace_back(body, cut(share), cut(share + 1));
    } catch (const std::system_error &) {
        // The system starts no more threads: what is left is done here.
    }
    body(0, cut(1));
    if (share < shares) body(cut(share), count);
    for (std::thread &worker : workers) worker.join();
}

}  // namespace fanin
