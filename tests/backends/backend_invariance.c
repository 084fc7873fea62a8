/* What must not change a bit: company in the batch, position, where a sequence is cut, index type, threads, the future. */
#include "harness.h"

#include "backend_bars.h"
#include "backend_suite.h"
#include "counter_rng.h"
#include "error_metrics.h"

#define POOL_LENS "0,1,2,15,16,17,31,32,33,63,64,65,129"    /* what sequences are drawn from */
enum { PACKINGS = 24, MOST = 8 };

static case_result run_on(const backend_bars *bars, const case_spec *s, const input_values *x, int threads)
{
    const run_setup setup = {bars->id, threads, 0xa5, GUARD_AT_END};
    case_result r = case_run(s, x, &setup);
    if (r.status != FKDA_OK) fail_msg("%s: %s", fkda_backend_name(bars->id), fkda_last_error());
    return r;
}

static case_result run_pieces(const backend_bars *bars, const case_spec *from, const input_values *x, const piece *pieces, int count,
                              fkda_dtype form)
{
    const case_spec s = pieces_spec(from, pieces, count, form);
    input_values y = pieces_values(from, x, pieces, &s);
    const case_result r = run_on(bars, &s, &y, 2);
    values_free(&y);
    return r;
}

static piece whole_sequence(const case_spec *s, int64_t n) { return (piece){.sequence = n, .count = s->bounds[n + 1] - s->bounds[n]}; }

/* Rows and state n of `batch` against all of `alone`. */
static void expect_same(const backend_bars *bars, const case_spec *from, const case_result *alone, const case_result *batch, int64_t row,
                        int64_t n, const char *what)
{
    const int64_t state = case_state_elems(from);
    if (memcmp(alone->out, batch->out + row * from->HV * from->V, (size_t)alone->out_count * sizeof(float)) != 0)
        fail_msg("%s: out differs between alone and %s", fkda_backend_name(bars->id), what);
    if (memcmp(alone->state, batch->state + n * state, (size_t)state * sizeof(float)) != 0)
        fail_msg("%s: final_state differs between alone and %s", fkda_backend_name(bars->id), what);
}

/* -------------------------------------------------------------- in company */

static void batch_invariance_of(const backend_bars *bars, const case_spec *pool)
{
    input_values x = values_draw(pool);
    case_result alone[CASE_MAX_SEQUENCES];
    for (int64_t n = 0; n < pool->N; ++n) {
        const piece whole = whole_sequence(pool, n);
        alone[n] = run_pieces(bars, pool, &x, &whole, 1, FKDA_I64);
    }
    const uint64_t stream = rng_stream("packings", (uint64_t)pool->gate);
    for (uint64_t p = 0; p < PACKINGS; ++p) {
        piece pieces[MOST];
        const int count = 1 + (int)rng_below(stream, 100 * p, MOST);
        for (int i = 0; i < count; ++i) pieces[i] = whole_sequence(pool, rng_below(stream, 100 * p + 1 + (uint64_t)i, pool->N));
        case_result packed = run_pieces(bars, pool, &x, pieces, count, p % 2 ? FKDA_I32 : FKDA_I64);
        for (int64_t i = 0, row = 0; i < count; row += pieces[i++].count)
            expect_same(bars, pool, &alone[pieces[i].sequence], &packed, row, i, "packed with others");
        result_free(&packed);
    }
    for (int64_t n = 0; n < pool->N; ++n) result_free(&alone[n]);
    values_free(&x);
}

static void batch_invariance(const backend_bars *bars)
{
    const case_spec bounded = case_parse("pool_bounded", "H=1 HV=2 lens=" POOL_LENS);
    const case_spec softplus = case_parse("pool_softplus", "H=2 gate=softplus out=bf16 gates=wide lens=" POOL_LENS);
    batch_invariance_of(bars, &bounded);
    batch_invariance_of(bars, &softplus);
}

void test_batch_invariance(void **state)
{
    (void)state;
    bars_for_each(batch_invariance);
}

static void dense_rows(const backend_bars *bars)
{
    const case_spec dense = case_parse("dense_rows", "B=4 T=75 H=2 gate=softplus");
    input_values x = values_draw(&dense);
    piece rows[4];
    for (int64_t n = 0; n < 4; ++n) rows[n] = whole_sequence(&dense, n);
    case_result as_dense = run_on(bars, &dense, &x, 1), as_packed = run_pieces(bars, &dense, &x, rows, 4, FKDA_I64);
    assert_true(result_same_bits(&as_dense, &as_packed));
    for (int64_t n = 0; n < 4; ++n) {
        case_result alone = run_pieces(bars, &dense, &x, &rows[n], 1, FKDA_NONE);
        expect_same(bars, &dense, &alone, &as_dense, n * dense.T, n, "a dense batch");
        result_free(&alone);
    }
    result_free(&as_dense);
    result_free(&as_packed);
    values_free(&x);
}

void test_dense_rows_equal_packed(void **state)
{
    (void)state;
    bars_for_each(dense_rows);
}

/* -------------------------------------------------------------- cut in two */

static void split_at(const backend_bars *bars, const case_spec *s, const input_values *x, const case_result *one, int64_t at)
{
    const piece head = {.count = at};
    case_result first = run_pieces(bars, s, x, &head, 1, FKDA_I64);
    const piece tail = {.first = at, .count = s->T - at, .initial = first.state};
    case_result second = run_pieces(bars, s, x, &tail, 1, FKDA_I64);

    const double past = metric_m1(first.out, one->out, first.out_count);
    const double future = metric_m1(second.out, one->out + first.out_count, second.out_count);
    const double out = past > future ? past : future, final = metric_m1(second.state, one->state, one->state_count);
    const int must_be_equal = bars->splits_bitwise && at % CHUNK_MULTIPLE == 0;
    if (!(out <= (must_be_equal ? 0 : bars->bar.out)) || !(final <= (must_be_equal ? 0 : bars->bar.state)))
        fail_msg("%s: cut at %lld of %lld: out off by %.2e, final_state by %.2e", fkda_backend_name(bars->id), (long long)at, (long long)s->T, out, final);
    result_free(&first);
    result_free(&second);
}

static void split_invariance(const backend_bars *bars)
{
    const case_spec s = case_parse("split", "lens=261 H=2");
    input_values x = values_draw(&s);
    case_result one = run_on(bars, &s, &x, 1);
    for (int64_t at = 0; at <= s.T; at += CHUNK_MULTIPLE) split_at(bars, &s, &x, &one, at);
    for (uint64_t i = 0; i < 6; ++i) split_at(bars, &s, &x, &one, rng_below(rng_stream("split", 0), i, s.T));
    result_free(&one);
    values_free(&x);
}

void test_split_invariance(void **state)
{
    (void)state;
    bars_for_each(split_invariance);
}

/* -------------------------------------------------------------- index type, threads, the future */

static void i32_equals_i64(const backend_bars *bars)
{
    case_spec s = case_parse("index_type", "lens=0,33,1,64,17,0,90 HV=4 gate=softplus");
    input_values x = values_draw(&s);
    case_result wide = run_on(bars, &s, &x, 1);
    s.cu = FKDA_I32;
    case_result narrow = run_on(bars, &s, &x, 1);
    assert_true(result_same_bits(&wide, &narrow));
    result_free(&wide);
    result_free(&narrow);
    values_free(&x);
}

void test_i32_equals_i64(void **state)
{
    (void)state;
    bars_for_each(i32_equals_i64);
}

static void threads_do_not_matter(const backend_bars *bars)
{
    const case_spec s = case_parse("threads", "lens=130,0,1,64,33,17,8*9 H=3 view=mixed out=bf16");
    input_values x = values_draw(&s);
    case_result one = run_on(bars, &s, &x, 1);
    static const int counts[] = {2, 3, 7, 64, 0};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; ++i) {
        case_result many = run_on(bars, &s, &x, counts[i]);
        if (!result_same_bits(&one, &many)) fail_msg("%s: other bits with threads = %d", fkda_backend_name(bars->id), counts[i]);
        result_free(&many);
    }
    result_free(&one);
    values_free(&x);
}

void test_threads_do_not_matter(void **state)
{
    (void)state;
    bars_for_each(threads_do_not_matter);
}

/* Other tokens from `at` on: outputs before it keep their bits. */
static void future_does_not_matter(const backend_bars *bars)
{
    const case_spec s = case_parse("future", "T=200 H=2"), other = case_parse("future_other", "T=200 H=2");
    input_values x = values_draw(&s), y = values_draw(&other);
    case_result before = run_on(bars, &s, &x, 1);
    for (int64_t at = CHUNK_MULTIPLE; at < s.T; at += CHUNK_MULTIPLE) {
        const piece all = {.count = s.T};
        input_values z = pieces_values(&s, &x, &all, &s);
        const size_t past = (size_t)at, rest = (size_t)(s.T - at), H = (size_t)s.H, HV = (size_t)s.HV, K = (size_t)s.K, V = (size_t)s.V;
        memcpy(z.q + past * H * K, y.q, rest * H * K * sizeof(float));
        memcpy(z.k + past * H * K, y.k, rest * H * K * sizeof(float));
        memcpy(z.v + past * HV * V, y.v, rest * HV * V * sizeof(float));
        memcpy(z.g + past * HV * K, y.g, rest * HV * K * sizeof(float));
        memcpy(z.beta + past * HV, y.beta, rest * HV * sizeof(float));
        case_result after = run_on(bars, &s, &z, 1);
        assert_memory_equal(before.out, after.out, past * HV * V * sizeof(float));
        assert_memory_not_equal(before.out, after.out, (past + rest) * HV * V * sizeof(float));
        result_free(&after);
        values_free(&z);
    }
    result_free(&before);
    values_free(&x);
    values_free(&y);
}

void test_future_does_not_matter(void **state)
{
    (void)state;
    bars_for_each(future_does_not_matter);
}
