#include "orthonormal.h"

#include <cmath>
#include <vector>

namespace fanin {
namespace {

// I - tau v v^T, which maps x to a multiple of the first axis.
struct Reflection {
    double tau;     // 0 for the identity
    double factor;  // of the column that the reflection makes
};

// Turns x into v, whose first element is 1.
template <class Real>
Reflection reflection(Real *x, int64_t length) {
    double squares = 0;
    for (int64_t i = 0; i < length; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double norm = std::sqrt(squares), first = x[0];
    const double sign = first < 0 ? -1 : 1;
    if (length == 1 || norm == 0) return {0, sign};
    const Real scale = static_cast<Real>(1 / (first + sign * norm));
    for (int64_t i = 1; i < length; ++i) x[i] *= scale;
    x[0] = 1;
    return {1 + std::abs(first) / norm, -sign};
}

// Rows `begin` ... `end` - 1 of a row-major matrix of this width, from column `begin` on, times
// I - tau v v^T from the left. `w` is scratch memory of one row. The loops inside run over columns,
// so that they are vector code without another order of any sum.
template <class Real>
void apply(Real tau, const Real *v, int64_t begin, int64_t end, int64_t width, Real *q, Real *w) {
    for (int64_t j = begin; j < width; ++j) w[j] = 0;
    for (int64_t i = begin; i < end; ++i) {
        const Real *const row = q + i * width;
        for (int64_t j = begin; j < width; ++j) w[j] += v[i] * row[j];
    }
    for (int64_t j = begin; j < width; ++j) w[j] *= tau;
    for (int64_t i = begin; i < end; ++i) {
        Real *const row = q + i * width;
        for (int64_t j = begin; j < width; ++j) row[j] -= v[i] * w[j];
    }
}

}  // namespace

template <class Real>
void write_orthonormal(Real *vectors, double gain, const Tall<Real> &out) {
    const int64_t m = out.rows, n = out.columns;
    std::vector<Real> q(static_cast<size_t>(m * n)), w(static_cast<size_t>(n));
    for (int64_t k = n - 1; k >= 0; --k) {
        Real *const v = vectors + k * m;
        const Reflection h = reflection(v + k, m - k);
        q[k * n + k] = static_cast<Real>(gain * h.factor);
        if (h.tau != 0) apply(static_cast<Real>(h.tau), v, k, m, n, q.data(), w.data());
    }
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
            out.data[i * out.row_stride + j * out.column_stride] = q[i * n + j];
}

template void write_orthonormal<float>(float *, double, const Tall<float> &);
template void write_orthonormal<double>(double *, double, const Tall<double> &);

}  // namespace fanin
