/* cc 00_forward.c $(pkg-config --cflags --libs flashkda) -lm -o forward && ./forward
 *
 * The smallest call: one sequence of 4 tokens, one head, no state.
 */
#include <flashkda.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { T = 4, K = 64, V = 64 };

int main(void)
{
    static float q[T * K], k[T * K], v[T * V], g[T * K], beta[T], out[T * V];    /* [1,T,1,width] */
    for (int t = 0; t < T; ++t) {
        beta[t] = 20;                                    /* a logit: sigmoid(20) is 1, "remember all of v" */
        for (int c = 0; c < K; ++c) {
            q[t * K + c] = k[t * K + c] = c == t;        /* token t asks for what it has just stored under key t */
            g[t * K + c] = -20;                          /* a logit too: almost no decay */
        }
        for (int c = 0; c < V; ++c) v[t * V + c] = (float)(t + 1);
    }

    fkda_fwd_desc desc = {.struct_size = sizeof desc};   /* what to compute; zero means default */
    desc.B = 1;
    desc.T = T;
    desc.H = 1;
    desc.K = K;
    desc.V = V;
    desc.q.dtype = desc.k.dtype = desc.v.dtype = desc.g.dtype = desc.beta.dtype = desc.out.dtype = FKDA_F32;
    desc.lower_bound = -5;                               /* log of the strongest decay per token */
    desc.scale = 1;

    fkda_fwd_args args = {.struct_size = sizeof args, .q = q, .k = k, .v = v, .g = g, .beta = beta, .out = out};

    size_t bytes = 0;                                    /* scratch belongs to the caller */
    if (fkda_fwd_workspace_size(&desc, &bytes) != FKDA_OK) {
        fprintf(stderr, "%s\n", fkda_last_error());
        return 1;
    }
    void *workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes);
    const fkda_status status = fkda_fwd(&desc, &args, workspace, bytes, NULL);
    free(workspace);
    if (status != FKDA_OK) {
        fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
        return 1;
    }

    float worst = 0;
    for (int t = 0; t < T; ++t) {
        printf("token %d: out[0] = %.6f\n", t, (double)out[t * V]);    /* reads back t + 1 */
        worst = fmaxf(worst, fabsf(out[t * V] - (float)(t + 1)));
    }
    return worst < 1e-4f ? 0 : 1;
}
