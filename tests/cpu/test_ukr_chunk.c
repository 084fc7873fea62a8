/* Every instruction set's chunk micro-kernels against the chunk form in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "each_ukr.h"
#include "problem.h"

enum { C = FKDAI_CPU_CHUNK, G = FKDAI_CPU_GROUP, P = FKDAI_CPU_PANEL, W = FKDAI_CPU_MAX_WIDTH };

/* One chunk of random tokens, and what the micro-kernels make of it. */
typedef struct fixture {
    _Alignas(64) float alpha[C][W], k[C][W], q[C][W], v[C][W], out[C][W];
    float state[W][P], before[W][P], update[C][P];
    fkdai_cpu_group group;
    fkdai_cpu_chunk chunk;
} fixture;

typedef struct gate_case {
    const char *name;
    double low, high;    /* log2 a, uniform between */
} gate_case;

static const gate_case gates[] = {{"slow", -1e-3, 0},   {"usual", -3, 0},         {"strong", -7.3, -7},
                                  {"softplus", -60, 0}, {"closed", -2000, -1000}, {"none", 0, 0}};
enum { GATES = sizeof gates / sizeof *gates };

static fixture *make_fixture(const gate_case *gate, uint64_t seed)
{
    fixture *const f = test_alloc(sizeof *f);
    memset(f, 0, sizeof *f);
    for (int i = 0; i < C; ++i) {
        f->chunk.beta[i] = (float)random_unit(seed, (uint64_t)i);
        for (int c = 0; c < W; ++c) {
            const uint64_t at = (uint64_t)(1000 + 3 * (i * W + c));
            const float log2_a = (float)(gate->low + (gate->high - gate->low) * random_unit(seed, at));
            f->chunk.gate_cum[c] += log2_a;
            f->alpha[i][c] = exp2f(log2_a);
            f->k[i][c] = (float)(random_normal(seed + 1, at) / sqrt(W));
            f->q[i][c] = (float)(random_normal(seed + 2, at) / W);
            f->v[i][c] = (float)random_normal(seed + 3, at);
        }
    }
    for (int c = 0; c < W; ++c)
        for (int v = 0; v < P; ++v) f->state[c][v] = f->before[c][v] = (float)random_normal(seed + 4, (uint64_t)(c * P + v));
    return f;
}

static void run_chunk(const fkdai_cpu_ukr *u, fixture *f)
{
    for (int b = 0; b < C / G; ++b) {
        memcpy(f->group.alpha, f->alpha[G * b], sizeof f->group.alpha);
        memcpy(f->group.k, f->k[G * b], sizeof f->group.k);
        memcpy(f->group.q, f->q[G * b], sizeof f->group.q);
        u->relate(&f->group, b, W, &f->chunk);
    }
    u->close(W, &f->chunk);
    u->solve(&f->chunk, W, C, f->v[0], f->state[0], f->update[0]);
    u->out(&f->chunk, W, C, f->state[0], f->update[0], f->out[0]);
    u->advance(&f->chunk, W, C, f->update[0], f->state[0]);
}

/* product of alpha[t][c], begin <= t < end */
static double decay(const fixture *f, int c, int begin, int end)
{
    double product = 1;
    for (int t = begin; t < end; ++t) product *= (double)f->alpha[t][c];
    return product;
}

static double decayed_dot(const fixture *f, const float *left, int i, int j)
{
    double sum = 0;
    for (int c = 0; c < W; ++c) sum += (double)left[c] * (double)f->k[j][c] * decay(f, c, j + 1, i + 1);
    return sum;
}

typedef struct error_sum {
    double error, norm;
} error_sum;

static void compare(error_sum *s, float got, double want)
{
    s->error += ((double)got - want) * ((double)got - want);
    s->norm += want * want;
}

static double rms(const error_sum *s) { return s->error == 0 ? 0 : sqrt(s->error / s->norm); }

static void tokens_relate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) for (int x = 0; x < GATES; ++x) {
        fixture *const f = make_fixture(&gates[x], 11);
        run_chunk(u, f);
        error_sum akk = {0, 1e-30}, mqk = {0, 1e-30}, operands = {0, 1e-30};
        for (int i = 0; i < C; ++i) {
            for (int j = 0; j < i; ++j) compare(&akk, f->chunk.akk[i][j], (double)f->chunk.beta[i] * decayed_dot(f, f->k[i], i, j));
            for (int j = 0; j <= i; ++j) compare(&mqk, f->chunk.mqk[i][j], decayed_dot(f, f->q[i], i, j));
            for (int c = 0; c < W; ++c) {
                compare(&operands, f->chunk.k_decayed[i][c], (double)f->k[i][c] * decay(f, c, 0, i + 1));
                compare(&operands, f->chunk.q_decayed[i][c], (double)f->q[i][c] * decay(f, c, 0, i + 1));
                compare(&operands, f->chunk.k_restored[i][c], (double)f->k[i][c] * decay(f, c, i + 1, C));
            }
        }
        print_message("%s %s: A %.1e M %.1e K+ Q+ Kr %.1e\n", u->name, gates[x].name, rms(&akk), rms(&mqk), rms(&operands));
        assert_true(rms(&akk) < 5e-7 && rms(&mqk) < 5e-7 && rms(&operands) < 5e-7);
        free(f);
    }
}

/* The recurrence itself, in double, from the same a, k, q. */
static void recur(const fixture *f, double (*S)[P], double (*out)[P])
{
    for (int c = 0; c < W; ++c)
        for (int v = 0; v < P; ++v) S[c][v] = (double)f->before[c][v];
    for (int i = 0; i < C; ++i)
        for (int v = 0; v < P; ++v) {
            double predicted = 0, sum = 0;
            for (int c = 0; c < W; ++c) {
                S[c][v] *= (double)f->alpha[i][c];
                predicted += S[c][v] * (double)f->k[i][c];
            }
            const double u = (double)f->chunk.beta[i] * ((double)f->v[i][v] - predicted);
            for (int c = 0; c < W; ++c) {
                S[c][v] += (double)f->k[i][c] * u;
                sum += S[c][v] * (double)f->q[i][c];
            }
            out[i][v] = sum;
        }
}

static void panels_follow_the_recurrence(void **state)
{
    (void)state;
    static double S[W][P], out[C][P];
    FOR_EACH_UKR(u) for (int x = 0; x < GATES; ++x) {
        fixture *const f = make_fixture(&gates[x], 29);
        run_chunk(u, f);
        recur(f, S, out);
        error_sum o = {0, 1e-30}, s = {0, 1e-30};
        for (int v = 0; v < P; ++v) {
            for (int i = 0; i < C; ++i) compare(&o, f->out[i][v], out[i][v]);
            for (int c = 0; c < W; ++c) compare(&s, f->state[c][v], S[c][v]);
        }
        print_message("%s %s: O %.1e S' %.1e\n", u->name, gates[x].name, rms(&o), rms(&s));
        assert_true(rms(&o) < 1e-6 && rms(&s) < 1e-6);
        free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_relate), cmocka_unit_test(panels_follow_the_recurrence)};
    return cmocka_run_group_tests_name("ukr_chunk", tests, NULL, NULL);
}
