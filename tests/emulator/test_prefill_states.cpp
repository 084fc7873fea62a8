// test_prefill_states.cpp: where states lie and where checkpoints are wanted, in the emulated prefill kernels: in all mappings, in shuffled orders of
// the threads, however the timeline is cut.
#include <cstdlib>
#include <ctime>

#include "state_checks.h"

namespace {

using namespace emulated;

void pools() {
    check("pool, i32", "lens=20,0,14,33,1,70 s0_pool=i32 s1_pool=i32 H=1", {4});
    check("pool, i64, gaps", "lens=20,0,14,33,1,40 s0_pool=i64 s1_pool=i64 H=2 rows=gaps", {5, 2});
    check("pool, not positive is null", "lens=5,20,0,14,33,1,16,31,3 s0_pool=i32 s1_pool=i64 H=1 null=not_positive rows=gaps", {3});
    check("pool in place", "lens=20,0,14,33,1,16,7,8,300 s0_pool=i32 s1_pool=i32 place=same H=1", {3, 1});
    check("pool in place, bf16, [K,V], gaps", "lens=20,0,14,33,70 H=1 s0_pool=i64 s1_pool=i64 place=same rows=gaps s0=bf16 s1=bf16 s0_layout=nhkv s1_layout=nhkv", {2});
    check("pool, initial only", "B=6 T=19 H=1 s0_pool=i32", {2});
    check("pool, final only", "B=6 T=19 H=1 s1_pool=i64 s1=bf16", {2});
    check("pool of other dtypes", "lens=20,0,14,33 H=1 s0_pool=i32 s1_pool=i32 s0=bf16 s1=f32 s1_layout=nhkv", {2});
    check("pool in place, 2 value heads a key, beta times 2", "lens=20,0,14,33,70 H=2 HV=4 m=2 s0_pool=i32 s1_pool=i64 mask=some rows=gaps s1_layout=nhkv", {5});
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
    check("every 32, bf16", "lens=200,64,30 H=1 cp=bf16 cp_every=32", {2});
    check("every 64, chunks out of range", "lens=200,64 H=1 cp=f32 cp_every=64 gates=half values=vast", {2});
    check("every 80, fp32 gates", "lens=250,400 H=1 gate=precomputed g=f32 cp=f32 cp_every=80", {1});
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
    check("at offsets, long segments, cut", "lens=840,700 H=1 cp=f32 cp_per=1", {1});
    check("at offsets, every chunk scaled", "lens=70,53 H=1 cp=f32 cp_per=10 scale=700", {1});
    check("at offsets, no other state", "lens=70,40 H=1 cp=f32 cp_per=5 s0=none s1=none", {1});
    check("at offsets, 3 value heads a key, fp32 beta, cut", "lens=70,0,133,40 H=1 HV=3 beta=activated b=f32 m=2 cp=f32 cp_per=5 rows=gaps", {4});
    check("at offsets, at 8 bytes", "lens=70,40 H=1 cp=f32 cp_per=5", {1}, 2);
    check("every 64 tokens, at 8 bytes", "T=200 H=1 cp=f32 cp_every=64", {1}, 2);
    check("all forms", "lens=20,0,70,33,1,64 H=2 cp=f32 cp_per=5 cp_pool=i32 s0_pool=i32 s1_pool=i32 place=same mask=some rows=gaps tail=9", {5});
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
    check_refusal("broken cu_seqlens, pools, 2 value heads a key", "lens=20,0,14,33,70 s0_pool=i64 s1_pool=i64 cp=f32 cp_per=2 rows=gaps H=1 HV=2");
    check_refusal("broken cu_seqlens, checkpoints at offsets", "lens=40,0,14,33,70 cp=bf16 cp_per=5 H=1");
    check_refusal("broken cu_seqlens, checkpoints of a pool", "lens=48,0,16,32,64 cp=f32 cp_every=16 cp_pool=i32 s0=bf16 s1=bf16 H=1");
    check_nan_behind("NaN behind a checkpoint", "lens=53 cp=f32 cp_per=1 H=1");
    check_chunks("chunks, as roles see them");
    check_laggards("lanes that come late", "lens=100,33,0,70 cp=f32 cp_per=3 H=1 s0_pool=i32 s1_pool=i32");
}

void random_cases() {
    for (int64_t i = 0; i < (draws_are_few() ? 8 : 24); i++) check_random(draws_number() + i);
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
