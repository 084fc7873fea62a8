/* cc 04_decode.c $(pkg-config --cflags --libs flashkda) -lm -o decode && ./decode
 *
 * What a server does: prompts go through fkda_fwd, which leaves each sequence's state in a slot of a pool; then every sequence gets one token after the
 * other from fkda_decode, all of them in one call, in place. A new sequence takes a slot that holds anything. The result is that of the
 * whole sequences at once.
 */
#include <flashkda.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 3, PROMPT = 50, NEW = 12, T = PROMPT + NEW, H = 2, K = 64, V = 64, SLOTS = 8 };

static float q[N * T * H * K], k[N * T * H * K], v[N * T * H * V], g[N * T * H * K], beta[N * T * H];    /* [N,T,H,width] */
static float whole[N * T * H * V], out[N * T * H * V];
static float pool[SLOTS * H * V * K];
static const int32_t slots[N] = {6, 1, 3};    /* of the sequences */

static void fill(float *x, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;    /* in [-1, 1) */
    }
}

static void must(fkda_status status)
{
    if (status == FKDA_OK) return;
    fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
    exit(1);
}

/* Rows of N sequences that lie T tokens apart. */
static fkda_tensor_desc rows_of(int64_t width) { return (fkda_tensor_desc){.batch_stride = T * H * width, .dtype = FKDA_F32}; }

/* The first `tokens` of every sequence, at once. Their states go into the pool, or nowhere. */
static void prefill(int64_t tokens, float *to, float *states)
{
    const uint8_t from_zero[N] = {0};
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = N, .T = tokens, .H = H, .K = K, .V = V, .q = rows_of(K), .k = rows_of(K), .v = rows_of(V),
                          .g = rows_of(K), .beta = rows_of(1), .out = rows_of(V), .lower_bound = -5, .scale = 0.125f};
    fkda_fwd_args args = {.struct_size = sizeof args, .q = q, .k = k, .v = v, .g = g, .beta = beta, .out = to};
    if (states != NULL) {
        desc.initial_state = desc.final_state = (fkda_state_desc){.dtype = FKDA_F32, .slot_count = SLOTS, .slot_dtype = FKDA_I32};
        desc.flags = FKDA_FLAG_INITIAL_MASK;
        args.initial_state = args.final_state = states;
        args.initial_slots = args.final_slots = slots;
        args.initial_mask = from_zero;    /* whatever the slots hold */
    }
    size_t bytes;
    must(fkda_fwd_workspace_size(&desc, &bytes));
    void *const workspace = bytes > 0 ? aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes) : NULL;
    must(fkda_fwd(&desc, &args, workspace, bytes, NULL));
    free(workspace);
}

int main(void)
{
    fill(q, N * T * H * K, 1);
    fill(k, N * T * H * K, 2);
    fill(v, N * T * H * V, 3);
    fill(g, N * T * H * K, 4);
    fill(beta, N * T * H, 5);
    for (int i = 0; i < SLOTS * H * V * K; ++i) pool[i] = NAN;    /* fresh memory */
    prefill(T, whole, NULL);
    prefill(PROMPT, out, pool);

    const fkda_decode_desc desc = {.struct_size = sizeof desc, .N = N, .S = 1, .H = H, .K = K, .V = V, .q = rows_of(K), .k = rows_of(K), .v = rows_of(V),
                                   .g = rows_of(K), .beta = rows_of(1), .out = rows_of(V), .lower_bound = -5, .scale = 0.125f,
                                   .state = {.dtype = FKDA_F32, .slot_count = SLOTS, .slot_dtype = FKDA_I32}};
    fkda_plan plan;
    must(fkda_decode_plan(&desc, &plan));
    const size_t bytes = fkda_plan_workspace_size(&plan);
    void *const workspace = bytes > 0 ? aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes) : NULL;
    for (int t = PROMPT; t < T; ++t) {
        const fkda_decode_args args = {.struct_size = sizeof args, .q = q + t * H * K, .k = k + t * H * K, .v = v + t * H * V, .g = g + t * H * K,
                                       .beta = beta + t * H, .out = out + t * H * V, .state = pool, .slots = slots};
        must(fkda_decode_run(&plan, &args, workspace, bytes, NULL));
    }
    free(workspace);

    float worst = 0;
    for (int i = 0; i < N * T * H * V; ++i) {
        const float difference = fabsf(whole[i] - out[i]);
        if (!(difference <= worst)) worst = difference;    /* NaN too */
    }
    char text[256];
    fkda_plan_describe(&plan, text, sizeof text);
    printf("%d prompts of %d tokens, then %d tokens each (%s): out differs by %g from all at once\n", N, PROMPT, NEW, text, (double)worst);
    return worst < 1e-5f ? 0 : 1;
}
