// wanted_states.h: what the memory of a case must hold after a run: the bits of the same call on plain memory, each checkpoint those of the final
// state of a run that ends there, and every other byte of its states as it was.
#pragma once

#include <map>
#include <set>

#include "counter_rng.h"
#include "emulated_call.h"

namespace emulated {

inline void set(IndexArray &x, size_t i, int64_t value) { x.narrow[i] = static_cast<int32_t>(value), x.wide[i] = value; }

inline case_spec without_checkpoints(case_spec s) {
    s.is_plain = 1, s.in_place = 0, s.final_pool = s.checkpoints = FKDA_NONE;
    return s;
}

// What the memory of a case must hold afterwards.
struct Wanted {
    Call plain;
    std::set<int64_t> lost_final, lost_checkpoints;    // sequences and rows that are not written, as something is broken there
    unsigned status = 0;
    std::vector<int64_t> offsets;    // where not empty, in place of the case's
    std::map<std::pair<int64_t, int64_t>, std::vector<float>> prefixes;
    bool is_good;

    explicit Wanted(const case_spec &s) : plain(without_checkpoints(s), {}), is_good(plain.run(0)) {}

    void start_from_0(int64_t n) {
        std::fill_n(plain.values.initial + n * case_state_elems(&plain.spec), case_state_elems(&plain.spec), 0.f);
        is_good = plain.run(0) && is_good;
    }

    bool has_checkpoint(const case_spec &s, int64_t i, int64_t *n, int64_t *tokens) const {
        if (offsets.empty()) return case_has_checkpoint(&s, i, n, tokens);
        if (i >= static_cast<int64_t>(offsets.size()) || row_of(s, i) == CASE_NO_ROW) return false;
        *n = i / s.checkpoints_per_sequence, *tokens = offsets[static_cast<size_t>(i)];
        return *tokens > 0 && *tokens <= s.bounds[*n + 1] - s.bounds[*n];
    }
    static int64_t row_of(const case_spec &s, int64_t i) {
        if (s.checkpoint_pool == FKDA_NONE) return i;
        const int64_t slot = case_checkpoint_slot(&s, i);
        return slot < (s.slot_null == FKDA_SLOT_NULL_NOT_POSITIVE) ? CASE_NO_ROW : slot;
    }

    // The final state of a run of the first tokens of a sequence, in the dtype of the checkpoints.
    const std::vector<float> &prefix(const case_spec &s, int64_t n, int64_t tokens) {
        std::vector<float> &state = prefixes[{n, tokens}];
        if (!state.empty()) return state;
        const piece part{n, 0, tokens, nullptr};
        case_spec alone = pieces_spec(&plain.spec, &part, 1, FKDA_NONE);
        alone.initial_pool = alone.final_pool = FKDA_NONE, alone.is_masked = 0, alone.final = s.checkpoints;
        Call call(alone, {}, pieces_values(&plain.spec, &plain.values, &part, &alone));
        is_good = call.run(0) && is_good;
        return state = call.final;
    }
    void put_final(const case_spec &s, StateMemory &to) const {
        for (int64_t n = 0; n < s.N && s.final != FKDA_NONE; n++)
            if (case_final_row(&s, n) != CASE_NO_ROW && lost_final.count(n) == 0) to.put_row(case_final_row(&s, n), s.HV, plain.final.data() + n * s.HV * 16384);
    }
    void put_checkpoints(const case_spec &s, StateMemory &to) {
        for (int64_t i = 0; i < case_checkpoint_count(&s) && s.checkpoints != FKDA_NONE; i++) {
            int64_t n, tokens;
            if (is_compared(s, i) && has_checkpoint(s, i, &n, &tokens) && lost_checkpoints.count(i) == 0) to.put_row(row_of(s, i), s.HV, prefix(s, n, tokens).data());
        }
    }
    // With few draws most checkpoints are as they came: a run of its own for each takes most of the time.
    static bool is_compared(const case_spec &s, int64_t i) { return draw_is_wanted(i, std::min<int64_t>(8, case_checkpoint_count(&s)), 0); }
    void take_over(const case_spec &s, StateMemory &from, StateMemory &to) {
        for (int64_t i = 0; i < case_checkpoint_count(&s) && s.checkpoints != FKDA_NONE; i++) {
            int64_t n, tokens;
            if (is_compared(s, i) || !has_checkpoint(s, i, &n, &tokens) || lost_checkpoints.count(i) != 0) continue;
            memcpy(to.at(row_of(s, i), 0, 0, 0), from.at(row_of(s, i), 0, 0, 0), static_cast<size_t>(s.HV * 16384) * to.width());
        }
    }
};

// One run of a case as it lies.
inline const char *difference(Call &call, Wanted &wanted, unsigned seed, emulator::Laggard laggard = {}) {
    call.status = 0;
    call.store_states();
    if (call.tamper) call.tamper(call.states);
    StateMemory final = call.states.final, checkpoints = call.states.checkpoints;
    const StateMemory initial = call.states.initial;
    wanted.put_final(call.spec, final);
    wanted.put_checkpoints(call.spec, checkpoints);
    if (!wanted.is_good) return "  the plain run failed";
    if (!call.run(seed, laggard)) return "  did not end";
    wanted.take_over(call.spec, call.states.checkpoints, checkpoints);
    if (call.out != wanted.plain.out) return "  OUT";
    if (call.states.final.bytes != final.bytes) return "  FINAL STATES";
    if (call.states.checkpoints.bytes != checkpoints.bytes) return "  CHECKPOINTS";
    if (call.states.initial.bytes != initial.bytes) return "  INITIAL STATES WRITTEN";
    return call.status == wanted.status ? nullptr : "  STATUS";
}

}  // namespace emulated
