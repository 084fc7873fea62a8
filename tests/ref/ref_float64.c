/* The reference against the float64 answers that came with the recorded activations, to fp32 rounding. */
#include "harness.h"

#include "bars.h"
#include "case_run.h"
#include "error_metrics.h"
#include "float64_file.h"
#include "ref_suite.h"

static void compare_with_file(const char *name, const char *gate)
{
    float64_file f = float64_file_read(name, gate);
    case_result r = case_run_reference(&f.spec, &f.values);
    const double out = metric_m1(r.out, f.out, r.out_count), final = metric_m1(r.state, f.state, r.state_count);
    print_message("%s: out %.2e, final_state %.2e\n", name, out, final);
    if (!(out <= BAR(f64, any).out) || !(final <= BAR(f64, any).state)) fail_msg("%s: out %.2e, final_state %.2e", name, out, final);
    const double worst = metric_m3(r.out, f.out, case_rows(&f.spec) * f.spec.HV, f.spec.V);
    if (!(worst <= 1e-4)) fail_msg("%s: the worst element is %.2e units of 2^-8 of its row off", name, worst);
    result_free(&r);
    float64_file_free(&f);
}

void test_float64_bounded(void **state)
{
    (void)state;
    compare_with_file("kda_lb", "bounded");
}

void test_float64_softplus(void **state)
{
    (void)state;
    compare_with_file("kda_softplus", "softplus");
}
