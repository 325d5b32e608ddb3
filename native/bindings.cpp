// The Python face of the native engine: numbers and addresses in, nothing of torch.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "choose.h"
#include "fill.h"
#include "kernels.h"
#include "orthonormal.h"

namespace nb = nanobind;
using namespace fanin;

namespace {

constexpr int64_t long_call = 1 << 14;  // elements from which releasing the GIL is worth its price

template <class T = void>
T *pointer(uintptr_t address) {
    return reinterpret_cast<T *>(address);
}

void fill_flat(const Law &law, uint64_t key, uintptr_t out, int64_t count) {
    if (count < long_call) {
        fill_run(law, key, 0, count, pointer(out));
        return;
    }
    nb::gil_scoped_release release;
    fill_run(law, key, 0, count, pointer(out));
}

void fill(const Law &law, uint64_t key, const std::vector<int64_t> &shape,
          const std::vector<std::vector<int64_t>> &bounds, uintptr_t out, int threads) {
    nb::gil_scoped_release release;
    std::vector<std::vector<Run>> runs(bounds.size());
    for (size_t dim = 0; dim < bounds.size(); ++dim)
        for (size_t i = 0; i + 1 < bounds[dim].size(); i += 2)
            runs[dim].push_back({bounds[dim][i], bounds[dim][i + 1]});
    fill_region(law, key, Region(shape, runs), pointer(out), threads);
}

template <class Real>
void orthonormal(uintptr_t vectors, double gain, uintptr_t out, int64_t rows, int64_t columns,
                 int64_t row_stride, int64_t column_stride) {
    const Tall<Real> matrix{pointer<Real>(out), rows, columns, row_stride, column_stride};
    if (rows * columns < long_call) {
        write_orthonormal(pointer<Real>(vectors), gain, matrix);
        return;
    }
    nb::gil_scoped_release release;
    write_orthonormal(pointer<Real>(vectors), gain, matrix);
}

std::vector<std::string> build_names() {
    int count;
    const Build *all = builds(count);
    std::vector<std::string> names;
    for (int i = 0; i < count; ++i)
        if (all[i].runs_here()) names.push_back(all[i].name);
    return names;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "fanin's native engine. Internal: see fanin/stream/native.py.";
    nb::set_leak_warnings(false);  // laws are cached for as long as the process lives

    nb::class_<Law>(m, "Law").def(
        "__init__",
        [](Law *self, int kind, int dtype, double shift, double scale, double lowest,
           double highest, double lower, double upper, double mass, uint64_t last_from_below,
           bool any_from_below) {
            new (self) Law{static_cast<Kind>(kind), static_cast<Dtype>(dtype), shift, scale, lowest,
                           highest, lower, upper, mass, last_from_below, any_from_below};
        });

    m.def("fill_flat", &fill_flat, "Elements 0 ... count - 1, on the calling thread.");
    m.def("fill", &fill, "A region, given as a shape and start, stop, start, stop, ... for each dim.");
    m.def(
        "bits",
        [](uint64_t key, uint32_t purpose, uint64_t start, int64_t count, uintptr_t out) {
            nb::gil_scoped_release release;
            fill_bits(key, purpose, start, count, pointer<uint32_t>(out));
        },
        "32-bit words of the stream.");
    m.def(
        "choose",
        [](uint64_t key, uint64_t first, int64_t slices, int64_t length, int64_t k, uintptr_t out) {
            nb::gil_scoped_release release;
            choose(key, first, slices, length, k, pointer<int64_t>(out));
        },
        "The places that the slices of a sparse matrix pick.");
    m.def(
        "clear",
        [](uint64_t key, uint64_t first, int64_t zeros, uintptr_t data, int64_t item_size,
           int64_t count, int64_t length, int64_t slice_stride, int64_t entry_stride, int threads) {
            nb::gil_scoped_release release;
            const Slices slices{pointer<char>(data), item_size, count, length, slice_stride,
                                entry_stride};
            clear(key, first, zeros, slices, threads);
        },
        "Zero the chosen places of a matrix's slices; strides in bytes.");
    m.def("orthonormal_float32", &orthonormal<float>,
          "A tall matrix from normal vectors, which are overwritten; strides in elements.");
    m.def("orthonormal_float64", &orthonormal<double>, "The same, of doubles.");
    m.def("builds", &build_names, "Instruction sets that run here, best first.");
    m.def("active_build", [] { return std::string(active_build().name); });
    m.def("use", [](const std::string &name) { return use(name.c_str()); }, "Choose a build.");
}
