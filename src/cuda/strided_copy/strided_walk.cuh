// Where the rows of a copy lie on the strided side, and which of them are moved at all.
#pragma once

#include "strided_copy/strided_copy_grid.h"

namespace fkdai::strided_copy {

inline constexpr int kRow = FKDAI_COPY_ROW;

enum class Direction { In, Out };
enum class What { Skip, Zero, Copy };

struct Row {
    char *at;  // on the strided side
    What what;
};

__device__ __forceinline__ int64_t element(const fkdai_copy_array &x, int64_t i) {
    return x.is_64bit ? static_cast<const int64_t *>(x.data)[i] : static_cast<const int32_t *>(x.data)[i];
}
__device__ __forceinline__ bool is_unwritten(const char *packed) { return *reinterpret_cast<const uint32_t *>(packed) == FKDAI_COPY_UNWRITTEN; }

// Both at least 0; a division in 64 bits costs three times as much.
__device__ __forceinline__ int64_t divide(int64_t a, int64_t b) {
    if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
    return a / b;
}

// Row after row of one copy. The same in all lanes.
template <Direction direction>
struct Walk {
    const fkdai_copy &of;
    uint32_t *status, broken_slot;
    int64_t outer, middle, inner, end;
    Row first;  // of this outer index

    __device__ __forceinline__ Walk(const fkdai_copies &list, const fkdai_copy &copy, int64_t row)
        : of(copy), status(list.status), broken_slot(list.broken_slot), end(copy.size[1]) {
        const int64_t line = divide(row, of.size[2]);
        outer = divide(line, of.size[1]), middle = line - outer * of.size[1], inner = row - line * of.size[2];
        if (direction == Direction::Out && of.end.data != nullptr) end = written_end();
        find();
    }
    __device__ __forceinline__ int64_t rows_of_outer() const { return of.size[1] * of.size[2]; }
    __device__ __forceinline__ int64_t written_end() const {
        if (!is_unwritten(of.packed + (of.size[0] * rows_of_outer() - 1) * kRow)) return of.size[1];
        return element(of.end, 0);
    }
    __device__ __forceinline__ void find() {
        first = {nullptr, What::Skip};
        if (outer >= of.size[0]) return;
        if (direction == Direction::In && of.mask != nullptr && of.mask[outer] == 0) return;
        if (direction == Direction::Out && of.is_marked && is_unwritten(of.packed + outer * rows_of_outer() * kRow)) return;
        int64_t at = outer;
        if (of.slots.data != nullptr) {
            at = element(of.slots, outer);
            if (at >= of.slot_count && status != nullptr) atomicOr(status, broken_slot);
            if (at < of.first_slot || at >= of.slot_count) {
                first.what = direction == Direction::In ? What::Zero : What::Skip;
                return;
            }
        }
        first = {of.strided + at * of.stride[0], What::Copy};
    }
    __device__ __forceinline__ Row next() {
        Row row = first;
        if (middle >= end) row.what = What::Skip;
        if (row.what == What::Copy) row.at += middle * of.stride[1] + inner * of.stride[2];
        if (++inner == of.size[2]) {
            inner = 0;
            if (++middle == of.size[1]) middle = 0, outer++, find();
        }
        return row;
    }
};

}  // namespace fkdai::strided_copy
