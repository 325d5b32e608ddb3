#include <atomic>
#include <cstring>

#include "kernels.h"

namespace fanin {
namespace {

bool always() { return true; }
#ifdef FANIN_X86
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const Build all[] = {
#ifdef FANIN_X86
    {"avx512", avx512::draw_granules, has_avx512},
    {"avx2", avx2::draw_granules, has_avx2},
#endif
    {"baseline", baseline::draw_granules, always},
};

const Build *best() {
    for (const Build &build : all)
        if (build.runs_here()) return &build;
    return nullptr;  // unreachable: the baseline always runs
}

std::atomic<const Build *> chosen{nullptr};

}  // namespace

const Build *builds(int &count) {
    count = sizeof all / sizeof all[0];
    return all;
}

const Build &active_build() {
    const Build *build = chosen.load(std::memory_order_relaxed);
    if (!build) chosen.store(build = best(), std::memory_order_relaxed);
    return *build;
}

bool use(const char *name) {
    for (const Build &build : all)
        if (!std::strcmp(build.name, name) && build.runs_here()) {
            chosen.store(&build, std::memory_order_relaxed);
            return true;
        }
    return false;
}

}  // namespace fanin
