/* cc 05_speculative.c $(pkg-config --cflags --libs flashkda) -o speculative && ./speculative
 *
 * Drafts: another, cheaper model has guessed the next 4 tokens of every sequence. One call of fkda_decode computes the outputs of all of them and leaves
 * the states as they are. From the outputs the model finds how many guesses were right, and a second call without outputs takes the states through
 * those. Step after step, that gives the outputs and the bits of the states of one token at a time.
 */
#include <flashkda.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3, T = 32, DRAFT = 4, H = 2, K = 64, V = 64 };

static float q[N * T * H * K], k[N * T * H * K], v[N * T * H * V], g[N * T * H * K], beta[N * T * H];    /* [N,T,H,width] */
static float alone[N * T * H * V], out[N * T * H * V];
static float states_alone[N * H * V * K], states[N * H * V * K];

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

/* Rows of sequences that lie T tokens apart. */
static fkda_tensor_desc rows_of(int64_t width) { return (fkda_tensor_desc){.batch_stride = T * H * width, .dtype = FKDA_F32}; }

/* Tokens t ... t + count - 1 of sequence n alone: sequences are at different places after their first drafts. */
static void decode(int n, int t, int64_t count, fkda_commit commit, const int32_t *accepted, float *of_states, float *to)
{
    const int row = n * T + t;
    fkda_decode_desc desc = {.struct_size = sizeof desc, .N = 1, .S = count, .H = H, .K = K, .V = V, .q = rows_of(K), .k = rows_of(K), .v = rows_of(V),
                             .g = rows_of(K), .beta = rows_of(1), .out = rows_of(V), .lower_bound = -5, .scale = 0.125f,
                             .state = {.dtype = FKDA_F32}, .commit = commit, .flags = to == NULL ? FKDA_FLAG_NO_OUT : 0};
    fkda_decode_args args = {.struct_size = sizeof args, .k = k + row * H * K, .v = v + row * H * V, .g = g + row * H * K, .beta = beta + row * H,
                             .state = of_states + n * H * V * K, .num_accepted = accepted};
    if (accepted != NULL) desc.num_accepted = FKDA_I32;
    if (to != NULL) args.q = q + row * H * K, args.out = to + row * H * V;
    size_t bytes;
    must(fkda_decode_workspace_size(&desc, &bytes));
    void *const workspace = bytes > 0 ? aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes) : NULL;
    must(fkda_decode(&desc, &args, workspace, bytes, NULL));
    free(workspace);
}

int main(void)
{
    fill(q, N * T * H * K, 1);
    fill(k, N * T * H * K, 2);
    fill(v, N * T * H * V, 3);
    fill(g, N * T * H * K, 4);
    fill(beta, N * T * H, 5);
    int steps = 0;
    for (int n = 0; n < N; ++n) {
        for (int t = 0; t < T; ++t) decode(n, t, 1, FKDA_COMMIT_LAST, NULL, states_alone, alone);
        for (int t = 0; t < T; ++steps) {
            const int drafts = T - t < DRAFT ? T - t : DRAFT;
            const int32_t right = 1 + (n + steps) % drafts;    /* of a model: how many outputs say what the draft said */
            decode(n, t, drafts, FKDA_COMMIT_NONE, NULL, states, out);
            decode(n, t, drafts, FKDA_COMMIT_ACCEPTED, &right, states, NULL);
            t += right;
        }
    }
    const int same = memcmp(out, alone, sizeof out) == 0 && memcmp(states, states_alone, sizeof states) == 0;
    printf("%d sequences of %d tokens in %d steps with drafts of %d: outputs and states %s one token at a time\n", N, T, steps, DRAFT,
           same ? "have the bits of" : "DIFFER from those of");
    return same ? 0 : 1;
}
