// Parameters of the portable prefill kernel, its shared memory, and what a block's roles know of their work (prefill_mma.md).
#pragma once

#include <cstddef>

#include "backend/forward_call.h"
#include "device/call_tensors.cuh"
#include "device/gates.cuh"
#include "device/phase_barrier.cuh"
#include "device/shared_access.cuh"
#include "device/shared_view.cuh"
#include "prefill_mma/mma_marks.cuh"
#include "prefill_mma/prefill_mma_plan.h"
#include "schedule/jobs.cuh"

namespace fkdai::portable {

inline constexpr int kChunk = FKDAI_MMA_CHUNK;    // C, tokens of a step
inline constexpr int kWidth = FKDAI_MMA_WIDTH;    // channels of a tile; where K is less, the others are zeros
inline constexpr int kColumns = FKDAI_MMA_COLUMNS;
inline constexpr int kPrepareWarps = FKDAI_MMA_PREPARE_WARPS, kPrepareThreads = 32 * kPrepareWarps;
inline constexpr int kMostThreads = 32 * FKDAI_MMA_MOST_WARPS;
inline constexpr int kStages = 2;
inline constexpr int kAkkPitch = 52;              // floats; rows as TrilSolve reads them
inline constexpr int kGroups = kChunk / 8;        // of eight tokens: those of one warp of the preparation

// [32 tokens][128 channels] of 16 bits. Units of 16 bytes change places, so that eight rows of a unit lie in different banks.
struct alignas(128) Tile {
    uint8_t bytes[kChunk * kWidth * 2];
};
__device__ __forceinline__ uint32_t tile_offset(int token, int unit) { return token * (kWidth * 2) + (unit ^ (token & 7)) * 16; }
// Of an address in a tile, 2 k units on.
__device__ __forceinline__ uint32_t units_on(uint32_t at, int k) { return (at ^ (k & 3) * 32) + (k >> 2) * 128; }

// A lane's row and unit for ldmatrix.x4 of 16 rows and 16 columns: a left operand, or, transposed, a right one; and a right operand as it lies.
struct Place {
    int row, unit;
};
__device__ __forceinline__ Place place_of_rows(int lane) { return {lane & 15, lane >> 4}; }
__device__ __forceinline__ Place place_of_columns(int lane) { return {(lane & 7) + (lane >> 4) * 8, lane >> 3 & 1}; }

// [32][32] of fp16. Likewise.
struct alignas(128) Square {
    uint8_t bytes[kChunk * kChunk * 2];
};
__device__ __forceinline__ uint32_t square_offset(int row, int unit) { return row * (kChunk * 2) + (unit ^ (row >> 1 & 3)) * 16; }

// What the chain needs of one chunk.
struct Stage {
    Tile k, q;              // -k^ 2^gamma, scale q^ 2^gamma, bf16; before, both times 2^-m
    Tile recent;            // Kr = k^ 2^(gamma_C - gamma), fp16
    Square solve;           // T [j][i], fp16
    Square mqk;             // M [i][j], fp16; what stands above the diagonal blocks is never read
    float decay[kWidth];    // 2^gamma_C, as decay_slot says
    // What columns of T lack, and rows of O, of each token: powers of two. They count where has_factors is not 0.
    float factors[kChunk], out_factors[kChunk];
    uint32_t has_factors;
    // K, Q and Kr are there; A/b and M are; T is, and all else; the chain has read it all.
    alignas(8) uint64_t operands_ready, scores_ready, solve_ready, chunk_done;
};

__device__ __forceinline__ PhaseBarrier operands_ready(uint32_t stage) { return {stage + uint32_t{offsetof(Stage, operands_ready)}}; }
__device__ __forceinline__ PhaseBarrier scores_ready(uint32_t stage) { return {stage + uint32_t{offsetof(Stage, scores_ready)}}; }
__device__ __forceinline__ PhaseBarrier solve_ready(uint32_t stage) { return {stage + uint32_t{offsetof(Stage, solve_ready)}}; }
__device__ __forceinline__ PhaseBarrier chunk_done(uint32_t stage) { return {stage + uint32_t{offsetof(Stage, chunk_done)}}; }

// `decay` keeps the two channels of lane l%4 in tiles of 8 side by side: one 16-byte load serves two tiles.
__host__ __device__ constexpr int decay_slot(int channel) {
    return (channel & ~15) + (channel & 6) * 2 + (channel >> 2 & 2) + (channel & 1);
}

struct Tensor {
    const void *data;
    Strides strides;
};

struct Params {
    Tensor keys_queries[2], v, g;    // [B,T,H or HV,K or V]
    Betas beta;
    __nv_bfloat16 *out;
    Strides out_strides;
    uint32_t key_factor;             // of HV / H value heads that share a head of q and k (key_head)
    Vector A_log, dt_bias;           // [HV], [HV,K]
    StateTable initial_state, final_state, checkpoints;
    const uint8_t *initial_mask;
    const fkdai_span *spans;         // in the place of sequences, or null
    StateTable span_states;          // slot FKDAI_SPAN_STATE - i of initial_state is row i of it; data null: none
    const int32_t *is_cut;           // optional; the launch does its work only if whether this is 0 is what it waits for
    bool wants_cut;
    Indices offsets;                 // of checkpoints: [N][per_sequence], tokens
    int per_sequence, every;         // checkpoints of a sequence; or one every so many tokens, and those of a sequence follow those of the one before
    int64_t checkpoint_count;        // that there is room for
    Sequences sequences;
    int heads, K, V;
    int slices;                      // of V
    int solve_warps, chain_warps;    // of a block
    GateKind gate;
    float scale, out_factor;         // of q, and of out: a power of two; together they are the caller's scale
    float lower_bound;
    bool is_raw;                     // q and k have no norm
    unsigned *status;

    __device__ __forceinline__ bool is_packed() const { return spans != nullptr || sequences.cu_seqlens != nullptr; }
    __device__ __forceinline__ SequenceSpan span(int n) const {
        if (spans == nullptr) return sequences.span(n);
        const fkdai_span of = spans[n];
        return {of.start, of.batch, of.length};
    }
};

__device__ __forceinline__ int key_head(const Params &p, int head) {
    return static_cast<int>(__umulhi(static_cast<uint32_t>(head) + 1, p.key_factor));
}

// Elements from row 0 to row `row`, which is not negative; a stride may be anything.
__device__ __forceinline__ int64_t rows_on(int64_t stride, int row) {
    return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(row)) * static_cast<uint64_t>(stride));
}

// The work of one block. It lies in shared memory: few registers are left.
struct Work {
    int head, slice, sequence;
    SequenceSpan span;
    bool has_values;    // else they count as 0, and the state behind the last token is left in parts
    bool has_out;       // else none is written
    int chunks;
    int64_t keys_queries[2], v, g, out;    // elements to the sequence's first token, and to the head

    __device__ static Work of(const Params &p, int block) {
        const int job = block / p.slices, sequence = job / p.heads, head = job - sequence * p.heads, key = key_head(p, head);
        const SequenceSpan span = p.span(sequence);
        const int flags = p.spans == nullptr ? 0 : p.spans[sequence].flags;
        const auto first = [&span](const Strides &x, int of_head) { return x.offset(span.batch, span.start, of_head); };
        return {head, block - job * p.slices, sequence, span, (flags & FKDAI_SPAN_TRANSITION) == 0, (flags & FKDAI_SPAN_SILENT) == 0, chunk_count<kChunk>(span.length),
                {first(p.keys_queries[0].strides, key), first(p.keys_queries[1].strides, key)},
                first(p.v.strides, head), first(p.g.strides, head), first(p.out_strides, head)};
    }
    __device__ int rows(int chunk) const { return span.length - chunk * kChunk < kChunk ? span.length - chunk * kChunk : kChunk; }
    __device__ int token(int chunk) const { return span.start + chunk * kChunk; }
};

// A chunk, or a silent step of one (mma_steps.cuh). In one register: a chunk, whether it is silent, and 1 to 32 rows less 1.
struct Step {
    uint32_t word;
    Step() = default;
    __device__ __forceinline__ Step(int chunk, int rows, bool is_silent = false)
        : word(static_cast<uint32_t>(chunk) << 6 | (is_silent ? 32u : 0u) | static_cast<uint32_t>(rows - 1)) {}
    __device__ __forceinline__ static Step none() {
        Step step;
        step.word = ~0u;
        return step;
    }
    __device__ __forceinline__ int chunk() const { return static_cast<int>(word >> 6); }
    __device__ __forceinline__ int rows() const { return static_cast<int>(word & 31) + 1; }     // tokens that it sees
    __device__ __forceinline__ bool is_none() const { return word == ~0u; }
    __device__ __forceinline__ bool is_silent() const { return (word & 32) != 0; }
};
static_assert(kChunk == 32);

// What a warp of the chain works on. It lies in shared memory: few registers are left.
struct ChainColumns {
    int number;        // of steps before
    int first;         // of V
    int64_t v, out;    // elements to the sequence's first token, and to that column
    Work work;         // the block's
};

struct Smem {
    Stage stages[kStages];
    Tile raw[2];                                // k, q as they came; of the next chunk
    Tile keys;                                  // k^ 2^(m - gamma), bf16
    alignas(16) float akk[kStages][16][kAkkPitch];    // A/b
    float sums[kGroups][kWidth];                // of log2 alpha, over eight tokens
    float squares[2][3][kChunk];                // of k, of q, and their product, over half of the channels
    alignas(16) float norms[kPrepareWarps][16]; // 1/|k| of eight tokens, scale/|q|
    float diagonal[kChunk];                     // scale q^ k^
    uint32_t steep[kPrepareWarps][4][32];       // what steep channels add to a warp's scores: fp16 pairs, as they are at most 1, of each lane
    alignas(16) float beta[kStages][kChunk];
    int key_exponents[kStages][kChunk], query_exponents[kStages][kChunk];    // without norm: q and k are 2^n times what the operands hold
    float key_squares[kStages][kChunk];
    Work work;
    ChainColumns columns[FKDAI_MMA_WIDTH / kColumns];
    Step steps[8];                              // of step n at n % 8; a warp of the preparation writes it two steps ahead
    int64_t first_checkpoint;                   // of this sequence, with `every`
};
inline constexpr uint32_t kAlignment = 128;
inline constexpr int kSharedBytes = sizeof(Smem) + kAlignment;  // dynamic_shared
static_assert(kSharedBytes <= FKDAI_MMA_SHARED_BYTES);

struct View : SharedView<Smem> {
    __device__ __forceinline__ Step step(int number) const {
        Step step;
        step.word = __float_as_uint(load_float(at(memory->steps) + (number & 7) * 4));
        return step;
    }
    __device__ __forceinline__ uint32_t stage(int number) const { return base + (number & 1) * uint32_t{sizeof(Stage)}; }
};

}  // namespace fkdai::portable
