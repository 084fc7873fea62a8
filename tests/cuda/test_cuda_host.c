/*
 * The C11 half of the CUDA backend: what it accepts, what it says when it refuses, what it calls. One file, though long: its tests share one good call
 * and the fake driver that it reaches.
 */
#include "harness.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_plan.h"
#include "fake_cuda.h"
#include "flashkda.h"

static char memory[1 << 16] __attribute__((aligned(256)));    /* stands for device memory: nobody reads it */
static char huge_memory[1 << 18] __attribute__((aligned(256)));
static char more_memory[1 << 19] __attribute__((aligned(256)));
static char pool_memory[1 << 19] __attribute__((aligned(256)));

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

static fkda_fwd_desc good_desc(void)
{
    return (fkda_fwd_desc){.struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = 1, .T = 1, .H = 2,
                           .K = 128, .V = 128, .scale = 1.0f, .lower_bound = -5.0f};
}

static fkda_fwd_args args_at(int offset)
{
    char *const at = memory + offset;
    return (fkda_fwd_args){.struct_size = sizeof(fkda_fwd_args), .q = at, .k = at + 1024, .v = at + 2048, .g = at + 3072, .beta = at + 4096,
                           .out = at + 5120};
}

static fkda_fwd_args good_args(void) { return args_at(0); }

/* The desc is refused with this status, and the sentence has these words. */
static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char scratch[1 << 22];

static void assert_refused(const fkda_fwd_desc *d, fkda_status status, const char *words)
{
    assert_int_equal(fkda_fwd_query(d, NULL), status);
    if (strstr(fkda_last_error(), words) == NULL) fail_msg("'%s' lacks '%s'", fkda_last_error(), words);
}

static void test_accepts_and_launches(void **unused)
{
    (void)unused;
    reset();
    const fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    a.device_status = (uint32_t *)(void *)(memory + 6144);
    size_t bytes = 1;
    assert_int_equal(fkda_fwd_workspace_size(&d, &bytes), FKDA_OK);
    assert_true(bytes > 0 && bytes <= sizeof scratch);    /* 2 jobs: an octet each, and what octets pass through L2 */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(fake.launches, 1);
    assert_int_equal(fake.synchronisations, 0);
    assert_int_equal(fake.last.grid.workers, 2);
    assert_int_equal(fake.last.q.stride.head, 128);
    assert_ptr_equal(fake.last.out, a.out);
    assert_ptr_equal(fake.last.device_status, a.device_status);
}

#define REFUSES(change, status, words)     \
    do {                                   \
        fkda_fwd_desc d = good_desc();     \
        change;                            \
        assert_refused(&d, status, words); \
    } while (0)

static void test_refusals_name_field_and_rule(void **unused)
{
    (void)unused;
    reset();
    REFUSES(d.K = 96, FKDA_ERR_UNSUPPORTED, "prefill_sm90: K = 96, kernels exist for K = 128; prefill_mma: K = 96, the kernel exists for K = 64 and 128");
    REFUSES(d.V = 32, FKDA_ERR_UNSUPPORTED, "V = 32, the kernel exists for V = 64 and 128");
    REFUSES(d.q.dtype = FKDA_F32, FKDA_ERR_UNSUPPORTED, "q has dtype 2");
    REFUSES(d.q.dtype = FKDA_F32; d.k.head_stride = 132, FKDA_ERR_UNSUPPORTED, "q has dtype 2");    /* test_cuda_copies: strides are taken */
    REFUSES(d.N = 1; d.cu_seqlens = FKDA_I32; d.checkpoints.dtype = FKDA_BF16; d.checkpoint_count = d.checkpoints_per_sequence = INT32_MAX,
            FKDA_ERR_UNSUPPORTED, "checkpoints_per_sequence = 2147483647 is not below");
    REFUSES(d.memory = FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "host memory");
    REFUSES(d.device = 2, FKDA_ERR_NO_DEVICE, "desc.device = 2, but there are 2 devices");
}

/* What beta means, in which dtype it lies, how many value heads share a head of q and k, whether these have a norm: all of it reaches the
 * launcher. */
static void test_options_reach_the_launcher(void **unused)
{
    (void)unused;
    for (int i = 0; i < 32; ++i) {
        fkda_fwd_desc d = good_desc();
        const fkda_fwd_args a = good_args();
        const int is_activated = i & 1, is_doubled = i >> 1 & 1, is_wide = i >> 2 & 1, shares = i >> 3 & 1, is_raw = i >> 4;
        d.H = 1, d.HV = shares ? 4 : 1, d.qk_norm = is_raw ? FKDA_QK_NORM_NONE : FKDA_QK_NORM_L2;
        d.beta_kind = is_activated ? FKDA_BETA_ACTIVATED : FKDA_BETA_LOGIT, d.beta_multiplier = is_doubled ? 2 : 0;
        d.beta.dtype = is_wide ? FKDA_F32 : FKDA_BF16, d.beta.head_stride = shares ? 7 : 0;
        reset();
        if (fkda_fwd(&d, &a, scratch, sizeof scratch, NULL) != FKDA_OK) fail_msg("%d: %s", i, fkda_last_error());
        const fkdai_prefill_call *const seen = &fake.last;
        assert_true(seen->is_beta_activated == is_activated && seen->beta_multiplier == (is_doubled ? 2.0f : 1.0f));
        assert_true(seen->beta.element == (is_wide ? FKDAI_F32 : FKDAI_BF16) && seen->g.element == FKDAI_BF16);
        assert_int_equal(seen->is_raw, is_raw);
        assert_true(seen->H == 1 && seen->HV == d.HV && seen->grid.workers == d.HV);
        if (shares) assert_true(seen->beta.stride.head == 7 && seen->v.stride.head == 128);
    }
}

/* 32-bit counts of the kernel hold whatever is not refused. */
static void test_sizes(void **unused)
{
    (void)unused;
    reset();
    fkda_fwd_desc large = good_desc();
    large.T = INT64_C(1) << 24, large.H = 2, large.HV = 64;    /* 2^37 elements */
    assert_int_equal(fkda_fwd_query(&large, NULL), FKDA_OK);
    REFUSES(d.T = INT32_MAX - 63, FKDA_ERR_UNSUPPORTED, "T = 2147483584 is not below 2^31 - 64");
    REFUSES(d.H = d.HV = (INT64_C(1) << 30) + 1, FKDA_ERR_UNSUPPORTED, "HV = 1073741825 is above 2^30");
    REFUSES(d.H = 2; d.HV = 1 << 17, FKDA_ERR_UNSUPPORTED, "HV*HV/H = 8589934592 is above 2^32");
    REFUSES(d.B = INT64_C(1) << 31; d.T = 0, FKDA_ERR_UNSUPPORTED, "B = 2147483648 is not below 2^31");
    REFUSES(d.cu_seqlens = FKDA_I64; d.N = INT64_C(1) << 28, FKDA_ERR_UNSUPPORTED, "N = 268435456 is above 2^28 - 1");
    REFUSES(d.B = 1 << 10; d.T = 1 << 26, FKDA_ERR_UNSUPPORTED, "B*T = 68719476736 is not below 2^35");
}

static void assert_rows(const fkdai_state_rows *r, int64_t stride, fkdai_element element, int is_k_first)
{
    assert_int_equal(r->row_stride, stride);
    assert_int_equal(r->element, element);
    assert_int_equal(r->is_k_first, is_k_first);
}

static void assert_pool(const fkdai_state_rows *r, const void *slots, fkdai_element element, int64_t count, int first)
{
    assert_ptr_equal(r->slots.data, slots);
    assert_int_equal(r->slots.element, element);
    assert_int_equal(r->slot_count, count);
    assert_int_equal(r->first_slot, first);
}

/* Pools, masks, layouts and checkpoints reach the launcher as they are. */
static void test_states_reach_the_launcher(void **unused)
{
    (void)unused;
    reset();
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    d.flags = FKDA_FLAG_INITIAL_MASK, a.initial_mask = (const uint8_t *)(memory + 7000);
    d.initial_state = (fkda_state_desc){.dtype = FKDA_F32, .row_stride = 32770, .slot_count = 2, .slot_dtype = FKDA_I32,
                                        .slot_null = FKDA_SLOT_NULL_NOT_POSITIVE};
    d.final_state = (fkda_state_desc){.dtype = FKDA_BF16, .layout = FKDA_STATE_NHKV};
    d.checkpoints = (fkda_state_desc){.dtype = FKDA_F32, .row_stride = 40000, .slot_count = 2, .slot_dtype = FKDA_I64};
    d.checkpoint_count = 3, d.checkpoints_per_sequence = 2, d.checkpoint_offset_dtype = FKDA_I32;
    a.initial_state = pool_memory, a.final_state = huge_memory + 2, a.checkpoint_state = more_memory;
    a.initial_slots = memory + 7004, a.checkpoint_slots = memory + 7040, a.checkpoint_offsets = memory + 7104;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    const fkdai_prefill_call *const call = &fake.last;
    assert_ptr_equal(call->initial_mask, a.initial_mask);
    assert_rows(&call->initial_rows, 32770, FKDAI_F32, 0);
    assert_pool(&call->initial_rows, a.initial_slots, FKDAI_I32, 2, 1);
    assert_rows(&call->final_rows, 32768, FKDAI_BF16, 1);
    assert_pool(&call->final_rows, NULL, FKDAI_ABSENT, 0, 0);
    assert_ptr_equal(call->checkpoints.state, a.checkpoint_state);
    assert_rows(&call->checkpoints.rows, 40000, FKDAI_F32, 0);
    assert_pool(&call->checkpoints.rows, a.checkpoint_slots, FKDAI_I64, 2, 0);
    assert_int_equal(call->checkpoints.count, 3);
    assert_int_equal(call->checkpoints.stops.per_sequence, 2);
    assert_int_equal(call->checkpoints.stops.every, 0);
    assert_ptr_equal(call->checkpoints.offsets.data, a.checkpoint_offsets);
    assert_int_equal(call->checkpoints.offsets.element, FKDAI_I32);
    d.checkpoint_every = 64, d.checkpoints_per_sequence = 0, a.checkpoint_offsets = NULL;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(call->checkpoints.stops.every, 64);
    a.final_state = huge_memory + 1;    /* [K,V]: aligned to its elements is enough */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
    a.final_state = huge_memory, a.checkpoint_state = more_memory + 4;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
}

/* A thread's last plan is kept for the same desc: whatever of the states a desc says makes another one, and args come anew with every call. */
static void test_kept_plans_follow_the_states(void **unused)
{
    (void)unused;
    reset();
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    d.initial_state = (fkda_state_desc){.dtype = FKDA_F32, .slot_count = 2, .slot_dtype = FKDA_I32};
    d.checkpoints.dtype = FKDA_F32, d.checkpoint_count = 4, d.checkpoint_offset_dtype = FKDA_I32, d.checkpoints_per_sequence = 2;
    a.initial_state = pool_memory, a.initial_slots = memory + 7004;
    a.checkpoint_state = more_memory, a.checkpoint_offsets = memory + 7104;
    const fkdai_prefill_call *const call = &fake.last;
    for (int i = 0; i < 2; ++i, a.initial_slots = memory + 7012, a.checkpoint_offsets = memory + 7112, a.initial_state = pool_memory + 256) {
        assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
        assert_ptr_equal(call->initial_state, a.initial_state);
        assert_ptr_equal(call->initial_rows.slots.data, a.initial_slots);
        assert_ptr_equal(call->checkpoints.offsets.data, a.checkpoint_offsets);
        assert_true(call->initial_mask == NULL && call->initial_rows.first_slot == 0 && call->checkpoints.stops.per_sequence == 2);
    }
    d.initial_state.slot_null = FKDA_SLOT_NULL_NOT_POSITIVE;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(call->initial_rows.first_slot, 1);
    d.checkpoints_per_sequence = 3;    /* behind the end of older descs */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(call->checkpoints.stops.per_sequence, 3);
    d.flags = FKDA_FLAG_INITIAL_MASK, a.initial_mask = (const uint8_t *)(memory + 7000);
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_ptr_equal(call->initial_mask, a.initial_mask);
    d.checkpoint_every = 33, d.checkpoints_per_sequence = 0, a.checkpoint_offsets = NULL;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_true(call->checkpoints.stops.every == 33 && call->checkpoints.stops.per_sequence == 0);
    d.initial_state.slot_count = 1;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(call->initial_rows.slot_count, 1);
}

/* The plan is a pure function of desc and machine: machines that this test invents. */
static void test_machines(void **unused)
{
    (void)unused;
    const fkda_fwd_desc d = good_desc();
    fkdai_plan plan = {.operation = &fkdai_op_fwd};
    fkdai_cuda_machine m = {.status = FKDA_ERR_DRIVER, .reason = "no usable GPU: too old"};
    assert_int_equal(fkdai_resolve(&fkdai_op_fwd, &d, &plan.desc), FKDA_OK);
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_ERR_DRIVER);
    m = (fkdai_cuda_machine){.device_count = 1, .devices = {{"GPU", 8, 0, 108, 166912}}};
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_OK);
    assert_non_null(strstr(plan.choice, "slices of 16 columns; the one for sm_80"));
    m.devices[0].major = 7, m.devices[0].minor = 5;
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_ERR_ARCH);
    assert_non_null(strstr(fkda_last_error(), "sm_75, kernels exist for sm_90, sm_80 and newer"));
    m.devices[0] = (fkdai_cuda_device){"GPU", 9, 0, 132, 232448};
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_OK);
    assert_non_null(strstr(plan.choice, "2 clusters of 8; faster than prefill_mma in all that was measured"));
    plan.desc.fwd.K = 64;
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_OK);
    assert_true(strstr(plan.choice, "mma prefill") == plan.choice);
    assert_non_null(strstr(plan.choice, "; not prefill_sm90: K = 64, kernels exist for K = 128"));
    m.devices[0].shared_bytes = 100000;
    assert_int_equal(fkdai_cuda_plan(&m, &plan), FKDA_ERR_UNSUPPORTED);
}

/* What a device of each generation reports, and how V of 2, 64 and 600 jobs is sliced there. No block asks for more than 99 KB or 512 threads. */
static void test_portable_kernel_on_each_generation(void **unused)
{
    (void)unused;
    static const struct { fkdai_cuda_device device; int slices[3]; } generations[] = {
        {{"A100", 8, 0, 108, 166912}, {8, 1, 1}}, {{"L4", 8, 9, 58, 101376}, {8, 1, 1}}, {{"RTX 4090", 8, 9, 128, 101376}, {8, 2, 1}},
        {{"H100", 9, 0, 132, 232448}, {8, 2, 1}}, {{"B200", 10, 0, 148, 232448}, {8, 2, 1}}, {{"RTX 5090", 12, 0, 170, 101376}, {8, 2, 1}},
    };
    static const int heads[] = {2, 64, 600};
    setenv("FKDA_CUDA_KERNEL", "mma", 1);
    for (size_t i = 0; i < sizeof generations / sizeof *generations; ++i)
        for (int j = 0; j < 3; ++j) {
            char words[64];
            fkda_fwd_desc d = good_desc();
            fkdai_plan plan = {.operation = &fkdai_op_fwd};
            const fkdai_cuda_machine m = {.device_count = 1, .devices = {generations[i].device}};
            d.H = heads[j];
            assert_int_equal(fkdai_resolve(&fkdai_op_fwd, &d, &plan.desc), FKDA_OK);
            if (fkdai_cuda_plan(&m, &plan) != FKDA_OK) fail_msg("%s: %s", m.devices[0].name, fkda_last_error());
            const int slices = generations[i].slices[j];
            snprintf(words, sizeof words, "in %d slice%s of %d columns", slices, slices > 1 ? "s" : "", 128 / slices);
            if (strstr(plan.choice, "mma prefill") != plan.choice || strstr(plan.choice, words) == NULL ||
                strstr(plan.choice, "; chosen by FKDA_CUDA_KERNEL") == NULL)
                fail_msg("%s, %d heads: '%s', not '%s'", m.devices[0].name, heads[j], plan.choice, words);
            assert_int_equal(plan.workspace_bytes, 0);
            const fkdai_mma_grid grid = fkdai_mma_make_grid(1, heads[j], 128, m.devices[0].multiprocessors, 0);
            assert_true(fkdai_mma_threads(grid) <= 512 && grid.blocks == (uint32_t)(heads[j] * slices) && grid.slices * grid.chain_warps == 8);
            assert_true(fkdai_mma_shared_bytes() <= 101376);
        }
    unsetenv("FKDA_CUDA_KERNEL");
}

/* FKDA_CUDA_KERNEL chooses by hand; without it the Hopper kernel comes first, and the portable one takes what that one does not. A thread keeps the
 * plan of a desc, so each question has a scale of its own. */
static void test_kernel_by_hand(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    const fkda_fwd_args a = good_args();
    reset();
    d.scale = 0.5f;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_true(fake.last.out == a.out && fake.last_mma.out == NULL);
    reset();
    setenv("FKDA_CUDA_KERNEL", "mma", 1);
    d.scale = 0.25f;
    assert_int_equal(fkda_fwd(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(fake.last.out == NULL && fake.last_mma.out == a.out && fake.last_mma.K == 128 && fake.last_mma.grid.slices == 8);
    setenv("FKDA_CUDA_KERNEL", "sm90", 1);
    d.scale = 0.125f, d.K = 64;
    assert_refused(&d, FKDA_ERR_UNSUPPORTED, "prefill_sm90: K = 64");
    setenv("FKDA_CUDA_KERNEL", "m", 1);
    d.scale = 0.75f;
    assert_refused(&d, FKDA_ERR_ARCH, "FKDA_CUDA_KERNEL asks for m");
    unsetenv("FKDA_CUDA_KERNEL");
    reset();
    d.scale = 2, d.V = 64;
    assert_int_equal(fkda_fwd(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(fake.last.out == NULL && fake.last_mma.K == 64 && fake.last_mma.V == 64 && fake.last_mma.q.stride.head == 64);
}

/* Runs first: later tests find the machine already known. */
static void test_host_memory_does_not_wake_the_driver(void **unused)
{
    (void)unused;
    reset();
    REFUSES(d.memory = FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "host memory");
    assert_int_equal(fake.calls, 0);
}

static void test_run_checks(void **unused)
{
    (void)unused;
    const fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    reset();
    a.k = memory + 1026;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
    a = good_args();
    fake.prior = cudaErrorIllegalAddress;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_CUDA_PRIOR);
    assert_int_equal(fake.calls, 0);
    reset();
    fake.place = 1;
    a = args_at(8192);    /* memory that no call has seen */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_DEVICE_MISMATCH);
    assert_int_equal(fake.launches, 0);
}

static void test_device_guard(void **unused)
{
    (void)unused;
    reset();
    fkda_fwd_desc d = good_desc();
    const fkda_fwd_args a = good_args();
    d.device = 1, fake.place = 1;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    assert_int_equal(fake.current, 0);
    assert_int_equal(fake.launches, 1);
}

/* Whatever call fails: a status, nothing launched afterwards, the caller's device back (unless putting it back is what failed). */
static void test_every_call_may_fail(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    d.device = 1;
    for (int n = 1;; ++n) {
        const fkda_fwd_args a = args_at(16384 + 16 * n);    /* memory that no call has seen: all questions are asked */
        reset();
        fake.place = 1, fake.fail_at = n;
        const fkda_status status = fkda_fwd(&d, &a, scratch, sizeof scratch, NULL);
        if (fake.calls < n) {
            assert_int_equal(status, FKDA_OK);
            assert_true(n > 5);
            return;
        }
        assert_int_equal(status, FKDA_ERR_CUDA);
        if (fake.launches == 0) assert_int_equal(fake.current, 0);
    }
}

/* The calls since reset() are these, and no other. */
static void assert_calls(const char *const *names, int count)
{
    for (int i = 0; i < fake.logged && i < count; ++i) assert_string_equal(fake.log[i], names[i]);
    assert_int_equal(fake.logged, count);
}
#define ASSERT_CALLS(...)                                                                   \
    do {                                                                                    \
        const char *const names[] = {__VA_ARGS__};                                          \
        assert_calls(names, (int)(sizeof names / sizeof *names));                           \
    } while (0)

/* What a call costs on the host is what it asks of the runtime. */
static void test_calls_of_a_call(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = args_at(32768);
    fkda_plan plan;
    d.final_state.dtype = FKDA_F32, a.final_state = huge_memory;
    reset();
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    ASSERT_CALLS("cudaPeekAtLastError", "cudaGetDevice", "cudaPointerGetAttributes", "cudaPointerGetAttributes", "cudaPointerGetAttributes",
                 "fkdai_prefill_launch");
    reset();    /* warm */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    ASSERT_CALLS("cudaPeekAtLastError", "cudaGetDevice", "fkdai_prefill_launch");
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    reset();
    assert_int_equal(fkda_fwd_run(&plan, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    ASSERT_CALLS("cudaPeekAtLastError", "cudaGetDevice", "fkdai_prefill_launch");
    reset();
    fake.current = 1;    /* somebody else's device is current */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    ASSERT_CALLS("cudaPeekAtLastError", "cudaGetDevice", "cudaSetDevice", "fkdai_prefill_launch", "cudaSetDevice");
    reset();
    d.device = 1;        /* known on device 0 is not known on device 1 */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_DEVICE_MISMATCH);
}

static void test_checked_seqlens(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    const int64_t good[3] = {0, 0, 1}, bad[3] = {0, 2, 1};
    d.N = 2, d.cu_seqlens = FKDA_I64, d.flags = FKDA_FLAG_CHECK_SEQLENS, a.cu_seqlens = memory + 8192;
    reset();
    fake.cu_seqlens = bad;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_CU_SEQLENS);
    assert_int_equal(fake.launches, 0);
    fake.cu_seqlens = good;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
    fake.is_capturing = 1;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_CAPTURE);
    d.flags = 0;
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_memory_does_not_wake_the_driver),
        cmocka_unit_test(test_accepts_and_launches), cmocka_unit_test(test_refusals_name_field_and_rule), cmocka_unit_test(test_machines), cmocka_unit_test(test_portable_kernel_on_each_generation), cmocka_unit_test(test_kernel_by_hand),
        cmocka_unit_test(test_run_checks),           cmocka_unit_test(test_device_guard),               cmocka_unit_test(test_every_call_may_fail),
        cmocka_unit_test(test_checked_seqlens),      cmocka_unit_test(test_calls_of_a_call),            cmocka_unit_test(test_options_reach_the_launcher),
        cmocka_unit_test(test_sizes),                cmocka_unit_test(test_states_reach_the_launcher),
        cmocka_unit_test(test_kept_plans_follow_the_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
