// A region of a logical tensor, walked as runs of neighbouring row-major indices.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fanin {

struct Run {
    int64_t start, stop;  // global indices along one dim
};

class Region {
  public:
    Region(const std::vector<int64_t> &shape, const std::vector<std::vector<Run>> &runs) {
        // Trailing dims held in full are neighbours in the logical tensor: merge them.
        size_t row_dim = shape.size();
        while (row_dim > 0 && is_whole(shape[row_dim - 1], runs[row_dim - 1]))
            inner_ *= shape[--row_dim];
        int64_t stride = inner_;
        for (size_t dim = row_dim; dim-- > 0;) {
            dims_.push_back(Dim(runs[dim], stride));  // innermost first
            stride *= shape[dim];
        }
        count_ = inner_;
        for (const Dim &dim : dims_) count_ *= dim.local_size;
    }

    int64_t count() const { return count_; }

    // Calls body(global index, length, local index) for each run of neighbours among the local
    // elements begin ... end - 1.
    template <class Body>
    void walk(int64_t begin, int64_t end, Body body) const {
        for (int64_t local = begin; local < end;) {
            int64_t rest = local / inner_, index = local % inner_, length = inner_ - index;
            bool innermost = true;
            for (const Dim &dim : dims_) {
                const int64_t position = rest % dim.local_size;
                rest /= dim.local_size;
                const size_t run = dim.run_of(position);
                const int64_t within = position - dim.offset[run];
                index += (dim.runs[run].start + within) * dim.stride;
                if (innermost)
                    length += (dim.offset[run + 1] - position - 1) * inner_;
                innermost = false;
            }
            length = std::min(length, end - local);
            body(static_cast<uint64_t>(index), length, local);
            local += length;
        }
    }

  private:
    struct Dim {
        std::vector<Run> runs;
        std::vector<int64_t> offset;  // local index at which each run starts, and the end
        int64_t stride, local_size;

        Dim(const std::vector<Run> &all, int64_t stride) : stride(stride), local_size(0) {
            for (const Run &run : all) {
                if (run.start == run.stop) continue;
                runs.push_back(run);
                offset.push_back(local_size);
                local_size += run.stop - run.start;
            }
            offset.push_back(local_size);
        }
        size_t run_of(int64_t position) const {
            return std::upper_bound(offset.begin(), offset.end(), position) - offset.begin() - 1;
        }
    };

    static bool is_whole(int64_t size, const std::vector<Run> &runs) {
        return runs.size() == 1 && runs[0].start == 0 && runs[0].stop == size;
    }

    int64_t inner_ = 1, count_ = 0;
    std::vector<Dim> dims_;
};

}  // namespace fanin
