// One build of the kernels for each instruction set, and the choice between them at run time.
#pragma once

#include "law.h"

namespace fanin {

namespace baseline {
void draw_granules(const Law &, uint64_t key, uint64_t first, uint64_t count, void *out);
}
#ifdef FANIN_X86
namespace avx2 {
void draw_granules(const Law &, uint64_t key, uint64_t first, uint64_t count, void *out);
}
namespace avx512 {
void draw_granules(const Law &, uint64_t key, uint64_t first, uint64_t count, void *out);
}
#endif

struct Build {
    const char *name;
    DrawGranules draw;
    bool (*runs_here)();
};

// Every build in this library, best first.
const Build *builds(int &count);

// The build in use: the best that runs here, unless `use` chose another one by name.
const Build &active_build();
bool use(const char *name);

}  // namespace fanin
