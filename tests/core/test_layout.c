/*
 * The layout of the public structs as version 0.1.0 had them, on 64-bit machines. Programs are compiled with it: lines are added here when fields
 * are appended, and never change.
 */
#include "harness.h"

#define FIELD(type, field, offset)                                                                                        \
    do {                                                                                                                  \
        if (offsetof(type, field) != (offset)) fail_msg("%s.%s is at %zu, not %d", #type, #field, offsetof(type, field), (offset)); \
    } while (0)

static void test_structs_inside_never_change(void **state)
{
    (void)state;
    FIELD(fkda_tensor_desc, batch_stride, 0);
    FIELD(fkda_tensor_desc, token_stride, 8);
    FIELD(fkda_tensor_desc, head_stride, 16);
    FIELD(fkda_tensor_desc, dtype, 24);
    FIELD(fkda_tensor_desc, reserved, 28);
    assert_int_equal(sizeof(fkda_tensor_desc), 32);
    FIELD(fkda_state_desc, dtype, 0);
    FIELD(fkda_state_desc, layout, 4);
    FIELD(fkda_state_desc, row_stride, 8);
    FIELD(fkda_state_desc, slot_count, 16);
    FIELD(fkda_state_desc, slot_dtype, 24);
    FIELD(fkda_state_desc, slot_null, 28);
    assert_int_equal(sizeof(fkda_state_desc), 32);
    assert_int_equal(sizeof(fkda_plan), 1536);
}

static void test_fwd_desc(void **state)
{
    (void)state;
    FIELD(fkda_fwd_desc, struct_size, 0);
    FIELD(fkda_fwd_desc, backend, 8);
    FIELD(fkda_fwd_desc, memory, 12);
    FIELD(fkda_fwd_desc, device, 16);
    FIELD(fkda_fwd_desc, threads, 20);
    FIELD(fkda_fwd_desc, flags, 24);
    FIELD(fkda_fwd_desc, reserved, 28);
    FIELD(fkda_fwd_desc, B, 32);
    FIELD(fkda_fwd_desc, T, 40);
    FIELD(fkda_fwd_desc, N, 48);
    FIELD(fkda_fwd_desc, H, 56);
    FIELD(fkda_fwd_desc, HV, 64);
    FIELD(fkda_fwd_desc, K, 72);
    FIELD(fkda_fwd_desc, V, 80);
    FIELD(fkda_fwd_desc, q, 88);
    FIELD(fkda_fwd_desc, k, 120);
    FIELD(fkda_fwd_desc, v, 152);
    FIELD(fkda_fwd_desc, g, 184);
    FIELD(fkda_fwd_desc, beta, 216);
    FIELD(fkda_fwd_desc, out, 248);
    FIELD(fkda_fwd_desc, cu_seqlens, 280);
    FIELD(fkda_fwd_desc, A_log, 284);
    FIELD(fkda_fwd_desc, dt_bias, 288);
    FIELD(fkda_fwd_desc, gate, 292);
    FIELD(fkda_fwd_desc, lower_bound, 296);
    FIELD(fkda_fwd_desc, beta_kind, 300);
    FIELD(fkda_fwd_desc, beta_multiplier, 304);
    FIELD(fkda_fwd_desc, qk_norm, 308);
    FIELD(fkda_fwd_desc, scale, 312);
    FIELD(fkda_fwd_desc, initial_state, 320);
    FIELD(fkda_fwd_desc, final_state, 352);
    FIELD(fkda_fwd_desc, checkpoints, 384);
    FIELD(fkda_fwd_desc, checkpoint_every, 416);
    FIELD(fkda_fwd_desc, checkpoint_count, 424);
    FIELD(fkda_fwd_desc, checkpoints_per_sequence, 432);
    FIELD(fkda_fwd_desc, checkpoint_offset_dtype, 440);
    FIELD(fkda_fwd_desc, unaligned, 444);
}

static void test_fwd_args(void **state)
{
    (void)state;
    FIELD(fkda_fwd_args, struct_size, 0);
    FIELD(fkda_fwd_args, q, 8);
    FIELD(fkda_fwd_args, k, 16);
    FIELD(fkda_fwd_args, v, 24);
    FIELD(fkda_fwd_args, g, 32);
    FIELD(fkda_fwd_args, beta, 40);
    FIELD(fkda_fwd_args, out, 48);
    FIELD(fkda_fwd_args, A_log, 56);
    FIELD(fkda_fwd_args, dt_bias, 64);
    FIELD(fkda_fwd_args, cu_seqlens, 72);
    FIELD(fkda_fwd_args, cu_seqlens_host, 80);
    FIELD(fkda_fwd_args, initial_state, 88);
    FIELD(fkda_fwd_args, final_state, 96);
    FIELD(fkda_fwd_args, initial_slots, 104);
    FIELD(fkda_fwd_args, final_slots, 112);
    FIELD(fkda_fwd_args, initial_mask, 120);
    FIELD(fkda_fwd_args, checkpoint_state, 128);
    FIELD(fkda_fwd_args, checkpoint_offsets, 136);
    FIELD(fkda_fwd_args, checkpoint_slots, 144);
    FIELD(fkda_fwd_args, device_status, 152);
}

static void test_decode_structs(void **state)
{
    (void)state;
    FIELD(fkda_decode_desc, struct_size, 0);
    FIELD(fkda_decode_desc, backend, 8);
    FIELD(fkda_decode_desc, memory, 12);
    FIELD(fkda_decode_desc, device, 16);
    FIELD(fkda_decode_desc, threads, 20);
    FIELD(fkda_decode_desc, flags, 24);
    FIELD(fkda_decode_desc, reserved, 28);
    FIELD(fkda_decode_desc, N, 32);
    FIELD(fkda_decode_desc, S, 40);
    FIELD(fkda_decode_desc, T, 48);
    FIELD(fkda_decode_desc, H, 56);
    FIELD(fkda_decode_desc, HV, 64);
    FIELD(fkda_decode_desc, K, 72);
    FIELD(fkda_decode_desc, V, 80);
    FIELD(fkda_decode_desc, q, 88);
    FIELD(fkda_decode_desc, k, 120);
    FIELD(fkda_decode_desc, v, 152);
    FIELD(fkda_decode_desc, g, 184);
    FIELD(fkda_decode_desc, beta, 216);
    FIELD(fkda_decode_desc, out, 248);
    FIELD(fkda_decode_desc, cu_seqlens, 280);
    FIELD(fkda_decode_desc, A_log, 284);
    FIELD(fkda_decode_desc, dt_bias, 288);
    FIELD(fkda_decode_desc, gate, 292);
    FIELD(fkda_decode_desc, lower_bound, 296);
    FIELD(fkda_decode_desc, beta_kind, 300);
    FIELD(fkda_decode_desc, beta_multiplier, 304);
    FIELD(fkda_decode_desc, qk_norm, 308);
    FIELD(fkda_decode_desc, scale, 312);
    FIELD(fkda_decode_desc, reserved2, 316);
    FIELD(fkda_decode_desc, state, 320);
    FIELD(fkda_decode_desc, commit, 352);    /* 352: the size before it */
    FIELD(fkda_decode_desc, num_accepted, 356);
    FIELD(fkda_decode_desc, slots_per_sequence, 360);
    FIELD(fkda_decode_desc, slots_stride, 368);
    FIELD(fkda_decode_desc, step_states, 376);
    FIELD(fkda_decode_desc, step_states_per_sequence, 408);
    FIELD(fkda_decode_desc, parent_stride, 416);
    FIELD(fkda_decode_desc, parent, 424);
    FIELD(fkda_decode_desc, reserved3, 428);
    assert_int_equal(sizeof(fkda_decode_desc), 432);
    FIELD(fkda_decode_args, struct_size, 0);
    FIELD(fkda_decode_args, q, 8);
    FIELD(fkda_decode_args, k, 16);
    FIELD(fkda_decode_args, v, 24);
    FIELD(fkda_decode_args, g, 32);
    FIELD(fkda_decode_args, beta, 40);
    FIELD(fkda_decode_args, out, 48);
    FIELD(fkda_decode_args, A_log, 56);
    FIELD(fkda_decode_args, dt_bias, 64);
    FIELD(fkda_decode_args, cu_seqlens, 72);
    FIELD(fkda_decode_args, state, 80);
    FIELD(fkda_decode_args, slots, 88);
    FIELD(fkda_decode_args, initial_mask, 96);
    FIELD(fkda_decode_args, device_status, 104);
    FIELD(fkda_decode_args, num_accepted, 112);    /* 112: the size before it */
    FIELD(fkda_decode_args, step_states, 120);
    FIELD(fkda_decode_args, parent, 128);
    assert_int_equal(sizeof(fkda_decode_args), 136);
}

static void test_decode_fused_structs(void **state)
{
    (void)state;
    FIELD(fkda_decode_fused_desc, struct_size, 0);
    FIELD(fkda_decode_fused_desc, backend, 8);
    FIELD(fkda_decode_fused_desc, memory, 12);
    FIELD(fkda_decode_fused_desc, device, 16);
    FIELD(fkda_decode_fused_desc, threads, 20);
    FIELD(fkda_decode_fused_desc, flags, 24);
    FIELD(fkda_decode_fused_desc, reserved, 28);
    FIELD(fkda_decode_fused_desc, N, 32);
    FIELD(fkda_decode_fused_desc, H, 40);
    FIELD(fkda_decode_fused_desc, K, 48);
    FIELD(fkda_decode_fused_desc, V, 56);
    FIELD(fkda_decode_fused_desc, q, 64);
    FIELD(fkda_decode_fused_desc, k, 96);
    FIELD(fkda_decode_fused_desc, v, 128);
    FIELD(fkda_decode_fused_desc, g, 160);
    FIELD(fkda_decode_fused_desc, beta, 192);
    FIELD(fkda_decode_fused_desc, out, 224);
    FIELD(fkda_decode_fused_desc, output_gate, 256);
    FIELD(fkda_decode_fused_desc, conv_weight, 288);
    FIELD(fkda_decode_fused_desc, conv_state, 320);
    FIELD(fkda_decode_fused_desc, state, 352);
    FIELD(fkda_decode_fused_desc, A_log, 384);
    FIELD(fkda_decode_fused_desc, dt_bias, 388);
    FIELD(fkda_decode_fused_desc, conv_bias, 392);
    FIELD(fkda_decode_fused_desc, norm_weight, 396);
    FIELD(fkda_decode_fused_desc, gate, 400);
    FIELD(fkda_decode_fused_desc, lower_bound, 404);
    FIELD(fkda_decode_fused_desc, beta_kind, 408);
    FIELD(fkda_decode_fused_desc, beta_multiplier, 412);
    FIELD(fkda_decode_fused_desc, qk_norm, 416);
    FIELD(fkda_decode_fused_desc, scale, 420);
    FIELD(fkda_decode_fused_desc, norm_eps, 424);
    FIELD(fkda_decode_fused_desc, reserved2, 428);
    assert_int_equal(sizeof(fkda_decode_fused_desc), 432);
    FIELD(fkda_decode_fused_args, struct_size, 0);
    FIELD(fkda_decode_fused_args, q, 8);
    FIELD(fkda_decode_fused_args, k, 16);
    FIELD(fkda_decode_fused_args, v, 24);
    FIELD(fkda_decode_fused_args, g, 32);
    FIELD(fkda_decode_fused_args, beta, 40);
    FIELD(fkda_decode_fused_args, out, 48);
    FIELD(fkda_decode_fused_args, A_log, 56);
    FIELD(fkda_decode_fused_args, dt_bias, 64);
    FIELD(fkda_decode_fused_args, output_gate, 72);
    FIELD(fkda_decode_fused_args, norm_weight, 80);
    FIELD(fkda_decode_fused_args, conv_weight_q, 88);
    FIELD(fkda_decode_fused_args, conv_weight_k, 96);
    FIELD(fkda_decode_fused_args, conv_weight_v, 104);
    FIELD(fkda_decode_fused_args, conv_bias_q, 112);
    FIELD(fkda_decode_fused_args, conv_bias_k, 120);
    FIELD(fkda_decode_fused_args, conv_bias_v, 128);
    FIELD(fkda_decode_fused_args, conv_state, 136);
    FIELD(fkda_decode_fused_args, state, 144);
    FIELD(fkda_decode_fused_args, slots, 152);
    FIELD(fkda_decode_fused_args, initial_mask, 160);
    FIELD(fkda_decode_fused_args, device_status, 168);
    assert_int_equal(sizeof(fkda_decode_fused_args), 176);
}

/* A struct of every published size is taken, by value: the table of the row cannot lose one. */
static void test_published_sizes_are_taken(void **state)
{
    (void)state;
    static const size_t desc_sizes[] = {432, 448}, args_sizes[] = {160};
    struct { fkda_fwd_desc desc; fkda_plan plan; } d = {.desc = {.B = 1, .T = 1, .H = 1, .K = 1, .V = 1, .scale = 1}};
    for (size_t i = 0; i < sizeof desc_sizes / sizeof *desc_sizes; ++i) {
        d.desc.struct_size = desc_sizes[i];
        if (fkda_fwd_plan(&d.desc, &d.plan) != FKDA_OK) fail_msg("%s", fkda_last_error());
    }
    for (size_t i = 0; i < sizeof args_sizes / sizeof *args_sizes; ++i) {
        const fkda_fwd_args a = {.struct_size = args_sizes[i]};
        assert_int_equal(fkda_fwd_run(&d.plan, &a, NULL, 0, NULL), FKDA_ERR_NULL_POINTER);    /* args.q, and not the size */
    }
}

int main(void)
{
    if (sizeof(void *) != 8) return 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structs_inside_never_change),
        cmocka_unit_test(test_fwd_desc),
        cmocka_unit_test(test_fwd_args),
        cmocka_unit_test(test_decode_structs),
        cmocka_unit_test(test_decode_fused_structs),
        cmocka_unit_test(test_published_sizes_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
