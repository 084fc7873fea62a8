/* cc 03_prefix_cache.c $(pkg-config --cflags --libs flashkda) -lm -o prefix_cache && ./prefix_cache
 *
 * A prefix cache: the states of two prompts live in a pool, and the first call leaves checkpoints every 32 tokens in slots of another pool. A
 * third prompt begins with the first 64 tokens of the first one; it starts from that checkpoint and computes only what is left.
 */
#include <flashkda.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 160, SHARED = 64, H = 2, K = 64, V = 64, SLOTS = 4, CACHE = 8, STATE = H * V * K, EVERY = 32 };

static float q[T * H * K], k[T * H * K], v[T * H * V], g[T * H * K], beta[T * H], out[T * H * V], rest[T * H * V];    /* [1,T,H,width] */
static float pool[SLOTS][STATE], cache[CACHE][STATE], continued[STATE];

static void fill(float *x, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;    /* in [-1, 1) */
    }
}

static fkda_status run(const fkda_fwd_desc *desc, const fkda_fwd_args *args)
{
    size_t bytes;
    fkda_status status = fkda_fwd_workspace_size(desc, &bytes);
    void *workspace = status == FKDA_OK ? aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes) : NULL;
    if (status == FKDA_OK) status = fkda_fwd(desc, args, workspace, bytes, NULL);
    if (status != FKDA_OK) fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
    free(workspace);
    return status;
}

int main(void)
{
    fill(q, T * H * K, 1);
    fill(k, T * H * K, 2);
    fill(v, T * H * V, 3);
    fill(g, T * H * K, 4);
    fill(beta, T * H, 5);

    static const int32_t bounds[] = {0, 100, T};         /* two prompts, of 100 and 60 tokens */
    static const int32_t fresh[] = {-1, -1};             /* no state yet: a null slot reads 0 */
    static const int32_t slots[] = {2, 0};
    static const int32_t cache_slots[] = {5, 6, 7, 1};   /* 100 / 32 = 3 checkpoints of the first prompt, 60 / 32 = 1 of the second */

    const fkda_state_desc in_pool = {.dtype = FKDA_F32, .slot_count = SLOTS, .slot_dtype = FKDA_I32};
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = T, .N = 2, .H = H, .K = K, .V = V, .cu_seqlens = FKDA_I32, .lower_bound = -5,
                          .scale = 0.125f, .initial_state = in_pool, .final_state = in_pool};
    desc.q.dtype = desc.k.dtype = desc.v.dtype = desc.g.dtype = desc.beta.dtype = desc.out.dtype = FKDA_F32;
    desc.checkpoints = (fkda_state_desc){.dtype = FKDA_F32, .slot_count = CACHE, .slot_dtype = FKDA_I32};
    desc.checkpoint_every = EVERY;
    desc.checkpoint_count = 4;
    fkda_fwd_args args = {.struct_size = sizeof args, .q = q, .k = k, .v = v, .g = g, .beta = beta, .out = out, .cu_seqlens = bounds,
                          .initial_state = pool, .final_state = pool, .initial_slots = fresh, .final_slots = slots,
                          .checkpoint_state = cache, .checkpoint_slots = cache_slots};
    if (run(&desc, &args) != FKDA_OK) return 1;

    /* tokens 64 to 99 of the first prompt once more, from the checkpoint after 64 tokens, in slot 6 */
    static const int32_t left[] = {0, 100 - SHARED}, hit[] = {6};
    desc.T = 100 - SHARED;
    desc.N = 1;
    desc.initial_state.slot_count = CACHE;
    desc.final_state = (fkda_state_desc){.dtype = FKDA_F32};
    desc.checkpoints = (fkda_state_desc){.dtype = FKDA_NONE};
    const fkda_fwd_args from_cache = {.struct_size = sizeof from_cache, .q = q + SHARED * H * K, .k = k + SHARED * H * K,
                                      .v = v + SHARED * H * V, .g = g + SHARED * H * K, .beta = beta + SHARED * H, .out = rest,
                                      .cu_seqlens = left, .initial_state = cache, .initial_slots = hit, .final_state = continued};
    if (run(&desc, &from_cache) != FKDA_OK) return 1;

    const int same_out = memcmp(rest, out + SHARED * H * V, (100 - SHARED) * H * V * sizeof(float)) == 0;
    const int same_state = memcmp(continued, pool[2], sizeof continued) == 0;
    printf("%d of 100 tokens from the cache: out %s, state %s\n", SHARED, same_out ? "bit for bit the same" : "differs",
           same_state ? "bit for bit the same" : "differs");
    return same_out && same_state ? 0 : 1;
}
