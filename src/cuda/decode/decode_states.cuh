// Which state a block begins with, and where those that its tokens lead to are written.
#pragma once

#include "decode/decode_tokens.cuh"

namespace fkdai::decode {

// An index of a pool, or the number of a sequence without one: is it a row of states? Then that is its low word.
__device__ __forceinline__ bool is_row(const fkdai_decode_call &p, const IndexWords &slot) {
    return slot.low - p.first_slot < p.slot_span && slot.high == 0;
}
// Neither a row nor null.
__device__ __forceinline__ void check_slot(const fkdai_decode_call &p, const IndexWords &slot) {
    if (!is_row(p, slot) && index_of(slot, p.slots.is_i64) >= p.null_below && thread_here() == 0) report(p.device_status, FKDAI_DECODE_SLOT_BROKEN);
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
    IndexPlace slot_place, accepted_place, parent_place;
    const uint8_t *mask_at;
    bool has_mask;
    IndexWords slot, accepted, parent;
    uint32_t mask;       // 0: from 0
    uint32_t guess;      // of a slot that was read early
    bool has_guess;      // is it a row of states?
    IndexWords first;    // the slot that the sequence begins with
    bool has_first;      // is it a row of states?
    int store_after;     // the token whose state is written over the first; -1: none

    __device__ __forceinline__ static bool is_each(const fkdai_decode_call &p) { return Config::kWritesSteps && p.commit == FKDAI_DECODE_EACH; }

    // Where the arrays' entries lie. Reads nothing.
    __device__ __forceinline__ void place(const fkdai_decode_call &p, const Job &job) {
        const int lane = thread_here() % 32;
        const int64_t n = static_cast<uint32_t>(job.n) + zero_of_thread();
        if constexpr (Config::kWritesSteps) {
            const bool each = is_each(p);
            slot_place = place_of_index(p.slots, each ? n * p.slots_stride + lane : n, !each || lane < p.slots_per_sequence);
            parent_place = place_of_index(p.parent, n * p.parent_stride + lane);
        } else {
            slot_place = place_of_index(p.slots, n);
        }
        accepted_place = place_of_index(p.num_accepted, n);
        has_mask = p.initial_mask != nullptr, mask_at = p.initial_mask + n;
    }

    __device__ __forceinline__ void request(const Job &job) {
        slot = slot_place.request(static_cast<uint32_t>(job.n));
        mask = request_byte(mask_at, has_mask, 1);
        accepted = accepted_place.request();
        if constexpr (Config::kWritesSteps) {
            parent_place.is_there = parent_place.is_there && thread_here() % 32 < job.count;
            parent = parent_place.request();
        }
    }

    // Before the kernel before has ended: its slot as it is now. It may change.
    __device__ __forceinline__ void guess_first(const fkdai_decode_call &p, const Job &job) {
        const IndexWords now = slot_place.request_early(static_cast<uint32_t>(job.n));
        guess = now.low, has_guess = is_row(p, now);
    }
    // Then rows that were requested by it are not those of `first`.
    __device__ __forceinline__ bool guessed_wrong() const { return starts_from_0() ? has_guess : !has_guess || guess != first.low; }

    // What the first row of states depends on.
    __device__ __forceinline__ void find_first(const fkdai_decode_call &p) {
        first = slot;
        if (is_each(p)) first = handed(slot, accepted_place.is_there && mask != 0 ? accepted_of(p, accepted, 1, p.slots_per_sequence) - 1 : 0);
        has_first = is_row(p, first);
    }
    __device__ __forceinline__ bool starts_from_0() const { return !has_first || mask == 0; }

    // The tokens that are needed, where only those that are accepted are.
    __device__ __forceinline__ void cut(const fkdai_decode_call &p, Job &job) const {
        if (p.only_accepted) job.count = accepted_of(p, accepted, 0, job.count);
    }

    // The rest of it: when rows are requested.
    __device__ __forceinline__ void find_last(const fkdai_decode_call &p, Job &job) {
        if (p.slots.data != nullptr && !(is_each(p) && mask == 0)) check_slot(p, first);
        store_after = p.commit == FKDAI_DECODE_LAST ? job.count - 1 : -1;
        if (p.commit == FKDAI_DECODE_ACCEPTED) store_after = accepted_of(p, accepted, 0, job.count) - 1;
        cut(p, job);
        if (!has_first) store_after = -1;
    }

    // Of EACH: the slot that gets the state after a token.
    __device__ __forceinline__ IndexWords slot_after(const fkdai_decode_call &p, int token) const {
        const IndexWords own = handed(slot, token);
        check_slot(p, own);
        return own;
    }

    // Of a tree: the token that this one goes on from, or -1.
    __device__ __forceinline__ int parent_of(const fkdai_decode_call &p, int token) const {
        const int64_t from = index_of(handed(parent, token), p.parent.is_i64);
        const bool is_good = from >= -1 && from < token;
        if (!is_good && thread_here() == 0) report(p.device_status, FKDAI_DECODE_PARENT_BROKEN);
        return is_good ? static_cast<int>(from) : -1;
    }
};

}  // namespace fkdai::decode
