// test_prefill_states.cpp: where states lie and where checkpoints are wanted, in the emulated prefill kernels.
//
// A case must give the bits of the same call on plain memory, each checkpoint those of the final state of a run that ends there, and every other
// byte of its states must stay what it was: in all mappings, in shuffled orders of the threads, however the timeline is cut.
#include "emulated_call.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <string>

#include "counter_rng.h"

namespace {

using namespace emulated;

int failed = 0, ran = 0;

void report(const char *name, bool good, const std::string &note = "") {
    ran++, failed += !good;
    printf("%s %s%s\n", good ? "ok  " : "FAIL", name, note.c_str());
    fflush(stdout);
}

void set(IndexArray &x, size_t i, int64_t value) { x.narrow[i] = static_cast<int32_t>(value), x.wide[i] = value; }

case_spec without_checkpoints(case_spec s) {
    s.is_plain = 1, s.in_place = 0, s.final_pool = s.checkpoints = FKDA_NONE;
    return s;
}

// What the memory of a case must hold afterwards.
struct Wanted {
    Call plain;
    std::set<int64_t> lost_final, lost_checkpoints;    // sequences and rows that are not written, as something is broken there
    unsigned status = 0;
    std::map<std::pair<int64_t, int64_t>, std::vector<float>> prefixes;
    bool is_good;

    explicit Wanted(const case_spec &s) : plain(without_checkpoints(s), {}), is_good(plain.run(0)) {}

    void start_from_0(int64_t n) {
        std::fill_n(plain.values.initial + n * case_state_elems(&plain.spec), case_state_elems(&plain.spec), 0.f);
        is_good = plain.run(0) && is_good;
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
            if (case_final_row(&s, n) != CASE_NO_ROW && lost_final.count(n) == 0) to.put_row(case_final_row(&s, n), s.H, plain.final.data() + n * s.H * 16384);
    }
    void put_checkpoints(const case_spec &s, StateMemory &to) {
        for (int64_t i = 0; i < case_checkpoint_count(&s) && s.checkpoints != FKDA_NONE; i++) {
            int64_t n, tokens;
            if (case_has_checkpoint(&s, i, &n, &tokens) && lost_checkpoints.count(i) == 0) to.put_row(case_checkpoint_row(&s, i), s.H, prefix(s, n, tokens).data());
        }
    }
};

// One run of a case as it lies.
const char *difference(Call &call, Wanted &wanted, unsigned seed, emulator::Laggard laggard = {}) {
    call.status = 0;
    call.store_states();
    if (call.tamper) call.tamper(call.states);
    StateMemory final = call.states.final, checkpoints = call.states.checkpoints;
    const StateMemory initial = call.states.initial;
    wanted.put_final(call.spec, final);
    wanted.put_checkpoints(call.spec, checkpoints);
    if (!wanted.is_good) return "  the plain run failed";
    if (!call.run(seed, laggard)) return "  did not end";
    if (call.out != wanted.plain.out) return "  OUT";
    if (call.states.final.bytes != final.bytes) return "  FINAL STATES";
    if (call.states.checkpoints.bytes != checkpoints.bytes) return "  CHECKPOINTS";
    if (call.states.initial.bytes != initial.bytes) return "  INITIAL STATES WRITTEN";
    return call.status == wanted.status ? nullptr : "  STATUS";
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
    check("every 64, cut", "lens=450,64 H=2 cp=f32 cp_every=64", {3, 2});
    check("every 1", "lens=70,3 H=1 cp=f32 cp_every=1", {1});
    check("every 7, bf16, [K,V], gaps", "lens=20,0,3,50,1,49 H=1 cp=bf16 cp_every=7 cp_layout=nhkv rows=gaps", {2});
    check("every 16, cut", "lens=300,31 H=2 cp=f32 cp_every=16", {3});
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
    check_broken("more checkpoints than rows, none at all", at, 4, [](CaseStates &s) { s.checkpoint_count = 0; },
                 [](Wanted &w) { for (int64_t i = 0; i < 25; i++) w.lost_checkpoints.insert(i); });
    check_broken("offset beyond the end", at, 4, [](CaseStates &s) { set(s.offsets, 0, 41); }, [](Wanted &w) { w.lost_checkpoints = {0}; });
    check_broken("offset beyond the end of an empty sequence", at, 4, [](CaseStates &s) { set(s.offsets, 7, 1); }, [](Wanted &w) { w.lost_checkpoints = {7}; });
    check_broken("offset of 2^32 + 16", at, 4, [](CaseStates &s) { set(s.offsets, 20, (int64_t{1} << 32) + 16); }, [](Wanted &w) { w.lost_checkpoints = {20}; });
    check_broken("offset of INT64_MIN: none", at, 0, [](CaseStates &s) { set(s.offsets, 20, INT64_MIN); }, [](Wanted &w) { w.lost_checkpoints = {20}; });
    check_refusal("broken cu_seqlens, pools", "lens=20,0,14,33,70 s0_pool=i64 s1_pool=i64 s1_layout=nhkv rows=gaps H=2");
    check_refusal("broken cu_seqlens, checkpoints at offsets", "lens=40,0,14,33,70 cp=bf16 cp_per=5 H=1");
    check_refusal("broken cu_seqlens, checkpoints of a pool", "lens=48,0,16,32,64 cp=f32 cp_every=16 cp_pool=i32 s0=bf16 s1=bf16 H=1");
    check_nan_behind("NaN behind a checkpoint", "lens=53 cp=f32 cp_per=1 H=1");
    check_laggards("lanes that come late", "lens=100,33,0,70 cp=f32 cp_per=3 H=1 s0_pool=i32 s1_pool=i32");
}

}  // namespace

// test_prefill_states [pools | layouts | checkpoints | broken]...      without a word: all of them
int main(int argc, char **argv) {
    setenv("FKDA_TEST_SEED", "1", 0);    // a few rows have no sharp bar
    rng_seed();
    const std::pair<std::string, void (*)()> parts[] = {{"pools", pools}, {"layouts", layouts}, {"checkpoints", checkpoints}, {"broken", broken}};
    for (const auto &[name, run] : parts) {
        const bool is_wanted = argc == 1 || std::find(argv + 1, argv + argc, name) != argv + argc;
        const clock_t start = clock();
        if (is_wanted) run(), printf("     %s: %.1f s\n", name.c_str(), static_cast<double>(clock() - start) / CLOCKS_PER_SEC);
    }
    printf("test_prefill_states: ran %d, failed %d\n", ran, failed);
    return failed != 0 || ran == 0;
}
