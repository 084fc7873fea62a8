/*
 * KDA worked on paper.
 *
 * Two tokens, one head, K = V = 2. No normalisation, scale 1, decays and betas given as they are (a = exp(g), b = beta).
 *
 *     S0 = [ 1  2 ]     (rows: key channels, columns: value channels; S^T x mixes the rows)
 *          [ 3  4 ]
 *
 * Token 0: a = (1/2, 1)   k = (1, 2)   v = (3, 1)   b = 1/2   q = (1, -1)
 *     Diag(a) S           = [ 1/2  1 ]
 *                           [ 3    4 ]
 *     S^T k               = 1*(1/2, 1) + 2*(3, 4)             = (6.5, 9)
 *     u = b (v - S^T k)   = 1/2 ((3, 1) - (6.5, 9))           = (-1.75, -4)
 *     S + k u^T           = [ 1/2 - 1.75    1 - 4 ]           = [ -1.25  -3 ]
 *                           [ 3 - 3.5       4 - 8 ]             [ -0.5   -4 ]
 *     o = S^T q           = (-1.25, -3) - (-0.5, -4)          = (-0.75, 1)
 *
 * Token 1: a = (1, 1/4)   k = (-1, 1)  v = (2, 0)   b = 1     q = (2, 1)
 *     Diag(a) S           = [ -1.25   -3 ]
 *                           [ -0.125  -1 ]
 *     S^T k               = (1.25, 3) + (-0.125, -1)          = (1.125, 2)
 *     u = b (v - S^T k)   = (2, 0) - (1.125, 2)               = (0.875, -2)
 *     S + k u^T           = [ -1.25 - 0.875    -3 + 2 ]       = [ -2.125  -1 ]
 *                           [ -0.125 + 0.875   -1 - 2 ]         [  0.75   -3 ]
 *     o = S^T q           = 2*(-2.125, -1) + (0.75, -3)       = (-3.5, -5)
 */
#include "harness.h"

#include "ref_suite.h"

#include <math.h>

static const float q_of[2][2] = {{1, -1}, {2, 1}}, k_of[2][2] = {{1, 2}, {-1, 1}}, v_of[2][2] = {{3, 1}, {2, 0}};
static const float beta_of[2] = {0.5f, 1};
static const float S0[2][2] = {{1, 2}, {3, 4}};
static const double out_by_hand[2][2] = {{-0.75, 1}, {-3.5, -5}}, S_by_hand[2][2] = {{-2.125, -1}, {0.75, -3}};

static fkda_fwd_desc small_desc(int64_t T, int64_t K, int64_t V)
{
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    return (fkda_fwd_desc){
        .struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_REF, .B = 1, .T = T, .H = 1, .K = K, .V = V,
        .q = f32, .k = f32, .v = f32, .g = f32, .beta = f32, .out = f32,
        .gate = FKDA_GATE_PRECOMPUTED, .beta_kind = FKDA_BETA_ACTIVATED, .qk_norm = FKDA_QK_NORM_NONE, .scale = 1,
        .initial_state = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHKV}, .final_state = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHKV},
    };
}

static void run(const fkda_fwd_desc *desc, const fkda_fwd_args *args)
{
    _Alignas(FKDA_WORKSPACE_ALIGN) static unsigned char workspace[4096];
    const fkda_status status = fkda_fwd(desc, args, workspace, sizeof workspace, NULL);
    if (status != FKDA_OK) fail_msg("%s", fkda_last_error());
}

static void assert_near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-6 * fmax(1, fabs(expected)))) fail_msg("%.9g, but by hand it is %.9g", got, expected);
}

void test_two_tokens_by_hand(void **state)
{
    (void)state;
    const float ln2 = 0.693147180559945f;
    const float g[2][2] = {{-ln2, 0}, {0, -2 * ln2}};
    float out[2][2], S[2][2];
    const fkda_fwd_desc desc = small_desc(2, 2, 2);
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = q_of, .k = k_of, .v = v_of, .g = g, .beta = beta_of, .out = out,
                                .initial_state = S0, .final_state = S};
    run(&desc, &args);
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) {
            assert_near((double)out[i][j], out_by_hand[i][j]);
            assert_near((double)S[i][j], S_by_hand[i][j]);
        }
}

/* One token with k = 0 leaves S <- Diag(a) S, so the final state shows a; with v = 1, k = 1, S = 0 it shows b. */
static double decay_seen(fkda_gate gate, float g, float A_log, float dt_bias, float lower_bound)
{
    const float zero = 0, one = 1;
    float out, S;
    fkda_fwd_desc desc = small_desc(1, 1, 1);
    desc.gate = gate;
    desc.lower_bound = lower_bound;
    desc.A_log = desc.dt_bias = FKDA_F32;
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = &one, .k = &zero, .v = &one, .g = &g, .beta = &one, .out = &out,
                                .A_log = &A_log, .dt_bias = &dt_bias, .initial_state = &one, .final_state = &S};
    run(&desc, &args);
    return (double)S;
}

static double beta_seen(fkda_beta kind, int32_t multiplier, float beta)
{
    const float zero = 0, one = 1;
    float out, S;
    fkda_fwd_desc desc = small_desc(1, 1, 1);
    desc.beta_kind = kind;
    desc.beta_multiplier = multiplier;
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = &one, .k = &one, .v = &one, .g = &zero, .beta = &beta, .out = &out,
                                .initial_state = &zero, .final_state = &S};
    run(&desc, &args);
    return (double)S;
}

void test_gates_by_hand(void **state)
{
    (void)state;
    const float ln2 = 0.693147180559945f, ln3 = 1.09861228866811f;
    /* lower_bound sigmoid(2 (0.5 ln 3)) = -4 * 3/4 = -3 */
    assert_near(decay_seen(FKDA_GATE_BOUNDED, 0.25f * ln3, ln2, 0.25f * ln3, -4), exp(-3));
    /* -2 softplus(ln 3) = -2 ln 4:  a = 1/16 */
    assert_near(decay_seen(FKDA_GATE_SOFTPLUS, ln3, ln2, 0, 0), 1.0 / 16);
    assert_near(decay_seen(FKDA_GATE_SOFTPLUS, -INFINITY, ln2, 0, 0), 1);
    assert_near(decay_seen(FKDA_GATE_SOFTPLUS, INFINITY, ln2, 0, 0), 0);
    assert_near(decay_seen(FKDA_GATE_BOUNDED, INFINITY, ln2, 0, -5), exp(-5));
    assert_near(decay_seen(FKDA_GATE_BOUNDED, -INFINITY, ln2, 0, -5), 1);
    assert_near(beta_seen(FKDA_BETA_LOGIT, 0, ln3), 0.75);
    assert_near(beta_seen(FKDA_BETA_LOGIT, 2, ln3), 1.5);
    assert_near(beta_seen(FKDA_BETA_ACTIVATED, 1, 0.3f), (double)0.3f);
    assert_near(beta_seen(FKDA_BETA_ACTIVATED, 2, 0.3f), 2 * (double)0.3f);
}

/* q = (3, 4): q^ = (0.6, 0.8) up to 1e-6/50. S = 0, k = (5, 12), v = 13, b = 1: S = k^ v = (5, 12), o = 0.5 (3 + 9.6) = 6.3 */
void test_norm_by_hand(void **state)
{
    (void)state;
    const float q[2] = {3, 4}, k[2] = {5, 12}, g[2] = {0, 0}, v = 13, beta = 1, zeros[2] = {0, 0};
    float out, S[2];
    fkda_fwd_desc desc = small_desc(1, 2, 1);
    desc.qk_norm = FKDA_QK_NORM_L2;
    desc.scale = 0.5f;
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = q, .k = k, .v = &v, .g = g, .beta = &beta, .out = &out,
                                .initial_state = zeros, .final_state = S};
    run(&desc, &args);
    assert_near((double)out, 6.3);
    assert_near((double)S[0], 5);
    assert_near((double)S[1], 12);

    /* |k|^2 = 1e-6, as large as the 1e-6 under the root: k^ = 1e-3 / sqrt(2e-6), S = 13 k^ */
    const float small[2] = {1e-3f, 0};
    fkda_fwd_args with_small = args;
    with_small.k = small;
    run(&desc, &with_small);
    assert_near((double)S[0], 13 * 1e-3 / sqrt(2e-6));
}
