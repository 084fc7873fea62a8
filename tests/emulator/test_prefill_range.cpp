// test_prefill_range.cpp: betas, keys and queries of any size on the emulated prefill kernels, against the float64 oracle.
//
// Every draw runs in all mappings, on poisoned memory, and must give the same bits; where the oracle is finite in bf16, its numbers must come out.
#include "emulated_call.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "counter_rng.h"

namespace {

using namespace emulated;

int failed = 0, ran = 0;

// What a draw does to the values of a case. rows: the power of two by which a row of out is larger than others.
struct Draw {
    Call &call;
    uint64_t stream;
    std::vector<int> rows;
    uint64_t next = 0;

    int64_t below(int64_t n) { return rng_below(stream, next++, n); }
    int between(int first, int last) { return first + static_cast<int>(below(last - first + 1)); }
    int64_t tokens() const { return case_rows(&call.spec); }
    float &beta(int64_t t) { return call.values.beta[t]; }
    static void scale_row(float *x, int64_t t, int power) {
        for (int c = 0; c < 128; c++) x[t * 128 + c] = std::ldexp(x[t * 128 + c], power);
    }
    void give_keys_channels() {
        for (int64_t t = 0; t < tokens(); t++)
            for (int c = 0; c < 128; c++) call.values.k[t * 128 + c] = c == t ? 1.f : 0.f;
    }
    void scale_key(int64_t t, int power) { scale_row(call.values.k, t, power); }
    void scale_query(int64_t t, int power) { scale_row(call.values.q, t, power), rows[static_cast<size_t>(t)] += power; }
    // The chunk that token t is in.
    template <class Each>
    void of_chunk(int64_t t, const Each &each) {
        for (int64_t i = t / kChunk * kChunk; i < std::min(tokens(), (t / kChunk + 1) * kChunk); i++) each(i);
    }
};
using Change = void (*)(Draw &);

// M1 of out, its rows divided by what they are larger by, and of the state; NaN if the oracle is not finite in bf16.
Errors errors_of(const Call &call, const std::vector<int> &rows) {
    const oracle::Answer want = oracle::answer(call.spec, call.values);
    double d_out = 0, r_out = 1e-300, d_state = 0, r_state = 1e-300, largest = 0;
    for (size_t i = 0; i < want.out.size(); i++) {
        const int row = rows[i / 128];
        d_out += std::pow(std::ldexp(low_bf16(call.out[i]) - want.out[i], -row), 2), r_out += std::pow(std::ldexp(want.out[i], -row), 2);
        largest = std::max(largest, std::abs(want.out[i]));
    }
    for (size_t i = 0; i < want.state.size(); i++) {
        d_state += std::pow(call.final[i] - want.state[i], 2), r_state += std::pow(want.state[i], 2);
        largest = std::max(largest, std::abs(want.state[i]));
    }
    if (!(largest < 3.38e38)) return {NAN, NAN};
    return {std::sqrt(d_out / r_out), std::sqrt(d_state / r_state)};
}

// One head, one sequence.
void check(const char *name, const char *text, int draws, Change change) {
    if (!next_case_is_wanted()) return;
    Errors worst{0, 0};
    bool good = true;
    const char *note = "";
    for (int i = 0; i < draws && good; i++) {
        const case_spec spec = kernel_case_parse((name + std::to_string(i)).c_str(), text);
        Call first(spec, {}), other(spec, {});
        for (Call *call : {&first, &other}) {
            Draw draw{*call, rng_stream(name, static_cast<uint64_t>(i)), std::vector<int>(static_cast<size_t>(spec.T))};
            change(draw);
            call->store_inputs();
            if (call != &first) continue;
            good = first.run(0);
            const Errors e = errors_of(first, draw.rows);
            good = good && first.is_inside(e) && first.is_guard_kept() && first.status == 0;
            if (!good) printf("  draw %d: out %.2e state %.2e\n", i, e.out, e.state);
            worst = {std::max(worst.out, e.out), std::max(worst.state, e.state)};
        }
        for (unsigned run = 1; run <= 3 && good; run++) {
            if (!draw_is_wanted(run, 3, i)) continue;
            other.setup.mapping = run == 1 ? FKDAI_SOLO : run == 2 ? FKDAI_QUAD : FKDAI_DUO;
            good = other.run(run) && first.same_bits(other) && other.is_guard_kept();
            if (!good) note = "  NOT REPEATED";
        }
    }
    ran++, failed += !good;
    printf("%s %-52s out %.2e state %.2e%s\n", good ? "ok  " : "FAIL", name, worst.out, worst.state, note);
    fflush(stdout);
}

void betas() {
    check("one beta of 2^-149 to 2^100", "lens=70 H=1 beta=activated b=f32 gates=zero", 8, [](Draw &d) {
        d.beta(d.below(d.tokens())) = std::ldexp(d.below(2) ? 1.f : -1.f, d.between(-149, 100));
    });
    check("two large betas", "lens=70 H=1 beta=activated b=f32 gates=weak keys=cos50", 6, [](Draw &d) {
        std::copy_n(d.call.values.k, d.tokens() * 128, d.call.values.q);    // a few rows are all that counts: none that nearly cancels
        for (int i = 0; i < 2; i++) d.beta(d.tokens() - 1 - d.below(6)) = std::ldexp(1.3f, d.between(20, 50));
    });
    check("a chunk of tiny betas, no initial state", "lens=60 H=1 beta=activated b=f32 s0=none", 6, [](Draw &d) {
        const int power = d.between(-100, -12);
        for (int64_t t = 0; t < d.tokens(); t++) d.beta(t) = std::ldexp(d.beta(t), power);
    });
    check("logits of -20 to -80, no initial state", "lens=60 H=1 b=f32 s0=none", 4, [](Draw &d) {
        const int logit = d.between(20, 80);
        for (int64_t t = 0; t < d.tokens(); t++) d.beta(t) -= static_cast<float>(logit);
    });
    check("a chunk of large betas, keys at right angles", "lens=96 H=1 beta=activated b=f32 gates=slow", 6, [](Draw &d) {
        d.give_keys_channels();
        const int power = d.between(3, 100);
        d.of_chunk(d.below(d.tokens()), [&](int64_t t) { d.beta(t) = std::ldexp(d.beta(t), power); });
    });
    check("a chunk of betas of all sizes, keys at right angles", "lens=96 H=1 beta=activated b=f32 gates=zero", 6, [](Draw &d) {
        d.give_keys_channels();
        d.of_chunk(d.below(d.tokens()), [&](int64_t t) { d.beta(t) = std::ldexp(1.f + d.beta(t), d.between(-149, 100)); });
    });
    check("betas of 3 and -1", "lens=80 H=1 beta=activated", 4, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) d.beta(t) = d.below(2) ? 3.f : -1.f;
    });
    check("tiny betas against large values", "lens=40 H=1 beta=activated b=f32 gates=weak values=large", 4, [](Draw &d) {
        d.of_chunk(d.below(d.tokens()), [&](int64_t t) { d.beta(t) = std::ldexp(d.beta(t), -20); });
    });
    check("a beta of 0 in all tokens", "lens=40 H=1 beta=activated", 2, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) d.beta(t) = 0.f;
    });
}

void sizes() {
    const auto nothing = [](Draw &) {};
    check("keys and queries of norm 1", "lens=130 H=1 norm=none", 2, nothing);
    check("the same, beta times 2", "lens=70 H=1 norm=none m=2", 2, nothing);
    check("the same, softplus", "lens=70 H=1 norm=none gate=softplus", 1, nothing);
    check("the same, steep channels", "lens=70 H=1 norm=none gate=softplus gates=wide", 2, nothing);
    check("the same, precomputed fp32", "lens=70 H=1 norm=none gate=precomputed g=f32", 1, nothing);
    check("the same, all -5", "lens=70 H=1 norm=none gates=floor", 1, nothing);
    check("the same, slow gates", "lens=70 H=1 norm=none gates=slow", 1, nothing);
    check("the same, activated", "lens=70 H=1 norm=none beta=activated", 1, nothing);
    check("the same, scale 1e20", "lens=70 H=1 norm=none scale=1e20", 1, nothing);
    for (const char *scale : {"0.0019", "0.0021", "1", "-255", "257"}) {  // on both sides of those that need no factor of out
        const std::string word = std::string("scale=") + scale;
        check(word.c_str(), ("lens=70 H=1 " + word).c_str(), 1, nothing);
        check((word + ", without norm").c_str(), ("lens=70 H=1 norm=none " + word).c_str(), 1, nothing);
    }
    check("one channel a key", "lens=70 H=1 norm=none keys=onehot", 1, nothing);
    check("keys of zero", "lens=40 H=1 norm=none keys=zero", 1, nothing);
    check("keys of 2^-40 to 2^40", "lens=70 H=1 norm=none beta=activated b=f32", 6, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) {
            const int power = d.between(-40, 40);
            d.scale_key(t, power), d.beta(t) = std::ldexp(d.beta(t), -2 * power);
        }
    });
    check("keys of one size, 2^-40 to 2^40", "lens=70 H=1 norm=none beta=activated b=f32 gates=weak", 6, [](Draw &d) {
        const int power = d.between(-40, 40);
        for (int64_t t = 0; t < d.tokens(); t++) d.scale_key(t, power), d.beta(t) = std::ldexp(d.beta(t), -2 * power);
    });
    check("one key of 2^-100 to 2^60", "lens=40 H=1 gates=zero norm=none beta=activated b=f32 s0=none", 6, [](Draw &d) {
        const int power = d.between(-100, 60);
        const int64_t t = d.below(d.tokens());
        d.scale_key(t, power), d.beta(t) = std::ldexp(1.f, std::min(120, -2 * power));
    });
    check("keys of half and of twice their size", "lens=130 H=1 norm=none m=2", 4, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) d.scale_key(t, d.between(-4, 0));
    });
    check("queries of 2^-60 to 2^60", "lens=70 H=1 norm=none", 6, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) d.scale_query(t, d.between(-60, 60));
    });
    check("queries of one size, 2^-100 to 2^100", "lens=40 H=1 norm=none", 4, [](Draw &d) {
        const int power = d.between(-100, 100);
        for (int64_t t = 0; t < d.tokens(); t++) d.scale_query(t, power);
    });
    check("all of it, steep channels", "lens=70 H=1 norm=none gate=precomputed gates=wide beta=activated b=f32", 4, [](Draw &d) {
        for (int64_t t = 0; t < d.tokens(); t++) {
            const int power = d.between(-20, 20);
            d.scale_key(t, power), d.beta(t) = std::ldexp(d.beta(t), -2 * power), d.scale_query(t, d.between(-20, 20));
        }
    });
}

}  // namespace

// test_prefill_range [betas | sizes]...      without a word: all of them
int main(int argc, char **argv) {
    setenv("FKDA_TEST_SEED", "1", 0);    // as in test_prefill_emulated
    rng_seed();
    const std::pair<std::string, void (*)()> parts[] = {{"betas", betas}, {"sizes", sizes}};
    for (const auto &[name, run] : parts)
        if (argc == 1 || std::find(argv + 1, argv + argc, name) != argv + argc) run();
    printf("test_prefill_range: ran %d, failed %d\n", ran, failed);
    return failed != 0 || ran == 0;
}
