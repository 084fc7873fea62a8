/*
 * One token with convolution and norm, worked on paper. Two heads, K = V = 2, numbers so large that y sigmoid(y) = y, or 0 where y is negative.
 *
 * Head 0 of sequence 0. A channel's taps, oldest first, and its new input x; weights in the same order; y = bias + sum of their products:
 *     q0   1  2  3,   4    10  1  2   5    bias  12     10 + 2 + 6 + 20 + 12    =  50
 *     q1   2  0 -1,   1     2  7  1  -8    bias -45      4 + 0 - 1 - 8 - 45     = -50, and so q1 = 0
 *     k0   1  1  1,   2    10 20 -5  10    bias  -5     10 + 20 - 5 + 20 - 5    =  40
 *     k1   0  3  2,  -1     9 10 20   5    bias -15      0 + 30 + 40 - 5 - 15   =  50
 *     v0   2  1  0,   3    15 10  6  10    bias -10     30 + 10 + 0 + 30 - 10   =  60
 *     v1  -1  2  4,   1    10 10 10   6    bias  24    -10 + 20 + 40 + 6 + 24   =  80
 * The step, a = (1/4, 1/2), b = 1/2, scale 1e-4:
 *     Diag(a) S = Diag(a) [ 0  0 ]  = [ 0  0 ]
 *                         [ 6  8 ]    [ 3  4 ]
 *     S^T k     = 40 (0, 0) + 50 (3, 4)                  = (150, 200)
 *     u         = 1/2 ((60, 80) - (150, 200))            = (-45, -60)
 *     S + k u^T = [ 40 (-45)       40 (-60)     ]        = [ -1800  -2400 ]
 *                 [ 3 + 50 (-45)   4 + 50 (-60) ]          [ -2247  -2996 ]
 *     o         = 1e-4 (50 (-1800, -2400) + 0)           = (-9, -12)
 * The norm, eps = 31.5: mean o^2 + eps = (81 + 144) / 2 + 31.5 = 144, whose root is 12. Weights (2, 3), sigmoid(gate) = (3/4, 1/2):
 *     out       = (-9/12 2 3/4, -12/12 3 1/2)            = (-1.125, -1.5)
 *
 * Head 1: weight 1 for the new input and 0 for the taps, no bias, so that q = (50, 0), k = (40, 0), v = (60, 0); S = 0, b = 1/4:
 *     u = 1/4 (60, 0) = (15, 0);   S = [ 600  0 ; 0  0 ];   o = 1e-4 50 (600, 0) = (3, 0);   9/2 + 31.5 = 36;   out = (3/6 2 3/4, 0) = (0.75, 0)
 *
 * Sequence 2 begins: taps and S count as 0, whatever they are. Head 0: y = bias + w3 x = 60, -50; 50, 0; 20, 0:
 *     u = 1/2 (20, 0) = (10, 0);   S = [ 500  0 ; 0  0 ];   o = 1e-4 60 (500, 0) = (3, 0), and so out = (0.75, 0)
 *
 * Sequence 1 has a null slot: out is 0.
 */
#include "harness.h"

#include "ref_suite.h"

#include <math.h>

enum { N = 3, H = 2, W = 2, C = 3 * H * W, SLOTS = 3 };

static const float NEVER = -7777;    /* in slots that nobody has */
static const float q[N][H][W] = {{{4, 1}, {50, 0}}, {{NAN, 1}, {1, NAN}}, {{9.6f, 0.625f}, {50, 0}}};
static const float k[N][H][W] = {{{2, -1}, {40, 0}}, {{NAN, 1}, {1, NAN}}, {{5.5f, 3}, {40, 0}}};
static const float v[N][H][W] = {{{3, 1}, {60, 0}}, {{NAN, 1}, {1, NAN}}, {{3, -4}, {60, 0}}};
static const float beta[N][H] = {{0.5f, 0.25f}, {1, 1}, {0.5f, 0.25f}};
static const float weight_q[4][H][W] = {{{10, 2}}, {{1, 7}}, {{2, 1}}, {{5, -8}, {1, 1}}}, bias_q[H][W] = {{12, -45}};
static const float weight_k[4][H][W] = {{{10, 9}}, {{20, 10}}, {{-5, 20}}, {{10, 5}, {1, 1}}}, bias_k[H][W] = {{-5, -15}};
static const float weight_v[4][H][W] = {{{15, 10}}, {{10, 10}}, {{6, 10}}, {{10, 6}, {1, 1}}}, bias_v[H][W] = {{-10, 24}};
static const int32_t slots[N] = {2, -1, 0};
static const uint8_t mask[N] = {1, 1, 0};

/* Channels in their order: q of both heads, k, v. Head 1's old taps are anything: their weights are 0. */
static const float taps_before[3][C] = {{1, 2, 9, 9, 1, 0, 9, 9, 2, -1, 9, 9}, {2, 0, 8, 8, 1, 3, 8, 8, 1, 2, 8, 8}, {3, -1, 7, 7, 1, 2, 7, 7, 0, 4, 7, 7}};
static const float newest[N][C] = {{4, 1, 50, 0, 2, -1, 40, 0, 3, 1, 60, 0}, {0}, {9.6f, 0.625f, 50, 0, 5.5f, 3, 40, 0, 3, -4, 60, 0}};
static const float S_before[H][W][W] = {{{0, 0}, {6, 8}}, {{0, 0}, {0, 0}}};
static const float S_after[H][W][W] = {{{-1800, -2400}, {-2247, -2996}}, {{600, 0}, {0, 0}}}, S_begun[H][W][W] = {{{500, 0}, {0, 0}}, {{600, 0}, {0, 0}}};
static const float out_by_hand[N][H][W] = {{{-1.125f, -1.5f}, {0.75f, 0}}, {{0, 0}, {0, 0}}, {{0.75f, 0}, {0.75f, 0}}};

static void assert_row(const char *what, const float *got, const float *wanted, int count)
{
    for (int i = 0; i < count; ++i)
        if (!(fabsf(got[i] - wanted[i]) <= 1e-6f * fmaxf(1, fabsf(wanted[i]))))
            fail_msg("%s, element %d: %.9g, but by hand it is %.9g", what, i, (double)got[i], (double)wanted[i]);
}

static fkda_decode_fused_desc small_desc(int64_t sequences, int64_t heads)
{
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    return (fkda_decode_fused_desc){
        .struct_size = sizeof(fkda_decode_fused_desc), .backend = FKDA_BACKEND_REF, .N = sequences, .H = heads, .K = W, .V = W,
        .q = f32, .k = f32, .v = f32, .g = f32, .beta = f32, .out = f32, .gate = FKDA_GATE_PRECOMPUTED, .beta_kind = FKDA_BETA_ACTIVATED,
        .qk_norm = FKDA_QK_NORM_NONE, .scale = 1, .state = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHKV},
    };
}

static void run(const fkda_decode_fused_desc *desc, const fkda_decode_fused_args *args)
{
    _Alignas(FKDA_WORKSPACE_ALIGN) static unsigned char workspace[4096];
    if (fkda_decode_fused(desc, args, workspace, sizeof workspace, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
}

/* A pool whose slots 0 and 2 are in use; what is in slot 0 does not count. */
static void fill(float (*taps)[3][C], float (*S)[H][W][W])
{
    for (int slot = 0; slot < SLOTS; ++slot) {
        for (int i = 0; i < 3 * C; ++i) taps[slot][i / C][i % C] = slot == 2 ? taps_before[i / C][i % C] : slot == 0 ? NAN : NEVER;
        for (int i = 0; i < H * W * W; ++i) S[slot][i / 4][i / 2 % 2][i % 2] = slot == 2 ? S_before[i / 4][i / 2 % 2][i % 2] : slot == 0 ? NAN : NEVER;
    }
}

static void check_taps(float (*taps)[3][C])
{
    const float none[C] = {0};
    assert_row("taps 0 of slot 2", taps[2][0], taps_before[1], C);
    assert_row("taps 1 of slot 2", taps[2][1], taps_before[2], C);
    assert_row("taps 2 of slot 2", taps[2][2], newest[0], C);
    assert_row("taps 0 of slot 0", taps[0][0], none, C);
    assert_row("taps 1 of slot 0", taps[0][1], none, C);
    assert_row("taps 2 of slot 0", taps[0][2], newest[2], C);
    for (int i = 0; i < 3 * C; ++i) assert_true(taps[1][i / C][i % C] == NEVER);
}

void test_fused_by_hand(void **state)
{
    (void)state;
    static float taps[SLOTS][3][C], S[SLOTS][H][W][W], out[N][H][W];
    const float ln2 = 0.693147180559945f, ln3 = 1.09861228866811f;
    const float g_of[W] = {-2 * ln2, -ln2}, gate_of[W] = {ln3, 0}, norm_weight[W] = {2, 3};
    float g[N][H][W], gate[N][H][W];
    for (int i = 0; i < N * H * W; ++i) g[i / 4][i / 2 % 2][i % 2] = g_of[i % 2], gate[i / 4][i / 2 % 2][i % 2] = gate_of[i % 2];
    for (int i = 0; i < N * H * W; ++i) out[i / 4][i / 2 % 2][i % 2] = NAN;
    fill(taps, S);
    fkda_decode_fused_desc d = small_desc(N, H);
    d.flags = FKDA_FLAG_INITIAL_MASK, d.scale = 1e-4f, d.norm_weight = FKDA_F32, d.norm_eps = 31.5f, d.conv_bias = FKDA_F32;
    d.conv_weight.dtype = d.conv_state.dtype = d.output_gate.dtype = FKDA_F32;
    d.state.slot_count = SLOTS, d.state.slot_dtype = FKDA_I32;
    const fkda_decode_fused_args a = {
        .struct_size = sizeof a, .q = q, .k = k, .v = v, .g = g, .beta = beta, .out = out, .output_gate = gate, .norm_weight = norm_weight,
        .conv_weight_q = weight_q, .conv_weight_k = weight_k, .conv_weight_v = weight_v, .conv_bias_q = bias_q, .conv_bias_k = bias_k,
        .conv_bias_v = bias_v, .conv_state = taps, .state = S, .slots = slots, .initial_mask = mask,
    };
    run(&d, &a);
    assert_row("out", &out[0][0][0], &out_by_hand[0][0][0], N * H * W);
    assert_row("S of slot 2", &S[2][0][0][0], &S_after[0][0][0], H * W * W);
    assert_row("S of slot 0", &S[0][0][0][0], &S_begun[0][0][0], H * W * W);
    for (int i = 0; i < H * W * W; ++i) assert_true(S[1][i / 4][i / 2 % 2][i % 2] == NEVER);
    check_taps(taps);
}

/* Neither convolution nor norm: token 0 of ref_by_hand.c. */
void test_fused_step_by_hand(void **state)
{
    (void)state;
    const float q0[2] = {1, -1}, k0[2] = {1, 2}, v0[2] = {3, 1}, g0[2] = {-0.693147180559945f, 0}, b0 = 0.5f;
    const float out_wanted[2] = {-0.75f, 1}, S_wanted[4] = {-1.25f, -3, -0.5f, -4};
    float out[2] = {NAN, NAN}, S[4] = {1, 2, 3, 4};
    const fkda_decode_fused_desc d = small_desc(1, 1);
    const fkda_decode_fused_args a = {.struct_size = sizeof a, .q = q0, .k = k0, .v = v0, .g = g0, .beta = &b0, .out = out, .state = S};
    run(&d, &a);
    assert_row("out", out, out_wanted, 2);
    assert_row("S", S, S_wanted, 4);
}
