/*
 * What it takes to add an operation: a row (op_sum.c), a line in the list (op_sum.h), and {plan, run} of the backends that offer it (here).
 * Plan, query, workspace, run, copies and refusals then work. The backends of this program:
 *
 *     idle    (cuda)   offers nothing
 *     dense   (cpu)    sum with step 1, and with others as a copy
 *     any     (ref)    sum with any step below 100; its plans are fixed
 */
#include "harness.h"

#include <inttypes.h>

#include "api.h"
#include "backend.h"
#include "status.h"

/* ---------------------------------------------------------------- backends */

static fkda_status present(char *text, size_t size)
{
    if (size > 0) snprintf(text, size, "a test");
    return FKDA_OK;
}

static int plans_made;    /* how often a backend that offers sum was asked */

static fkda_status plan_any(fkdai_plan *plan)
{
    ++plans_made;
    REQUIRE(plan->desc.sum.step < 100, FKDA_ERR_UNSUPPORTED, "step = %" PRId64 ", at most 99 is taken", plan->desc.sum.step);
    plan->workspace_bytes = 1;
    snprintf(plan->choice, sizeof plan->choice, "%" PRId64 " sums", plan->desc.sum.count);
    return FKDA_OK;
}

static fkda_status plan_dense(fkdai_plan *plan)
{
    REQUIRE(plan->desc.sum.step == 1, FKDA_ERR_UNSUPPORTED, "step = %" PRId64 ", only 1 is taken", plan->desc.sum.step);
    return plan_any(plan);
}

static fkda_status suit_dense(fkdai_plan *plan, const void *args, uint32_t *copies)
{
    const uintptr_t in = args == NULL ? 0 : (uintptr_t)((const fkda_sum_args *)args)->in;
    if (plan->desc.sum.step != 1 || in % 16 != 0) *copies |= 1u << SUM_IN;
    if (plan->desc.sum.step < 1000) plan->desc.sum.step = 1;
    return plan_dense(plan);
}

static fkda_status run(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    const fkda_sum_args *const a = args;
    (void)workspace, (void)stream;
    for (int64_t i = 0; i < plan->desc.sum.count; ++i) a->out[i] = a->in[i * plan->desc.sum.step] + (a->bias == NULL ? 0 : *a->bias);
    return FKDA_OK;
}

static const fkdai_backend idle = {.present = present};
static const fkdai_backend dense = {.present = present, .offers = {[FKDAI_OP_SUM] = {plan_dense, run, suit_dense}}};
static const fkdai_backend any = {.present = present, .offers = {[FKDAI_OP_SUM] = {plan_any, run, NULL}}, .has_fixed_plans = 1};

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "idle", &idle}, {FKDA_BACKEND_CPU, "dense", &dense}, {FKDA_BACKEND_REF, "any", &any}, {FKDA_BACKEND_AUTO, "auto", NULL},
};

/* ---------------------------------------------------------------- calls */

static const fkdai_operation *const sum = &fkdai_op_sum;
static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char workspace[FKDA_WORKSPACE_ALIGN];
static _Alignas(16) float in[16];
static float out[16];

static fkda_sum_desc desc_of(int64_t count, int64_t step)
{
    return (fkda_sum_desc){.struct_size = sizeof(fkda_sum_desc), .count = count, .step = step};
}

static fkda_sum_args good_args(void)
{
    for (int i = 0; i < 16; ++i) in[i] = (float)i, out[i] = -1;
    return (fkda_sum_args){.struct_size = sizeof(fkda_sum_args), .in = in, .out = out};
}

static void assert_refusal(fkda_status got, fkda_status status, const char *sentence)
{
    if (got != status || strcmp(fkda_last_error(), sentence) != 0) fail_msg("%s: %s", fkda_status_name(got), fkda_last_error());
    for (int i = 0; i < 16; ++i) assert_true(out[i] == -1);
}

static fkda_status call(const void *desc, const void *args) { return fkdai_api_call(sum, desc, args, workspace, sizeof workspace, NULL); }

static void test_plan_and_run(void **state)
{
    (void)state;
    const fkda_sum_desc d = desc_of(5, 3);
    const fkda_sum_args a = good_args();
    fkda_plan plan;
    fkda_backend backend;
    size_t bytes;
    char text[100];
    assert_int_equal(fkdai_api_query(sum, &d, &backend), FKDA_OK);
    assert_int_equal(backend, FKDA_BACKEND_REF);
    assert_int_equal(fkdai_api_workspace_size(sum, &d, &bytes), FKDA_OK);
    assert_int_equal(bytes, FKDA_WORKSPACE_ALIGN);
    assert_int_equal(fkdai_api_plan(sum, &d, &plan), FKDA_OK);
    assert_int_equal(fkda_plan_backend(&plan), FKDA_BACKEND_REF);
    assert_int_equal(fkda_plan_workspace_size(&plan), FKDA_WORKSPACE_ALIGN);
    fkda_plan_describe(&plan, text, sizeof text);
    assert_string_equal(text, "any: 5 sums, workspace 0.0 MiB; slow, as dense: step = 3, only 1 is taken");
    assert_int_equal(fkdai_api_run(sum, &plan, &a, workspace, sizeof workspace, NULL), FKDA_OK);
    for (int i = 0; i < 16; ++i) assert_true(out[i] == (i < 5 ? (float)(3 * i) : -1.0f));
    assert_string_equal(fkda_last_error(), "");    /* refusals on the way are no failure */
}

static void test_backends_are_refused_by_one_sentence(void **state)
{
    (void)state;
    fkda_sum_args a = good_args();
    fkda_sum_desc d = desc_of(5, 100);
    assert_refusal(call(&d, &a), FKDA_ERR_UNSUPPORTED,
                   "idle: fkda_sum is not offered by this backend; dense: step = 100, only 1 is taken; any: step = 100, at most 99 is taken");
    d.backend = FKDA_BACKEND_CUDA;
    assert_refusal(call(&d, &a), FKDA_ERR_UNSUPPORTED, "fkda_sum is not offered by this backend");
    const fkda_fwd_desc fwd = {.struct_size = sizeof fwd, .B = 1, .T = 1, .H = 1, .K = 1, .V = 1};
    assert_refusal(fkda_fwd_query(&fwd, NULL), FKDA_ERR_UNSUPPORTED,
                   "idle: fkda_fwd is not offered by this backend; dense: fkda_fwd is not offered by this backend; "
                   "any: fkda_fwd is not offered by this backend");
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_CPU), "dense");
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_AUTO), "auto");
}

/* fkda_fwd_run reads its own args from a plan of its own operation only. */
static void test_a_plan_remembers_its_operation(void **state)
{
    (void)state;
    const fkda_sum_desc d = desc_of(5, 1);
    const fkda_fwd_args fwd = {.struct_size = sizeof fwd};
    fkda_plan plan;
    (void)good_args();
    assert_int_equal(fkdai_api_plan(sum, &d, &plan), FKDA_OK);
    assert_refusal(fkda_fwd_run(&plan, &fwd, workspace, sizeof workspace, NULL), FKDA_ERR_BAD_VALUE,
                   "plan was not made by fkda_fwd_plan, but by fkda_sum_plan");
    memset(&plan, 0, sizeof plan);
    assert_refusal(fkdai_api_run(sum, &plan, &fwd, workspace, sizeof workspace, NULL), FKDA_ERR_BAD_VALUE, "plan was not made by fkda_sum_plan");
}

static void test_rules_of_the_row(void **state)
{
    (void)state;
    const fkda_sum_args good = good_args();
    fkda_sum_args a = good;
    fkda_sum_desc d = desc_of(-1, 1);
    assert_refusal(call(&d, &a), FKDA_ERR_SHAPE, "desc.count = -1 is negative");
    d = desc_of(4, -1);
    assert_refusal(call(&d, &a), FKDA_ERR_UNSUPPORTED, "desc.step = -1: backwards is not offered yet");
    d = desc_of(4, 1), d.flags = 2;
    assert_refusal(call(&d, &a), FKDA_ERR_BAD_VALUE, "desc.flags = 0x2 has bits that this library does not know");
    d.flags = 0, a.in = NULL;
    assert_refusal(call(&d, &a), FKDA_ERR_NULL_POINTER, "args.in is NULL, but the desc asks for it");
    const float negative = -1;
    a = good, a.bias = &negative;
    assert_refusal(call(&d, &a), FKDA_ERR_BAD_VALUE, "args.bias[0] is negative");
    a = good, a.in = out + 2;
    assert_int_equal(call(&d, &a), FKDA_ERR_ALIAS);
    a = good, a.bias = out;
    assert_int_equal(call(&d, &a), FKDA_ERR_ALIAS);
    a = good, a.in = (const float *)(const void *)((const char *)in + 1);
    assert_int_equal(call(&d, &a), FKDA_ERR_MISALIGNED);
    a = good, a.in = out;    /* in place */
    assert_int_equal(call(&d, &a), FKDA_OK);
    d = desc_of(0, 1), a = (fkda_sum_args){.struct_size = sizeof a};    /* empty: not run */
    assert_int_equal(call(&d, &a), FKDA_OK);
}

/* A caller of the first version has no step and no bias; one of a later version has more than this library knows. */
static void test_structs_grow(void **state)
{
    (void)state;
    struct { fkda_sum_desc known; int64_t later; } d = {desc_of(4, 77), 0};
    struct { fkda_sum_args known; int64_t later; } a = {good_args(), 0};
    const float bias = 5;
    a.known.bias = &bias;
    d.known.struct_size = SUM_FIRST_DESC, a.known.struct_size = SUM_FIRST_ARGS;
    assert_int_equal(call(&d, &a), FKDA_OK);    /* step and bias are not read */
    for (int i = 0; i < 4; ++i) assert_true(out[i] == (float)i);

    a.known = good_args(), d.known.step = 2, a.known.bias = &bias;
    d.known.struct_size = sizeof d, a.known.struct_size = sizeof a;
    assert_int_equal(call(&d, &a), FKDA_OK);
    for (int i = 0; i < 4; ++i) assert_true(out[i] == (float)(2 * i + 5));

    a.known = good_args();
    a.known.struct_size = sizeof a, a.later = 1;
    assert_refusal(call(&d, &a), FKDA_ERR_STRUCT_SIZE,
                   "args.struct_size = 40, and byte 32 is not 0, but this library knows fkda_sum_args up to byte 32");
    a.later = 0, d.later = INT64_C(1) << 56;    /* the last byte; 16 bytes of fields behind it would not be read */
    assert_refusal(call(&d, &a), FKDA_ERR_STRUCT_SIZE,
                   "desc.struct_size = 56, and byte 55 is not 0, but this library knows fkda_sum_desc up to byte 48");
    d.later = 0;
    static const size_t unknown[] = {0, SUM_FIRST_DESC - 8, SUM_FIRST_DESC + 4, sizeof(fkda_sum_desc) + 4, 4104, SIZE_MAX - 7};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; ++i) {
        d.known.struct_size = unknown[i];
        assert_int_equal(call(&d, &a), FKDA_ERR_STRUCT_SIZE);
    }
}

static void test_copies(void **state)
{
    (void)state;
    fkda_sum_args a = good_args();
    fkda_sum_desc d = desc_of(4, 3), takes = d;
    uint32_t copies = 99;
    assert_int_equal(fkdai_api_advise(sum, &d, &a, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 0);    /* `any` takes it as it lies, though `dense` would come first with a copy */
    assert_int_equal(takes.step, 3);
    d.backend = FKDA_BACKEND_CPU;
    assert_int_equal(fkdai_api_advise(sum, &d, &a, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 1u << SUM_IN);
    assert_int_equal(takes.step, 1);
    d.step = 1;
    assert_int_equal(fkdai_api_advise(sum, &d, &a, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 0);
    a.in = in + 1;
    assert_int_equal(fkdai_api_advise(sum, &d, &a, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 1u << SUM_IN);
    assert_int_equal(fkdai_api_advise(sum, &d, NULL, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 0);

    d.struct_size = SUM_FIRST_DESC, takes.step = 55;    /* no byte behind the caller's struct is written */
    assert_int_equal(fkdai_api_advise(sum, &d, NULL, &takes, &copies), FKDA_OK);
    assert_true(takes.struct_size == SUM_FIRST_DESC && takes.count == 4 && takes.step == 55);

    d = desc_of(4, 2000), d.backend = FKDA_BACKEND_CPU;
    copies = 99;
    assert_refusal(fkdai_api_advise(sum, &d, NULL, &takes, &copies), FKDA_ERR_UNSUPPORTED, "step = 2000, only 1 is taken");
    assert_true(copies == 99 && takes.step == 55);
}

/* One call: how often a backend was asked, and what came out. */
static int asked_for(const fkda_sum_desc *d, float second)
{
    const fkda_sum_args a = good_args();
    plans_made = 0;
    assert_int_equal(call(d, &a), FKDA_OK);
    for (int64_t i = 0; i < 16; ++i) assert_true(out[i] == (i < d->count ? (float)i * second : -1.0f));
    return plans_made;
}

/* The same desc again asks nobody, if the plan was one of a backend whose plans are fixed; a desc that differs in anything asks again. */
static void test_fixed_plans_are_kept(void **state)
{
    (void)state;
    fkda_sum_desc d = desc_of(5, 3), other = desc_of(4, 3);
    (void)asked_for(&other, 3);
    assert_int_equal(asked_for(&d, 3), 1);
    assert_int_equal(asked_for(&d, 3), 0);
    assert_int_equal(asked_for(&other, 3), 1);
    assert_int_equal(asked_for(&d, 3), 1);
    d.threads = 1;
    assert_int_equal(asked_for(&d, 3), 1);
    assert_int_equal(asked_for(&d, 3), 0);
    d.backend = FKDA_BACKEND_REF;
    assert_int_equal(asked_for(&d, 3), 1);
    for (int i = 0; i < 3; ++i) {    /* refusals keep nothing and lose nothing */
        fkda_sum_args a = good_args();
        fkda_sum_desc wrong = d;
        wrong.step = i == 0 ? 100 : 3, wrong.flags = i == 1 ? 2 : 0, wrong.struct_size -= i == 2 ? 4 : 0;
        assert_int_not_equal(call(&wrong, &a), FKDA_OK);
        assert_int_not_equal(call(&wrong, &a), FKDA_OK);
        assert_int_equal(call(NULL, &a), FKDA_ERR_NULL_POINTER);
    }
    assert_int_equal(asked_for(&d, 3), 0);
    d.struct_size = SUM_FIRST_DESC, d.backend = FKDA_BACKEND_REF;    /* an older caller's struct is not compared, as its end is not there */
    assert_int_equal(asked_for(&d, 1), 1);
    assert_int_equal(asked_for(&d, 1), 1);
    d = desc_of(5, 1);    /* `dense` may answer otherwise tomorrow */
    assert_int_equal(asked_for(&d, 1), 1);
    assert_int_equal(asked_for(&d, 1), 1);
}

/* A kept plan is the plan: the same bytes. */
static void test_a_kept_plan_is_the_plan(void **state)
{
    (void)state;
    const fkda_sum_desc d = desc_of(5, 3), other = desc_of(6, 4);
    fkda_plan fresh, again, plan;
    assert_int_equal(fkdai_api_plan(sum, &other, &plan), FKDA_OK);
    assert_int_equal(fkdai_api_plan(sum, &d, &fresh), FKDA_OK);
    memset(&again, 0xa5, sizeof again);
    assert_int_equal(fkdai_api_plan(sum, &d, &again), FKDA_OK);
    assert_memory_equal(&fresh, &again, sizeof fresh);
    assert_memory_not_equal(&fresh, &plan, sizeof fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_and_run),
        cmocka_unit_test(test_backends_are_refused_by_one_sentence),
        cmocka_unit_test(test_a_plan_remembers_its_operation),
        cmocka_unit_test(test_rules_of_the_row),
        cmocka_unit_test(test_structs_grow),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_fixed_plans_are_kept),
        cmocka_unit_test(test_a_kept_plan_is_the_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
