// Rows of 256 bytes between tensors with any strides and packed ones. See strided_copy.md.
//
// A warp moves four rows at once. On the packed side each lane has 16 bytes of a row, on the strided side the lanes lie side by side in units of
// 2 to 16 bytes, whichever the addresses allow: both are whole lines. In between the rows pass through shared memory.
#pragma once

#include "strided_copy/strided_walk.cuh"

namespace fkdai::strided_copy {

inline constexpr int kWarp = FKDAI_COPY_WARP, kThreads = FKDAI_COPY_THREADS, kWarps = kThreads / kWarp;
inline constexpr int kRows = FKDAI_COPY_TILE_ROWS, kTile = kRows * kRow, kTilesOfWarp = FKDAI_COPY_TILES_OF_WARP;

struct Params {
    fkdai_copies list;
    fkdai_copy_grid grid;
};

template <int unit> struct Piece;
template <> struct Piece<2> { using type = uint16_t; };
template <> struct Piece<4> { using type = uint32_t; };
template <> struct Piece<8> { using type = uint2; };
template <> struct Piece<16> { using type = uint4; };

// Piece j of a lane: unit bytes of one of the rows.
template <int unit>
__device__ __forceinline__ int piece_at(int j, int lane) { return (j * kWarp + lane) * unit; }
template <int unit>
__device__ __forceinline__ Row row_of_piece(const Row (&rows)[kRows], int j, int lane) {
    if constexpr (unit < 16) return rows[j * kWarp * unit / kRow];
    else return lane < kWarp / 2 ? rows[2 * j] : rows[2 * j + 1];
}

template <int unit>
__device__ __forceinline__ void move_in(const Row (&rows)[kRows], char *packed, char *tile, int lane) {
    using T = typename Piece<unit>::type;
    constexpr int pieces = kTile / kWarp / unit;
    T piece[pieces];
#pragma unroll
    for (int j = 0; j < pieces; j++) {
        const Row row = row_of_piece<unit>(rows, j, lane);
        piece[j] = T{};
        if (row.what == What::Copy) piece[j] = *reinterpret_cast<const T *>(row.at + piece_at<unit>(j, lane) % kRow);
    }
#pragma unroll
    for (int j = 0; j < pieces; j++) *reinterpret_cast<T *>(tile + piece_at<unit>(j, lane)) = piece[j];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kRows / 2; j++)
        if (row_of_piece<16>(rows, j, lane).what != What::Skip)
            *reinterpret_cast<uint4 *>(packed + piece_at<16>(j, lane)) = *reinterpret_cast<const uint4 *>(tile + piece_at<16>(j, lane));
    __syncwarp();
}

template <int unit>
__device__ __forceinline__ void move_out(const Row (&rows)[kRows], const char *packed, char *tile, int lane) {
    using T = typename Piece<unit>::type;
    constexpr int pieces = kTile / kWarp / unit;
#pragma unroll
    for (int j = 0; j < kRows / 2; j++)
        if (row_of_piece<16>(rows, j, lane).what == What::Copy)
            *reinterpret_cast<uint4 *>(tile + piece_at<16>(j, lane)) = *reinterpret_cast<const uint4 *>(packed + piece_at<16>(j, lane));
    __syncwarp();
#pragma unroll
    for (int j = 0; j < pieces; j++) {
        const Row row = row_of_piece<unit>(rows, j, lane);
        if (row.what == What::Copy)
            *reinterpret_cast<T *>(row.at + piece_at<unit>(j, lane) % kRow) = *reinterpret_cast<const T *>(tile + piece_at<unit>(j, lane));
    }
    __syncwarp();
}

// The share of one warp: a few tiles one behind the other, then its next turn.
template <Direction direction, int unit>
__device__ __forceinline__ void move_all(const fkdai_copies &list, const fkdai_copy &copy, int64_t warp, int64_t warps, char *tile) {
    const int lane = threadIdx.x % kWarp;
    const int64_t all = copy.size[0] * copy.size[1] * copy.size[2];
    constexpr int64_t turn = kTilesOfWarp * kRows;
#pragma unroll 1
    for (int64_t begin = warp * turn; begin < all; begin += warps * turn) {
        Walk<direction> walk(list, copy, begin);
#pragma unroll 1
        for (int64_t row = begin; row < begin + turn && row < all; row += kRows) {
            Row rows[kRows];
#pragma unroll
            for (int i = 0; i < kRows; i++) rows[i] = walk.next();
            if constexpr (direction == Direction::In) move_in<unit>(rows, copy.packed + row * kRow, tile, lane);
            else move_out<unit>(rows, copy.packed + row * kRow, tile, lane);
        }
    }
}

template <Direction direction>
__device__ __forceinline__ void copy_share(const Params &p, uint4 *tiles) {
    const int block = static_cast<int>(blockIdx.x), warp = threadIdx.x / kWarp;
    int i = 0;
    while (i < p.list.count && block >= p.grid.first_block[i + 1]) i++;
    if (i == p.list.count) return;
    const int64_t first = block - p.grid.first_block[i], blocks = p.grid.first_block[i + 1] - p.grid.first_block[i];
    char *const tile = reinterpret_cast<char *>(tiles + warp * (kTile / 16));
    const auto move = [&]<int unit>() { move_all<direction, unit>(p.list, p.list.copy[i], first * kWarps + warp, blocks * kWarps, tile); };
    switch (p.grid.unit[i]) {
    case 2: return move.template operator()<2>();
    case 4: return move.template operator()<4>();
    case 8: return move.template operator()<8>();
    default: return move.template operator()<16>();
    }
}

__device__ __forceinline__ void make_marks(const Params &p) {
    const int64_t block = static_cast<int>(blockIdx.x) - p.grid.first_block[p.list.count], blocks = p.grid.blocks - p.grid.first_block[p.list.count];
    if (block < 0) return;
#pragma unroll 1
    for (int m = 0; m < p.list.mark_count; m++)
#pragma unroll 1
        for (int64_t i = block * kThreads + threadIdx.x; i < p.list.marks[m].count; i += blocks * kThreads)
            *reinterpret_cast<uint32_t *>(p.list.marks[m].at + i * p.list.marks[m].step) = FKDAI_COPY_UNWRITTEN;
}

__global__ void __launch_bounds__(kThreads) copy_in_kernel(const __grid_constant__ Params p) {
    __shared__ uint4 tiles[kWarps * kTile / 16];
    copy_share<Direction::In>(p, tiles);
    make_marks(p);
}

__global__ void __launch_bounds__(kThreads) copy_out_kernel(const __grid_constant__ Params p) {
    __shared__ uint4 tiles[kWarps * kTile / 16];
    copy_share<Direction::Out>(p, tiles);
}

}  // namespace fkdai::strided_copy
