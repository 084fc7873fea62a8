// test_prefill_emulated.cpp: the prefill kernels' own source, run thread by thread on the host, against the float64 oracle.
//
// Every case runs in all mappings, with a fixed and with shuffled orders of the threads, on poisoned shared memory, and must give the same bits.
#include "emulated_call.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "counter_rng.h"

namespace {

using namespace emulated;

int failed = 0, ran = 0;

void report(const char *name, bool good, const char *note = "") {
    ran++, failed += !good;
    printf("%s %s%s\n", good ? "ok  " : "FAIL", name, note);
    fflush(stdout);
}
void report(const char *name, bool good, const Errors &e, const char *note = "") {
    ran++, failed += !good;
    printf("%s %-44s out %.2e state %.2e%s\n", good ? "ok  " : "FAIL", name, e.out, e.state, note);
    fflush(stdout);
}

case_spec parse(const char *name, const char *text) { return kernel_case_parse(name, text); }

// Duos, solo, quads, octets, and shuffled orders of all: the same bits. A_log: of the first head, in place of what is drawn.
void check(const char *name, const char *text, const Setup &setup = {}, const float *A_log = nullptr) {
    if (!next_case_is_wanted()) return;
    Call first(parse(name, text), setup), call(first.spec, setup);
    if (A_log != nullptr) first.values.A_log[0] = call.values.A_log[0] = *A_log;
    bool good = first.run(0), repeats = true;
    const Errors e = good ? first.errors() : Errors{NAN, NAN};
    for (unsigned i = 1; good && i <= 9; i++) {
        if (!draw_is_wanted(i, 9, ran)) continue;
        call.setup.mapping = i == 9 ? FKDAI_SEXTET : i >= 7 ? FKDAI_OCTET : i == 6 ? FKDAI_QUINT : i == 5 ? FKDAI_QUAD : i >= 3 ? FKDAI_SOLO : FKDAI_DUO;
        good = call.run(i % 3);
        repeats = repeats && first.same_bits(call);
    }
    const bool guard_kept = first.is_guard_kept() && call.is_guard_kept();
    good = good && repeats && guard_kept && first.status == 0 && call.status == 0 && first.is_inside(e);
    report(name, good, e, !repeats ? "  NOT REPEATED" : !guard_kept ? "  GUARD TOUCHED" : "");
}

// A beta like no other, activated and in fp32, of the first token: what float64 makes of it, and no clamp. Nothing decays it.
void check_far_betas(const char *name, const char *text) {
    bool good = true;
    Errors worst{0, 0};
    for (const float beta : {0x1p120f, -0x1p120f, -0x1p60f, -37.f, 0x1p-20f, -0x1p-60f, 0x1p-149f, -0.f}) {
        Call call(parse(name, text), {});
        call.values.beta[0] = beta, call.store_inputs();
        for (unsigned i = 0; i < 2 && good; i++) {
            if (!draw_is_wanted(i, 2, std::signbit(beta))) continue;
            call.setup.mapping = i == 0 ? FKDAI_DUO : FKDAI_SOLO;
            good = call.run(i);
            const Errors e = call.errors();
            good = good && call.is_inside(e);
            if (!good) printf("  beta = %g: out %.2e state %.2e\n", static_cast<double>(beta), e.out, e.state);
            worst = {std::max(worst.out, e.out), std::max(worst.state, e.state)};
        }
    }
    report(name, good, worst);
}

// One product divides by the number of value heads that share a key, up to the limit of what the host side takes.
void check_key_heads(const char *name) {
    bool good = true;
    for (uint64_t each = 1; each <= 1 << 16; each += 1 + each / 7) {
        const uint64_t keys = std::min<uint64_t>((uint64_t{1} << 32) / each / each, (1 << 30) / each);
        Params p{};
        p.key_factor = key_factor_of(static_cast<uint32_t>(each));
        for (uint64_t key = 0; key < keys; key += 1 + key / 3)
            for (const uint64_t head : {key * each, key * each + each / 2, key * each + each - 1})
                good = good && key_head(p, static_cast<int>(head)) == static_cast<int>(key);
        good = good && key_head(p, static_cast<int>(keys * each - 1)) == static_cast<int>(keys - 1);
    }
    report(name, good);
}

// However the timeline is cut, the bits are those of one worker for each (sequence, head).
void check_cuts(const char *name, const char *text, const std::vector<int> &workers) {
    if (!next_case_is_wanted()) return;
    const case_spec spec = parse(name, text);
    Call direct(spec, {});
    bool good = direct.run(0);
    for (size_t i = 0; i < 9 * workers.size() && good; i++) {
        const size_t draw = i % 9;
        if (!draw_is_wanted(static_cast<int64_t>(i), 9, ran + static_cast<int64_t>(i / 9))) continue;
        const fkdai_prefill_mapping mapping = draw < 2 ? FKDAI_DUO : draw < 4 ? FKDAI_SOLO : draw < 6 ? FKDAI_EITHER : draw < 7 ? FKDAI_QUINT : FKDAI_QUAD;
        Call cut(spec, {workers[i / 9], mapping, draw % 2 == 1});
        good = cut.run(static_cast<unsigned>(i)) && cut.same_bits(direct);
    }
    report(name, good);
}

// Duo or solo, and behind them quads: the device takes the ones that end first, the bits are the same, and the others leave nothing.
void check_turns(const char *name, const char *text, const Setup &setup, bool wants_quads) {
    if (!next_case_is_wanted()) return;
    const case_spec spec = parse(name, text);
    Call direct(spec, {}), chosen(spec, setup);
    bool good = direct.run(0);
    for (unsigned i = 0; i < 2 && good; i++) {
        good = chosen.run(i) && chosen.same_bits(direct) && chosen.quads_have_worked == wants_quads;
    }
    report(name, good);
}

// The mapping of run i of four; EITHER where the timeline is cut, an octet where it is not.
fkdai_prefill_mapping mapping_of_run(size_t i, const Setup &setup) {
    return i % 4 == 0 ? FKDAI_DUO : i % 4 == 1 ? FKDAI_QUAD : i % 4 == 2 ? FKDAI_SOLO : setup.workers == 0 ? FKDAI_OCTET : FKDAI_EITHER;
}

// Whatever is wrong with cu_seqlens: every element of out and of the final state is NaN, the status word has its bit, nothing else is written.
void check_refusal(const char *name, const char *text, const Setup &setup = {}) {
    if (!next_case_is_wanted()) return;
    static const std::vector<std::vector<int64_t>> broken{{0, 40, 20, 70}, {1, 30, 40, 70}, {0, 30, 40, 71}, {0, -5, 40, 70},
                                                          {0, 30, INT64_MAX, 70}, {INT64_MIN, 0, 0, 70}, {0, 30, 40, (int64_t{1} << 32) + 70}};
    Call call(parse(name, text), setup);
    bool good = true;
    for (size_t i = 0; i < 4 * broken.size() && good; i++) {
        if (!draw_is_wanted(static_cast<int64_t>(i), 4, ran + static_cast<int64_t>(i / 4))) continue;
        call.bounds = broken[i / 4], call.status = 2;
        call.setup.mapping = mapping_of_run(i, setup);
        good = call.run(static_cast<unsigned>(i)) && call.status == 3;
        std::vector<uint16_t> want(call.out.size() - kGuard, 0x7fff);  // the poison has the other sign
        want.resize(call.out.size(), 0xffff);
        good = good && call.out == want && std::all_of(call.final.begin(), call.final.end(), [](float x) { return x != x && !std::signbit(x); });
    }
    report(name, good);
}

// cu_seqlens that ends before T: the sequences as they are alone, and the rows behind them, NaN on the way in, keep their poison.
void check_short(const char *name, const char *text, const Setup &setup = {}) {
    if (!next_case_is_wanted()) return;
    Call call(parse(name, text), setup);
    const auto valid = static_cast<ptrdiff_t>(case_rows(&call.spec) * call.spec.HV * 128);
    Errors e{NAN, NAN};
    bool good = true;
    std::vector<uint16_t> first;
    for (unsigned i = 0; i < 4 && good; i++) {
        call.setup.mapping = mapping_of_run(i, setup);
        good = call.run(i) && call.status == 0 && std::all_of(call.out.begin() + valid, call.out.end(), [](uint16_t x) { return x == 0xffff; });
        if (i == 0) e = call.errors(), first = call.out;
        good = good && first == call.out && call.is_inside(e);
    }
    report(name, good, e);
}

// Lanes of a warp that come late, in every role, with few draws in one of its warps: nobody misses a phase, and the bits are the same.
void check_laggards(const char *name, const char *text) {
    Call first(parse(name, text), {}), call(first.spec, {});
    bool good = first.run(1);
    const struct { fkdai_prefill_mapping mapping; int rank; std::vector<int> warps; } roles[] = {
        {FKDAI_DUO, 1, {0, 4, 8, 12, 13, 14, 16}}, {FKDAI_SOLO, 0, {0, 4, 8, 16, 17, 19}},
        {FKDAI_QUAD, 0, {0, 16, 17, 18, 19}}, {FKDAI_QUAD, 2, {0, 4, 8, 12, 16, 17, 18, 19, 20, 24, 25}},
        {FKDAI_QUINT, 1, {0, 12, 13, 14, 15}}, {FKDAI_QUINT, 3, {0, 4, 8, 12, 13, 14, 16}}, {FKDAI_SEXTET, 5, {0, 8, 12, 13, 14}},
        {FKDAI_OCTET, 1, {0, 12, 13, 15}}, {FKDAI_OCTET, 3, {0, 12, 13, 14, 15}}, {FKDAI_OCTET, 6, {0, 4, 8, 12, 13, 14, 16}}};
    for (const auto &role : roles)
        for (size_t i = 0; i < role.warps.size(); i++) {
            if (!draw_is_wanted(static_cast<int64_t>(i), static_cast<int64_t>(role.warps.size()), role.rank)) continue;
            const int warp = role.warps[i];
            call.setup.mapping = role.mapping;
            const bool is_right = call.run(1, {role.rank, warp}) && call.same_bits(first);
            if (!is_right) printf("  mapping %d, block %d, warp %d\n", role.mapping, role.rank, warp);
            good = good && is_right;
        }
    report(name, good);
}

// Solos with a schedule, whose load or find warp, norm warp and chain depend on each other where one job ends and where one is cut.
void check_late_solos(const char *name, const char *text, int workers) {
    Call first(parse(name, text), {}), call(first.spec, {workers, FKDAI_SOLO});
    bool good = first.run(1);
    const std::vector<int> warps = {0, 4, 8, 12, 16, 17, 18, 19};
    for (size_t i = 0; i < warps.size(); i++) {
        if (!draw_is_wanted(static_cast<int64_t>(i), static_cast<int64_t>(warps.size()), workers)) continue;
        for (int block = 0; block < workers; block++) {
            const bool is_right = call.run(1, {block, warps[i]}) && call.same_bits(first);
            if (!is_right) printf("  block %d, warp %d\n", block, warps[i]);
            good = good && is_right;
        }
    }
    report(name, good);
}

// States in place: in an octet a chain may be done with a short sequence before the warps that follow it have read where it began.
void check_late_followers(const char *name, const char *text) {
    Call first(parse(name, text), {}), call(first.spec, {0, FKDAI_OCTET});
    bool good = first.run(0);
    for (int i = 0; i < 8; i++) good = good && call.run(static_cast<unsigned>(i), {2 + i / 4, i % 4}) && call.same_bits(first);
    report(name, good);
}

// Which mapping ends first on 132 SMs: duos while one sequence is long and the jobs are few, else solo.
void check_choice(const char *name) {
    const struct { std::vector<int> lengths; int H; bool is_solo; } cases[] = {
        {{8192}, 67, false}, {{8192}, 96, false}, {{8192, 8192}, 96, true}, {std::vector<int>(8, 1024), 64, true},
        {{1300, 547, 2048, 963, 271, 3063}, 64, true}, {{8185, 1, 1, 1, 1, 1, 1, 1}, 64, false}, {std::vector<int>(512, 1), 1, true}};
    bool good = true;
    for (const auto &c : cases) {
        int64_t longest = 0, total = 0;
        for (int length : c.lengths) {
            longest = std::max(longest, int64_t{chunk_count<kChunk>(length)}), total += int64_t{chunk_count<kChunk>(length)} * c.H;
        }
        const WorkerKind clusters{66, FKDAI_DUO_CHUNK_COST, FKDAI_JOB_COST, 0}, blocks{132, FKDAI_SOLO_CHUNK_COST, FKDAI_JOB_COST, 0}, none{};
        const JobSums jobs{static_cast<int64_t>(c.lengths.size()) * c.H, longest, total};
        const Cut either = best_cut({clusters, blocks, none}, jobs), duo = best_cut({clusters, none, none}, jobs), solo = best_cut({none, blocks, none}, jobs);
        longest += FKDAI_JOB_COST, total += jobs.count * FKDAI_JOB_COST;
        good = good && (either.kind == kSingleKind) == c.is_solo && either.span == (c.is_solo ? solo.span : duo.span) && duo.kind == kClusterKind && solo.kind == kSingleKind;
        good = good && duo.span >= longest && duo.span * 66 >= total && solo.span >= longest && solo.span * 132 >= total;
    }
    report(name, good);
}

void inputs() {
    check("1 token", "lens=1 H=1");
    check("33 tokens, dense", "T=33 H=1");
    check("200 tokens, NaN behind", "lens=200,20 last=nan H=1");
    check("all -5", "lens=96 H=1 gates=floor");
    check("keys of 1e20", "lens=40 H=1 keys=huge");
    check("one key for all tokens, weak gates", "lens=130 H=1 keys=same gates=weak");
    check("one key for all tokens, gates that forget nothing", "T=600 H=1 keys=same gates=open betas=eight A_log=none dt_bias=none");
    check("gates of inf, 1e30, any bits", "lens=70 H=1 gates=odd");
    const float steep = 80;
    check("the same, A_log = 80", "lens=70 H=1 gates=odd", {}, &steep);
    check("lower_bound = 0", "lens=70 H=1 lb=0");
    check("slow gates, two heads", "lens=70 H=2 gates=slow");
    check("gates of a model", "lens=90 H=2 params=model");
    check("no A_log, no dt_bias", "lens=70 H=1 A_log=none dt_bias=none");
    check("values of 1e4, all -5", "lens=96 H=1 gates=floor values=large");
    check("values of 1e30, all -5", "lens=96 H=1 gates=floor values=vast");
    check("values of 1e-9, all -5", "lens=96 H=1 gates=floor values=tiny");
    check("values of 1e30, half of the channels -5", "lens=96 H=1 gates=half values=vast");
    check("values of 1e4, one channel a key", "lens=96 H=1 gates=floor keys=onehot values=large");
    check("scale 1e20", "lens=70 H=1 scale=1e20");
    check("scale -1e-20", "lens=70 H=1 scale=-1e-20");
    check("softplus", "lens=70 H=2 gate=softplus");
    check("softplus, slow", "lens=70 H=1 gate=softplus gates=weak");
    check("softplus, steep channels", "lens=70 H=1 gate=softplus gates=wide");
    check("softplus, all steep", "lens=40 H=1 gate=softplus gates=steep");
    check("precomputed", "lens=70 H=2 gate=precomputed");
    check("precomputed, steep channels", "lens=70 H=1 gate=precomputed gates=wide");
    check("precomputed, fp32", "lens=70,20 last=nan H=2 gate=precomputed g=f32");
    check("precomputed, fp32, steep channels", "lens=70 H=1 gate=precomputed gates=wide g=f32");
    check("precomputed, fp32, chunks that quads ask for ahead", "lens=432,20 last=nan H=1 gate=precomputed g=f32");
    check("precomputed, fp32, three sequences of one head", "lens=250,33,300 H=1 gate=precomputed g=f32", {1});
    check("precomputed, 1e30 of both signs", "lens=40 H=1 gate=precomputed gates=huge");
    check("bf16 states", "lens=70 H=2 s0=bf16 s1=bf16");
    check("bf16 states, cut", "lens=40,0,33 H=2 s0=bf16 s1=bf16", {2});
    check("bf16 states at 4 bytes", "lens=40,0,33 H=2 s0=bf16 s1=bf16", {2, FKDAI_DUO, false, 2});
    check("fp32 states at 8 bytes", "lens=40,0,33 H=2", {2, FKDAI_DUO, false, 2});
}

// What beta and the heads may be besides.
void options() {
    check("beta times 2", "lens=70 H=2 m=2");
    check("beta times 2, shifted keys", "lens=130 H=1 m=2 keys=shifted");
    check("fp32 beta, every fifth element", "lens=70,33 H=2 b=f32", {3, FKDAI_DUO, false, 0, 5});
    check("bf16 beta, every third element, times 2", "B=2 T=50 H=2 m=2", {0, FKDAI_DUO, false, 0, 3});
    check("activated beta", "lens=70,33 H=2 beta=activated");
    check("activated fp32 beta, NaN behind", "lens=70,20 last=nan H=2 beta=activated b=f32");
    check("activated fp32 beta, times 2, cut", "lens=40,0,133 H=2 beta=activated b=f32 m=2", {2});
    check_far_betas("one fp32 beta of 2^-149 to 2^120", "lens=40 H=1 beta=activated b=f32 gates=zero");
    check_key_heads("the key of any value head");
    check("2 value heads a key", "lens=70,33 H=1 HV=2");
    check("3 value heads a key, dense, cut", "B=2 T=70 H=2 HV=6", {3});
    check("4 value heads a key, all options", "lens=33,0,70 H=2 HV=8 beta=activated b=f32 m=2 s0=bf16 s1=bf16", {5, FKDAI_DUO, true, 2, 7});
    check_cuts("2 value heads a key on 12, 5, 2 workers: same bits", "lens=300,31,0 H=2 HV=4", {5, 2});
}

void cuts() {
    check_choice("which mapping ends first");
    check("400 x 3 heads on 2 workers, cut", "lens=400 H=3", {2});
    check_cuts("450 x 5 heads on 5, 4, 3, 2 workers: same bits", "lens=450 H=5", {4, 3, 2});
    check_cuts("400,230 x 2 heads, fp32 gates, on 3, 2 workers: same bits", "lens=400,230 H=2 gate=precomputed g=f32", {3, 2});
    check_cuts("3 equal of 450 x 2 heads on 6, 5, 4, 1 workers: same bits", "B=3 T=450 H=2", {5, 4, 1});
    check_cuts("6 equal of 40 x 2 heads on 12, 7, 2 workers: same bits", "B=6 T=40 H=2", {7, 2});
    check_cuts("13 equal of 352 on 13, 12 workers, the last of which begins inside a job: same bits", "B=13 T=352 H=1", {12});
    check_cuts("2 equal of 400 x 2 heads, fp32 gates, on 4, 3 workers: same bits", "B=2 T=400 H=2 gate=precomputed g=f32", {3});
}

void laggards() {
    check_laggards("lanes that come late, in every role", "lens=400 H=1");
    check_late_solos("solos of several long jobs, lanes that come late", "lens=330,0,0,0,0,0,290 H=1", 2);
    check_late_solos("solos of several short jobs, lanes that come late", "lens=130,33,0,0,0,0,1 H=1", 2);
    check_late_followers("octets in place, whose followers come late", "lens=33,1,20,0 H=1 place=same");
}

void jobs() {
    check("0,1,0,40,0 on 2 workers", "lens=0,1,0,40,0 H=1", {2});
    check("jobs of 0 to 3 chunks on 1 worker", "lens=33,1,0,32,0,0,65,31,0 H=1", {1});
    check("the same, states in place", "lens=33,1,0,32,0,0,65,31,0 H=1 place=same", {1});
    check("the same, no final states", "lens=33,1,0,32,0,0,65,31,0 H=1 s1=none", {1});
    check("the same, no initial states", "lens=33,1,0,32,0,0,65,31,0 H=1 s0=none", {1});
    check("the same, bf16 states", "lens=33,1,0,32,0,0,65,31,0 H=1 s0=bf16 s1=bf16", {1});
    check_cuts("0,300,31,0,290 x 2 heads on 10, 7, 3, 1 workers", "lens=0,300,31,0,290 H=2", {7, 3, 1});
    check_cuts("6 and 8 without tokens in a row x 2 heads on 16, 3, 2, 1 workers", "lens=33,0,0,0,0,0,0,40,0,0,0,0,0,0,0,0 H=2", {3, 2, 1});
    check_cuts("6 without tokens between long ones x 2 heads on 16, 3, 2, 1 workers", "lens=300,0,0,0,0,0,0,290 H=2", {3, 2, 1});
    check_cuts("0 to 7 chunks x 2 heads on 6, 3, 2, 1 workers", "lens=1,0,32,200,33,0,0,64,130,1 H=2", {6, 3, 2, 1});
    check_turns("one long of 5 x 2 heads: quads, or a duo for each", "lens=20,900,0,40,70 H=2", {.mapping = FKDAI_DUO, .quads = 4}, true);
    check_turns("5 alike x 2 heads: a duo for each, or quads", "lens=70,64,65,70,66 H=2", {.mapping = FKDAI_DUO, .quads = 4}, false);
    check_turns("one long of 5 x 2 heads: quads, or a block for each", "lens=20,330,0,40,70 H=2", {.mapping = FKDAI_SOLO, .quads = 4}, true);
    check_turns("5 alike x 2 heads: a block for each, or quads", "lens=33,40,50,64,35 H=2", {.mapping = FKDAI_SOLO, .quads = 2}, false);
    check_turns("one long of 5 x 2 heads: quads, or either", "lens=20,900,0,40,70 H=2", {.workers = 3, .mapping = FKDAI_EITHER, .quads = 4}, true);
    check_turns("5 alike x 2 heads: either, or quads", "lens=70,64,65,70,66 H=2", {.workers = 6, .mapping = FKDAI_EITHER, .quads = 2}, false);
    check_turns("one long, checkpoints every 48: quads, or a duo for each", "lens=20,330,40 H=2 cp=f32 cp_every=48", {.mapping = FKDAI_DUO, .quads = 3}, true);
}

void refusals() {
    check_short("cu_seqlens ends before T", "lens=30,0,40 tail=37 H=2");
    check_short("cu_seqlens ends before T, cut", "lens=30,0,40 tail=37 H=2", {2});
    check_short("cu_seqlens ends before T, planned once", "lens=30,0,40 tail=37 H=2", {2, FKDAI_DUO, true});
    check_short("cu_seqlens ends before T, fp32 beta", "lens=30,0,40 tail=37 H=1 HV=2 beta=activated b=f32", {2});
    check_refusal("broken cu_seqlens, one worker for each job", "lens=30,10,30 H=2");
    check_refusal("broken cu_seqlens, cut", "lens=30,10,30 H=2", {2});
    check_refusal("broken cu_seqlens, cut, planned once", "lens=30,10,30 H=2", {2, FKDAI_DUO, true});
    check_refusal("broken cu_seqlens, one worker for each job, or quads", "lens=30,10,30 H=2", {.quads = 2});
    check_refusal("broken cu_seqlens, cut, or quads", "lens=30,10,30 H=2", {.workers = 2, .quads = 2});
    check_refusal("broken cu_seqlens, more heads than a block fills at once", "lens=3,1,3 H=45", {2});
    check_refusal("broken cu_seqlens, 2 value heads a key", "lens=30,10,30 H=1 HV=2", {2});
    check_refusal("broken cu_seqlens, bf16 states at 4 bytes", "lens=30,10,30 H=2 s0=bf16 s1=bf16", {0, FKDAI_DUO, false, 2});
}

}  // namespace

// test_prefill_emulated [inputs | options | cuts | jobs | laggards | refusals]...      without a word: all of them
int main(int argc, char **argv) {
    setenv("FKDA_TEST_SEED", "1", 0);    // a few rows have no sharp bar: the same inputs in every run that does not ask for others
    rng_seed();
    const std::pair<std::string, void (*)()> parts[] = {{"inputs", inputs}, {"options", options}, {"cuts", cuts}, {"jobs", jobs}, {"laggards", laggards},
                                                          {"refusals", refusals}};
    for (const auto &[name, run] : parts) {
        const bool is_wanted = argc == 1 || std::find(argv + 1, argv + argc, name) != argv + argc;
        const clock_t start = clock();
        if (is_wanted) run(), printf("     %s: %.1f s\n", name.c_str(), static_cast<double>(clock() - start) / CLOCKS_PER_SEC);
    }
    printf("test_prefill_emulated: ran %d, failed %d\n", ran, failed);
    return failed != 0 || ran == 0;
}
