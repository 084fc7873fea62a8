// test_prefill_emulated.cpp: the prefill kernels' own source, run thread by thread on the host, against the token recurrence.
//
// Every case runs in all mappings, with a fixed and with shuffled orders of the threads, on poisoned shared memory, and must give the same bits.
#include "emulator.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>

#include "prefill_sm90/prefill_kernel.cuh"
#include "prefill_sm90/problem/workspace.cuh"

namespace {

using namespace fkdai;
using namespace fkdai::prefill;

struct Problem {
    std::vector<int> lengths;
    int H;
    int workers;               // N*H: one per (sequence, head); fewer: the time line is cut
    bool packed = true, has_initial = true, is_bf16_state = false;
    float gate_mean = 0.f, gate_deviation = 1.f;
    int tail_tokens = 0;       // of one more sequence behind the others, NaN throughout
    float key_scale = 1.f;     // 1e20: squares overflow fp32
    bool same_keys = false, odd_gates = false;   // gates of +-inf, +-1e30 and any finite bits
    float lower_bound = -5.f, A_log = 0.f;
    double bar = 8e-3;
    int state_shift = 0;       // elements by which the states miss the alignment of the copy engine
    bool has_final = true, in_place = false;
    bool is_planned_once = false;  // by the plan kernel, as for many sequences; else by every block for itself
    fkdai_prefill_mapping mapping = FKDAI_DUO;   // FKDAI_EITHER: `workers` clusters or twice as many blocks
};

constexpr uint64_t kLaunchNumber = 8;
constexpr uint32_t kPoison = 0xffffffff;
constexpr int kGuard = 64 * 128;    // elements behind out that nobody may touch

float to_float(uint16_t x) { return low_bf16(x); }

struct Data {
    Problem problem;
    int N, B, T;
    std::vector<uint16_t> q, k, v, g, beta, out;
    std::vector<float> A_log, dt_bias, initial, final;     // states in fp32: what was meant, what came out
    std::vector<float> initial_f32, final_f32;             // the same as the kernel sees them, behind state_shift elements
    std::vector<uint16_t> initial_bf16, final_bf16;
    std::vector<int64_t> cu{0};
    unsigned status = 0;       // what the kernel left there
    std::vector<uint8_t> workspace;    // a run finds what the one before has left, as a replay does

    explicit Data(const Problem &p) : problem(p), N(static_cast<int>(p.lengths.size())) {
        for (int length : p.lengths) cu.push_back(cu.back() + length);
        if (p.tail_tokens > 0) cu.push_back(cu.back() + p.tail_tokens), N++;
        B = p.packed ? 1 : N, T = p.packed ? static_cast<int>(cu.back()) : p.lengths[0];
        std::mt19937 random(static_cast<unsigned>(T * 31 + p.H));
        std::normal_distribution<float> normal;
        const size_t rows = static_cast<size_t>(B) * T * p.H;
        const auto fill = [&](std::vector<uint16_t> &x, size_t count, float mean, float deviation) {
            x.resize(count);
            for (auto &e : x) e = static_cast<uint16_t>(pack_bf16(mean + deviation * normal(random), 0.f));
        };
        fill(q, rows * 128, 0, 1), fill(k, rows * 128, 0, p.key_scale), fill(v, rows * 128, 0, 1), fill(beta, rows, 0, 1);
        fill(g, rows * 128, p.gate_mean, p.gate_deviation);
        A_log.resize(p.H), dt_bias.resize(p.H * 128), initial.resize(static_cast<size_t>(N) * p.H * 16384);
        for (auto &e : A_log) e = p.A_log + 0.3f * normal(random);
        for (auto &e : dt_bias) e = 0.5f * normal(random);
        for (auto &e : initial) e = 0.1f * normal(random);
        if (p.same_keys)
            for (size_t i = 128; i < k.size(); i++) k[i] = k[i % 128];
        if (p.odd_gates)
            for (size_t i = 0; i < g.size(); i++) {
                const float words[4] = {INFINITY, -INFINITY, 1e30f, -1e30f};
                const uint16_t bits = static_cast<uint16_t>(random());
                g[i] = i % 3 == 0 ? static_cast<uint16_t>(pack_bf16(words[random() % 4], 0.f)) : (bits & 0x7f80) == 0x7f80 ? bits ^ 0x4000 : bits;
            }
        for (auto *x : {&q, &k, &v, &g}) std::fill(x->end() - static_cast<ptrdiff_t>(p.tail_tokens) * p.H * 128, x->end(), uint16_t{0x7fff});
        std::fill(beta.end() - static_cast<ptrdiff_t>(p.tail_tokens) * p.H, beta.end(), uint16_t{0x7fff});
        out.resize(rows * 128 + kGuard), final.resize(initial.size());
        store_states();
    }

    void store_states() {
        const size_t shift = static_cast<size_t>(problem.state_shift);
        initial_f32.resize(initial.size() + shift), initial_bf16.resize(initial.size() + shift);
        for (size_t i = 0; i < initial.size(); i++) {
            initial_bf16[i + shift] = static_cast<uint16_t>(pack_bf16(initial[i], 0.f));
            if (problem.is_bf16_state) initial[i] = to_float(initial_bf16[i + shift]);
            initial_f32[i + shift] = initial[i];
        }
        final_f32.resize(initial_f32.size()), final_bf16.resize(initial_f32.size());
    }

    States<void *> rows_of(std::vector<float> &wide, std::vector<uint16_t> &narrow) {
        const int64_t stride = int64_t{problem.H} * 16384;
        if (problem.is_bf16_state) return {narrow.data() + problem.state_shift, stride, Element::BF16};
        return {wide.data() + problem.state_shift, stride, Element::F32};
    }

    // A GPU knows one NaN; here its bits depend on the order of operands that the compiler chose. What nobody wrote stays what it was.
    void read_final() {
        for (size_t i = 0; i < final.size(); i++) {
            const size_t at = i + static_cast<size_t>(problem.state_shift);
            final[i] = problem.is_bf16_state ? to_float(final_bf16[at]) : final_f32[at];
            if (std::isnan(final[i]) && __float_as_uint(final[i]) != kPoison) final[i] = __uint_as_float(0x7fffffff);
        }
    }

    CUtensorMap map(const std::vector<uint16_t> &x, int channels = kHalf) const {
        const int H = problem.H;
        const emulator::TensorMap m{x.data(), 128, int64_t{H} * 128, int64_t{T} * H * 128, H, T, B, kChunk, channels};
        CUtensorMap map;
        memcpy(&map, &m, sizeof m);
        return map;
    }

    bool has_raised_flags(const fkdai_prefill_layout &layout) const {
        const auto *const flag = reinterpret_cast<const uint64_t *>(workspace.data() + layout.is_ready);
        return std::find(flag, flag + (layout.cut - layout.is_ready) / sizeof *flag, kLaunchNumber) != flag + (layout.cut - layout.is_ready) / sizeof *flag;
    }

    bool run(unsigned seed, emulator::Laggard laggard = {}) {
        std::fill(out.begin(), out.end(), uint16_t{0xffff});
        std::fill(final_f32.begin(), final_f32.end(), __uint_as_float(kPoison));
        std::fill(final_bf16.begin(), final_bf16.end(), uint16_t{0xffff});
        const int64_t H = problem.H;
        Params p{};
        p.q = map(q), p.k = map(k), p.v = map(v), p.g = map(g), p.o = map(out, 16);
        p.beta = reinterpret_cast<const __nv_bfloat16 *>(beta.data()), p.out = reinterpret_cast<__nv_bfloat16 *>(out.data());
        p.beta_strides = {T * H, H, 1}, p.out_strides = {T * H * 128, H * 128, 128};
        p.A_log = {A_log.data(), Element::F32}, p.dt_bias = {dt_bias.data(), Element::F32};
        const States<void *> from = rows_of(initial_f32, initial_bf16);
        const States<void *> to = rows_of(final_f32, final_bf16);
        if (problem.in_place) final_f32 = initial_f32, final_bf16 = initial_bf16;
        if (problem.has_initial) p.initial_state = {problem.in_place ? to.data : from.data, from.row_stride, from.element};
        if (problem.has_final) p.final_state = to;
        p.sequences = {problem.packed ? cu.data() : nullptr, true, N, T};
        p.status = &status;
        p.heads = problem.H, p.scale = 0.08838834764831845f, p.lower_bound = problem.lower_bound;

        const fkdai_prefill_grid grid{problem.mapping, problem.workers};
        fkdai_prefill_schedule schedule = fkdai_prefill_who_schedules(N, H, grid);
        if (schedule != FKDAI_SCHEDULE_NONE && problem.is_planned_once) schedule = FKDAI_SCHEDULE_ONCE;
        const fkdai_prefill_layout layout = fkdai_prefill_make_layout(N, grid, schedule);
        if (workspace.size() != layout.bytes) workspace.assign(layout.bytes, 0xff);
        place_workspace(p, grid, schedule, workspace.data(), kLaunchNumber);
        if (schedule == FKDAI_SCHEDULE_ONCE && !emulator::launch(1, 1, kPlanThreads, 1024, seed, [&] { plan_kernel(p); })) return false;
        const bool ended = emulator::launch(static_cast<unsigned>(fkdai_prefill_blocks(grid)), static_cast<unsigned>(fkdai_prefill_ranks(grid)), kThreads,
                                            kSharedBytes - 1024, seed, [&] { prefill_kernel(p); }, laggard);
        read_final();
        return ended && !has_raised_flags(layout);  // the same launch may come again
    }

    // Relative RMS of out and of the final state against the token recurrence in double.
    void errors(double *of_out, double *of_state) const {
        const int H = problem.H;
        double d_out = 0, r_out = 1e-300, d_state = 0, r_state = 1e-300;
        for (int n = 0; n < static_cast<int>(problem.lengths.size()); n++)
            for (int h = 0; h < H; h++) {
                std::vector<double> S(16384);
                const size_t at_state = (static_cast<size_t>(n) * H + h) * 16384;
                for (int i = 0; i < 16384; i++) S[i] = problem.has_initial ? initial[at_state + i] : 0;
                const int first = problem.packed ? static_cast<int>(cu[n]) : n * T;
                for (int t = first; t < first + problem.lengths[n]; t++) {
                    const size_t row = static_cast<size_t>(t) * H + h;
                    double k2 = 1e-6, q2 = 1e-6;
                    for (int c = 0; c < 128; c++) k2 += std::pow(to_float(k[row * 128 + c]), 2), q2 += std::pow(to_float(q[row * 128 + c]), 2);
                    for (int x = 0; x < 128; x++) {
                        double seen = 0, o = 0;
                        double *const s = &S[x * 128];
                        for (int c = 0; c < 128; c++) {
                            s[c] *= alpha(row, h, c);
                            seen += s[c] * to_float(k[row * 128 + c]) / std::sqrt(k2);
                        }
                        const double u = (to_float(v[row * 128 + x]) - seen) / (1 + std::exp(-to_float(beta[row])));
                        for (int c = 0; c < 128; c++) {
                            s[c] += to_float(k[row * 128 + c]) / std::sqrt(k2) * u;
                            o += s[c] * to_float(q[row * 128 + c]) / std::sqrt(q2);
                        }
                        o *= 0.08838834764831845;
                        const double got = to_float(out[row * 128 + x]);
                        d_out += (got - o) * (got - o), r_out += o * o;
                    }
                }
                for (int i = 0; i < 16384 && problem.has_final; i++) {
                    const double got = final[at_state + i];
                    d_state += (got - S[i]) * (got - S[i]), r_state += S[i] * S[i];
                }
            }
        *of_out = std::sqrt(d_out / r_out), *of_state = std::sqrt(d_state / r_state);
    }
    double alpha(size_t row, int h, int c) const {
        const double x = std::exp(static_cast<double>(A_log[h])) * (static_cast<double>(to_float(g[row * 128 + c])) + dt_bias[h * 128 + c]);
        return std::exp(problem.lower_bound / (1 + std::exp(-x)));
    }
};

int failed = 0, ran = 0;

// Pairs, solo, quads, and shuffled orders of all: the same bits.
void check(const char *name, const Problem &problem) {
    Data data(problem);
    ran++;
    double of_out = NAN, of_state = NAN;
    bool good = data.run(0), repeats = true;
    if (good) data.errors(&of_out, &of_state);
    const auto out = data.out;
    const auto final = data.final;
    for (unsigned i = 1; good && i <= 6; i++) {
        data.problem.mapping = i >= 5 ? FKDAI_QUAD : i >= 3 ? FKDAI_SOLO : FKDAI_DUO;
        good = data.run(i % 3);
        repeats = repeats && out == data.out && memcmp(final.data(), data.final.data(), final.size() * 4) == 0;
    }
    const bool guard_kept = std::all_of(out.end() - kGuard, out.end(), [](uint16_t x) { return x == 0xffff; });
    good = good && repeats && guard_kept && data.status == 0 && of_out < problem.bar && of_state < problem.bar;
    failed += !good;
    printf("%s %-40s out %.2e state %.2e%s%s\n", good ? "ok  " : "FAIL", name, of_out, of_state, repeats ? "" : "  NOT REPEATED",
           guard_kept ? "" : "  GUARD TOUCHED");
    fflush(stdout);
}

// However the time line is cut, the bits are those of one worker per (sequence, head).
void check_cuts(const char *name, Problem problem, std::vector<int> workers) {
    problem.workers = static_cast<int>(problem.lengths.size()) * problem.H;
    Data direct(problem);
    bool good = direct.run(0);
    for (size_t i = 0; i < 8 * workers.size() && good; i++) {
        problem.workers = workers[i / 8], problem.is_planned_once = i % 2;
        problem.mapping = i % 8 < 2 ? FKDAI_DUO : i % 8 < 4 ? FKDAI_SOLO : i % 8 < 6 ? FKDAI_EITHER : FKDAI_QUAD;
        Data cut(problem);
        good = cut.run(static_cast<unsigned>(i)) && cut.out == direct.out &&
               memcmp(cut.final.data(), direct.final.data(), cut.final.size() * 4) == 0;
    }
    ran++, failed += !good;
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
    fflush(stdout);
}

// Whatever is wrong with cu_seqlens: every element of out and of the final state is NaN, the status word has its bit, nothing else is written.
void check_refusal(const char *name, const Problem &problem, const std::vector<std::vector<int64_t>> &arrays) {
    Data data(problem);
    bool good = true;
    const bool is_cut = problem.workers != static_cast<int>(problem.lengths.size()) * problem.H;
    for (size_t i = 0; i < 4 * arrays.size() && good; i++) {
        data.cu = arrays[i / 4], data.status = 2;
        data.problem.mapping = i % 4 == 0 ? FKDAI_DUO : i % 4 == 1 ? FKDAI_QUAD : i % 4 == 2 || !is_cut ? FKDAI_SOLO : FKDAI_EITHER;
        good = data.run(static_cast<unsigned>(i)) && data.status == 3;
        std::vector<uint16_t> want(data.out.size() - kGuard, 0x7fff);  // the poison has the other sign
        want.resize(data.out.size(), 0xffff);
        good = good && data.out == want && std::all_of(data.final.begin(), data.final.end(), [](float x) { return x != x && !std::signbit(x); });
    }
    ran++, failed += !good;
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
    fflush(stdout);
}

// cu_seqlens that ends before T: the sequences as they are alone in the array, and the rows behind them, NaN on the way in, keep their poison.
void check_short(const char *name, const Problem &problem) {
    Data data(problem);
    data.cu.pop_back(), data.N--;    // the tail belongs to no sequence
    const bool is_cut = problem.workers != data.N * problem.H;
    const size_t valid = static_cast<size_t>(data.cu.back()) * problem.H * 128;
    double of_out = NAN, of_state = NAN;
    bool good = true;
    std::vector<uint16_t> first;
    for (unsigned i = 0; i < 4 && good; i++) {
        data.problem.mapping = i == 0 ? FKDAI_DUO : i == 1 ? FKDAI_QUAD : i == 2 || !is_cut ? FKDAI_SOLO : FKDAI_EITHER;
        good = data.run(i) && data.status == 0 && std::all_of(data.out.begin() + valid, data.out.end(), [](uint16_t x) { return x == 0xffff; });
        if (i == 0) data.errors(&of_out, &of_state), first = data.out;
        good = good && first == data.out && of_out < problem.bar && of_state < problem.bar;
    }
    ran++, failed += !good;
    printf("%s %-40s out %.2e state %.2e\n", good ? "ok  " : "FAIL", name, of_out, of_state);
    fflush(stdout);
}

// Lanes of a warp that come late, in every role: nobody misses a phase, and the bits are the same.
void check_laggards(const char *name) {
    Data data({{400}, 1, 1});
    bool good = data.run(1);
    const auto out = data.out;
    const auto final = data.final;
    const struct { fkdai_prefill_mapping mapping; int rank; std::vector<int> warps; } roles[] = {
        {FKDAI_DUO, 1, {0, 4, 8, 12, 13, 14}}, {FKDAI_SOLO, 0, {0, 4, 8, 16, 17}}, {FKDAI_QUAD, 0, {0, 12, 13}}, {FKDAI_QUAD, 2, {4, 12, 13, 14}}};
    for (const auto &role : roles)
        for (const int warp : role.warps) {
            data.problem.mapping = role.mapping;
            const bool is_right = data.run(1, {role.rank, warp}) && data.out == out && memcmp(final.data(), data.final.data(), final.size() * 4) == 0;
            if (!is_right) printf("  mapping %d, block %d, warp %d\n", role.mapping, role.rank, warp);
            good = good && is_right;
        }
    ran++, failed += !good;
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
    fflush(stdout);
}

// Which mapping ends first on 132 SMs: pairs while one sequence is long and the (sequence, head) pairs are few, else solo.
void check_choice(const char *name) {
    const struct { std::vector<int> lengths; int H; bool is_solo; } cases[] = {
        {{8192}, 67, false}, {{8192}, 96, false}, {{8192, 8192}, 96, true}, {std::vector<int>(8, 1024), 64, true},
        {{1300, 547, 2048, 963, 271, 3063}, 64, true}, {{8185, 1, 1, 1, 1, 1, 1, 1}, 64, false}, {std::vector<int>(512, 1), 1, true}};
    bool good = true;
    for (const auto &c : cases) {
        int64_t longest = 0, total = 0;
        for (int length : c.lengths) {
            const int64_t weight = chunk_count<kChunk>(length) + kJobCost;
            longest = std::max(longest, weight), total += weight * c.H;
        }
        const WorkerKind clusters{66, FKDAI_DUO_CHUNK_COST}, blocks{132, FKDAI_SOLO_CHUNK_COST}, none{};
        const Cut either = best_cut({clusters, blocks}, longest, total), duo = best_cut({clusters, none}, longest, total), solo = best_cut({none, blocks}, longest, total);
        good = good && (either.kind == kSingleKind) == c.is_solo && either.span == (c.is_solo ? solo.span : duo.span) && duo.kind == kClusterKind && solo.kind == kSingleKind;
        good = good && duo.span >= longest && duo.span * 66 >= total && solo.span >= longest && solo.span * 132 >= total;
    }
    ran++, failed += !good;
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
}

void inputs() {
    check("1 token", {{1}, 1, 1});
    check("33 tokens, dense", {{33}, 1, 1, false});
    check("200 tokens, NaN behind", {{200}, 1, 2, true, false, false, 0.f, 1.f, 20});
    check("all -5", {{96}, 1, 1, true, true, false, 30.f, 0.f});
    check("keys of 1e20", {{40}, 1, 1, true, true, false, 0.f, 1.f, 0, 1e20f});
    Problem same{{130}, 1, 1};
    same.same_keys = true, same.gate_mean = -8.f, same.bar = 1.2e-2;
    check("one key for all tokens, weak gates", same);
    Problem odd{{70}, 1, 1};
    odd.odd_gates = true;
    check("gates of inf, 1e30, any bits", odd);
    odd.A_log = 80.f;
    check("the same, A_log = 80", odd);
    Problem still{{70}, 1, 1};
    still.lower_bound = 0.f;
    check("lower_bound = 0", still);
    check("slow gates, two heads", {{70}, 2, 2, true, true, false, -4.f, 2.f});
    Problem narrow{{70}, 2, 2};
    narrow.is_bf16_state = true;
    check("bf16 states", narrow);
    narrow.lengths = {40, 0, 33}, narrow.workers = 2;
    check("bf16 states, cut", narrow);
    narrow.state_shift = 2;
    check("bf16 states at 4 bytes", narrow);
    narrow.is_bf16_state = false;
    check("fp32 states at 8 bytes", narrow);
}

void cuts() {
    check_choice("which mapping ends first");
    check("400 x 3 heads on 2 workers, cut", {{400}, 3, 2});
    check_cuts("450 x 5 heads on 5, 4, 3, 2 workers: same bits", {{450}, 5, 0}, {4, 3, 2});
}

void laggards() { check_laggards("lanes that come late, in every role"); }

void jobs() {
    check("0,1,0,40,0 on 2 workers", {{0, 1, 0, 40, 0}, 1, 2});
    Problem jobs{{33, 1, 0, 32, 0, 0, 65, 31, 0}, 1, 1};
    check("jobs of 0 to 3 chunks on 1 worker", jobs);
    jobs.in_place = true;
    check("the same, states in place", jobs);
    jobs.in_place = false, jobs.has_final = false;
    check("the same, no final states", jobs);
    jobs.has_final = true, jobs.has_initial = false;
    check("the same, no initial states", jobs);
    jobs.has_initial = true, jobs.is_bf16_state = true;
    check("the same, bf16 states", jobs);
    check_cuts("0,300,31,0,290 x 2 heads on 10, 7, 3, 1 workers", {{0, 300, 31, 0, 290}, 2, 0}, {7, 3, 1});
    check_cuts("0 to 7 chunks x 2 heads on 6, 3, 2, 1 workers", {{1, 0, 32, 200, 33, 0, 0, 64, 130, 1}, 2, 0}, {6, 3, 2, 1});
}

void refusals() {
    const std::vector<std::vector<int64_t>> broken{{0, 40, 20, 70}, {1, 30, 40, 70}, {0, 30, 40, 71}, {0, -5, 40, 70},
                                                   {0, 30, INT64_MAX, 70}, {INT64_MIN, 0, 0, 70}, {0, 30, 40, (int64_t{1} << 32) + 70}};
    Problem padded{{30, 0, 40}, 2, 6};
    padded.tail_tokens = 37;
    check_short("cu_seqlens ends before T", padded);
    padded.workers = 2;
    check_short("cu_seqlens ends before T, cut", padded);
    padded.is_planned_once = true;
    check_short("cu_seqlens ends before T, planned once", padded);
    check_refusal("broken cu_seqlens, one worker per pair", {{30, 10, 30}, 2, 6}, broken);
    Problem cut{{30, 10, 30}, 2, 2};
    check_refusal("broken cu_seqlens, cut", cut, broken);
    cut.is_planned_once = true;
    check_refusal("broken cu_seqlens, cut, planned once", cut, broken);
    Problem bf16{{30, 10, 30}, 2, 6};
    bf16.is_bf16_state = true, bf16.state_shift = 2;
    check_refusal("broken cu_seqlens, bf16 states at 4 bytes", bf16, broken);
}

}  // namespace

// test_prefill_emulated [inputs | cuts | jobs | laggards | refusals]...      without a word: all of them
int main(int argc, char **argv) {
    const std::pair<std::string, void (*)()> parts[] = {{"inputs", inputs}, {"cuts", cuts}, {"jobs", jobs}, {"laggards", laggards},
                                                          {"refusals", refusals}};
    for (const auto &[name, run] : parts) {
        const bool is_wanted = argc == 1 || std::find(argv + 1, argv + argc, name) != argv + argc;
        const clock_t start = clock();
        if (is_wanted) run(), printf("     %s: %.1f s\n", name.c_str(), static_cast<double>(clock() - start) / CLOCKS_PER_SEC);
    }
    printf("test_prefill_emulated: ran %d, failed %d\n", ran, failed);
    return failed != 0 || ran == 0;
}
