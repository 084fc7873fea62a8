/*
 * The kernel of fkda_decode_fused without a GPU: drawn cases from the public desc through the kernel's host side to its device code in the emulator, on
 * memory between guard pages, outputs and pools poisoned; against the reference, and bit for bit where a promise says so.
 */
#include "harness.h"

#include "counter_rng.h"
#include "cuda_kernel.h"
#include "decode_fused/decode_fused_launch.h"
#include "fused_case.h"

extern unsigned decode_fused_emulated_seed;

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", NULL}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};

static uint32_t device_status;

/* On "CUDA" memory that the host can read. */
static fkda_status run_emulated(const void *context, fused_image *m)
{
    static const fkdai_cuda_device device = {.major = 9, .multiprocessors = 132};
    fkdai_plan plan = {.operation = &fkdai_op_decode_fused};
    fkdai_cuda_kernel_plan own;
    (void)context;
    m->desc.memory = FKDA_MEMORY_CUDA, m->desc.backend = FKDA_BACKEND_CUDA;
    m->args.device_status = &device_status, device_status = 0;
    fkda_status status = fkdai_resolve(&fkdai_op_decode_fused, &m->desc, &plan.desc);
    if (status == FKDA_OK) status = fkdai_decode_fused.plan(&device, &plan, &own);
    if (status == FKDA_OK) status = fkdai_decode_fused.check_args(&plan.desc, &m->args);
    if (status != FKDA_OK) return status;
    decode_fused_emulated_seed += m->before[FUSED_OUT][0] == 0x7f;    /* another poison, another order of threads */
    if (fkdai_decode_fused.run(&plan.desc, &own, &m->args, NULL, NULL) != 0) fail_msg("the kernel did not end");
    return FKDA_OK;
}
static const fused_way way = {run_emulated, NULL, "the emulator"};

static void test_cases(void **unused)
{
    (void)unused;
    const uint64_t count = draws_are_few() ? 15 : 60, from = (uint64_t)draws_number();
    int failed = 0;
    for (uint64_t i = from; i < from + count; ++i) {
        const fused_spec s = fused_draw(i);
        failed += !fused_check_case(&way, &s);
        assert_int_equal(device_status, 0);
    }
    print_message("emulated decode_fused: %d cases ran, %d failed\n", (int)count, failed);
    assert_int_equal(failed, 0);
}

static void test_bits(void **unused)
{
    (void)unused;
    fused_check_batch(&way);
    fused_check_poisoned_rows(&way);
    fused_check_nan_stays(&way);
    fused_check_tokens(&way);
}

/* A slot that the pool does not have counts as null: one beyond it, or below 0 where no index is null. */
static void test_broken_slots(void **unused)
{
    (void)unused;
    static const int64_t broken[] = {9, INT64_C(1) << 32, INT64_MAX, -1, INT64_MIN};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; ++i) {
        fused_spec s = fused_draw(1);
        s.N = 3, s.slots = FKDA_I64, s.slot_null = FKDA_SLOT_NULL_NONE, s.conv_weight = FKDA_F32;
        fused_image m = fused_build(&s, 0xa5, GUARD_AT_END);
        const int64_t slots[] = {fused_row(&s, 0), broken[i], fused_row(&s, 2)}, row = fused_row(&s, 1), matrices = s.H * s.W * s.W;
        m.args.slots = slots;
        assert_int_equal(run_emulated(NULL, &m), FKDA_OK);
        assert_int_equal(device_status, FKDA_DEVICE_SLOT_BROKEN);
        const int64_t element = s.state == FKDA_F32 ? 4 : 2, at = row * m.desc.state.row_stride * element;
        assert_memory_equal(m.buffer[FUSED_STATE].data + at, m.before[FUSED_STATE] + at, (size_t)(matrices * element));
        const int64_t width = s.out == FKDA_F32 ? 4 : 2, out = m.desc.out.batch_stride * width;
        for (int64_t b = 0; b < s.H * s.W * width; ++b) assert_int_equal(m.buffer[FUSED_OUT].data[out + b], 0);
        fused_check_untouched(&m);
        fused_free(&m);
    }
}

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_bits), cmocka_unit_test(test_broken_slots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
