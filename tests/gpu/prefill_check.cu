// prefill_check.cu: the prefill kernel against the float64 token recurrence, on the GPU.
//
// Prints one line per case and "ran N, failed M"; exit code 1 if any failed, 77 without a GPU.
#include <cstring>

#include "gpu_case.cuh"

namespace {

int ran = 0, failed = 0, multiprocessors = 0;

void report(const std::string &name, bool good, const Errors &e, const char *note) {
    ran++, failed += !good;
    if (!good || name[0] != '.')
        printf("%s %-44s out %.2e state %.2e%s%s\n", good ? "ok  " : "FAIL", name.c_str(), e.out, e.state,
               e.bad > 0 ? "  NOT FINITE" : "", note);
    fflush(stdout);
}

// Names that start with '.' are printed only when they fail.
void check(const std::string &name, const CaseShape &shape, double bound_out = 6e-3, double bound_state = 6e-3) {
    DeviceCase c(shape, multiprocessors);
    c.poison();
    c.run();
    const Errors e = c.errors();
    const std::vector<unsigned> first = c.bits();
    const int64_t touched = c.touched();
    c.poison();
    c.run();
    const bool repeats = first == c.bits();
    const bool good = e.out < bound_out && e.state < bound_state && e.bad == 0 && repeats && touched == 0;
    report(name, good, e, !repeats ? "  NOT REPEATED" : touched ? "  GUARD TOUCHED" : "");
}

CaseShape packed(std::vector<int64_t> lengths, int64_t H) {
    CaseShape s;
    s.lengths = std::move(lengths), s.H = H, s.seed = static_cast<unsigned>(100 + ran);
    return s;
}
CaseShape dense(int64_t B, int64_t T, int64_t H) {
    CaseShape s = packed(std::vector<int64_t>(B, T), H);
    s.packed = false;
    return s;
}

void small_lengths() {
    for (int64_t T = 1; T <= 80; T++) {
        check(".T=" + std::to_string(T), dense(1, T, 2), 1e-2);
        CaseShape s = packed({T}, 2);
        s.tail_tokens = 40, s.is_int32 = T % 2, s.has_initial = T % 3 != 0;
        check(".packed, NaN after T=" + std::to_string(T), s, 1e-2);
    }
    printf("     T = 1..80, dense and packed before NaN, done\n");
}

void gates() {
    for (const Gates g : {Gates::Random, Gates::Slow, Gates::AllMinus5}) {
        CaseShape s = dense(1, 1024, 4);
        s.gates = g;
        check("gates " + std::to_string(static_cast<int>(g)) + ", T=1024 H=4", s);
        s.key_bias = 1.f;
        check("gates " + std::to_string(static_cast<int>(g)) + ", correlated keys", s, 8e-3, 8e-3);
    }
}

void sequences() {
    check("0,1,0,17,0 H=3", packed({0, 1, 0, 17, 0}, 3));
    check("all empty", packed({0, 0, 0}, 2));
    check("64,0 x 96, H=2", [] {
        std::vector<int64_t> l;
        for (int i = 0; i < 96; i++) l.push_back(64), l.push_back(0);
        return packed(l, 2);
    }());
    check("1 x 512, H=1", packed(std::vector<int64_t>(512, 1), 1), 1e-2);
    CaseShape mixed = packed({1300, 547, 2048, 963, 271, 3063}, 12);
    mixed.tail_tokens = 33;
    check("mixed H=12, NaN tail", mixed);
    mixed.gates = Gates::Slow;
    check("mixed H=12, slow", mixed);
    check("dense 5 x 200, H=40", dense(5, 200, 40));
    check("dense 3 x 1000, H=32", dense(3, 1000, 32));
    CaseShape strided = dense(2, 333, 6);
    strided.heads_outside = true;
    check(".heads outside runs", strided, 1e9, 1e9);
}

// A sequence gives the same bits alone as in a batch whose time line cuts it.
void batch_invariance() {
    CaseShape whole = dense(1, 2000, 100), alone = dense(1, 2000, 3);
    whole.seed = alone.seed = 7, whole.has_initial = alone.has_initial = false;
    DeviceCase a(whole, multiprocessors), b(alone, multiprocessors);
    for (int64_t t = 0; t < 2000; t++)  // the last three heads of `whole` are `alone`
        for (auto [to, from] : {std::pair{b.q, a.q}, {b.k, a.k}, {b.v, a.v}, {b.g, a.g}})
            CHECK_CUDA(cudaMemcpyAsync(to + t * 3 * 128, from + (t * 100 + 64) * 128, 3 * 256, cudaMemcpyDeviceToDevice));
    CHECK_CUDA(cudaMemcpy2D(b.beta, 6, a.beta + 64, 200, 6, 2000, cudaMemcpyDeviceToDevice));
    CHECK_CUDA(cudaMemcpy(b.A_log, a.A_log + 64, 12, cudaMemcpyDeviceToDevice));
    CHECK_CUDA(cudaMemcpy(b.dt_bias, a.dt_bias + 64 * 128, 3 * 512, cudaMemcpyDeviceToDevice));
    a.poison(), a.run(), b.poison(), b.run();
    std::vector<char> x(2000 * 768), y(2000 * 768), s(3 * 65536), r(3 * 65536);
    CHECK_CUDA(cudaMemcpy2D(x.data(), 768, a.out + 64 * 128, 100 * 256, 768, 2000, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(y.data(), b.out, y.size(), cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(s.data(), a.final + 64 * 16384, s.size(), cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(r.data(), b.final, r.size(), cudaMemcpyDeviceToHost));
    report("heads 64..66 of 100 = alone, bitwise", x == y && s == r, {0, 0, 0}, "");
}

// Who works on a (sequence, head) changes no bit.
void mappings_agree(const std::string &name, CaseShape shape) {
    shape.mapping = FKDAI_DUO;
    DeviceCase pair(shape, multiprocessors);
    pair.poison(), pair.run();
    for (const int mapping : {FKDAI_SOLO, FKDAI_QUAD}) {
        shape.mapping = mapping;
        DeviceCase other(shape, multiprocessors);
        other.poison(), other.poison(), other.run();  // another byte: what nobody writes differs
        report(std::string("pair = ") + (mapping == FKDAI_SOLO ? "solo" : "quad") + ", bitwise: " + name, pair.bits() == other.bits(), {0, 0, 0}, "");
    }
}
void mappings() {
    mappings_agree("T=1000 H=3", dense(1, 1000, 3));
    mappings_agree("3 x 700, H=50", dense(3, 700, 50));
    CaseShape mixed = packed({1300, 547, 2048, 963, 271, 3063}, 48);
    mappings_agree("mixed, H=48", mixed);
    mixed.gates = Gates::Slow, mixed.key_bias = 1.f;
    mappings_agree("mixed, H=48, slow gates, correlated keys", mixed);
    mappings_agree("0, 1, 31, 32, 33, ... tokens, H=30", packed({0, 1, 31, 32, 33, 0, 64, 65, 127, 3}, 30));
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    multiprocessors = multiprocessors_or_skip("prefill_check");
    CHECK_CUDA(fkdai_prefill_load());
    check("one chunk, H=1", dense(1, 32, 1));
    check("two chunks, H=1", dense(1, 64, 1));
    check("T=1024 H=1", dense(1, 1024, 1));
    small_lengths();
    gates();
    sequences();
    batch_invariance();
    mappings();
    printf("prefill_check: ran %d, failed %d\n", ran, failed);
    return failed != 0;
}
