// prefill_check.cu: a prefill kernel against the float64 oracle, on the GPU: suites check and mappings of cases.def.
//
//     prefill_check [duo | solo | quad | mma | mma<slices> | call | mma_call | mma_spans]      call: through the public API; mma_call: with the portable
//                                                                                    kernel; mma_spans: and with sequences in spans
//
// Prints one line per case and "ran N, failed M"; exit code 1 if any failed, 77 without a GPU.
#ifdef FKDA_KERNELS_ALONE
#include "gpu_case.cuh"
#else
#include "gpu_call.cuh"
#endif

namespace {

int ran = 0, failed = 0, multiprocessors = 0;

void report(const std::string &name, bool good, const Errors &e, const char *note) {
    ran++, failed += !good;
    printf("%s %-44s out %.2e state %.2e%s%s\n", good ? "ok  " : "FAIL", name.c_str(), e.out, e.state, e.bad > 0 ? "  NOT FINITE" : "", note);
    fflush(stdout);
}
void report(const std::string &name, bool good) { report(name, good, {0, 0, 0}, ""); }

// Cases of a range are printed only when they fail.
void check(const case_spec &spec) {
    DeviceCase c(spec, multiprocessors);
    c.poison();
    c.run();
    const Errors e = c.errors();
    const std::vector<unsigned> first = c.bits();
    const int64_t touched = c.touched();
    c.poison();
    c.run();
    const bool repeats = first == c.bits();
    const accuracy_bar bar = bar_bf16_of(&spec);
    const bool good = e.out <= bar.out && e.state <= bar.state && e.bad == 0 && repeats && touched == 0;
    if (good && spec.is_of_range) ran++;
    else report(spec.name, good, e, !repeats ? "  NOT REPEATED" : touched ? "  GUARD TOUCHED" : "");
}

// A sequence gives the same bits alone as in a batch whose timeline cuts it.
void batch_invariance() {
    const case_spec hundred = kernel_case_parse("hundred_heads", "T=2000 H=100 s0=none"), three = kernel_case_parse("three_heads", "T=2000 H=3 s0=none");
    DeviceCase a(hundred, multiprocessors), b(three, multiprocessors);
    for (int64_t t = 0; t < 2000; t++)  // the three heads of `b` are 64 ... 66 of `a`
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
    report("heads 64..66 of 100 = alone, bitwise", x == y && s == r);
}

// Who works on a job changes no bit, nor how many share it.
void mappings_agree(const case_spec &spec) {
    struct Named { const char *name; int mapping; };
    static const std::vector<Named> hopper{{"duo", FKDAI_DUO}, {"solo", FKDAI_SOLO}, {"quad", FKDAI_QUAD}, {"quint", FKDAI_QUINT}, {"sextet", FKDAI_SEXTET}, {"octet", FKDAI_OCTET}};
    static const std::vector<Named> slices{{"1 slice", kMma + 1}, {"2", kMma + 2}, {"4", kMma + 4}, {"8", kMma + 8}};
    const std::vector<Named> &all = asked_mapping >= kMma ? slices : hopper;
    DeviceCase first(spec, multiprocessors, all[0].mapping);
    first.poison(), first.run();
    for (size_t i = 1; i < all.size(); i++) {
        DeviceCase other(spec, multiprocessors, all[i].mapping);
        other.poison(), other.poison(), other.run();  // another byte: what nobody writes differs
        report(std::string(all[0].name) + " = " + all[i].name + ", bitwise: " + spec.name, first.bits() == other.bits());
    }
}

// Whether the host knows the lengths or the device is asked, in two launches: the bits are those of duos.
void lengths_known_or_asked(const char *name, const char *text) {
    const case_spec spec = kernel_case_parse(name, text);
    DeviceCase duo(spec, multiprocessors, FKDAI_DUO), known(spec, multiprocessors, -1), asked(spec, multiprocessors, -1);
    asked.call.cu_seqlens_host = nullptr;
    for (DeviceCase *c : {&duo, &known, &asked}) c->poison(), c->run();
    const bool may_ask = asked.call.grid.quads > 0 && asked.call.grid.is_asked != 0 && known.call.cu_seqlens_host != nullptr;
    report(std::string("duo = lengths known = asked, bitwise: ") + name, may_ask && duo.bits() == known.bits() && duo.bits() == asked.bits());
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    multiprocessors = multiprocessors_or_skip("prefill_check");
    load_kernels();
    for (int i = 0; i < kernel_case_count("check"); i++) check(kernel_case_at("check", i));
    batch_invariance();
    for (int i = 0; i < kernel_case_count("mappings"); i++) mappings_agree(kernel_case_at("mappings", i));
    if (asked_mapping < kMma) {
        lengths_known_or_asked("one_long", "lens=8000,64,0,97 H=31");
        lengths_known_or_asked("alike", "lens=4096,4095,4000 H=22 cu=i32");
    }
    printf("prefill_check: ran %d, failed %d\n", ran, failed);
    return failed != 0;
}
