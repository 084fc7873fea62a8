// What the mappings share: constants, the operands of a chunk, and parameters (prefill.md).
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "device/call_tensors.cuh"
#include "device/f16_rows.cuh"
#include "prefill_sm90/prefill_plan.h"
#include "schedule/jobs.cuh"

namespace fkdai::prefill {

inline constexpr int kChunk = 32;   // C, tokens per step
inline constexpr int kWidth = 128;  // K = V
inline constexpr int kHalf = 64;    // channels of one 128-byte swizzled tile; V rows of one chain warpgroup
inline constexpr int kHalves = 2;
inline constexpr int kThreads = 640;  // of a block: 5 warps on a sub-partition, which have 480 registers a lane together

struct Norms {  // per token
    float k[kChunk];        // 1/|k|; without norm 2^-n (TokenSize)
    float q[kChunk];        // scale/|q|; likewise
    float product[kChunk];  // scale q^ k^
};

// Of a token whose query and key have no norm. Those between 1/4 and 4 are taken as they are, others as 2^n times one between 1/2 and 2.
struct TokenSize {
    uint32_t exponents;  // n of the key; of the query in the upper half. Signed
    float squares;       // of the key
};

// What the solve role tells the chain beside T (roles/solve.cuh).
struct Range {
    uint32_t largest;          // range_up_to the largest R; kNothingInRange: the chain leaves its loop for this chunk
    uint32_t has_factors;
    uint32_t unused[2];
    uint32_t factors[kChunk];  // of a token, as bf16: what T's column lacks; in the upper half, what O's row lacks. Powers of two
};

// Operands of one chunk. Raw q, k, g arrive in the bytes of the operands made from them.
struct Stage {
    alignas(1024) uint8_t kq[2][8192];  // -K, Q: [2 x 64 channels][32 rows -k, 32 rows q] bf16, 128-byte swizzle
    alignas(1024) uint8_t ki[2][4096];  // Kr: [2 x 64 channels][32 rows] fp16, 128-byte swizzle; raw g before
    union {
        alignas(1024) uint8_t mqk[2048];  // M [32 i][32 j] fp16, 64-byte swizzle
        struct {
            uint8_t rows[1024];         // 0..15: their right half stays zero
            float decays[2][kWidth];    // gamma of the first 16 tokens, and of the others
        } before_scores;
    };
    union {
        alignas(16) float gate[kWidth];     // 2^gamma_C, [k/16][k/2 % 4][k/8 % 2][k % 2]: see decay_slot
        Norms norms;                        // before
    };
    uint8_t unused[kWidth * sizeof(float) - sizeof(Range)];
    Range range;
    alignas(1024) uint8_t solve[2048];  // T [32 j][32 i] fp16, 64-byte swizzle
};
static_assert(sizeof(Stage) == 29 * 1024);
inline constexpr uint32_t kRawBytes = 3 * kChunk * kWidth * sizeof(__nv_bfloat16);
inline constexpr uint32_t kValueBytes = kChunk * kHalf * sizeof(__nv_bfloat16);
inline constexpr uint32_t kQueryRows = kChunk * 128;  // bytes from the k rows to the q rows of a kq tile

// What a chunk is, left by whoever asks for its tiles. The ring holds more than the roles ever lie apart.
struct alignas(16) ChunkInfo {
    int token, head, batch;  // of its first row
    uint8_t rows;            // valid tokens 1..32; 0: no more chunks
    bool is_last;
    uint8_t rows_out = 0;    // of them, whose O is wanted: all or none
    uint8_t rows_ahead = 0;  // valid tokens of the chunk kGatesAhead on, 0 if its segment is another one (quad_config.cuh)
};
static_assert(sizeof(ChunkInfo) == 16);

inline constexpr int kAkkPitch = 52;    // floats; rows [akk 21 | akk 22 | akk 11 | pad], 16 floats each

// Of one chain warp: 4 rows of a state on their way out or in. Units of 16 bytes change places within 128 bytes, so that pairs of channels
// of the four rows lie in different banks.
struct alignas(128) StateStaging {
    float row[4][kWidth];
};

// `gate` keeps the two channels of lane l%4 in tiles of 8 side by side: one 16-byte load serves two tiles.
__host__ __device__ constexpr uint32_t decay_slot(uint32_t channel) {
    return (channel / 16) * 16 + (channel / 2 % 4) * 4 + (channel / 8 % 2) * 2 + channel % 2;
}

struct States : StateTable {
    // Of the matrix of a head, or its rows of V from 64 half on.
    __device__ void *address(int64_t row, int head, int half) const {
        const int64_t at = row * row_stride + static_cast<int64_t>(head) * (kWidth * kWidth) + half * (is_k_first ? kHalf : kHalf * kWidth);
        return static_cast<char *>(data) + at * bytes();
    }
};

struct HandOver {  // of the state of a job that two workers share; slot w belongs to worker w
    float *state;        // [workers][V][K]
    uint64_t *is_ready;  // [workers][halves]: `number` once the state is there; who has seen it writes 0
    uint64_t number;     // of the launch, drawn at random: no earlier owner of the memory has left it there
};

// Copies of the state inside the sequences. State n Timeline::per_sequence + i is the one after offset(n, i) tokens; or, with Timeline::mark_every,
// there is one at each mark, and those of a sequence follow those of the sequence before.
struct Checkpoints {
    States states;
    int64_t count;       // of states
    float *parked;       // [workers][V][K], if some may lie inside a chunk
    bool are_rows;       // in fp32, as the copy engine can take them
    __device__ bool exist() const { return states.element != Element::Absent; }
};

inline constexpr int kClusterKind = 0, kSingleKind = 1, kQuadKind = 2;  // of Timeline::kinds

// A call whose lengths only the device knows may be two launches, of duo or solo and then of quads: all blocks of one of them see that the other is
// faster, and end.
enum class Turn : uint8_t { Alone, First, Second };

struct Params : Timeline {
    fkdai_prefill_mapping mapping;   // FKDAI_EITHER: the schedule says which of duo and solo
    Turn turn;
    CUtensorMap q, k, v, g;          // [B][T][H or HV][128] bf16, box [1][32][1][64], 128-byte swizzle
    CUtensorMap o;                   // out, box [1][32][1][16], 32-byte swizzle; for solo
    const float *g_f32;              // g in fp32, read beside the copy engine: a lane's two channels of a token at once; null: bf16, by its map
    Strides g_strides;
    Betas beta;
    __nv_bfloat16 *out;              // [B,T,HV,V]
    Strides out_strides;
    uint32_t key_factor;             // of HV / H value heads that share a head of q and k (key_head). A job's head is a value head
    Vector A_log, dt_bias;           // [HV], [HV,K]
    States initial_state;
    const uint8_t *initial_mask;     // [N], optional; 0: the sequence starts from zero
    States final_state;
    Checkpoints checkpoints;
    HandOver hand_over;
    uint8_t *relay;                  // of quads and octets (quad_config.cuh)
    float scale, out_factor;         // of q, and of out: a power of two; together they are the caller's scale
    float lower_bound;
    bool is_raw;                     // q and k have no norm
    uint32_t usual_range;            // Range::largest of a chunk whose T is as it should be (solve.cuh)
    unsigned *status;                // the caller's word for what is broken, or null
};

}  // namespace fkdai::prefill
