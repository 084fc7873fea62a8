/* A call that works, and what must hold when it is broken. */
#include "good_call.h"

enum { TOKENS = GOOD_B * GOOD_T, POISON = 0xa5 };

/* One arena; every member is aligned for any element. */
static struct arena {
    _Alignas(256) float q[TOKENS * GOOD_H * GOOD_K], k[TOKENS * GOOD_H * GOOD_K], v[TOKENS * GOOD_HV * GOOD_V];
    float g[TOKENS * GOOD_HV * GOOD_K], beta[TOKENS * GOOD_HV], A_log[GOOD_HV], dt_bias[GOOD_HV * GOOD_K];
    _Alignas(256) float out[TOKENS * GOOD_HV * GOOD_V];
    _Alignas(256) float initial[GOOD_N * GOOD_HV * GOOD_K * GOOD_V], final[GOOD_N * GOOD_HV * GOOD_K * GOOD_V];
    int64_t cu_seqlens[GOOD_N + 1];
    int32_t cu_seqlens_32[GOOD_N + 1];
    _Alignas(256) unsigned char workspace[8 << 20];
    _Alignas(256) unsigned char spare[1 << 20];
} arena;

static int seen[64];

int good_was_seen(fkda_status status) { return seen[status]; }

void *good_spare(size_t bytes)
{
    assert_true(bytes <= sizeof arena.spare);
    return arena.spare;
}

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; ++i) values[i] = (float)(i % 7) * 0.25f - 0.7f;
}

static void reset(void)
{
    static const int64_t bounds[GOOD_N + 1] = {0, 2, 2, GOOD_B * GOOD_T};
    for (int n = 0; n <= GOOD_N; ++n) {
        arena.cu_seqlens[n] = bounds[n];
        arena.cu_seqlens_32[n] = (int32_t)bounds[n];
    }
    memset(arena.out, POISON, sizeof arena.out);
    memset(arena.final, POISON, sizeof arena.final);
}

static int is_poison(const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; ++i)
        if (((const unsigned char *)data)[i] != POISON) return 0;
    return 1;
}

static good_call good_form(int is_packed)
{
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    reset();
    fill(arena.q, sizeof arena.q / sizeof(float));
    fill(arena.k, sizeof arena.k / sizeof(float));
    fill(arena.v, sizeof arena.v / sizeof(float));
    fill(arena.g, sizeof arena.g / sizeof(float));
    fill(arena.beta, sizeof arena.beta / sizeof(float));
    fill(arena.initial, sizeof arena.initial / sizeof(float));
    good_call c = {
        .desc = {.struct_size = sizeof c.desc, .B = is_packed ? 1 : GOOD_B, .T = is_packed ? TOKENS : GOOD_T, .N = is_packed ? GOOD_N : 0,
                 .H = GOOD_H, .HV = GOOD_HV, .K = GOOD_K, .V = GOOD_V, .q = f32, .k = f32, .v = f32, .g = f32, .beta = f32, .out = f32,
                 .cu_seqlens = is_packed ? FKDA_I64 : FKDA_NONE, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .lower_bound = -5, .scale = 0.125f,
                 .initial_state = {.dtype = FKDA_F32}, .final_state = {.dtype = FKDA_F32}},
        .args = {.struct_size = sizeof c.args, .q = arena.q, .k = arena.k, .v = arena.v, .g = arena.g, .beta = arena.beta, .out = arena.out,
                 .A_log = arena.A_log, .dt_bias = arena.dt_bias, .cu_seqlens = is_packed ? arena.cu_seqlens : NULL,
                 .initial_state = arena.initial, .final_state = arena.final},
        .workspace = arena.workspace,
    };
    if (fkda_fwd_workspace_size(&c.desc, &c.workspace_bytes) != FKDA_OK) fail_msg("%s", fkda_last_error());
    assert_true(c.workspace_bytes <= sizeof arena.workspace);
    return c;
}

good_call good_dense(void) { return good_form(0); }
good_call good_packed(void) { return good_form(1); }

fkda_status good_run(const good_call *c) { return fkda_fwd(&c->desc, &c->args, c->workspace, c->workspace_bytes, NULL); }

static void expect(int condition, const char *what, const char *change, const char *file, int line)
{
    if (condition) return;
    print_error("%s\n  %s\n  last error: %s\n", change, what, fkda_last_error());
    _fail(file, line);
}

static void expect_answer(fkda_status got, fkda_status status, const char *fragment, const char *who, const char *change, const char *file, int line)
{
    char what[512];
    snprintf(what, sizeof what, "%s gave %s, not %s with \"%s\"", who, fkda_status_name(got), fkda_status_name(status), fragment);
    expect(got == status && strstr(fkda_last_error(), fragment) != NULL, what, change, file, line);
}

void good_expect_works(const good_call *c, const char *change, const char *file, int line)
{
    expect(good_run(c) == FKDA_OK, "must work", change, file, line);
    seen[FKDA_OK] = 1;
}

void good_expect_refused(const good_call *c, fkda_status status, const char *fragment, const char *change, const char *file, int line)
{
    for (int time = 0; time < 2; ++time) {
        expect_answer(good_run(c), status, fragment, "fkda_fwd", change, file, line);
        expect(is_poison(arena.out, sizeof arena.out), "out was written", change, file, line);
        expect(is_poison(arena.final, sizeof arena.final), "final_state was written", change, file, line);
    }
    seen[status] = 1;
}

void good_expect_desc_refused(const good_call *c, fkda_status status, const char *fragment, const char *change, const char *file, int line)
{
    static const size_t untouched = 12345;
    size_t bytes = untouched;
    fkda_backend backend = FKDA_BACKEND_AUTO;
    fkda_plan plan;
    memset(&plan, POISON, sizeof plan);
    expect_answer(fkda_fwd_plan(&c->desc, &plan), status, fragment, "fkda_fwd_plan", change, file, line);
    expect_answer(fkda_fwd_query(&c->desc, &backend), status, fragment, "fkda_fwd_query", change, file, line);
    expect_answer(fkda_fwd_workspace_size(&c->desc, &bytes), status, fragment, "fkda_fwd_workspace_size", change, file, line);
    expect(is_poison(&plan, sizeof plan) && backend == FKDA_BACKEND_AUTO && bytes == untouched, "an answer was written", change, file, line);
    good_expect_refused(c, status, fragment, change, file, line);
}
