// The oracle of the kernel tests against the reference, before either is rounded: every small case of cases.def.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle_values.h"

extern "C" {
#include "harness.h"

#include "bars.h"
#include "case_run.h"
#include "counter_rng.h"
#include "operation.h"
#include "ref.h"

// The reference's outputs are caught before they are rounded (ld --wrap).
void __wrap_fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out);
}

namespace {

double *caught;    // [rows,HV,V]

}  // namespace

void __wrap_fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out) {
    const fkda_fwd_desc &d = *item->desc;
    memcpy(caught + ((item->seq.batch * d.T + t) * d.HV + item->hv) * d.V, out, static_cast<size_t>(d.V) * sizeof *out);
}

namespace {

// Of the reference: out [rows,HV,V], states [N,HV,V,K].
oracle::Answer reference_answer(const case_spec &s, const input_values &x) {
    const run_setup setup{FKDA_BACKEND_REF, 1, 0xa5, GUARD_AT_END};
    case_image image = image_build(&s, &x, &setup);
    fkdai_desc resolved;
    assert_int_equal(fkdai_resolve(&fkdai_op_fwd, &image.desc, &resolved), FKDA_OK);
    const fkda_fwd_desc &desc = resolved.fwd;
    oracle::Answer all{std::vector<double>(static_cast<size_t>(case_rows(&s) * s.HV * s.V)), std::vector<double>(static_cast<size_t>(s.N * case_state_elems(&s)))};
    caught = all.out.data();
    std::vector<double> S(static_cast<size_t>(s.K * s.V));    // [K,V]
    for (int64_t m = 0; m < s.N * s.HV; m++) {
        const int64_t count = s.K * s.V, at = m * count;
        for (int64_t i = 0; i < count; i++) S[i] = s.initial == FKDA_NONE ? 0 : x.initial[at + i];
        const fkdai_ref_item item{&desc, &image.args, fkdai_sequence_at(&desc, image.args.cu_seqlens, m / s.HV), m % s.HV};
        fkdai_ref_tokens(&item, S.data());
        for (int64_t i = 0; i < count; i++) all.state[at + i % s.V * s.K + i / s.V] = S[i];
    }
    image_free(&image);
    return all;
}

double difference(const std::vector<double> &x, const std::vector<double> &ref) {
    double error = 0, size = 0;
    for (size_t i = 0; i < x.size(); i++) {
        if (std::isnan(x[i]) && std::isnan(ref[i])) continue;
        error += (x[i] - ref[i]) * (x[i] - ref[i]), size += ref[i] * ref[i];
    }
    return error == 0 ? 0 : sqrt(error / size);    // NaN if one alone is
}

void compare(const case_spec &s) {
    input_values x = values_draw(&s);
    const oracle::Answer got = oracle::answer(s, x), want = reference_answer(s, x);
    const double out = difference(got.out, want.out), state = difference(got.state, want.state);
    if (!(out <= BAR(f64, unrounded).out) || !(state <= BAR(f64, unrounded).state))
        fail_msg("%s: out off by %.2e, final_state by %.2e", s.name, out, state);
    values_free(&x);
}

void small_cases(void **) {
    int ran = 0;
    for (int i = 0; i < case_count("fwd"); i++) {
        const case_spec s = case_at("fwd", i);
        if (s.T * s.B * s.HV * s.K * s.V <= 1 << 20) compare(s), ran++;
    }
    print_message("%d cases\n", ran);
    assert_true(ran > 250);
}

// What cases.def does not have: keys and gates of kernel cases, sequences of NaN.
void kernel_words(void **) {
    for (const char *text : {"T=40 gates=slow keys=shifted params=unit", "T=40 gates=odd", "T=40 keys=huge in=f32", "lens=33,7 last=nan", "T=50 gates=weak keys=same"})
        compare(case_parse("kernel_words", text));
}

}  // namespace

int main() {
    rng_seed();
    const CMUnitTest tests[] = {cmocka_unit_test(small_cases), cmocka_unit_test(kernel_words)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
