/*
 * Calls whose tensors the kernel does not take as they lie: what the plan says, how much workspace it wants, what is launched and with which
 * pointers. Nobody reads the memory: the CUDA runtime is the one of fake_cuda.c. Values go through the copies in emulated_copied_calls.
 */
#include "harness.h"

#include <stdint.h>
#include <string.h>

#include "fake_cuda.h"
#include "flashkda.h"

#define BIT(NAME) (1u << FKDA_ARG_##NAME)
#define BEHIND(pointer, bytes) ((void *)((uintptr_t)(pointer) + (uintptr_t)(bytes)))

static char tensors[1 << 18] __attribute__((aligned(256)));    /* stand for device memory */
static char states[1 << 21] __attribute__((aligned(256)));
static _Alignas(FKDA_WORKSPACE_ALIGN) char scratch[1 << 22];
enum { ROW = 2 * 128 * 128, B = 2, T = 3, H = 2 };

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

static fkda_fwd_desc good_desc(void)
{
    return (fkda_fwd_desc){.struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = B, .T = T, .H = H,
                           .K = 128, .V = 128, .scale = 1.0f, .lower_bound = -5.0f};
}

static fkda_fwd_args good_args(void)
{
    return (fkda_fwd_args){.struct_size = sizeof(fkda_fwd_args), .q = tensors, .k = tensors + 32768, .v = tensors + 65536, .g = tensors + 98304,
                           .beta = tensors + 131072, .out = tensors + 163840};
}

static size_t bytes_of(const fkda_fwd_desc *d)
{
    size_t bytes = 0;
    if (fkda_fwd_workspace_size(d, &bytes) != FKDA_OK) fail_msg("%s", fkda_last_error());
    return bytes;
}

/* The calls since reset(), one word after the other. */
static const char *calls(void)
{
    static char text[1024];
    text[0] = 0;
    for (int i = 0; i < fake.logged; ++i) {
        if (strncmp(fake.log[i], "fkdai_", 6) != 0) continue;
        strcat(text, text[0] == 0 ? "" : " ");
        strcat(text, fake.log[i] + 6);
    }
    return text;
}

static void run(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    reset();
    if (fkda_fwd(d, a, scratch, bytes_of(d), NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
}

static int is_in_scratch(const void *p, size_t from, size_t to) { return (const char *)p >= scratch + from && (const char *)p < scratch + to; }

static void assert_copy(const fkdai_copy *c, const void *strided, const void *packed, const int64_t *sizes, const int64_t *strides)
{
    assert_ptr_equal(c->strided, strided);
    assert_ptr_equal(c->packed, packed);
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(c->size[i], sizes[i]);
        assert_int_equal(c->stride[i], strides[i]);
    }
}
#define ASSERT_COPY(c, strided, packed, s0, s1, s2, d0, d1, d2)             \
    do {                                                                    \
        const int64_t sizes[] = {s0, s1, s2}, strides[] = {d0, d1, d2};     \
        assert_copy(c, strided, packed, sizes, strides);                    \
    } while (0)

/* What is copied, and what the kernel is told instead. */
static void test_tensors(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    const fkda_fwd_args a = good_args();
    fkda_plan plan;
    char text[512];
    const size_t alone = bytes_of(&d);
    d.q = (fkda_tensor_desc){.token_stride = 300, .batch_stride = 3000};
    d.g = (fkda_tensor_desc){.head_stride = 1001};
    d.out = (fkda_tensor_desc){.head_stride = 129, .token_stride = 300, .batch_stride = 904};
    d.g.token_stride = 128, d.g.batch_stride = 2002;
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    assert_int_equal(fkda_plan_copies(&plan), BIT(Q) | BIT(G) | BIT(OUT));
    fkda_plan_describe(&plan, text, sizeof text);
    if (strstr(text, ", copies q, g, out: strides; ") == NULL) fail_msg("%s", text);
    assert_int_equal(bytes_of(&d), alone + 3 * B * T * H * 256);
    run(&d, &a);
    assert_string_equal(calls(), "copy_in prefill_launch copy_out");
    const fkdai_prefill_call *const c = &fake.last;
    assert_ptr_equal(c->q.data, scratch + alone);
    assert_ptr_equal(c->g.data, scratch + alone + B * T * H * 256);
    assert_ptr_equal(c->out, scratch + alone + 2 * B * T * H * 256);
    assert_true(c->q.stride.batch == T * H * 128 && c->q.stride.token == H * 128 && c->q.stride.head == 128);
    assert_true(c->out_stride.batch == T * H * 128 && c->out_stride.token == H * 128 && c->out_stride.head == 128);
    assert_ptr_equal(c->k.data, a.k);
    assert_true(fake.in.count == 2 && fake.out.count == 1 && fake.in.mark_count == 0);
    ASSERT_COPY(&fake.in.copy[0], a.q, c->q.data, B, T, H, 6000, 600, 256);
    ASSERT_COPY(&fake.in.copy[1], a.g, c->g.data, B, T, H, 4004, 256, 2002);
    ASSERT_COPY(&fake.out.copy[0], a.out, c->out, B, T, H, 1808, 600, 258);
    assert_true(fake.out.copy[0].end.data == NULL && fake.synchronisations == 0);
    d.q.token_stride = 304, d.q.batch_stride = 3008, d.g = d.out = (fkda_tensor_desc){.token_stride = 0};    /* multiples of 16 bytes */
    assert_int_equal(bytes_of(&d), alone);
    run(&d, &a);
    assert_string_equal(calls(), "prefill_launch");
    assert_ptr_equal(c->q.data, a.q);
}

/* Nobody knows where the sequences end but the device. */
static void test_out_of_packed_sequences(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    d.B = 1, d.N = 4, d.cu_seqlens = FKDA_I32, d.out.token_stride = 301, a.cu_seqlens = tensors + 200000;
    run(&d, &a);
    assert_string_equal(calls(), "copy_in prefill_launch copy_out");    /* the first makes the mark alone */
    assert_true(fake.in.count == 0 && fake.in.mark_count == 1 && fake.in.marks[0].count == 1);
    assert_ptr_equal(fake.in.marks[0].at, (char *)fake.last.out + (T * H - 1) * 256);
    assert_ptr_equal(fake.out.copy[0].end.data, tensors + 200000 + 4 * 4);
    assert_int_equal(fake.out.copy[0].end.is_64bit, 0);
    d.cu_seqlens = FKDA_I64;
    run(&d, &a);
    assert_ptr_equal(fake.out.copy[0].end.data, tensors + 200000 + 4 * 8);
    assert_int_equal(fake.out.copy[0].end.is_64bit, 1);
}

/* Of pools only the slots of this call are copied, however many there are. */
static void test_pools(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    d.flags = FKDA_FLAG_INITIAL_MASK, a.initial_mask = (const uint8_t *)tensors + 200000;
    const size_t alone = bytes_of(&d);
    d.initial_state = (fkda_state_desc){.dtype = FKDA_F32, .row_stride = ROW + 1, .slot_count = 1000000, .slot_dtype = FKDA_I32,
                                        .slot_null = FKDA_SLOT_NULL_NOT_POSITIVE};
    d.final_state = (fkda_state_desc){.dtype = FKDA_BF16, .row_stride = ROW + 3, .slot_count = 7, .slot_dtype = FKDA_I64};
    a.initial_state = (void *)(UINT64_C(1) << 44), a.final_state = states;
    a.initial_slots = tensors + 200064, a.final_slots = tensors + 200128, a.device_status = (uint32_t *)(void *)(tensors + 200192);
    assert_int_equal(bytes_of(&d), alone + B * ROW * 4 + B * ROW * 2);
    run(&d, &a);
    const fkdai_prefill_call *const c = &fake.last;
    assert_true(is_in_scratch(c->initial_state, alone, alone + 1) && c->initial_rows.row_stride == ROW && c->initial_rows.slots.data == NULL);
    assert_true(c->initial_rows.slot_count == 0 && c->final_rows.slots.element == FKDAI_ABSENT && c->final_rows.row_stride == ROW);
    assert_ptr_equal(c->initial_mask, a.initial_mask);
    const fkdai_copy *const in = &fake.in.copy[0], *const out = &fake.out.copy[0];
    ASSERT_COPY(in, a.initial_state, c->initial_state, B, 1, ROW * 4 / 256, (ROW + 1) * 4, ROW * 4, 256);
    ASSERT_COPY(out, a.final_state, c->final_state, B, 1, ROW * 2 / 256, (ROW + 3) * 2, ROW * 2, 256);
    assert_ptr_equal(in->slots.data, a.initial_slots);
    assert_ptr_equal(out->slots.data, a.final_slots);
    assert_true(in->slots.is_64bit == 0 && in->slot_count == 1000000 && in->first_slot == 1 && in->mask == a.initial_mask);
    assert_true(out->slots.is_64bit == 1 && out->slot_count == 7 && out->first_slot == 0 && out->mask == NULL && !out->is_marked);
    assert_true(fake.in.status == a.device_status && fake.out.status == a.device_status && fake.out.broken_slot == FKDA_DEVICE_SLOT_BROKEN);
}

/* Room for as many checkpoints as there can be, not for all rows. */
static void test_checkpoints(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    d.B = 1, d.T = 70, d.H = 2, d.checkpoint_every = 16, d.checkpoint_count = 100, d.checkpoints.dtype = FKDA_F32;
    const size_t alone = bytes_of(&d);
    d.checkpoints.row_stride = ROW + 5;
    a.checkpoint_state = (void *)(UINT64_C(1) << 44);
    assert_int_equal(bytes_of(&d), alone + 4 * ROW * 4);
    run(&d, &a);
    assert_int_equal(fake.last.checkpoints.count, 4);
    assert_true(fake.in.count == 0 && fake.in.mark_count == 1 && fake.in.marks[0].count == 4 && fake.in.marks[0].step == ROW * 4);
    assert_true(fake.out.count == 1 && fake.out.copy[0].is_marked && fake.out.copy[0].size[0] == 4);
    assert_ptr_equal(fake.in.marks[0].at, fake.last.checkpoints.state);
    d.checkpoint_every = 1000;    /* none fits */
    run(&d, &a);
    assert_true(fake.last.checkpoints.count == 0 && fake.in.mark_count == 0);
    assert_string_equal(calls(), "prefill_launch");
    d.checkpoint_every = 0, d.checkpoints_per_sequence = 3, d.checkpoint_offset_dtype = FKDA_I32, a.checkpoint_offsets = tensors + 200000;
    run(&d, &a);
    assert_int_equal(fake.last.checkpoints.count, 3);
}

/* Addresses are known when the call runs: refused without a word in the desc, copied with it, and not copied where they lie well. */
static void test_addresses(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_fwd_args a = good_args();
    const size_t alone = bytes_of(&d);
    a.q = BEHIND(a.q, 2);
    reset();
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "args.q = "));
    assert_non_null(strstr(fkda_last_error(), "not aligned to the 16 bytes that are moved at once, and desc.unaligned lacks its bit"));
    assert_int_equal(fake.launches, 0);
    d.unaligned = BIT(Q) | BIT(BETA);    /* beta lies well anywhere */
    assert_int_equal(bytes_of(&d), alone + B * T * H * 256);
    run(&d, &a);
    assert_string_equal(calls(), "copy_in prefill_launch");
    ASSERT_COPY(&fake.in.copy[0], a.q, scratch + alone, B, T, H, T * H * 256, H * 256, 256);
    assert_ptr_equal(fake.last.q.data, scratch + alone);
    assert_non_null(strstr(fkda_last_error(), "lacks its bit"));    /* still the last failure */
    fkda_plan plan;
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    assert_int_equal(fkda_plan_copies(&plan), 0);
    char text[512];
    fkda_plan_describe(&plan, text, sizeof text);
    if (strstr(text, ", may copy q: addresses; ") == NULL || strstr(text, "copies") != NULL) fail_msg("%s", text);
    a.q = tensors;
    run(&d, &a);
    assert_string_equal(calls(), "prefill_launch");
    assert_ptr_equal(fake.last.q.data, a.q);
    a.k = BEHIND(a.k, 4);    /* not promised */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "args.k = "));
    a.k = tensors + 32768, a.q = BEHIND(a.q, 1);    /* no element lies there */
    assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "element of 2 bytes"));

    d.unaligned = UINT32_C(0xffff), d.initial_state.dtype = d.final_state.dtype = FKDA_F32, a.q = tensors;
    d.q.token_stride = d.v.token_stride = 300, d.q.batch_stride = d.v.batch_stride = 3000;
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    fkda_plan_describe(&plan, text, sizeof text);
    if (strstr(text, ", copies q, v: strides, may copy k, g, initial_state, out, final_state: addresses; ") == NULL) fail_msg("%s", text);
    d.q = d.v = (fkda_tensor_desc){.token_stride = 0};
    a.initial_state = a.final_state = states + 4;    /* in place */
    run(&d, &a);
    assert_string_equal(calls(), "copy_in prefill_launch copy_out");
    assert_true(fake.in.count == 1 && fake.out.count == 1 && fake.last.initial_state != fake.last.final_state);
    a.initial_state = a.final_state = states + 8;    /* pairs of elements are read at once */
    run(&d, &a);
    assert_string_equal(calls(), "prefill_launch");
    assert_ptr_equal(fake.last.final_state, a.final_state);
}

/* Strides that no 32 bits hold. */
static void test_far_strides(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    fkda_plan plan;
    d.k.token_stride = INT64_C(1) << 39, d.k.batch_stride = INT64_C(1) << 41;
    assert_int_equal(fkda_fwd_plan(&d, &plan), FKDA_OK);
    assert_int_equal(fkda_plan_copies(&plan), BIT(K));
    d = good_desc(), d.B = 1, d.T = INT64_C(1) << 24, d.H = 96, d.v.token_stride = 96 * 128 + 4;    /* 2^37.6 elements */
    const size_t with = bytes_of(&d);
    d.v.token_stride = 0;
    assert_int_equal(with - bytes_of(&d), (INT64_C(1) << 24) * 96 * 256);
    fkda_fwd_args a = good_args();
    a.q = (void *)(UINT64_C(1) << 44), a.k = BEHIND(a.q, UINT64_C(1) << 40), a.v = BEHIND(a.k, UINT64_C(1) << 40), a.g = BEHIND(a.v, UINT64_C(1) << 40);
    a.beta = BEHIND(a.g, UINT64_C(1) << 40), a.out = BEHIND(a.beta, UINT64_C(1) << 40);
    d.v.token_stride = 96 * 128 + 4;
    reset();
    assert_int_equal(fkda_fwd(&d, &a, (void *)(UINT64_C(1) << 45), with, NULL), FKDA_OK);
    ASSERT_COPY(&fake.in.copy[0], a.v, fake.last.v.data, 1, d.T, 96, 96 * d.T * 256, (96 * 128 + 4) * 2, 256);
}

/* A pool says nothing about how many rows its copy has. */
static void test_copies_that_do_not_fit(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    d.B = d.T = 1, d.H = 1 << 20, d.cu_seqlens = FKDA_I64, d.N = (1 << 28) - 1;    /* 2^62 elements */
    d.initial_state = (fkda_state_desc){.dtype = FKDA_F32, .slot_count = 2, .slot_dtype = FKDA_I32};
    assert_int_equal(fkda_fwd_query(&d, NULL), FKDA_OK);
    d.unaligned = BIT(INITIAL_STATE);
    assert_int_equal(fkda_fwd_query(&d, NULL), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "desc.initial_state spans more than 2^59 bytes"));
    d.unaligned = 0, d.initial_state.row_stride = (INT64_C(1) << 34) + 1;
    assert_int_equal(fkda_fwd_query(&d, NULL), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "desc.initial_state spans more than 2^59 bytes"));
}

/* Whatever call fails: a status, and nothing behind it. A plan is not kept for another desc.unaligned. */
static void test_failures_and_kept_plans(void **unused)
{
    (void)unused;
    fkda_fwd_desc d = good_desc();
    const fkda_fwd_args a = good_args();
    d.q.token_stride = d.out.token_stride = 300, d.q.batch_stride = d.out.batch_stride = 3000;
    run(&d, &a);    /* all places are known */
    for (int n = 1; n <= 4; ++n) {
        static const char *const until[] = {"", "copy_in", "copy_in prefill_launch", "copy_in prefill_launch copy_out"};
        reset();
        fake.fail_at = n;
        assert_int_equal(fkda_fwd(&d, &a, scratch, sizeof scratch, NULL), FKDA_ERR_CUDA);
        assert_string_equal(calls(), until[n - 1]);
    }
    const size_t bytes = bytes_of(&d);
    d.unaligned = BIT(K);
    assert_int_equal(bytes_of(&d), bytes + B * T * H * 256);
    assert_int_equal(fkda_fwd(&d, &a, scratch, bytes, NULL), FKDA_ERR_WORKSPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_out_of_packed_sequences), cmocka_unit_test(test_pools), cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_far_strides), cmocka_unit_test(test_failures_and_kept_plans),
        cmocka_unit_test(test_copies_that_do_not_fit),
    };
    const fkda_fwd_desc d = good_desc();    /* the kernels are loaded by the first call */
    const fkda_fwd_args a = good_args();
    reset();
    (void)fkda_fwd(&d, &a, scratch, sizeof scratch, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
