// Orthonormal columns as a product of reflections (src/fanin/drawing/householder.py): for matrices
// so small that calling products of blocks costs more than computing them.
#pragma once

#include <cstdint>

namespace fanin {

// A tall matrix in memory; strides are in elements.
template <class Real>
struct Tall {
    Real *data;
    int64_t rows, columns, row_stride, column_stride;
};

// Vector k is elements k ... out.rows - 1 of row k of `vectors`, which has a row for each column of
// `out`. Takes them as scratch memory.
template <class Real>
void write_orthonormal(Real *vectors, double gain, const Tall<Real> &out);

}  // namespace fanin
