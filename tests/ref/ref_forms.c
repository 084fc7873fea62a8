/* The token form against the chunk form, in double: outputs are caught before they are rounded (ld --wrap). */
#include "harness.h"

#include <math.h>

#include "bars.h"
#include "case_run.h"
#include "operation.h"
#include "ref.h"
#include "ref_suite.h"

static double *caught;    /* [T,V] of the item that runs, or NULL */

void __real_fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out);
void __wrap_fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out);

void __wrap_fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out)
{
    if (caught != NULL) memcpy(caught + t * item->desc->V, out, (size_t)item->desc->V * sizeof *out);
    else __real_fkdai_ref_write_out(item, t, out);
}

static double difference(const double *x, const double *ref, int64_t count)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; ++i) {
        error += (x[i] - ref[i]) * (x[i] - ref[i]);
        size += ref[i] * ref[i];
    }
    return error == 0 ? 0 : sqrt(error / size);    /* NaN if either is */
}

static void compare_item(const case_spec *spec, const fkdai_ref_item *item, const float *initial)
{
    const int64_t outs = spec->T * spec->V, states = spec->K * spec->V;
    double *const out[2] = {must_alloc((size_t)outs, sizeof(double)), must_alloc((size_t)outs, sizeof(double))};
    double *const S[2] = {must_alloc((size_t)states, sizeof(double)), must_alloc((size_t)states, sizeof(double))};
    for (int form = 0; form < 2; ++form) {
        for (int64_t i = 0; i < states; ++i) S[form][i] = (double)initial[i];
        caught = out[form];
        if (form == 0) fkdai_ref_tokens(item, S[form]);
        else fkdai_ref_chunks(item, S[form]);
        caught = NULL;
    }
    const double out_error = difference(out[1], out[0], outs), state_error = difference(S[1], S[0], states);
    if (!(out_error <= BAR(f64, unrounded).out) || !(state_error <= BAR(f64, unrounded).state))
        fail_msg("%s: the forms differ by %.2e in out, %.2e in the state", spec->name, out_error, state_error);
    for (int form = 0; form < 2; ++form) {
        free(out[form]);
        free(S[form]);
    }
}

static void compare_case(const case_spec *spec)
{
    input_values x = values_draw(spec);
    const run_setup setup = {.backend = FKDA_BACKEND_REF, .poison = 0xa5};
    case_image image = image_build(spec, &x, &setup);
    fkdai_desc resolved;
    assert_int_equal(fkdai_resolve(&fkdai_op_fwd, &image.desc, &resolved), FKDA_OK);
    const fkda_fwd_desc *const desc = &resolved.fwd;
    for (int64_t n = 0; n < spec->N; ++n)
        for (int64_t hv = 0; hv < spec->HV; ++hv) {
            const fkdai_ref_item item = {desc, &image.args, fkdai_sequence_at(desc, image.args.cu_seqlens, n), hv};
            compare_item(spec, &item, x.initial + (n * spec->HV + hv) * spec->K * spec->V);
        }
    image_free(&image);
    values_free(&x);
}

/* The chunk form at every length up to 80 and at every case of the table that is not about shapes alone. */
void test_forms_agree_on_table(void **state)
{
    (void)state;
    for (int i = 0; i < case_count("fwd"); ++i) {
        const case_spec spec = case_at("fwd", i);
        if (spec.N <= 5 && spec.T * spec.HV <= 300) compare_case(&spec);
    }
}

void test_forms_agree_on_softplus_extremes(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "T=67 gate=softplus gates=steep K=16 V=24", "T=67 gate=softplus gates=huge K=16 V=24", "T=67 gate=softplus gates=inf K=24 V=16",
        "T=33 gate=softplus gates=bits K=8 V=3", "T=50 gate=softplus gates=half keys=same betas=eight K=16 V=16",
        "T=81 gate=precomputed gates=huge K=16 V=16",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec spec = case_parse("softplus_extreme", texts[i]);
        compare_case(&spec);
    }
}

/* A_log and dt_bias of any finite size: exp(A_log) may overflow, the decay may not become NaN. */
void test_finite_gate_parameters_stay_finite(void **state)
{
    (void)state;
    static const float sizes[] = {0, 1, -1, 88, -88, 1000, -1000, 3e38f, -3e38f};
    const int count = sizeof sizes / sizeof *sizes;
    for (int gate = FKDA_GATE_BOUNDED; gate <= FKDA_GATE_SOFTPLUS; ++gate)
        for (int a = 0; a < count; ++a)
            for (int b = 0; b < count; ++b) {
                case_spec spec = case_parse("finite_gate", "T=18 H=1 K=4 V=4 in=f32");
                spec.gate = gate;
                input_values x = values_draw(&spec);
                x.A_log[0] = sizes[a];
                for (int64_t i = 0; i < spec.K; ++i) x.dt_bias[i] = sizes[b];
                for (int64_t i = 0; i < case_rows(&spec) * spec.K; ++i) x.g[i] = i % 3 ? 0 : -x.g[i];
                case_result r = case_run_reference(&spec, &x);
                for (int64_t i = 0; i < r.out_count; ++i)
                    if (!isfinite(r.out[i]))
                        fail_msg("gate %d, A_log = %g, dt_bias = %g: out is %g", gate, (double)sizes[a], (double)sizes[b], (double)r.out[i]);
                result_free(&r);
                values_free(&x);
            }
}
