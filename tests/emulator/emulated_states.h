// emulated_states.h: state tensors and index arrays of a case in the memory of the emulated device, poisoned where nothing was put.
#pragma once

#include "emulator.h"

#include "case_states.h"
#include "prefill_sm90/problem/params.cuh"

namespace emulated {

using namespace fkdai;
using namespace fkdai::prefill;

inline uint16_t bf16_of(float x) { return static_cast<uint16_t>(fkdai::pack_bf16(x, 0.f)); }

// Indices in the caller's dtype.
struct IndexArray {
    int dtype = FKDA_I64;
    std::vector<int32_t> narrow;
    std::vector<int64_t> wide;

    void add(int64_t x) { narrow.push_back(static_cast<int32_t>(x)), wide.push_back(x); }
    Indices view() const { return {dtype == FKDA_I32 ? static_cast<const void *>(narrow.data()) : wide.data(), dtype != FKDA_I32}; }
};

// Rows of HV matrices, [V,K] or [K,V], behind `shift` elements.
struct StateMemory {
    int dtype = FKDA_NONE, layout = FKDA_STATE_NHVK;
    int64_t rows = 0, stride = 0, shift = 0;
    std::vector<uint8_t> bytes;

    StateMemory() = default;
    StateMemory(int type, int lies, int64_t count, int64_t pitch, int64_t offset)
        : dtype(type), layout(lies), rows(count), stride(pitch), shift(offset), bytes(static_cast<size_t>(rows * stride + shift) * width(), 0xff) {}

    size_t width() const { return dtype == FKDA_BF16 ? 2 : 4; }
    uint8_t *at(int64_t row, int64_t h, int64_t v, int64_t k) {
        const int64_t inside = layout == FKDA_STATE_NHVK ? v * 128 + k : k * 128 + v;
        return bytes.data() + static_cast<size_t>(shift + row * stride + h * 16384 + inside) * width();
    }
    void put(int64_t row, int64_t h, int64_t v, int64_t k, float x) {
        const uint16_t narrow = bf16_of(x);
        memcpy(at(row, h, v, k), dtype == FKDA_BF16 ? static_cast<const void *>(&narrow) : &x, width());
    }
    float get(int64_t row, int64_t h, int64_t v, int64_t k) {
        uint32_t bits = 0;
        memcpy(&bits, at(row, h, v, k), width());
        return __uint_as_float(dtype == FKDA_BF16 ? bits << 16 : bits);
    }
    // A whole row, from or to [H,V,K].
    void put_row(int64_t row, int64_t H, const float *x) {
        for (int64_t i = 0; i < H * 16384; i++) put(row, i / 16384, i / 128 % 128, i % 128, x[i]);
    }
    std::vector<float> get_row(int64_t row, int64_t H) {
        std::vector<float> all(static_cast<size_t>(H * 16384));
        for (int64_t i = 0; i < H * 16384; i++) all[static_cast<size_t>(i)] = get(row, i / 16384, i / 128 % 128, i % 128);
        return all;
    }
    States states() {
        return {bytes.data() + static_cast<size_t>(shift) * width(), stride, dtype == FKDA_NONE ? Element::Absent : dtype == FKDA_BF16 ? Element::BF16 : Element::F32,
                layout == FKDA_STATE_NHKV, {}, 0, 0};
    }
    States pool(const IndexArray &slots, int slot_null) {
        States all = states();
        all.slots = slots.view(), all.slot_count = rows, all.first_slot = slot_null == FKDA_SLOT_NULL_NOT_POSITIVE;
        return all;
    }
};

// The states of a case: initial, final and checkpoints, as tests/support/case_states.h says who has which row.
struct CaseStates {
    StateMemory initial, final, checkpoints;
    IndexArray initial_slots, final_slots, checkpoint_slots, offsets;
    std::vector<uint8_t> mask;
    int64_t checkpoint_count = 0;

    CaseStates() = default;
    CaseStates(const case_spec &s, int64_t shift) {
        const int64_t stride = s.HV * 16384 + (s.row_gap && !s.is_plain ? 10 : 0), slots = case_slot_count(&s), count = case_checkpoint_count(&s);
        checkpoint_count = count;
        const auto rows = [&](int pool, int64_t dense, int64_t of_pool) { return pool == FKDA_NONE || s.is_plain ? dense : of_pool; };
        const auto layout = [&](int x) { return s.is_plain ? static_cast<int>(FKDA_STATE_NHVK) : x; };
        initial = {s.initial, layout(s.initial_layout), rows(s.initial_pool, s.N, slots), stride, shift};
        final = {s.final, layout(s.final_layout), rows(s.final_pool, s.N, slots), stride, shift};
        checkpoints = {s.checkpoints, layout(s.checkpoint_layout), rows(s.checkpoint_pool, count, case_checkpoint_slot_count(&s)), stride, shift};
        initial_slots.dtype = s.initial_pool, final_slots.dtype = s.final_pool, checkpoint_slots.dtype = s.checkpoint_pool;
        offsets.dtype = s.checkpoint_offsets;
        for (int64_t n = 0; n < s.N; n++) {
            initial_slots.add(case_initial_slot(&s, n)), final_slots.add(case_final_slot(&s, n)), mask.push_back(case_mask(&s, n));
            for (int64_t j = 0; j < case_per_sequence(&s); j++) offsets.add(case_checkpoint_offset(&s, n, j));
        }
        for (int64_t i = 0; i < count; i++) checkpoint_slots.add(case_checkpoint_slot(&s, i));
    }
    void describe(const case_spec &s, Params &p) {
        if (s.final != FKDA_NONE) p.final_state = s.final_pool == FKDA_NONE || s.is_plain ? final.states() : final.pool(final_slots, s.slot_null);
        if (s.initial != FKDA_NONE) {
            StateMemory &from = s.in_place && !s.is_plain ? final : initial;
            p.initial_state = s.initial_pool == FKDA_NONE || s.is_plain ? from.states() : from.pool(initial_slots, s.slot_null);
        }
        if (s.is_masked && !s.is_plain) p.initial_mask = mask.data();
        if (s.checkpoints == FKDA_NONE) return;
        p.checkpoints.states = s.checkpoint_pool == FKDA_NONE ? checkpoints.states() : checkpoints.pool(checkpoint_slots, s.slot_null);
        p.offsets = offsets.view(), p.per_sequence = static_cast<int>(case_per_sequence(&s));
        p.checkpoints.count = checkpoint_count, p.mark_every = static_cast<int>(s.checkpoint_every);
    }
    static fkdai_prefill_stops stops(const case_spec &s) {
        return s.checkpoints == FKDA_NONE ? fkdai_prefill_stops{0, 0} : fkdai_prefill_stops{case_per_sequence(&s), s.checkpoint_every};
    }
};

}  // namespace emulated
