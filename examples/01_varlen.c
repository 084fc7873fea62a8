/* cc 01_varlen.c $(pkg-config --cflags --libs flashkda) -o varlen && ./varlen
 *
 * Sequences of different lengths in one call, packed one behind the other. cu_seqlens says where each begins: sequence n has the tokens
 * [cu_seqlens[n], cu_seqlens[n+1]). An empty one is fine. A sequence gives the same bits alone and in company, which is checked here.
 */
#include <flashkda.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 4, T = 60, H = 2, K = 64, V = 64 };
static const int32_t cu_seqlens[N + 1] = {0, 17, 17, 50, T};    /* lengths 17, 0, 33, 10 */

static float q[T * H * K], k[T * H * K], v[T * H * V], g[T * H * K], beta[T * H];    /* [1,T,H,width] */
static float out[T * H * V], alone[T * H * V];

static void fill(float *x, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;    /* in [-1, 1) */
    }
}

static int run(const fkda_fwd_desc *desc, const fkda_fwd_args *args)
{
    size_t bytes = 0;
    fkda_status status = fkda_fwd_workspace_size(desc, &bytes);
    if (status == FKDA_OK) {
        void *workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes);
        status = fkda_fwd(desc, args, workspace, bytes, NULL);
        free(workspace);
    }
    if (status != FKDA_OK) fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
    return status == FKDA_OK;
}

int main(void)
{
    fill(q, T * H * K, 1);
    fill(k, T * H * K, 2);
    fill(v, T * H * V, 3);
    fill(g, T * H * K, 4);
    fill(beta, T * H, 5);

    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = T, .N = N, .H = H, .K = K, .V = V, .cu_seqlens = FKDA_I32,
                          .lower_bound = -5, .scale = 0.125f};
    desc.q.dtype = desc.k.dtype = desc.v.dtype = desc.g.dtype = desc.beta.dtype = desc.out.dtype = FKDA_F32;
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = q, .k = k, .v = v, .g = g, .beta = beta, .out = out, .cu_seqlens = cu_seqlens};
    if (!run(&desc, &args)) return 1;

    /* Sequence 2 again, as a dense batch of one: pointers to its first token, and its length. */
    const int64_t first = cu_seqlens[2];
    desc.T = cu_seqlens[3] - first;
    desc.N = 0;
    desc.cu_seqlens = FKDA_NONE;
    const fkda_fwd_args solo = {.struct_size = sizeof solo, .q = q + first * H * K, .k = k + first * H * K, .v = v + first * H * V,
                                .g = g + first * H * K, .beta = beta + first * H, .out = alone};
    if (!run(&desc, &solo)) return 1;

    const int is_same = memcmp(out + first * H * V, alone, (size_t)(desc.T * H * V) * sizeof *out) == 0;
    for (int n = 0; n < N; ++n) printf("sequence %d: %2d tokens\n", n, cu_seqlens[n + 1] - cu_seqlens[n]);
    printf("sequence 2 alone: %s\n", is_same ? "the same bits" : "DIFFERENT");
    return is_same ? 0 : 1;
}
