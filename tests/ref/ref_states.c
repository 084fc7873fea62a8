/*
 * Pools, masks and checkpoints of the reference against a recurrence that is written here in a dozen lines, over arrays that are indexed by hand.
 *
 * Three sequences of 5, 0 and 4 tokens, two heads, K = 3, V = 2, states [K,V] in fp32. Slots are SLOT elements apart, 1 of which is nobody's.
 */
#include "harness.h"

#include <math.h>

#include "counter_rng.h"
#include "ref_suite.h"

enum { N = 3, T = 9, HV = 2, K = 3, V = 2, STATE = HV * K * V, SLOT = STATE + 1, SLOTS = 8 };

static const int32_t bounds[N + 1] = {0, 5, 5, T};
static float q[T][HV][K], k[T][HV][K], v[T][HV][V], log_a[T][HV][K], b[T][HV], out[T][HV][V];
static float pool[SLOTS][SLOT], after[SLOTS][SLOT], kept[T + 1][SLOT];

/* S [K,V] of one head after token t. */
static void step(double S[K][V], int t, int hv, double o[V])
{
    for (int j = 0; j < V; ++j) {
        double predicted = 0;
        for (int c = 0; c < K; ++c) predicted += exp((double)log_a[t][hv][c]) * S[c][j] * (double)k[t][hv][c];
        const double u = (double)b[t][hv] * ((double)v[t][hv][j] - predicted);
        o[j] = 0;
        for (int c = 0; c < K; ++c) {
            S[c][j] = exp((double)log_a[t][hv][c]) * S[c][j] + (double)k[t][hv][c] * u;
            o[j] += S[c][j] * (double)q[t][hv][c];
        }
    }
}

static void expect_state(const float *row, double S[K][V], int hv, const char *what, int i)
{
    for (int c = 0; c < K; ++c)
        for (int j = 0; j < V; ++j)
            if (!(fabs((double)row[(hv * K + c) * V + j] - S[c][j]) <= 1e-6)) fail_msg("%s %d, head %d, [%d][%d]", what, i, hv, c, j);
}

static void expect_poison(const float *row, const char *what, int i)
{
    for (int e = 0; e < SLOT; ++e)
        if (row[e] != -77) fail_msg("%s %d was written", what, i);
}

static void poison(float rows[][SLOT], int count)
{
    for (int i = 0; i < count; ++i)
        for (int e = 0; e < SLOT; ++e) rows[i][e] = -77;
}

static void draw(void)
{
    const uint64_t stream = rng_stream("ref_states", 0);
    void *const arrays[] = {q, k, v, log_a, b, pool};
    const int counts[] = {T * HV * K, T * HV * K, T * HV * V, T * HV * K, T * HV, SLOTS * SLOT};
    uint64_t at = 0;
    for (int a = 0; a < 6; ++a)
        for (int i = 0; i < counts[a]; ++i) {
            const double x = (double)rng_below(stream, at++, 2001) / 1000 - 1;
            ((float *)arrays[a])[i] = (float)(a == 3 ? x - 1 : a == 4 ? (x + 1) / 2 : x);
        }
    poison(after, SLOTS);
    poison(kept, T + 1);
}

typedef struct slots {
    const int64_t *initial;
    const int32_t *final;
    const uint8_t *mask;
    fkda_slot_null null;
    int64_t every;             /* 0: at offsets [N][3] */
    const int32_t *offsets;
} slots;

static void run(const slots *x)
{
    static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char workspace[4096];
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    const fkda_state_desc states = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHKV, .row_stride = SLOT, .slot_count = SLOTS, .slot_null = x->null};
    fkda_fwd_desc d = {
        .struct_size = sizeof d, .backend = FKDA_BACKEND_REF, .B = 1, .T = T, .N = N, .H = HV, .K = K, .V = V, .q = f32, .k = f32, .v = f32,
        .g = f32, .beta = f32, .out = f32, .cu_seqlens = FKDA_I32, .gate = FKDA_GATE_PRECOMPUTED, .beta_kind = FKDA_BETA_ACTIVATED,
        .qk_norm = FKDA_QK_NORM_NONE, .scale = 1, .initial_state = states, .final_state = states,
        .flags = x->mask == NULL ? 0 : FKDA_FLAG_INITIAL_MASK,
        .checkpoints = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHKV, .row_stride = SLOT}, .checkpoint_count = T, .checkpoint_every = x->every,
        .checkpoints_per_sequence = x->every > 0 ? 0 : 3, .checkpoint_offset_dtype = FKDA_I32,
    };
    d.initial_state.slot_dtype = FKDA_I64;
    d.final_state.slot_dtype = FKDA_I32;
    const fkda_fwd_args a = {
        .struct_size = sizeof a, .q = q, .k = k, .v = v, .g = log_a, .beta = b, .out = out, .cu_seqlens = bounds, .initial_state = pool,
        .final_state = after, .initial_slots = x->initial, .final_slots = x->final, .initial_mask = x->mask, .checkpoint_state = kept,
        .checkpoint_offsets = x->offsets,
    };
    if (fkda_fwd(&d, &a, workspace, sizeof workspace, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
}

static int is_null(const slots *x, int64_t slot) { return x->null == FKDA_SLOT_NULL_NOT_POSITIVE ? slot <= 0 : slot < 0; }

/* Checks every checkpoint of token t (counted in the sequence) against S. */
static void expect_checkpoints(const slots *x, int n, int tokens, int hv, double S[K][V], int *seen)
{
    int first = 0;
    for (int m = 0; m < n && x->every > 0; ++m) first += (bounds[m + 1] - bounds[m]) / (int)x->every;
    if (x->every > 0 && tokens % x->every == 0) {
        seen[first + tokens / x->every - 1] = 1;
        expect_state(kept[first + tokens / x->every - 1], S, hv, "checkpoint", tokens);
    }
    for (int j = 0; j < 3 && x->every == 0; ++j)
        if (x->offsets[3 * n + j] == tokens) {
            seen[3 * n + j] = 1;
            expect_state(kept[3 * n + j], S, hv, "checkpoint", 3 * n + j);
        }
}

static void compare(const slots *x)
{
    int seen[T + 1] = {0}, written[SLOTS] = {0};
    draw();
    run(x);
    for (int n = 0; n < N; ++n)
        for (int hv = 0; hv < HV; ++hv) {
            double S[K][V], o[V];
            const int is_zero = is_null(x, x->initial[n]) || (x->mask != NULL && x->mask[n] == 0);
            for (int i = 0; i < K * V; ++i) S[i / V][i % V] = is_zero ? 0 : (double)pool[x->initial[n]][hv * K * V + i];
            for (int t = bounds[n]; t < bounds[n + 1]; ++t) {
                step(S, t, hv, o);
                for (int j = 0; j < V; ++j) assert_true(fabs((double)out[t][hv][j] - o[j]) <= 1e-6);
                expect_checkpoints(x, n, t + 1 - bounds[n], hv, S, seen);
            }
            if (is_null(x, x->final[n])) continue;
            written[x->final[n]] = 1;
            expect_state(after[x->final[n]], S, hv, "final state of sequence", n);
        }
    for (int i = 0; i <= T; ++i) seen[i] ? (void)assert_true(kept[i][SLOT - 1] == -77) : expect_poison(kept[i], "checkpoint", i);
    for (int i = 0; i < SLOTS; ++i) written[i] ? (void)assert_true(after[i][SLOT - 1] == -77) : expect_poison(after[i], "slot", i);
}

void test_states_against_a_plain_recurrence(void **state)
{
    (void)state;
    static const int64_t initial[][N] = {{4, 0, 7}, {-1, 3, 3}, {0, -5, 2}};
    static const int32_t final[][N] = {{1, 6, 0}, {7, -1, 2}, {5, 0, -3}};
    static const uint8_t mask[N] = {1, 255, 0};
    static const int32_t offsets[][3 * N] = {{5, 1, 3, 0, -1, 0, 4, 4, 2}, {-9, 0, 0, 0, 0, 0, 0, 1, 0}};
    for (int i = 0; i < 3; ++i)
        for (int rule = 0; rule < 2; ++rule)
            for (int masked = 0; masked < 2; ++masked)
                for (int every = 0; every <= 6; ++every)
                    for (int o = 0; o < 2; ++o) {
                        const slots x = {initial[i], final[i], masked ? mask : NULL, (fkda_slot_null)rule, every, every > 0 ? NULL : offsets[o]};
                        compare(&x);
                    }
}
