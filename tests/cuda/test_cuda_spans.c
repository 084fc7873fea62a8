/*
 * Calls of the portable kernel whose long sequences are cut in spans: which calls these are, what is launched in which order and with what, and that an
 * error ends it. Nobody reads the memory: the CUDA runtime is the one of fake_cuda.c. Values go through emulated_spans.
 */
#include "harness.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_plan.h"
#include "fake_cuda.h"
#include "flashkda.h"

/* Places in device memory, as far apart as no tensor here is large; nobody looks there. */
static void *place(int i) { return (void *)(uintptr_t)((UINT64_C(1) << 40) + ((uint64_t)i << 32)); }

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

static fkda_fwd_desc desc_of(int64_t T, int64_t H)
{
    return (fkda_fwd_desc){.struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = 1, .T = T, .H = H,
                           .K = 128, .V = 128, .scale = 1.0f, .lower_bound = -5.0f, .final_state = {.dtype = FKDA_F32}};
}

static fkda_fwd_args some_args(void)
{
    return (fkda_fwd_args){.struct_size = sizeof(fkda_fwd_args), .q = place(0), .k = place(1), .v = place(2), .g = place(3), .beta = place(4),
                           .out = place(5), .final_state = place(6)};
}

/* The calls since reset(), one word after the other. */
static const char *launches(void)
{
    static char text[1024];
    text[0] = 0;
    for (int i = 0; i < fake.logged; ++i) {
        if (strncmp(fake.log[i], "fkdai_", 6) != 0 || strstr(fake.log[i], "_load") != NULL) continue;
        strcat(text, text[0] == 0 ? "" : " ");
        strcat(text, fake.log[i] + 6);
    }
    return text;
}

static fkda_status run(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    size_t bytes = 0;
    fkda_plan plan;
    if (fkda_fwd_plan(d, &plan) != FKDA_OK) fail_msg("%s", fkda_last_error());
    bytes = fkda_plan_workspace_size(&plan);
    reset();
    return fkda_fwd_run(&plan, a, bytes > 0 ? place(7) : NULL, bytes, NULL);
}

/* Heads alone decide, against the multiprocessors: not N, not T, but for calls too short to have a long sequence. */
static void test_which_calls(void **unused)
{
    (void)unused;
    static const struct { fkdai_cuda_device device; int64_t most_heads; } generations[] = {
        {{"A100", 8, 0, 108, 166912}, 13}, {{"L4", 8, 9, 58, 101376}, 7}, {{"RTX 4090", 8, 9, 128, 101376}, 16}, {{"H100", 9, 0, 132, 232448}, 16},
        {{"B200", 10, 0, 148, 232448}, 18}, {{"RTX 5090", 12, 0, 170, 101376}, 21}};
    for (size_t i = 0; i < sizeof generations / sizeof *generations; ++i)
        for (int64_t heads = 1; heads < 24; ++heads)
            for (int64_t T = 512; T < 515; ++T) {
                fkda_fwd_desc d = desc_of(T, heads);
                fkdai_plan plan = {.operation = &fkdai_op_fwd};
                const fkdai_cuda_machine m = {.device_count = 1, .devices = {generations[i].device}};
                assert_int_equal(fkdai_resolve(&fkdai_op_fwd, &d, &plan.desc), FKDA_OK);
                assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_OK);
                const int is_cut = strstr(plan.choice, "long sequences in spans of 512 and then 256 tokens") != NULL;
                assert_int_equal(is_cut, T > 512 && heads <= generations[i].most_heads);
                assert_int_equal(plan.workspace_bytes > 0, is_cut);
            }
}

static void assert_is_whole(fkda_fwd_desc d)
{
    const fkda_fwd_args a = some_args();
    assert_int_equal(run(&d, &a), FKDA_OK);
    assert_string_equal(launches(), "mma_launch");
}

/* Of what transitions might be too large for, nothing is cut; nor are other widths. */
static void test_what_is_never_cut(void **unused)
{
    (void)unused;
    fkda_fwd_desc raw = desc_of(4096, 2), activated = desc_of(4096, 2), narrow = desc_of(4096, 2), wide = desc_of(4096, 17);
    raw.qk_norm = FKDA_QK_NORM_NONE, activated.beta_kind = FKDA_BETA_ACTIVATED, narrow.V = 64;
    assert_is_whole(raw), assert_is_whole(activated), assert_is_whole(narrow), assert_is_whole(wide);
}

static void test_one_long_sequence(void **unused)
{
    (void)unused;
    const fkda_fwd_desc d = desc_of(512 + 3 * 256 - 1, 2);
    const fkda_fwd_args a = some_args();
    assert_int_equal(run(&d, &a), FKDA_OK);
    assert_string_equal(launches(), "span_set_up mma_launch span_carry_states mma_launch");
    const fkdai_span_setup *const s = &fake.setup;
    assert_true(s->N == 1 && s->T == d.T && s->HV == 2 && s->early.count == 3 + 2 && s->late.count == 3 && s->first_transition == 3);
    assert_true(fake.spans[0].table == s->early.table && fake.spans[0].states == s->identity && fake.spans[0].is_cut == NULL);
    assert_true(fake.spans[1].table == s->late.table && fake.spans[1].states == fake.carry.starts && fake.spans[1].is_cut == NULL);
    assert_true(fake.last_mma.N == 3 && fake.last_mma.final_state == a.final_state && fake.last_mma.final_rows.slot_count == 1);
    assert_true((const char *)fake.carry.transitions == (const char *)(fake.carry.starts + 3 * 2 * 128 * 128));
    assert_true(fake.carry.before == s->before && fake.carry.cut == s->cut && fake.carry.cut_before == s->cut_before);
}

/* Two spans: no state passes another; nothing is carried. */
static void test_two_spans(void **unused)
{
    (void)unused;
    const fkda_fwd_desc d = desc_of(768, 2);
    const fkda_fwd_args a = some_args();
    assert_int_equal(run(&d, &a), FKDA_OK);
    assert_string_equal(launches(), "span_set_up mma_launch mma_launch");
}

/* Packed, only the device knows whether any sequence is long: both ways are launched, and one of them does nothing. */
static void test_packed(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = desc_of(2048, 2);
    fkda_fwd_args a = some_args();
    d.N = 5, d.cu_seqlens = FKDA_I32, a.cu_seqlens = place(8);
    assert_int_equal(run(&d, &a), FKDA_OK);
    assert_string_equal(launches(), "span_set_up mma_launch span_carry_states mma_launch mma_launch");
    const int32_t *const is_cut = fake.setup.cut_before + 5;
    for (int i = 0; i < 3; ++i) assert_true(fake.spans[i].is_cut == is_cut && fake.spans[i].wants_cut == (i < 2));
    assert_true(fake.spans[2].table == NULL && fake.last_mma.N == 5 && fake.last_mma.cu_seqlens.data == a.cu_seqlens);
}

static void test_every_call_that_fails(void **unused)
{
    (void)unused;
    const fkda_fwd_desc d = desc_of(2048, 2);
    const fkda_fwd_args a = some_args();
    fkda_plan plan;
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    reset();
    assert_int_equal(fkda_fwd_run(&plan, &a, place(7), fkda_plan_workspace_size(&plan), NULL), FKDA_OK);
    const int all = fake.calls;
    assert_true(all >= 4);
    for (int i = 1; i <= all; ++i) {
        reset();
        fake.fail_at = i;
        assert_int_equal(fkda_fwd_run(&plan, &a, place(7), fkda_plan_workspace_size(&plan), NULL), FKDA_ERR_CUDA);
        assert_int_equal(fake.calls, i);    /* and nothing behind it */
    }
}

int main(void)
{
    if (setenv("FKDA_CUDA_KERNEL", "mma", 1) != 0) return 1;
    reset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_calls), cmocka_unit_test(test_what_is_never_cut), cmocka_unit_test(test_one_long_sequence),
        cmocka_unit_test(test_two_spans), cmocka_unit_test(test_packed), cmocka_unit_test(test_every_call_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
