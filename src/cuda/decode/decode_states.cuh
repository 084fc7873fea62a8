// Which state a block begins with, and where those that its tokens lead to are written.
#pragma once

#include "decode/decode_tokens.cuh"

namespace fkdai::decode {

inline constexpr int64_t kNoRow = -1;

// What an index of a pool says: a row of states, or none.
__device__ __forceinline__ int64_t row_of(const fkdai_decode_call &p, const IndexWords &slot) {
    const int64_t index = index_of(slot, p.slots.is_i64);
    const bool is_null = index < p.first_slot, is_slot = static_cast<uint64_t>(index) < static_cast<uint64_t>(p.slot_count);
    if (!is_null && !is_slot && thread_here() == 0) report(p.device_status, FKDAI_DECODE_SLOT_BROKEN);
    return is_null || !is_slot ? kNoRow : index;
}

// num_accepted, or the nearest that there can be.
__device__ __forceinline__ int accepted_of(const fkdai_decode_call &p, const IndexWords &words, int least, int most) {
    const int64_t accepted = index_of(words, p.num_accepted.is_i64);
    if ((accepted < least || accepted > most) && thread_here() == 0) report(p.device_status, FKDAI_DECODE_ACCEPTED_BROKEN);
    return accepted < least ? least : accepted > most ? most : static_cast<int>(accepted);
}

// The arrays that say so: requested together, then read. Of STEPS a lane has one of the sequence's slots and the parent of one token.
template <class Config>
struct States {
    IndexWords slot, accepted, parent;
    uint32_t mask;         // 0: from 0
    int64_t first_row;     // that the sequence begins with, or kNoRow
    int store_after;       // the token whose state is written over the first; -1: none

    __device__ __forceinline__ static bool is_each(const fkdai_decode_call &p) { return Config::kWritesSteps && p.commit == FKDAI_DECODE_EACH; }

    __device__ __forceinline__ void request(const fkdai_decode_call &p, const Job &job) {
        const int lane = thread_here() % 32;
        const bool has_slots = p.slots.data != nullptr;
        if constexpr (Config::kWritesSteps) {
            const bool each = is_each(p);
            slot = request_index(p.slots, each ? job.n * p.slots_stride + lane : job.n, has_slots && (!each || lane < p.slots_per_sequence));
            parent = request_index(p.parent, job.n * p.parent_stride + lane, p.parent.data != nullptr && lane < job.count);
        } else {
            slot = request_index(p.slots, job.n, has_slots);
        }
        accepted = request_index(p.num_accepted, job.n, p.num_accepted.data != nullptr);
        mask = request_byte(p.initial_mask + job.n, p.initial_mask != nullptr, 1);
    }

    // Cuts the tokens to those that are needed.
    __device__ __forceinline__ void read(const fkdai_decode_call &p, Job &job) {
        if (is_each(p)) {
            const bool is_read = p.num_accepted.data != nullptr && mask != 0;
            const int entry = is_read ? accepted_of(p, accepted, 1, p.slots_per_sequence) - 1 : 0;
            const IndexWords first = handed(slot, entry);
            first_row = mask == 0 ? kNoRow : row_of(p, first);
            store_after = -1;
            return;
        }
        first_row = p.slots.data == nullptr ? job.n : row_of(p, slot);
        store_after = p.commit == FKDAI_DECODE_NONE ? -1 : job.count - 1;
        if (p.commit == FKDAI_DECODE_ACCEPTED) store_after = accepted_of(p, accepted, 0, job.count) - 1;
        if (p.only_accepted) job.count = store_after + 1;
    }

    // Of EACH: the row that gets the state after a token, or kNoRow.
    __device__ __forceinline__ int64_t row_after(const fkdai_decode_call &p, int token) const { return row_of(p, handed(slot, token)); }

    // Of a tree: the token that this one goes on from, or -1.
    __device__ __forceinline__ int parent_of(const fkdai_decode_call &p, int token) const {
        const int64_t from = index_of(handed(parent, token), p.parent.is_i64);
        const bool is_good = from >= -1 && from < token;
        if (!is_good && thread_here() == 0) report(p.device_status, FKDAI_DECODE_PARENT_BROKEN);
        return is_good ? static_cast<int>(from) : -1;
    }
};

}  // namespace fkdai::decode
