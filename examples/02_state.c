/* cc 02_state.c $(pkg-config --cflags --libs flashkda) -lm -o state && ./state
 *
 * A long sequence in pieces: the final state of one call is the initial state of the next, in place. The shape stays the same, so it is
 * planned once and run for every piece; running allocates nothing.
 */
#include <flashkda.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECES = 3, PIECE = 64, T = PIECES * PIECE, H = 2, K = 64, V = 64 };

static float q[T * H * K], k[T * H * K], v[T * H * V], g[T * H * K], beta[T * H];    /* [1,T,H,width] */
static float whole[T * H * V], pieces[T * H * V];
static float state[H * V * K], whole_state[H * V * K];    /* [N=1,H,V,K]; the state at the beginning is 0 */

static void fill(float *x, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;    /* in [-1, 1) */
    }
}

/* Runs `plan` on the tokens from `first` on; reads and writes `S`. */
static fkda_status run(const fkda_plan *plan, void *workspace, int first, float *out, float *S)
{
    const fkda_fwd_args args = {
        .struct_size = sizeof args, .q = q + first * H * K, .k = k + first * H * K, .v = v + first * H * V, .g = g + first * H * K,
        .beta = beta + first * H, .out = out + first * H * V, .initial_state = S, .final_state = S,
    };
    return fkda_fwd_run(plan, &args, workspace, fkda_plan_workspace_size(plan), NULL);
}

static float worst_difference(const float *a, const float *b, size_t count)
{
    float worst = 0;
    for (size_t i = 0; i < count; ++i) worst = fmaxf(worst, fabsf(a[i] - b[i]));
    return worst;
}

int main(void)
{
    fill(q, T * H * K, 1);
    fill(k, T * H * K, 2);
    fill(v, T * H * V, 3);
    fill(g, T * H * K, 4);
    fill(beta, T * H, 5);

    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = PIECE, .H = H, .K = K, .V = V, .lower_bound = -5, .scale = 0.125f,
                          .initial_state = {.dtype = FKDA_F32}, .final_state = {.dtype = FKDA_F32}};
    desc.q.dtype = desc.k.dtype = desc.v.dtype = desc.g.dtype = desc.beta.dtype = desc.out.dtype = FKDA_F32;
    fkda_fwd_desc long_desc = desc;
    long_desc.T = T;

    fkda_plan plan, long_plan;
    if (fkda_fwd_plan(&desc, &plan) != FKDA_OK || fkda_fwd_plan(&long_desc, &long_plan) != FKDA_OK) {
        fprintf(stderr, "%s\n", fkda_last_error());
        return 1;
    }
    char text[256];
    fkda_plan_describe(&plan, text, sizeof text);
    printf("plan: %s\n", text);

    const size_t bytes = fkda_plan_workspace_size(&plan) > fkda_plan_workspace_size(&long_plan) ? fkda_plan_workspace_size(&plan)
                                                                                                : fkda_plan_workspace_size(&long_plan);
    void *workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes);
    fkda_status status = run(&long_plan, workspace, 0, whole, whole_state);
    for (int i = 0; i < PIECES && status == FKDA_OK; ++i) status = run(&plan, workspace, i * PIECE, pieces, state);
    free(workspace);
    if (status != FKDA_OK) {
        fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
        return 1;
    }

    const float out_difference = worst_difference(whole, pieces, T * H * V), state_difference = worst_difference(whole_state, state, H * V * K);
    printf("%d pieces of %d tokens against %d at once: out differs by %g, the state by %g\n", PIECES, PIECE, T, (double)out_difference,
           (double)state_difference);
    return out_difference < 1e-5f && state_difference < 1e-5f ? 0 : 1;
}
