/*
 * cases.def on the CUDA backend, through the public API: every case is widened to what the kernels take (K = V = 128, bf16), laid
 * out on the host with guards and NaN gaps, mirrored to the device byte for byte, run, mirrored back and compared with the reference.
 *
 * Checkpoints must have the bits of a run that ends there. Strides and addresses that only a copy brings to the kernel must not change a bit.
 *
 *     cuda_cases [sm90 | mma [spans] [tiny]]      by this kernel; else by the one that the library chooses
 *
 * spans: sequences are cut behind 64 tokens, then every 32. tiny: some of the small cases, for compute-sanitizer; with spans of those that are cut.
 *
 * Errors: M1 of out, of the final state and of the checkpoints, and M2, the worst 16-token tile of a head. Prints ran / skipped / failed. Skips as a whole
 * without a GPU.
 */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bars.h"
#include "case_states.h"
#include "counter_rng.h"
#include "device_case.h"
#include "error_metrics.h"

static double worst_tile;    /* largest M2 over its bar that was seen */
static int is_cut, is_tiny;  /* the words `spans` and `tiny` */
enum { FIRST_SPAN = 64, MOST_ROWS = 400, ONE_IN = 8, ONE_CUT_IN = 3 };    /* MOST_ROWS: tokens times heads of a small case */

/* The portable kernel has two widths; all else, and what the library copies, is 128 wide. */
static int64_t width_for(int64_t width, int is_copied)
{
    const char *const kernel = getenv("FKDA_CUDA_KERNEL");
    return kernel != NULL && strcmp(kernel, "mma") == 0 && width <= 64 && !is_copied ? 64 : 128;
}

/* The case with the widths and dtypes that the kernels are built for, beta and log a as they are; 0 if only one dtype can be exact. */
static int widen(case_spec *s, int is_copied)
{
    const int64_t K = width_for(s->K, is_copied);
    if (s->exact) return 0;
    if (fabs(s->scale * sqrt((double)s->K) - 1) < 1e-6) s->scale = 1 / sqrt((double)K);
    s->K = K, s->V = width_for(s->V, is_copied);
    s->q = s->k = s->v = s->out = FKDA_BF16;
    if (s->gate != FKDA_GATE_PRECOMPUTED) s->g = FKDA_BF16;
    return 1;
}

static int is_wanted(const case_spec *s, int i)
{
    if (!is_tiny) return 1;
    int64_t longest = 0;
    for (int64_t n = 0; n < s->N; ++n) longest = longest > s->bounds[n + 1] - s->bounds[n] ? longest : s->bounds[n + 1] - s->bounds[n];
    return s->B * s->T * s->HV <= MOST_ROWS && (is_cut ? longest > FIRST_SPAN && i % ONE_CUT_IN == 0 : i % ONE_IN == 0);
}

/* The same bits where it lies and without gaps, at addresses of whole elements too. */
static int is_the_same_without_copies(const case_spec *s, const input_values *x, const case_result *lies)
{
    case_spec packed = *s;
    packed.view = VIEW_PLAIN, packed.row_gap = 0;
    device_run moved = {.poison = 0xff, .is_shifted = 1};
    case_result want = run_on_device(&packed, x, 0xa5), shifted = run_case_on_device(s, x, &moved);
    const int good = want.status == FKDA_OK && shifted.status == FKDA_OK && result_same_bits(lies, &want) && result_same_bits(&shifted, &want);
    if (!good) print_error("%s: other bits through copies\n", s->name);
    result_free(&want);
    result_free(&shifted);
    return good;
}

static int is_inside(const case_spec *s, const case_result *r, const case_result *ref)
{
    for (int64_t i = 0; i < r->out_count; ++i)
        if (!isfinite(r->out[i])) return 0;
    for (int64_t i = 0; i < r->state_count; ++i)
        if (!isfinite(r->state[i])) return 0;
    for (int64_t i = 0; i < r->checkpoint_elems; ++i)
        if (!isfinite(r->checkpoints[i])) return 0;
    const double out = metric_m1(r->out, ref->out, r->out_count);
    const double state = fmax(metric_m1(r->state, ref->state, r->state_count), metric_m1(r->checkpoints, ref->checkpoints, r->checkpoint_elems));
    const accuracy_bar bar = bar_bf16_of(s);
    double tile = 0;
    for (int64_t h = 0; h < s->HV; ++h) tile = fmax(tile, metric_m2_head(r->out, ref->out, s->bounds, s->N, h, s->HV, s->V));
    worst_tile = fmax(worst_tile, tile / (bar.m2 * bar.out));
    if (out <= bar.out && state <= bar.state && tile <= bar.m2 * bar.out) return 1;
    print_error("%s: out M1 %.2e (bar %.1e), states M1 %.2e (bar %.1e), out M2 %.2e (bar %.1e)\n", s->name, out, bar.out, state, bar.state,
                tile, bar.m2 * bar.out);
    return 0;
}

static void test_every_case_on_the_device(void **state)
{
    (void)state;
    int ran = 0, skipped = 0, failed = 0, copied = 0;
    for (int i = 0; i < case_count("fwd"); ++i) {
        case_spec s = case_at("fwd", i);
        const int is_copied = s.view != VIEW_PLAIN || s.row_gap || i % 10 == 0;
        if (!is_wanted(&s, i)) continue;
        if (!widen(&s, is_copied)) {
            ++skipped;
            continue;
        }
        input_values x = values_draw(&s);
        case_result a = run_on_device(&s, &x, 0xa5);
        if (a.status == FKDA_OK) {
            case_result b = run_on_device(&s, &x, 0xff), ref = case_run_reference(&s, &x);
            const int good = result_same_bits(&a, &b) && is_inside(&s, &a, &ref) && (!is_copied || is_the_same_without_copies(&s, &x, &a));
            copied += is_copied;
            if (!result_same_bits(&a, &b)) print_error("%s: other poison, other bits\n", s.name);
            ++ran, failed += !good;
            result_free(&b);
            result_free(&ref);
        } else {
            ++skipped;
        }
        result_free(&a);
        values_free(&x);
    }
    print_message("cuda_cases: ran %d, failed %d, skipped %d (another operation), %d also without copies; the worst tile reached %.2f of its bar\n",
                  ran, failed, skipped, copied, worst_tile);
    assert_int_equal(failed, 0);
    assert_true(is_tiny ? ran > 20 : ran > 100 && copied > 40);
}

/* ---------------------------------------------------------------- checkpoints */

/* Runs of the tokens up to each checkpoint: their final states are what the checkpoints must be. */
static int is_each_checkpoint_a_prefix(const case_spec *s, const input_values *x, const case_result *r)
{
    static piece pieces[CASE_MAX_SEQUENCES];
    const int64_t elems = case_state_elems(s);
    int64_t row = 0, n, position;
    int good = 1;
    while (row < case_checkpoint_count(s)) {    /* as many at a time as a case has sequences for */
        const int64_t first = row;
        int count = 0;
        for (; row < case_checkpoint_count(s) && count < CASE_MAX_SEQUENCES; ++row)
            if (case_has_checkpoint(s, row, &n, &position)) pieces[count++] = (piece){.sequence = n, .count = position};
        if (count == 0) break;
        case_spec prefixes = pieces_spec(s, pieces, count, FKDA_I64);
        prefixes.checkpoints = FKDA_NONE, prefixes.final = s->checkpoints;
        input_values y = pieces_values(s, x, pieces, &prefixes);
        case_result alone = run_on_device(&prefixes, &y, 0xff);
        int at = 0;
        for (int64_t i = first; i < row; ++i)
            if (case_has_checkpoint(s, i, &n, &position))
                good &= memcmp(r->checkpoints + i * elems, alone.state + at++ * elems, (size_t)elems * sizeof(float)) == 0;
        result_free(&alone);
        values_free(&y);
    }
    return good;
}

/* And nothing else has other bits than without them. */
static void test_checkpoints_are_prefixes(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "lens=70,0,33,1,64,16 H=1 cp=f32 cp_every=1", "lens=70,0,33,1,64,16 H=1 cp=bf16 cp_every=7 cp_layout=nhkv", "lens=1300,547,64,963 H=4 cp=f32 cp_every=64",
        "T=2048 H=2 cp=f32 cp_every=100", "lens=700,41,0,300 H=24 cp=f32 cp_per=10", "B=5 T=200 H=20 cp=f32 cp_per=7 cp_offsets=i32 rows=gaps",
        "lens=(64,1,37)*60 H=4 cp=f32 cp_per=4 cp_pool=i32", "lens=(33,1)*300 H=1 cp=f32 cp_every=16", "lens=1000 H=3 cp=f32 cp_every=48 s0=bf16 s1=bf16",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = kernel_case_parse("prefixes", texts[i]);
        case_spec without = s;
        without.checkpoints = FKDA_NONE;
        input_values x = values_draw(&s);
        case_result a = run_on_device(&s, &x, 0xa5), b = run_on_device(&without, &x, 0xff);
        assert_int_equal(a.status, FKDA_OK);
        if (memcmp(a.out, b.out, (size_t)a.out_count * sizeof(float)) != 0) fail_msg("%s: out has other bits than without checkpoints", texts[i]);
        if (memcmp(a.state, b.state, (size_t)a.state_count * sizeof(float)) != 0) fail_msg("%s: so has final_state", texts[i]);
        if (!is_each_checkpoint_a_prefix(&s, &x, &a)) fail_msg("%s: a checkpoint is not the state of a run that ends there", texts[i]);
        result_free(&a);
        result_free(&b);
        values_free(&x);
    }
    print_message("cuda_cases: ran %d, failed 0 with checkpoints, each as the run that ends there\n", (int)(sizeof texts / sizeof *texts));
}

int main(int argc, char **argv)
{
    rng_seed();
    if (argc > 1) setenv("FKDA_CUDA_KERNEL", argv[1], 1);
    for (int i = 2; i < argc; ++i) is_cut |= strcmp(argv[i], "spans") == 0, is_tiny |= strcmp(argv[i], "tiny") == 0;
    if (is_cut) setenv("FKDA_CUDA_SPANS", "64,32", 1);
    char why[256] = "";
    if (fkda_backend_status(FKDA_BACKEND_CUDA, why, sizeof why) != FKDA_OK) {
        printf("cuda_cases: no GPU, skipped (%s)\n", why);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_case_on_the_device), cmocka_unit_test(test_checkpoints_are_prefixes)};
    const struct CMUnitTest tiny[] = {cmocka_unit_test(test_every_case_on_the_device)};
    return is_tiny ? cmocka_run_group_tests(tiny, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
