// prefill_config.cuh: constants, shared-memory plan, barriers and parameters of the prefill kernel (prefill.md).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "../device/timeline.cuh"

namespace fkdai::prefill {

inline constexpr int kChunk = 32;   // C, tokens per step
inline constexpr int kWidth = 128;  // K = V
inline constexpr int kHalf = 64;    // channels of one 128-byte swizzled tile; V rows of one CTA
inline constexpr int kRanks = 2;    // CTAs of a cluster: each has half of V, and prepares every second chunk

inline constexpr int kOwnStages = 4;       // chunks that a CTA prepares, raw tiles arriving to last use
inline constexpr int kReceivedStages = 2;  // chunks that the peer prepared
inline constexpr int kValueStages = 3;
inline constexpr int kOutStages = 2;
inline constexpr int kDoneStages = 4;      // > kOutStages + 1, which bounds how far the chain runs ahead of the store warp

// Warps: one warpgroup runs the recurrence, two prepare operands, the last has four single-warp roles.
inline constexpr int kThreads = 512;
inline constexpr int kPrepareGroups = 2;
enum Warp : int { kLoadWarp = 12, kStoreWarp = 13, kFirstSolveWarp = 14 };
enum Registers : int { kChainRegisters = 208, kPrepareRegisters = 104, kSingleRegisters = 96 };
enum NamedBarrier : int { kChainBarrier = 1, kFirstPrepareBarrier = 2 };

// Operands of one chunk. Raw q, k, g arrive in the bytes of the operands made from them.
struct Stage {
    alignas(1024) uint8_t kq[2][8192];  // [2 x 64 channels][32 rows -k, 32 rows q], 128-byte swizzle
    alignas(1024) uint8_t ki[2][4096];  // [2 x 64 channels][32 rows], 128-byte swizzle; raw g before
    alignas(1024) uint8_t mqk[2048];    // M [32 i][32 j], 64-byte swizzle
    alignas(1024) float gate_in[kWidth];   // 2^m,        [k/16][k/2 % 4][k/8 % 2][k % 2]: see decay_slot
    float gate_out[kWidth];                // 2^(gamma_C - m)
    alignas(1024) uint8_t solve[2048];  // T [32 j][32 i], 64-byte swizzle
};
inline constexpr uint32_t kEarlyBytes = offsetof(Stage, solve);  // final before the solve starts
inline constexpr uint32_t kRawBytes = 3 * kChunk * kWidth * sizeof(__nv_bfloat16);
inline constexpr uint32_t kValueBytes = kChunk * kHalf * sizeof(__nv_bfloat16);
inline constexpr uint32_t kQueryRows = kChunk * 128;  // bytes from the k rows to the q rows of a kq tile

struct Norms {  // per token: [16 tokens walking down from 15][16 walking up from 16]
    float k[kChunk];     // 1/|k|
    float q[kChunk];     // scale/|q|
    float beta[kChunk];  // sigmoid(beta), natural order
};

// What a chunk is, left by the load warp, which alone walks the line. The ring holds more than the roles ever lie apart.
struct alignas(16) Note {
    int token, head, batch;  // of its first row
    uint8_t rows;            // valid tokens 1..32; 0: no more chunks
    bool is_last;
};
inline constexpr int kNotes = 12;
inline constexpr int kValueLag = kOwnStages + 1;  // chunks that the raw tiles run ahead of the values
static_assert(kNotes > kValueLag + kValueStages + kOutStages);

struct Route {  // of one chain warp: the piece at work and the one after it
    PieceWalk<kChunk> walk;
    Piece piece[2];
    bool is_valid[2];
};

inline constexpr int kAkkPitch = 52;    // floats; rows [akk 21 | akk 22 | akk 11 | pad], 16 floats each
inline constexpr int kStatePitch = 132; // floats; one row of a state on its way out, padded against bank conflicts

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kOwnStages];         // load warp + copy engine: raw tiles and note are there
    uint64_t akk_ready[kOwnStages];         // 4 prepare warps: akk, mqk, operand tiles, decays are final
    uint64_t own_ready[kOwnStages];         // solve warp: the stage is complete
    uint64_t received_ready[kReceivedStages];  // the peer's solve warp + copy engine
    uint64_t own_free[kOwnStages];          // store warps of both CTAs: this one's chain has used the stage, the peer has got its copy
    uint64_t received_free[kReceivedStages];   // store warp of the *peer*: its received stage may be overwritten
    uint64_t value_ready[kValueStages];     // copy engine
    uint64_t value_free[kValueStages];      // 4 chain warps
    uint64_t chunk_done[kDoneStages];       // 4 chain warps: the operands of a chunk have been used
    uint64_t out_ready[kOutStages];         // 4 chain warps
    uint64_t out_free[kOutStages];          // store warp
};

struct Smem {
    Stage own[kOwnStages];
    Stage received[kReceivedStages];
    alignas(1024) uint8_t value[kValueStages][kValueBytes];  // V [32][64 of this CTA], 128-byte swizzle
    alignas(1024) uint8_t out[kOutStages][kValueBytes];      // O [32][64 of this CTA], 128-byte swizzle
    alignas(128) float akk[kOwnStages][16][kAkkPitch];       // akk/beta of a chunk
    alignas(128) float state_rows[4][8][kStatePitch];        // of each chain warp, on their way to the final state
    alignas(128) Norms norms[kOwnStages];
    Note notes[kNotes];  // of chunk n in n % kNotes
    Route routes[4];
    alignas(8) Barriers barriers;
};
static_assert(sizeof(Stage) % 1024 == 0 && sizeof(Smem) + 1024 <= 232448);
static_assert(offsetof(Smem, received) == offsetof(Smem, own) + kOwnStages * sizeof(Stage) &&
              offsetof(Barriers, received_ready) == offsetof(Barriers, own_ready) + kOwnStages * sizeof(uint64_t),
              "the chain counts both kinds of stages through");

// gate_in and gate_out keep the two channels of lane l%4 in tiles of 8 side by side: one 16-byte load serves two tiles.
__host__ __device__ constexpr int decay_slot(int channel) {
    return (channel / 16) * 16 + (channel / 2 % 4) * 4 + (channel / 8 % 2) * 2 + channel % 2;
}

enum class Element : int { Absent, BF16, F32 };

struct Vector {  // optional, contiguous
    const void *data;
    Element element;
    __device__ float at(int64_t i, float absent) const {
        if (element == Element::Absent) return absent;
        return element == Element::F32 ? static_cast<const float *>(data)[i]
                                       : __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[i]);
    }
};

template <class Pointer>
struct States {  // [N,H,V,K]
    Pointer data;
    int64_t row_stride;
    Element element;
};

struct Strides {
    int64_t batch, token, head;
    __device__ int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
};

struct HandOver {  // of the state of a job that two clusters share; slot c belongs to cluster c
    float *state;        // [clusters][V][K]
    uint64_t *is_ready;  // [clusters][ranks]: `number` once the state is there; who has seen it writes 0
    uint64_t number;     // of the launch, drawn at random: no earlier owner of the memory has left it there
};

struct Params : Timeline {
    CUtensorMap q, k, v, g;          // [B][T][H][128] bf16, box [1][32][1][64]
    const __nv_bfloat16 *beta;       // [B,T,H]
    __nv_bfloat16 *out;              // [B,T,H,V]
    Strides beta_strides, out_strides;
    Vector A_log, dt_bias;           // [H], [H,K]
    States<const void *> initial_state;
    States<void *> final_state;
    HandOver hand_over;
    float scale, lower_bound;
    unsigned *status;                // the caller's word for kBrokenSeqlens, or null
};

}  // namespace fkdai::prefill
