// emulated_call.h: a case in the memory of the emulated device, run by the prefill kernels in any mapping, and its errors against the oracle.
#pragma once

#include "emulated_kernels.h"
#include "emulated_states.h"

#include <algorithm>

#include "backend/forward_scale.h"
#include "bars.h"
#include "oracle_values.h"
#include "prefill_sm90/problem/workspace.cuh"

namespace emulated {

using namespace fkdai;
using namespace fkdai::prefill;

constexpr uint64_t kLaunchNumber = 8;
constexpr uint32_t kPoison = 0xffffffff;
constexpr int kGuard = 64 * 128;    // elements behind out that nobody may touch

struct Setup {
    int workers = 0;                 // clusters or blocks; 0: one for each (sequence, head). Fewer: the timeline is cut
    fkdai_prefill_mapping mapping = FKDAI_DUO;    // FKDAI_EITHER: `workers` clusters or twice as many blocks
    bool is_planned_once = false;    // by the plan kernel, as for many sequences; else by every block for itself
    int state_shift = 0;             // elements by which the states miss the alignment of the copy engine
    int beta_step = 1;               // elements from one head's beta to the next; NaN in between
    int quads = 0;                   // clusters of a second launch, if the device shall choose
};

inline std::vector<uint16_t> all_bf16(const float *x, int64_t count) {
    std::vector<uint16_t> all(static_cast<size_t>(count));
    for (size_t i = 0; i < all.size(); i++) all[i] = bf16_of(x[i]);
    return all;
}

struct Errors {
    double out, state;    // M1
};

struct Call {
    case_spec spec;
    Setup setup;
    bool quads_have_worked = false;  // in the last run
    input_values values;
    int64_t rows;             // B * T
    std::vector<uint16_t> q, k, v, g, out;                    // [B,T,H or HV,128]
    std::vector<uint16_t> beta_bf16;                          // [B,T,HV], as beta_step says; one of the two is given to the kernel
    std::vector<float> g_f32, beta_f32;
    CaseStates states;
    std::vector<float> final;                                 // [N,HV,V,K]: what came out, widened
    std::vector<int64_t> bounds;
    std::function<void(CaseStates &)> tamper;    // with what a run is given
    unsigned status = 0;      // what the kernel left there
    std::vector<uint8_t> workspace;    // a run finds what the one before has left, as a replay does

    Call(const case_spec &s, const Setup &how) : Call(s, how, values_draw(&s)) {}
    Call(const case_spec &s, const Setup &how, const input_values &x) : spec(s), setup(how), values(x), rows(s.B * s.T), bounds(s.bounds, s.bounds + s.N + 1) {
        for (int64_t n = 0; n < s.N; n++)
            if (case_starts_from_0(&s, n)) std::fill_n(values.initial + n * case_state_elems(&s), case_state_elems(&s), 0.f);
        store_inputs();
    }
    ~Call() { values_free(&values); }
    Call(const Call &) = delete;

    // From `values`; rows in no sequence are NaN.
    void store_inputs() {
        const int64_t H = spec.H, HV = spec.HV, with_values = case_rows(&spec);
        q = all_bf16(values.q, with_values * H * 128), k = all_bf16(values.k, with_values * H * 128);
        v = all_bf16(values.v, with_values * HV * 128), g = all_bf16(values.g, with_values * HV * 128);
        g_f32.assign(values.g, values.g + with_values * HV * 128), g_f32.resize(static_cast<size_t>(rows * HV * 128), NAN);
        for (auto *x : {&q, &k}) x->resize(static_cast<size_t>(rows * H * 128), 0x7fff);
        for (auto *x : {&v, &g}) x->resize(static_cast<size_t>(rows * HV * 128), 0x7fff);
        beta_f32.assign(static_cast<size_t>(rows * HV * setup.beta_step), NAN);
        for (int64_t i = 0; i < with_values * HV; i++) beta_f32[static_cast<size_t>(i * setup.beta_step)] = values.beta[i];
        beta_bf16 = all_bf16(beta_f32.data(), static_cast<int64_t>(beta_f32.size()));
        out.resize(static_cast<size_t>(rows * HV * 128 + kGuard));
        final.assign(static_cast<size_t>(spec.N * HV * 16384), 0);
        store_states();
    }
    void store_states() {
        states = CaseStates(spec, setup.state_shift);
        StateMemory &from = spec.in_place && !spec.is_plain ? states.final : states.initial;
        for (int64_t i = 0; i < spec.N * spec.HV * 16384 && spec.initial != FKDA_NONE; i++) {
            const int64_t n = i / (spec.HV * 16384), row = case_initial_row(&spec, n);
            if (row != CASE_NO_ROW) from.put(row, i / 16384 % spec.HV, i / 128 % 128, i % 128, values.initial[i / 16384 * 16384 + i % 128 * 128 + i / 128 % 128]);
        }
    }

    // A GPU knows one NaN; here its bits depend on the order of operands that the compiler chose. What nobody wrote stays what it was.
    void read_final() {
        for (int64_t n = 0; n < spec.N && spec.final != FKDA_NONE; n++) {
            if (case_final_row(&spec, n) == CASE_NO_ROW) continue;
            std::vector<float> row = states.final.get_row(case_final_row(&spec, n), spec.HV);
            for (float &x : row)
                if (std::isnan(x) && (__float_as_uint(x) | 0xffff) != kPoison) x = __uint_as_float(0x7fffffff);
            std::copy(row.begin(), row.end(), final.begin() + static_cast<ptrdiff_t>(n * spec.HV * 16384));
        }
    }

    CUtensorMap map(const std::vector<uint16_t> &x, int64_t heads, int channels = kHalf) const {
        const int T = static_cast<int>(spec.T);
        const emulator::TensorMap m{x.data(), 128, heads * 128, T * heads * 128, static_cast<int>(heads), T, static_cast<int>(spec.B), kChunk, channels};
        CUtensorMap map;
        memcpy(&map, &m, sizeof m);
        return map;
    }

    Params params() {
        const int64_t H = spec.H, HV = spec.HV, T = spec.T, step = setup.beta_step;
        const bool has_wide_beta = spec.beta_dtype == FKDA_F32;
        Params p{};
        p.q = map(q, H), p.k = map(k, H), p.v = map(v, HV), p.g = map(g, HV), p.o = map(out, HV, 16);
        p.beta = {has_wide_beta ? static_cast<const void *>(beta_f32.data()) : beta_bf16.data(), {T * HV * step, HV * step, step},
                  has_wide_beta ? Element::F32 : Element::BF16, spec.beta == FKDA_BETA_ACTIVATED, spec.multiplier == 2 ? 2.f : 1.f};
        p.out = reinterpret_cast<__nv_bfloat16 *>(out.data()), p.out_strides = {T * HV * 128, HV * 128, 128};
        p.key_factor = key_factor_of(static_cast<uint32_t>(HV / H));
        p.A_log = {values.A_log, spec.A_log == FKDA_NONE ? Element::Absent : Element::F32};
        p.dt_bias = {values.dt_bias, spec.dt_bias == FKDA_NONE ? Element::Absent : Element::F32};
        states.describe(spec, p);
        p.sequences = {spec.cu != FKDA_NONE ? bounds.data() : nullptr, true, static_cast<int>(spec.N), static_cast<int>(T)};
        p.status = &status;
        if (spec.g == FKDA_F32) p.g_f32 = g_f32.data(), p.g_strides = {T * HV * 128, HV * 128, 128};
        p.heads = static_cast<int>(HV), p.lower_bound = static_cast<float>(spec.lower_bound), p.is_raw = spec.norm == FKDA_QK_NORM_NONE;
        const fkdai_scale scale = fkdai_split_scale(static_cast<float>(spec.scale));
        p.scale = scale.q, p.out_factor = scale.out, p.usual_range = usual_range_of(p.out_factor);
        return p;
    }

    GateKind gate_kind(const Params &p) const {
        if (spec.gate == FKDA_GATE_SOFTPLUS) return GateKind::Softplus;
        if (spec.gate != FKDA_GATE_PRECOMPUTED) return GateKind::Bounded;
        return p.g_f32 != nullptr ? GateKind::PrecomputedF32 : GateKind::Precomputed;
    }

    bool has_raised_flags(const fkdai_prefill_layout &layout) const {
        const auto *const flag = reinterpret_cast<const uint64_t *>(workspace.data() + layout.is_ready), *const end = flag + (layout.cut - layout.is_ready) / 8;
        return std::find(flag, end, kLaunchNumber) != end;
    }

    // As fkdai_prefill_make_grid on a GPU of any size: without norm there is solo alone, and a quad stands in where an octet, a sextet or a quint cannot.
    fkdai_prefill_grid grid() const {
        const int jobs = static_cast<int>(spec.N * spec.HV), workers = setup.workers > 0 ? setup.workers : jobs;
        fkdai_prefill_mapping mapping = spec.norm == FKDA_QK_NORM_NONE ? FKDAI_SOLO : setup.mapping;
        if (mapping == FKDAI_OCTET && workers == jobs)
            mapping = fkdai_prefill_make_grid(FKDAI_OCTET, {rows, spec.N, spec.HV, 0}, CaseStates::stops(spec), 9 * (jobs + 1)).mapping;
        else if (mapping == FKDAI_OCTET || ((mapping == FKDAI_SEXTET || mapping == FKDAI_QUINT) && workers != jobs)) mapping = FKDAI_QUAD;
        return {mapping, workers, (mapping & FKDAI_EITHER) != 0 && spec.norm != FKDA_QK_NORM_NONE ? setup.quads : 0, 1};
    }

    static unsigned threads_of(GateKind kind, fkdai_prefill_mapping mapping) {
        if (mapping != FKDAI_QUAD) return kThreads;
        return kind == GateKind::PrecomputedF32 ? quad::Warps<quad::WideQuad>::kThreads : quad::Warps<quad::Quad>::kThreads;
    }

    // False after a deadlock, or if the same launch could not come again.
    bool run(unsigned seed, emulator::Laggard laggard = {}) {
        std::fill(out.begin(), out.end(), uint16_t{0xffff});
        store_states();
        if (tamper) tamper(states);
        Params p = params();
        const fkdai_prefill_grid grid = this->grid();
        const fkdai_prefill_jobs jobs{rows, spec.N, spec.HV, spec.cu != FKDA_NONE};
        fkdai_prefill_schedule schedule = fkdai_prefill_who_schedules(jobs, grid, CaseStates::stops(spec));
        if (schedule != FKDAI_SCHEDULE_NONE && setup.is_planned_once) schedule = FKDAI_SCHEDULE_ONCE;
        const fkdai_prefill_layout layout = fkdai_prefill_make_layout(spec.N, grid, schedule, CaseStates::stops(spec));
        const fkdai_prefill_grid quads = fkdai_prefill_quads(grid);
        const fkdai_prefill_layout behind = fkdai_prefill_make_layout(spec.N, quads, fkdai_prefill_who_schedules(jobs, quads, CaseStates::stops(spec)), CaseStates::stops(spec));
        const size_t bytes = layout.bytes + (grid.quads > 0 ? behind.bytes : 0);
        if (workspace.size() != bytes) workspace.assign(bytes, 0xff);
        place_workspace(p, grid, schedule, CaseStates::stops(spec), workspace.data(), kLaunchNumber);
        if (schedule == FKDAI_SCHEDULE_ONCE && !emulator::launch(1, 1, kPlanThreads, 1024, seed, [&] { plan_kernel(p); })) return false;
        p.turn = grid.quads > 0 ? Turn::First : Turn::Alone;
        bool ended = launch(p, grid, seed, laggard);
        const std::vector<uint16_t> out_of_first = out;
        if (ended && grid.quads > 0)
            ended = launch(place_quads(p, grid, jobs, CaseStates::stops(spec), workspace.data(), kLaunchNumber), quads, seed, laggard);
        quads_have_worked = out != out_of_first;
        read_final();
        return ended && !has_raised_flags(layout);
    }
    // As many bytes as dynamic_shared leaves of them on a GPU.
    bool launch(const Params &p, const fkdai_prefill_grid &grid, unsigned seed, emulator::Laggard laggard) const {
        return emulator::launch(static_cast<unsigned>(fkdai_prefill_blocks(grid)), static_cast<unsigned>(fkdai_prefill_ranks(grid)),
                                threads_of(gate_kind(p), grid.mapping), kSharedBytes - 1024, seed, [&] { prefill_thread(gate_kind(p), p); }, laggard);
    }

    bool same_bits(const Call &other) const {
        return out == other.out && memcmp(final.data(), other.final.data(), final.size() * sizeof(float)) == 0;
    }
    bool is_guard_kept() const { return std::all_of(out.end() - kGuard, out.end(), [](uint16_t x) { return x == 0xffff; }); }

    // Of the sequences that are not NaN.
    Errors errors() const {
        const oracle::Answer want = oracle::answer(spec, values);
        const int64_t sequences = spec.N - spec.last_is_nan, outs = spec.bounds[sequences] * spec.HV * 128;
        double d_out = 0, r_out = 1e-300, d_state = 0, r_state = 1e-300;
        for (int64_t i = 0; i < outs; i++) d_out += std::pow(low_bf16(out[i]) - want.out[i], 2), r_out += std::pow(want.out[i], 2);
        for (int64_t i = 0; i < sequences * spec.HV * 16384 && spec.final != FKDA_NONE; i++)
            d_state += std::pow(final[i] - want.state[i], 2), r_state += std::pow(want.state[i], 2);
        return {std::sqrt(d_out / r_out), std::sqrt(d_state / r_state)};
    }
    bool is_inside(const Errors &e) const {
        const accuracy_bar bar = bar_bf16_of(&spec);
        return e.out <= bar.out && e.state <= bar.state;
    }
};

}  // namespace emulated
