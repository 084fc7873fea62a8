// gpu_states.cuh: what a case says of pools, layouts and checkpoints, added to its launch: for programs that look at times. A pool has a slot for
// each sequence, in reverse; checkpoints are rows of their own.
#pragma once

#include "case_states.h"
#include "gpu_case.cuh"

struct DeviceStates {
    DeviceCase &of;
    std::vector<void *> memory;

    explicit DeviceStates(DeviceCase &c) : of(c) {
        const case_spec &s = c.spec;
        std::vector<int32_t> reverse;
        for (int64_t n = 0; n < c.N; n++) reverse.push_back(static_cast<int32_t>(c.N - 1 - n));
        c.call.initial_rows.is_k_first = s.initial_layout == FKDA_STATE_NHKV, c.call.final_rows.is_k_first = s.final_layout == FKDA_STATE_NHKV;
        if (s.initial_pool != FKDA_NONE) c.call.initial_rows.slots = {copy(reverse), FKDAI_I32}, c.call.initial_rows.slot_count = c.N;
        if (s.final_pool != FKDA_NONE) c.call.final_rows.slots = {copy(reverse), FKDAI_I32}, c.call.final_rows.slot_count = c.N;
        if (s.checkpoints != FKDA_NONE) add_checkpoints();
    }
    ~DeviceStates() {
        for (void *x : memory) cudaFree(x);
    }
    DeviceStates(const DeviceStates &) = delete;

    template <class X>
    X *copy(const std::vector<X> &x) {
        X *const there = DeviceCase::allocate<X>(static_cast<int64_t>(x.size()));
        CHECK_CUDA(cudaMemcpy(there, x.data(), x.size() * sizeof(X), cudaMemcpyHostToDevice));
        memory.push_back(there);
        return there;
    }
    void add_checkpoints() {
        const case_spec &s = of.spec;
        fkdai_checkpoints &to = of.call.checkpoints;
        std::vector<int64_t> offsets;
        for (int64_t n = 0; n < of.N; n++)
            for (int64_t j = 0; j < case_per_sequence(&s); j++) offsets.push_back(case_checkpoint_offset(&s, n, j));
        to.count = case_checkpoint_count(&s), to.stops = {case_per_sequence(&s), s.checkpoint_every};
        to.rows = {of.H * 16384, s.checkpoints == FKDA_BF16 ? FKDAI_BF16 : FKDAI_F32, s.checkpoint_layout == FKDA_STATE_NHKV, {}, 0, 0};
        to.state = DeviceCase::allocate<float>(to.count * of.H * 16384);
        memory.push_back(to.state);
        to.offsets = {copy(offsets), FKDAI_I64};
        CHECK_CUDA(cudaFree(of.workspace));
        of.allocate_workspace();
    }
    // Written beside the final states.
    double checkpoint_bytes() const {
        const fkdai_checkpoints &c = of.call.checkpoints;
        return c.rows.element == FKDAI_ABSENT ? 0 : static_cast<double>(c.count - 1) * static_cast<double>(of.H) * 16384 * (c.rows.element == FKDAI_F32 ? 4 : 2);
    }
};
