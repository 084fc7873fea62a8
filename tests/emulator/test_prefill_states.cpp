// test_prefill_states.cpp: where states lie and where checkpoints are wanted, in the emulated prefill kernels: in all mappings, in shuffled orders of
// the threads, however the timeline is cut.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "wanted_states.h"

#include "counter_rng.h"

namespace {

using namespace emulated;

int failed = 0, ran = 0;

void report(const char *name, bool good, const std::string &note = "") {
    ran++, failed += !good;
    printf("%s %s%s\n", good ? "ok  " : "FAIL", name, note.c_str());
    fflush(stdout);
}


// With a worker for each job and with fewer, by every block for itself and once before.
void check(const char *name, const char *text, const std::vector<int> &workers = {}, int state_shift = 0) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    const Errors e = wanted.plain.errors();
    const char *wrong = wanted.plain.is_inside(e) ? nullptr : "  ACCURACY";
    std::vector<int> all{0};
    all.insert(all.end(), workers.begin(), workers.end());
    unsigned seed = 0;
    for (const int count : all)
        for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD}) {
            Call call(spec, {count, mapping, seed % 2 == 1, state_shift});
            if (wrong == nullptr) wrong = difference(call, wanted, seed++);
            if (wrong != nullptr) return report(name, false, std::string(wrong) + " in mapping " + std::to_string(mapping) + " on " + std::to_string(count));
        }
    report(name, true);
}

void pools() {
    check("pool, i32", "lens=20,0,14,33,1,70 s0_pool=i32 s1_pool=i32 H=1", {4});
    check("pool, i64, gaps", "lens=20,0,14,33,1,40 s0_pool=i64 s1_pool=i64 H=2 rows=gaps", {5, 2});
    check("pool, not positive is null", "lens=5,20,0,14,33,1,16,31,3 s0_pool=i32 s1_pool=i64 H=1 null=not_positive rows=gaps", {3});
    check("pool in place", "lens=20,0,14,33,1,16,7,8,300 s0_pool=i32 s1_pool=i32 place=same H=1", {3, 1});
    check("pool in place, bf16, [K,V], gaps", "lens=20,0,14,33,70 H=1 s0_pool=i64 s1_pool=i64 place=same rows=gaps s0=bf16 s1=bf16 s0_layout=nhkv s1_layout=nhkv", {2});
    check("pool, initial only", "B=6 T=19 H=1 s0_pool=i32", {2});
    check("pool, final only", "B=6 T=19 H=1 s1_pool=i64 s1=bf16", {2});
    check("pool of other dtypes", "lens=20,0,14,33 H=1 s0_pool=i32 s1_pool=i32 s0=bf16 s1=f32 s1_layout=nhkv", {2});
    check("mask", "lens=20,7,14,33,0,16 mask=some rows=gaps H=2", {3});
    check("mask, pool in place", "lens=20,7,14,33,0,16,5,5 mask=some s0_pool=i32 s1_pool=i32 place=same H=1", {3});
    check("mask without states", "lens=20,7 mask=some s0=none s1=none H=1");
    check("empty sequences of a pool", "lens=0,0,0,0,0,0,0,0 mask=some s0_pool=i32 s1_pool=i32 H=1", {3});
}

void layouts() {
    for (const char *s0 : {"bf16", "f32"})
        for (const char *s1 : {"bf16", "f32"})
            for (const char *l0 : {"nhvk", "nhkv"})
                for (const char *l1 : {"nhvk", "nhkv"}) {
                    const std::string words = std::string("s0=") + s0 + " s1=" + s1 + " s0_layout=" + l0 + " s1_layout=" + l1;
                    check(words.c_str(), ("lens=40,0,33 H=2 " + words).c_str(), {2});
                }
    check("[K,V] fp32 at 4 bytes", "lens=40,33 H=1 s0_layout=nhkv s1_layout=nhkv", {1}, 1);
    check("[K,V] bf16 at 2 bytes", "lens=40,33 H=1 s0=bf16 s1=bf16 s0_layout=nhkv s1_layout=nhkv", {1}, 1);
    check("[K,V] in place, cut", "lens=300 H=3 place=same s0_layout=nhkv s1_layout=nhkv", {2});
}

void checkpoints() {
    check("every 32", "lens=100,0,32,31,70 H=1 cp=f32 cp_every=32", {3, 1});
    for (const char *every : {"64", "96", "160", "80", "150"})    // the second of three jobs is cut at token 160
        check((std::string("every ") + every + ", cut").c_str(), (std::string("lens=400 H=3 cp=f32 cp_every=") + every).c_str(), {2});
    check("every 32, pool, gaps", "lens=400,64,30 H=1 cp=f32 cp_every=32 cp_pool=i32 rows=gaps", {2});
    check("every 32, bf16, pool, [K,V]", "lens=300,64 H=1 cp=bf16 cp_layout=nhkv cp_every=32 cp_pool=i64", {1});
    check("every 1", "lens=70,3 H=1 cp=f32 cp_every=1", {1});
    check("every 7, bf16, [K,V], gaps", "lens=20,0,3,50,1,49 H=1 cp=bf16 cp_every=7 cp_layout=nhkv rows=gaps", {2});
    check("every 16, cut", "lens=400,31 H=3 cp=f32 cp_every=16", {2});
    check("every 1000: none", "lens=20,0,3 H=1 cp=f32 cp_every=1000", {2});
    check("every 10, dense, pool", "B=3 T=40 H=2 cp=f32 cp_every=10 cp_pool=i32", {4});
    check("every 9, pool", "lens=100,0,37,64,5 H=1 cp=f32 cp_every=9 cp_pool=i64 null=not_positive rows=gaps", {2});
    check("at offsets, one", "lens=20,0,3,17,64,70,65,1 H=1 cp=f32 cp_offsets=i32", {3});
    check("at offsets, three, bf16", "lens=20,0,3,17,64,70,65,1 H=1 cp=bf16 cp_per=3 cp_layout=nhkv s1=none", {3});
    check("at offsets, ten", "lens=100,33,0,31 H=2 cp=f32 cp_per=10", {5, 2});
    check("at offsets, ten, cut", "lens=450 H=5 cp=f32 cp_per=10 cp_offsets=i32", {4, 3, 2});
    check("at offsets, no other state", "lens=70,40 H=1 cp=f32 cp_per=5 s0=none s1=none", {1});
    check("at offsets, at 8 bytes", "lens=70,40 H=1 cp=f32 cp_per=5", {1}, 2);
    check("all forms", "lens=20,0,70,33,1,64 H=2 cp=f32 cp_per=5 cp_pool=i32 s0_pool=i32 s1_pool=i32 place=same mask=some rows=gaps tail=9", {5});
}

// Something is broken in the case's arrays: `tamper` breaks it, `wanted` says what is lost.
void check_broken(const char *name, const char *text, unsigned status, const std::function<void(CaseStates &)> &tamper,
                  const std::function<void(Wanted &)> &adjust) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    wanted.status = status;
    adjust(wanted);
    const char *wrong = nullptr;
    for (unsigned i = 0; i < 6 && wrong == nullptr; i++) {
        Call call(spec, {i < 3 ? 0 : 2, i % 3 == 0 ? FKDAI_DUO : i % 3 == 1 ? FKDAI_SOLO : FKDAI_QUAD, i % 2 == 1});
        call.tamper = tamper;
        wrong = difference(call, wanted, i);
    }
    report(name, wrong == nullptr, wrong == nullptr ? "" : wrong);
}

// What the roles are told of each chunk: the truncated ones see the tokens up to their checkpoint, and nobody wants their O, which later chunks
// write again.
void check_chunks(const char *name) {
    const case_spec spec = kernel_case_parse(name, "lens=70 H=1 cp=f32 cp_per=3");
    Call call(spec, {});
    const int64_t offsets[] = {40, 64, 70};
    for (size_t i = 0; i < 3; i++) set(call.states.offsets, i, offsets[i]);
    const Params p = call.params();
    std::vector<ChunkInfo> seen;
    emulator::launch(1, 1, 32, 1024, 0, [&] {
        SegmentIterator segments(p, 0);
        for (ChunkIterator<false> chunks(p, 0, segments); chunks.valid;) {
            chunks.advance(p);
            const ChunkInfo info = chunks.info();
            if (lane_here() == 0) seen.push_back(info);
        }
    });
    const int wanted[][3] = {{0, 32, 32}, {32, 8, 0}, {32, 32, 32}, {64, 6, 6}, {-1, 0, 0}};    // first token, rows, rows of O
    bool good = seen.size() == 5;
    for (size_t i = 0; i < 5 && good; i++)
        good = (wanted[i][0] < 0 || seen[i].token == wanted[i][0]) && seen[i].rows == wanted[i][1] && seen[i].rows_out == wanted[i][2];
    report(name, good);
}

// Broken cu_seqlens: what would have been written is NaN, and nothing else is written.
void check_refusal(const char *name, const char *text) {
    Call call(kernel_case_parse(name, text), {});
    const case_spec &s = call.spec;
    bool good = true;
    for (unsigned i = 0; i < 6 && good; i++) {
        call.setup = {i < 3 ? 0 : 2, i % 3 == 0 ? FKDAI_DUO : i % 3 == 1 ? FKDAI_SOLO : FKDAI_QUAD, i % 2 == 1};
        call.bounds[1] = -1, call.status = 0;
        call.store_states();
        StateMemory final = call.states.final, checkpoints = call.states.checkpoints;
        const std::vector<float> nan(static_cast<size_t>(s.H * 16384), __uint_as_float(0x7fffffff));
        for (int64_t n = 0; n < s.N && s.final != FKDA_NONE; n++)
            if (case_final_row(&s, n) != CASE_NO_ROW) final.put_row(case_final_row(&s, n), s.H, nan.data());
        for (int64_t r = 0; r + 1 < case_checkpoint_count(&s) && s.checkpoints != FKDA_NONE; r++)
            if (case_checkpoint_row(&s, r) != CASE_NO_ROW) checkpoints.put_row(case_checkpoint_row(&s, r), s.H, nan.data());
        good = call.run(i) && call.status == 1 && call.states.final.bytes == final.bytes && call.states.checkpoints.bytes == checkpoints.bytes;
    }
    report(name, good);
}

// What lies behind the one checkpoint does not touch it, NaN neither.
void check_nan_behind(const char *name, const char *text) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    bool good = true;
    for (const int64_t tokens : {1, 15, 16, 17, 31, 33, 47, 52})
        for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD}) {
            Call call(spec, {0, mapping});
            const int64_t first = tokens * spec.H;
            for (std::vector<uint16_t> *x : {&call.q, &call.k, &call.v, &call.g}) std::fill(x->begin() + first * 128, x->end(), uint16_t{0x7fff});
            std::fill(call.beta.begin() + first, call.beta.end(), uint16_t{0x7fff});
            call.tamper = [tokens](CaseStates &states) { set(states.offsets, 0, tokens); };
            StateMemory checkpoints = call.states.checkpoints;
            checkpoints.put_row(0, spec.H, wanted.prefix(spec, 0, tokens).data());
            good = good && call.run(static_cast<unsigned>(tokens)) && wanted.is_good && call.states.checkpoints.bytes == checkpoints.bytes;
        }
    report(name, good);
}

// Lanes that come late, in every role.
void check_laggards(const char *name, const char *text) {
    const case_spec spec = kernel_case_parse(name, text);
    Wanted wanted(spec);
    const char *wrong = nullptr;
    const struct { fkdai_prefill_mapping mapping; int rank; std::vector<int> warps; } roles[] = {
        {FKDAI_DUO, 1, {0, 4, 12, 13, 14}}, {FKDAI_SOLO, 0, {0, 4, 8, 16, 17}}, {FKDAI_QUAD, 0, {0, 12, 13}}, {FKDAI_QUAD, 2, {4, 12, 13, 14}}};
    for (const auto &role : roles)
        for (const int warp : role.warps) {
            Call call(spec, {1, role.mapping});
            if (wrong == nullptr) wrong = difference(call, wanted, 1, {role.rank, warp});
        }
    report(name, wrong == nullptr, wrong == nullptr ? "" : wrong);
}

void broken() {
    const char *const pool = "lens=20,0,14,33,70 s0_pool=i32 s1_pool=i32 H=1", *const wide = "lens=20,0,14,33,70 s0_pool=i64 s1_pool=i64 H=1";
    const auto keep = [](Wanted &) {};
    check_broken("initial slot = slot_count", pool, 2, [](CaseStates &s) { set(s.initial_slots, 4, s.initial.rows); }, [](Wanted &w) { w.start_from_0(4); });
    check_broken("initial slot = 2^40", wide, 2, [](CaseStates &s) { set(s.initial_slots, 0, int64_t{1} << 40); }, [](Wanted &w) { w.start_from_0(0); });
    check_broken("initial slot of INT64_MIN: null", wide, 0, [](CaseStates &s) { set(s.initial_slots, 0, INT64_MIN); }, [](Wanted &w) { w.start_from_0(0); });
    check_broken("initial slot behind a mask is not looked at", "lens=20,9,14 s0_pool=i32 s1_pool=i32 mask=some H=1", 0,
                 [](CaseStates &s) { set(s.initial_slots, 1, s.initial.rows); }, keep);
    check_broken("final slot = slot_count", pool, 2, [](CaseStates &s) { set(s.final_slots, 1, s.final.rows); }, [](Wanted &w) { w.lost_final = {1}; });
    check_broken("final slot = INT64_MAX", wide, 2, [](CaseStates &s) { set(s.final_slots, 4, INT64_MAX); }, [](Wanted &w) { w.lost_final = {4}; });
    const char *const every = "lens=40,0,14,33,70 cp=f32 cp_every=16 cp_pool=i32 H=1", *const at = "lens=40,0,14,33,70 cp=f32 cp_per=5 H=1";
    check_broken("checkpoint slot = slot_count", every, 2, [](CaseStates &s) { set(s.checkpoint_slots, 1, s.checkpoints.rows); },
                 [](Wanted &w) { w.lost_checkpoints = {1}; });
    check_broken("slot of a row without checkpoint is not looked at", at, 0, [](CaseStates &s) { set(s.checkpoint_slots, 25, INT32_MAX); }, keep);
    check_broken("more checkpoints than rows", every, 4, [](CaseStates &s) { s.checkpoint_count = 3; },
                 [](Wanted &w) { for (int64_t i = 3; i < 20; i++) w.lost_checkpoints.insert(i); });
    check_broken("more checkpoints than rows, every chunk", "lens=140,33,70 cp=f32 cp_every=32 H=1", 4, [](CaseStates &s) { s.checkpoint_count = 3; },
                 [](Wanted &w) { for (int64_t i = 3; i < 20; i++) w.lost_checkpoints.insert(i); });
    check_broken("more checkpoints than rows, none at all", at, 4, [](CaseStates &s) { s.checkpoint_count = 0; },
                 [](Wanted &w) { for (int64_t i = 0; i < 25; i++) w.lost_checkpoints.insert(i); });
    check_broken("offset beyond the end", at, 4, [](CaseStates &s) { set(s.offsets, 0, 41); }, [](Wanted &w) { w.lost_checkpoints = {0}; });
    check_broken("offset beyond the end of an empty sequence", at, 4, [](CaseStates &s) { set(s.offsets, 7, 1); }, [](Wanted &w) { w.lost_checkpoints = {7}; });
    check_broken("offset of 2^32 + 16", at, 4, [](CaseStates &s) { set(s.offsets, 20, (int64_t{1} << 32) + 16); }, [](Wanted &w) { w.lost_checkpoints = {20}; });
    check_broken("offset of 16 - 2^32: none", at, 0, [](CaseStates &s) { set(s.offsets, 20, 16 - (int64_t{1} << 32)); }, [](Wanted &w) { w.lost_checkpoints = {20}; });
    check_broken("offset of INT64_MIN: none", at, 0, [](CaseStates &s) { set(s.offsets, 20, INT64_MIN); }, [](Wanted &w) { w.lost_checkpoints = {20}; });
    check_refusal("broken cu_seqlens, pools", "lens=20,0,14,33,70 s0_pool=i64 s1_pool=i64 s1_layout=nhkv rows=gaps H=2");
    check_refusal("broken cu_seqlens, checkpoints at offsets", "lens=40,0,14,33,70 cp=bf16 cp_per=5 H=1");
    check_refusal("broken cu_seqlens, checkpoints of a pool", "lens=48,0,16,32,64 cp=f32 cp_every=16 cp_pool=i32 s0=bf16 s1=bf16 H=1");
    check_nan_behind("NaN behind a checkpoint", "lens=53 cp=f32 cp_per=1 H=1");
    check_chunks("chunks, as roles see them");
    check_laggards("lanes that come late", "lens=100,33,0,70 cp=f32 cp_per=3 H=1 s0_pool=i32 s1_pool=i32");
}

// Any lengths, cuts and offsets, a few beyond the end: the same numbers in every run of one seed.
void check_random(int64_t number) {
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
    for (const fkdai_prefill_mapping mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD, FKDAI_EITHER}) {
        if (mapping == FKDAI_EITHER && workers == 0) continue;
        Call call(spec, {workers, mapping, below(2) == 1});
        call.tamper = [&](CaseStates &states) {
            for (size_t i = 0; i < offsets.size(); i++) set(states.offsets, i, offsets[i]);
        };
        if (wrong == nullptr) wrong = difference(call, wanted, static_cast<unsigned>(below(1000)));
    }
    report(spec.name, wrong == nullptr, wrong == nullptr ? "" : std::string(wrong).append("  ").append(text).append(" on ").append(std::to_string(workers)));
}

void random_cases() {
    for (int64_t i = 0; i < 24; i++) check_random(i);
}

}  // namespace

// test_prefill_states [pools | layouts | checkpoints | broken | random]...      without a word: all of them
int main(int argc, char **argv) {
    setenv("FKDA_TEST_SEED", "1", 0);    // a few rows have no sharp bar
    rng_seed();
    const std::pair<std::string, void (*)()> parts[] = {{"pools", pools}, {"layouts", layouts}, {"checkpoints", checkpoints}, {"broken", broken},
                                                          {"random", random_cases}};
    for (const auto &[name, run] : parts) {
        const bool is_wanted = argc == 1 || std::find(argv + 1, argv + argc, name) != argv + argc;
        const clock_t start = clock();
        if (is_wanted) run(), printf("     %s: %.1f s\n", name.c_str(), static_cast<double>(clock() - start) / CLOCKS_PER_SEC);
    }
    printf("test_prefill_states: ran %d, failed %d\n", ran, failed);
    return failed != 0 || ran == 0;
}
