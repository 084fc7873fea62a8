/*
 * fkda_fwd_advise of CUDA tensors: every rule of the kernels about dtypes is answered by a copy of that argument, and by no other, every address by its
 * bit of desc.unaligned; strides are taken. Nobody reads the memory: the CUDA runtime is the one of fake_cuda.c.
 */
#include "harness.h"

#include "counter_rng.h"
#include "fake_cuda.h"
#include "flashkda.h"

static char tensors[1 << 18] __attribute__((aligned(256)));
static char states[1 << 20] __attribute__((aligned(256)));
static char copies_at[FKDA_ARG_FINAL_STATE + 1][1 << 19] __attribute__((aligned(256)));    /* stand for the copies of a caller */
static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char scratch[1 << 22];

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

enum { ARGUMENTS = FKDA_ARG_FINAL_STATE + 1 };

/* A call whose tensors have gaps between all rows, so that one thing can be wrong at a time. */
static fkda_fwd_desc loose_desc(void)
{
    const fkda_tensor_desc loose = {.batch_stride = 4096, .token_stride = 1024, .head_stride = 256};
    const fkda_state_desc state = {.dtype = FKDA_F32, .row_stride = 2 * 128 * 128 + 2};
    return (fkda_fwd_desc){
        .struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = 2, .T = 2, .H = 2, .K = 128, .V = 128,
        .q = loose, .k = loose, .v = loose, .g = loose, .out = loose,
        .beta = {.batch_stride = 17, .token_stride = 5, .head_stride = 1},    /* any pitch */
        .A_log = FKDA_BF16, .dt_bias = FKDA_BF16, .scale = 1.0f, .lower_bound = -5.0f, .initial_state = state, .final_state = state,
    };
}

static fkda_fwd_args loose_args(void)
{
    return (fkda_fwd_args){
        .struct_size = sizeof(fkda_fwd_args), .q = tensors, .k = tensors + 32768, .v = tensors + 65536, .g = tensors + 98304, .out = tensors + 131072,
        .beta = tensors + 163840, .A_log = tensors + 167936, .dt_bias = tensors + 167952,
        .initial_state = states, .final_state = states + sizeof states / 2,
    };
}

/* What is asked and what is answered. */
typedef struct asked {
    fkda_fwd_desc desc, takes;
    fkda_fwd_args args;
    uint32_t copies;
} asked;

static asked ask(fkda_fwd_desc d, fkda_fwd_args a)
{
    asked x = {.desc = d, .args = a, .copies = UINT32_MAX};
    if (fkda_fwd_advise(&d, &a, &x.takes, &x.copies) != FKDA_OK) fail_msg("%s", fkda_last_error());
    return x;
}

static const void **address_of(fkda_fwd_args *a, int argument)
{
    const void **const inputs[] = {&a->q, &a->k, &a->v, &a->g, &a->beta, NULL, &a->A_log, &a->dt_bias, &a->cu_seqlens, &a->initial_state, NULL};
    if (argument == FKDA_ARG_OUT) return (const void **)(void *)&a->out;
    if (argument == FKDA_ARG_FINAL_STATE) return (const void **)(void *)&a->final_state;
    return inputs[argument];
}

/* The call with copies of these arguments: at addresses as a copy has them. */
static fkda_status run_with(const fkda_fwd_desc *d, const fkda_fwd_args *lies, uint32_t copies)
{
    fkda_fwd_args a = *lies;
    for (int i = 0; i < ARGUMENTS; ++i)
        if (copies >> i & 1u) *address_of(&a, i) = copies_at[i];
    reset();
    return fkda_fwd(d, &a, scratch, sizeof scratch, NULL);
}

#define ADVISES(change, bits, condition)                                                                            \
    do {                                                                                                            \
        fkda_fwd_desc d = loose_desc();                                                                             \
        fkda_fwd_args a = loose_args();                                                                             \
        change;                                                                                                     \
        const asked x = ask(d, a);                                                                                  \
        const fkda_fwd_desc *const t = &x.takes;                                                                    \
        if (x.copies != (bits) || !(condition)) fail_msg("%s: copies = 0x%x", #change, (unsigned)x.copies);         \
        const int is_taken = fkda_fwd(&d, &a, scratch, sizeof scratch, NULL) == FKDA_OK;                            \
        assert_int_equal(is_taken, x.copies == 0 && t->unaligned == 0);                                             \
        if (run_with(t, &a, x.copies) != FKDA_OK) fail_msg("%s: %s", #change, fkda_last_error());                   \
    } while (0)
#define BIT(NAME) (1u << FKDA_ARG_##NAME)
#define BEHIND(pointer, bytes) ((void *)((uintptr_t)(pointer) + (bytes)))

static void test_each_rule_asks_for_its_copy(void **unused)
{
    (void)unused;
    ADVISES((void)0, 0, t->q.token_stride == 1024 && t->final_state.row_stride == 32770);
    /* dtypes */
    ADVISES(d.q.dtype = FKDA_F32, BIT(Q), t->q.dtype == FKDA_BF16 && t->q.head_stride == 128 && t->q.token_stride == 256);
    ADVISES(d.k.dtype = FKDA_F16, BIT(K), t->k.dtype == FKDA_BF16 && t->k.batch_stride == 512);
    ADVISES(d.beta.dtype = FKDA_F32, 0, t->beta.dtype == FKDA_F32 && t->beta.token_stride == 5);
    ADVISES(d.beta.dtype = FKDA_F16, BIT(BETA), t->beta.dtype == FKDA_F32 && t->beta.token_stride == 2);
    ADVISES(d.beta_kind = FKDA_BETA_ACTIVATED; d.beta_multiplier = 2, 0, t->beta_kind == FKDA_BETA_ACTIVATED && t->beta_multiplier == 2);
    ADVISES(d.out.dtype = FKDA_F32, BIT(OUT), t->out.dtype == FKDA_BF16 && t->v.token_stride == 1024);
    ADVISES(d.A_log = FKDA_F16, BIT(A_LOG), t->A_log == FKDA_F32 && t->dt_bias == FKDA_BF16);
    ADVISES(d.initial_state.dtype = FKDA_BF16, 0, t->initial_state.dtype == FKDA_BF16);
    ADVISES(d.initial_state.dtype = FKDA_F16, BIT(INITIAL_STATE), t->initial_state.dtype == FKDA_F32 && t->initial_state.row_stride == 32768);
    /* any strides; beside a dtype, which its copy has in bf16 */
    ADVISES(d.v.head_stride = 252, 0, t->v.head_stride == 252);
    ADVISES(d.g.token_stride = 1028, 0, t->g.token_stride == 1028);
    ADVISES(d.out.batch_stride = 4100, 0, t->out.batch_stride == 4100);
    ADVISES(d.B = 1; d.q.batch_stride = 3, 0, 1);
    ADVISES(d.q.dtype = FKDA_F32; d.q.token_stride = 1028; d.k.token_stride = 1028, BIT(Q), t->q.token_stride == 256 && t->k.token_stride == 1028);
    /* addresses */
    ADVISES(a.q = BEHIND(a.q, 8), 0, t->unaligned == BIT(Q) && t->q.token_stride == 1024);
    ADVISES(a.out = BEHIND(a.out, 2), 0, t->unaligned == BIT(OUT) && t->out.head_stride == 256);
    ADVISES(a.q = BEHIND(a.q, 1), BIT(Q), t->unaligned == 0 && t->q.token_stride == 256);
    ADVISES(a.q = BEHIND(a.q, 8); d.k.dtype = FKDA_F32; a.k = BEHIND(a.k, 4), BIT(K), t->unaligned == BIT(Q));
    ADVISES(a.q = BEHIND(a.q, 2); d.q.head_stride = 252, 0, t->unaligned == 0);    /* it is copied anyway */
    ADVISES(a.beta = BEHIND(a.beta, 2), 0, 1);
    ADVISES(a.beta = BEHIND(a.beta, 1), BIT(BETA), t->beta.dtype == FKDA_BF16);
    ADVISES(d.beta.dtype = FKDA_F32; a.beta = BEHIND(a.beta, 4), 0, 1);
    ADVISES(d.beta.dtype = FKDA_F32; a.beta = BEHIND(a.beta, 2), BIT(BETA), t->beta.dtype == FKDA_F32);
    ADVISES(a.A_log = BEHIND(a.A_log, 1), BIT(A_LOG), t->A_log == FKDA_BF16);
    ADVISES(a.initial_state = BEHIND(a.initial_state, 8), 0, 1);
    ADVISES(a.initial_state = BEHIND(a.initial_state, 4), 0, t->unaligned == BIT(INITIAL_STATE));
    ADVISES(d.final_state.dtype = FKDA_BF16; a.final_state = BEHIND(a.final_state, 4), 0, 1);
    ADVISES(d.final_state.dtype = FKDA_BF16; a.final_state = BEHIND(a.final_state, 2), 0, t->unaligned == BIT(FINAL_STATE));
    /* states in pairs of channels, or, with K outermost, in elements */
    ADVISES(d.final_state.row_stride = 32769, 0, t->final_state.row_stride == 32769);
    ADVISES(d.initial_state.layout = FKDA_STATE_NHKV, 0, t->initial_state.layout == FKDA_STATE_NHKV);
    ADVISES(d.initial_state.layout = FKDA_STATE_NHKV; d.initial_state.row_stride = 32769; a.initial_state = BEHIND(a.initial_state, 4), 0,
            t->initial_state.row_stride == 32769);
    /* fewer query heads */
    ADVISES(d.HV = 2; d.H = 1, 0, t->H == 1 && t->HV == 2 && t->q.token_stride == 1024 && t->v.token_stride == 1024);
    ADVISES(d.HV = 2; d.H = 1; d.k.dtype = FKDA_F32; d.g.dtype = FKDA_F32, BIT(K) | BIT(G), t->k.token_stride == 128 && t->g.token_stride == 256);
}

/* Without addresses only what the desc says counts; where no copy helps, the reason. */
static void test_advice_without_addresses_and_refusals(void **unused)
{
    (void)unused;
    reset();
    fkda_fwd_desc d = loose_desc(), takes = d;
    uint32_t copies = 99;
    d.v.dtype = FKDA_F32, d.k.head_stride = 252;
    assert_int_equal(fkda_fwd_advise(&d, NULL, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, BIT(V));
    copies = 99, takes = d, d.K = 96;
    assert_int_equal(fkda_fwd_advise(&d, NULL, &takes, &copies), FKDA_ERR_UNSUPPORTED);
    assert_string_equal(fkda_last_error(), "prefill_sm90: K = 96, kernels exist for K = 128; prefill_mma: K = 96, the kernel exists for K = 64 and 128");
    d.K = 128, d.device = 2;
    assert_int_equal(fkda_fwd_advise(&d, NULL, &takes, &copies), FKDA_ERR_NO_DEVICE);
    d.device = 0, d.memory = FKDA_MEMORY_HOST;
    assert_int_equal(fkda_fwd_advise(&d, NULL, &takes, &copies), FKDA_ERR_UNSUPPORTED);
    assert_true(copies == 99 && takes.K == 128 && takes.v.dtype == FKDA_F32);
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_AUTO;
    assert_int_equal(fkda_fwd_advise(&d, NULL, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, BIT(V));
    assert_non_null(strstr(fkda_last_error(), "host memory"));    /* the last failure's, not that of the first question on the way */
}

/* ---------------------------------------------------------------- random descs */

static uint64_t drawn;    /* how often */
static int64_t below(int64_t n) { return rng_below(rng_stream("advise", 1), drawn++, n); }

/* One in `n` times something is wrong, or only unusual. */
static void spoil_tensor(fkda_tensor_desc *t, int n)
{
    static const fkda_dtype dtypes[] = {FKDA_BF16, FKDA_F32, FKDA_F16};
    if (below(n) == 0) t->dtype = dtypes[below(3)];
    if (below(n) == 0) t->head_stride += below(3) * 4;
    if (below(n) == 0) t->token_stride += below(3) * 4;
    if (below(n) == 0) t->batch_stride += below(3) * 4;
}

static void spoil_state(fkda_state_desc *s, int n)
{
    static const fkda_dtype dtypes[] = {FKDA_BF16, FKDA_F32, FKDA_F16};
    if (below(n) == 0) s->dtype = dtypes[below(3)];
    if (below(n) == 0) s->layout = (fkda_state_layout)below(2);
    if (below(n) == 0) s->row_stride += below(3);
}

static void spoil(fkda_fwd_desc *d, fkda_fwd_args *a, int n)
{
    fkda_tensor_desc *const with_rows[] = {&d->q, &d->k, &d->v, &d->g, &d->out};
    if (below(n) == 0) d->HV = 2, d->H = 1;
    if (below(n) == 0) d->B = 1;
    if (below(n) == 0) d->T = 1;
    for (int i = 0; i < 5; ++i) spoil_tensor(with_rows[i], n);
    if (below(n) == 0) d->beta.dtype = below(2) ? FKDA_F32 : FKDA_F16;
    if (below(n) == 0) d->beta_kind = FKDA_BETA_ACTIVATED;
    if (below(n) == 0) d->beta_multiplier = 2;
    if (below(n) == 0) d->A_log = below(2) ? FKDA_F32 : FKDA_F16;
    spoil_state(&d->initial_state, n);
    spoil_state(&d->final_state, n);
    for (int i = 0; i < ARGUMENTS; ++i)
        if (i != FKDA_ARG_CU_SEQLENS && below(n) == 0) *address_of(a, i) = (const char *)*address_of(a, i) + below(9);
}

/* The desc as it lies, but with the copies of `copies`. */
static fkda_fwd_desc with_copies(const asked *x, uint32_t copies)
{
    fkda_fwd_desc d = x->desc;
    const fkda_fwd_desc *const t = &x->takes;
    if (copies & BIT(Q)) d.q = t->q;
    if (copies & BIT(K)) d.k = t->k;
    if (copies & BIT(V)) d.v = t->v;
    if (copies & BIT(G)) d.g = t->g;
    if (copies & BIT(BETA)) d.beta = t->beta;
    if (copies & BIT(OUT)) d.out = t->out;
    if (copies & BIT(A_LOG)) d.A_log = t->A_log;
    if (copies & BIT(DT_BIAS)) d.dt_bias = t->dt_bias;
    if (copies & BIT(INITIAL_STATE)) d.initial_state = t->initial_state;
    if (copies & BIT(FINAL_STATE)) d.final_state = t->final_state;
    d.unaligned = t->unaligned;
    return d;
}

/* With the copies that are asked for the call runs; with one of them less it does not; without a copy exactly where none is asked for. */
static void test_exactly_the_copies_that_are_needed(void **unused)
{
    (void)unused;
    int as_it_lies = 0, with_many = 0, with_bits = 0;
    for (int trial = 0; trial < 4000; ++trial) {
        fkda_fwd_desc d = loose_desc();
        fkda_fwd_args a = loose_args();
        spoil(&d, &a, 4 + trial % 60);
        const asked x = ask(d, a);
        const fkda_fwd_desc all = with_copies(&x, x.copies);
        assert_int_equal(run_with(&d, &a, 0) == FKDA_OK, x.copies == 0 && x.takes.unaligned == 0);
        if (run_with(&x.takes, &a, x.copies) != FKDA_OK || fake.launches != 1) fail_msg("takes: %s", fkda_last_error());
        if (run_with(&all, &a, x.copies) != FKDA_OK || fake.launches != 1) fail_msg("with copies: %s", fkda_last_error());
        for (int i = 0; i < ARGUMENTS; ++i) {
            const uint32_t others = x.copies & ~(1u << i);
            const fkda_fwd_desc one_less = with_copies(&x, others);
            if (x.copies >> i & 1u && run_with(&one_less, &a, others) == FKDA_OK) fail_msg("argument %d was copied in vain", i);
        }
        as_it_lies += x.copies == 0 && x.takes.unaligned == 0;
        for (int i = 0; i < ARGUMENTS; ++i) {
            fkda_fwd_desc without = x.takes;
            without.unaligned &= ~(1u << i);
            if (x.takes.unaligned >> i & 1u && run_with(&without, &a, x.copies) != FKDA_ERR_MISALIGNED) fail_msg("argument %d has its bit in vain", i);
            with_bits += (int)(x.takes.unaligned >> i & 1u);
        }
        with_many += (x.copies & (x.copies - 1)) != 0;
    }
    if (as_it_lies < 100 || with_many < 200 || with_bits < 200)
        fail_msg("%d as they lie, %d with several copies, %d addresses: too few to tell", as_it_lies, with_many, with_bits);
}

int main(void)
{
    rng_seed();
    reset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_rule_asks_for_its_copy),
        cmocka_unit_test(test_advice_without_addresses_and_refusals),
        cmocka_unit_test(test_exactly_the_copies_that_are_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
