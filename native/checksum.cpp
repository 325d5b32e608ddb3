// Checksums of what the core draws: `fanin_checksum [build]`. Equal text on two processors, or on
// two builds, means equal bits: every law and dtype, a run that starts and ends off a granule, a
// region of interleaved pieces, choices, and a small orthonormal matrix.
#include <cmath>
#include <cstdio>
#include <vector>

#include "choose.h"
#include "fill.h"
#include "kernels.h"
#include "orthonormal.h"

using namespace fanin;

namespace {

uint64_t fnv1a(const void *data, size_t size) {
    uint64_t hash = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < size; ++i)
        hash = (hash ^ static_cast<const unsigned char *>(data)[i]) * 0x100000001B3ull;
    return hash;
}

struct Case {
    const char *name;
    Law law;  // its dtype is filled in below
};

const Case cases[] = {
    {"uniform", {Kind::uniform, {}, -0.5, 1.25, -0.5, 0.75, 0, 0, 1, 0, false}},
    {"normal", {Kind::normal, {}, 0.25, 0.02, -INFINITY, INFINITY, 0, 0, 1, 0, false}},
    {"truncated_2_sigma",
     {Kind::truncated, {}, 0, 1, -2, 2, 0x1.74bcf88p-6, 0x1.74bcf88p-6, 0x1.e8b4308p-1,
      0x7FFFFFFFull, true}},
    {"truncated_upper_tail", {Kind::truncated, {}, 0, 1, 5, 16, 1, 0, 0x1.33d5fp-22, 0, false}},
};

}  // namespace

int main(int argc, char **argv) {
    if (argc > 1 && !use(argv[1])) {
        std::fprintf(stderr, "%s: no such build runs here\n", argv[1]);
        return 2;
    }
    const uint64_t key = 0x0123456789ABCDEFull;
    const Region pieces({6, 5, 300}, {{{4, 6}, {0, 1}}, {{0, 2}, {3, 5}}, {{1, 130}, {200, 299}}});
    for (const Case &item : cases)
        for (int dtype = 0; dtype < 8; ++dtype) {
            Law law = item.law;
            law.dtype = static_cast<Dtype>(dtype);
            if (law.dtype == Dtype::float64)
                law.last_from_below = law.last_from_below << 32 | 0xFFFFFFFFull;
            const size_t size = size_of(law.dtype);
            std::vector<char> run(100003 * size), region(pieces.count() * size);
            fill_run(law, key, (1ull << 38) - 50001, 100003, run.data());
            fill_region(law, key, pieces, region.data(), 2);
            std::printf("%s %d %016llx %016llx\n", item.name, dtype,
                        static_cast<unsigned long long>(fnv1a(run.data(), run.size())),
                        static_cast<unsigned long long>(fnv1a(region.data(), region.size())));
        }
    std::vector<int64_t> places(7 * 40);
    choose(key, 3, 7, 100, 40, places.data());
    std::printf("choose %016llx\n", static_cast<unsigned long long>(
                                        fnv1a(places.data(), places.size() * sizeof(int64_t))));
    std::vector<double> vectors(40 * 100), matrix(40 * 100);
    fill_run({Kind::normal, Dtype::float64, 0, 1, -INFINITY, INFINITY, 0, 0, 1, 0, false}, key, 0,
             4000, vectors.data());
    write_orthonormal<double>(vectors.data(), 1.5, {matrix.data(), 100, 40, 40, 1});
    std::printf("orthonormal %016llx\n", static_cast<unsigned long long>(fnv1a(
                                              matrix.data(), matrix.size() * sizeof(double))));
}
