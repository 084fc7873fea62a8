// state_checks.h: the ways in which test_prefill_states looks at a case.
#pragma once

#include <cstdio>
#include <string>

#include "counter_rng.h"
#include "wanted_states.h"

namespace emulated {

inline int failed = 0, ran = 0;

inline void report(const char *name, bool good, const std::string &note = "") {
    ran++, failed += !good;
    printf("%s %s%s\n", good ? "ok  " : "FAIL", name, note.c_str());
    fflush(stdout);
}


// With a worker for each job and with fewer, by every block for itself and once before.
inline void check(const char *name, const char *text, const std::vector<int> &workers = {}, int state_shift = 0) {
    if (!next_case_is_wanted()) return;
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    const Errors e = wanted.plain.errors();
    const char *wrong = wanted.plain.is_inside(e) ? nullptr : "  ACCURACY";
    std::vector<int> all{0};
    all.insert(all.end(), workers.begin(), workers.end());
    unsigned seed = 0;
    const auto size = static_cast<int64_t>(all.size());
    for (const int count : all)
        for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD, FKDAI_OCTET}) {
            if (!draw_is_wanted(seed, 4 * size, ran)) {
                seed++;
                continue;
            }
            Call call(spec, {count, mapping, seed % 2 == 1, state_shift});
            if (wrong == nullptr) wrong = difference(call, wanted, seed++);
            if (wrong != nullptr) return report(name, false, std::string(wrong) + " in mapping " + std::to_string(mapping) + " on " + std::to_string(count));
        }
    report(name, true);
}

// Something is broken in the case's arrays: `tamper` breaks it, `wanted` says what is lost.
inline void check_broken(const char *name, const char *text, unsigned status, const std::function<void(CaseStates &)> &tamper,
                  const std::function<void(Wanted &)> &adjust) {
    if (!next_case_is_wanted()) return;
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    wanted.status = status;
    adjust(wanted);
    const char *wrong = nullptr;
    for (unsigned i = 0; i < 6 && wrong == nullptr; i++) {
        if (!draw_is_wanted(i, 6, ran)) continue;
        Call call(spec, {i < 3 ? 0 : 2, i % 3 == 0 ? FKDAI_DUO : i % 3 == 1 ? FKDAI_SOLO : FKDAI_QUAD, i % 2 == 1});
        call.tamper = tamper;
        wrong = difference(call, wanted, i);
    }
    report(name, wrong == nullptr, wrong == nullptr ? "" : wrong);
}

// What the roles are told of each chunk: the truncated ones see the tokens up to their checkpoint, and nobody wants their O, which later chunks
// write again.
inline void check_chunks(const char *name) {
    const case_spec spec = kernel_case_parse(name, "lens=70 H=1 cp=f32 cp_per=3");
    Call call(spec, {});
    const int64_t offsets[] = {40, 64, 70};
    for (size_t i = 0; i < 3; i++) set(call.states.offsets, i, offsets[i]);
    const Params p = call.params();
    std::vector<ChunkInfo> seen;
    struct Queue {
        enum : bool { kIsLone = false, kIsPlain = false, kStateBehindTiles = false };
        SegmentQueue<2> segment_queue;
    };
    emulator::launch(1, 1, 32, 2048, 0, [&] {
        Queue &memory = dynamic_shared<Queue>();
        ChunkIterator<OwnSegments<Queue>> chunks{{{p, {&memory, uniform(shared_address(&memory))}, 0, 0, 0}}};
        const auto see = [&] {
            const ChunkInfo info = chunks.info();
            if (lane_here() == 0) seen.push_back(info);
        };
        while (chunks.open_segment([] {}))
            for (; chunks.chunk != chunks.end; chunks.chunk++, chunks.number++) see();
        see();  // what the end looks like
    });
    const int wanted[][3] = {{0, 32, 32}, {32, 8, 0}, {32, 32, 32}, {64, 6, 6}, {-1, 0, 0}};    // first token, rows, rows of O
    bool good = seen.size() == 5;
    for (size_t i = 0; i < 5 && good; i++)
        good = (wanted[i][0] < 0 || seen[i].token == wanted[i][0]) && seen[i].rows == wanted[i][1] && seen[i].rows_out == wanted[i][2];
    report(name, good);
}

// Broken cu_seqlens: what would have been written is NaN, and nothing else is written.
inline void check_refusal(const char *name, const char *text) {
    if (!next_case_is_wanted()) return;
    Call call(kernel_case_parse(name, text), {});
    const case_spec &s = call.spec;
    bool good = true;
    for (unsigned i = 0; i < 6 && good; i++) {
        if (!draw_is_wanted(i, 6, ran)) continue;
        call.setup = {i < 3 ? 0 : 2, i % 3 == 0 ? FKDAI_DUO : i % 3 == 1 ? FKDAI_SOLO : FKDAI_QUAD, i % 2 == 1};
        call.bounds[1] = -1, call.status = 0;
        call.store_states();
        StateMemory final = call.states.final, checkpoints = call.states.checkpoints;
        const std::vector<float> nan(static_cast<size_t>(s.HV * 16384), __uint_as_float(0x7fffffff));
        for (int64_t n = 0; n < s.N && s.final != FKDA_NONE; n++)
            if (case_final_row(&s, n) != CASE_NO_ROW) final.put_row(case_final_row(&s, n), s.HV, nan.data());
        for (int64_t r = 0; r + 1 < case_checkpoint_count(&s) && s.checkpoints != FKDA_NONE; r++)
            if (case_checkpoint_row(&s, r) != CASE_NO_ROW) checkpoints.put_row(case_checkpoint_row(&s, r), s.HV, nan.data());
        good = call.run(i) && call.status == 1 && call.states.final.bytes == final.bytes && call.states.checkpoints.bytes == checkpoints.bytes;
    }
    report(name, good);
}

// What lies behind the one checkpoint does not touch it, NaN neither.
inline void check_nan_behind(const char *name, const char *text) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    bool good = true;
    for (const int64_t tokens : {1, 15, 16, 17, 31, 33, 47, 52})
        for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD}) {
            if (!draw_is_wanted(mapping / 2, 3, tokens)) continue;
            Call call(spec, {0, mapping});
            const int64_t first = tokens * spec.HV;
            for (std::vector<uint16_t> *x : {&call.q, &call.k, &call.v, &call.g}) std::fill(x->begin() + first * 128, x->end(), uint16_t{0x7fff});
            std::fill(call.beta_bf16.begin() + first, call.beta_bf16.end(), uint16_t{0x7fff});
            std::fill(call.beta_f32.begin() + first, call.beta_f32.end(), NAN);
            call.tamper = [tokens](CaseStates &states) { set(states.offsets, 0, tokens); };
            StateMemory checkpoints = call.states.checkpoints;
            checkpoints.put_row(0, spec.HV, wanted.prefix(spec, 0, tokens).data());
            good = good && call.run(static_cast<unsigned>(tokens)) && wanted.is_good && call.states.checkpoints.bytes == checkpoints.bytes;
        }
    report(name, good);
}

// Lanes that come late, in every role; with few draws in one of its warps.
inline void check_laggards(const char *name, const char *text) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    const char *wrong = nullptr;
    const struct { fkdai_prefill_mapping mapping; int rank; std::vector<int> warps; } roles[] = {
        {FKDAI_DUO, 1, {0, 4, 12, 13, 14}}, {FKDAI_SOLO, 0, {0, 4, 8, 16, 17}}, {FKDAI_QUAD, 0, {0, 12, 13}}, {FKDAI_QUAD, 2, {4, 12, 13, 14}}};
    for (const auto &role : roles)
        for (size_t i = 0; i < role.warps.size(); i++) {
            if (!draw_is_wanted(static_cast<int64_t>(i), static_cast<int64_t>(role.warps.size()), role.rank)) continue;
            Call call(spec, {1, role.mapping});
            if (wrong == nullptr) wrong = difference(call, wanted, 1, {role.rank, role.warps[i]});
        }
    report(name, wrong == nullptr, wrong == nullptr ? "" : wrong);
}

// Any lengths, cuts and offsets, a few beyond the end: the same numbers in every run of one seed.
inline void check_random(int64_t number) {
    const uint64_t stream = rng_stream("random states", static_cast<uint64_t>(number));
    uint64_t drawn = 0;
    const auto below = [&](int64_t n) { return rng_below(stream, drawn++, n); };
    const int64_t N = 1 + below(4), H = 1 + below(3), each = below(2) ? 0 : below(2) ? 32 + 32 * below(4) : 1 + below(130), per = 1 + below(4);
    std::string text = "lens=";
    for (int64_t n = 0; n < N; n++) text.append(n ? "," : "").append(std::to_string(below(4) == 0 ? below(3) : below(260)));
    text.append(" H=").append(std::to_string(H)) += std::string(" s0_pool=i32 s1_pool=i64 mask=some") + (below(2) ? " rows=gaps" : "") + (below(2) ? " place=same" : "") +
            (below(2) ? " cp=f32" : " cp=bf16") + (below(2) ? " cp_layout=nhkv" : "") + (below(2) ? " cp_pool=i32" : "") +
            (each > 0 ? " cp_every=" + std::to_string(each) : " cp_per=" + std::to_string(per));
    const case_spec spec = kernel_case_parse(("random " + std::to_string(number)).c_str(), text.c_str());
    std::vector<int64_t> offsets;
    Wanted wanted(spec);
    for (int64_t i = 0; each == 0 && i < N * per; i++) {
        const int64_t length = spec.bounds[i / per + 1] - spec.bounds[i / per];
        offsets.push_back(below(8) == 0 ? length : below(3) == 0 ? 32 * below(9) : below(length + 2));
        wanted.status |= offsets.back() > length ? 4 : 0;
    }
    wanted.offsets = offsets;
    const int jobs = static_cast<int>(N * H), workers = jobs > 1 ? static_cast<int>(below(jobs)) : 0;
    const char *wrong = nullptr;
    int64_t run = 0;
    for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD, workers > 0 ? FKDAI_EITHER : FKDAI_OCTET}) {
        if (!draw_is_wanted(run++, 4, number)) continue;
        Call call(spec, {workers, mapping, below(2) == 1});
        call.tamper = [&](CaseStates &states) {
            for (size_t i = 0; i < offsets.size(); i++) set(states.offsets, i, offsets[i]);
        };
        if (wrong == nullptr) wrong = difference(call, wanted, static_cast<unsigned>(below(1000)));
    }
    report(spec.name, wrong == nullptr, wrong == nullptr ? "" : std::string(wrong).append("  ").append(text).append(" on ").append(std::to_string(workers)));
}

}  // namespace emulated
