/* Same bits: for any number of threads, wherever a sequence lies, split at chunk boundaries, in place, beside a head full of NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "problem.h"

enum { H = 3, D = 128, STATE = H * D * D };

static void run(problem *p, int threads) { assert_int_equal(problem_run(p, FKDA_BACKEND_CPU, threads), FKDA_OK); }

static void same_bits_for_any_threads(void **state)
{
    (void)state;
    static const int64_t lengths[] = {70, 1, 0, 300};
    static const problem_options cases[] = {{.T = 100, .H = 1}, {.T = 100, .H = 7}, {.lengths = lengths, .N = 4, .H = H, .initial_state = FKDA_F32}};
    for (size_t x = 0; x < sizeof cases / sizeof *cases; ++x) {
        problem one = problem_make(&cases[x]);
        run(&one, 1);
        for (int threads = 2; threads <= 5; ++threads) {
            problem many = problem_make(&cases[x]);
            run(&many, threads);
            assert_memory_equal(one.args.out, many.args.out, (size_t)one.out_elems * sizeof(float));
            assert_memory_equal(one.args.final_state, many.args.final_state, (size_t)one.state_elems * sizeof(float));
            problem_free(&many);
        }
        problem_free(&one);
    }
}

/* Tokens [from, from + length) of `big`, as a problem of their own, give the bits that `big` has there. */
static void expect_same_alone(const problem *big, int64_t from, int64_t length, int64_t n, uint64_t seed)
{
    problem alone = problem_make(&(problem_options){.T = length, .H = H, .seed = seed, .first_token = from, .output = FKDA_F32});
    run(&alone, 1);
    assert_memory_equal((const float *)big->args.out + from * H * D, alone.args.out, (size_t)(length * H * D) * sizeof(float));
    assert_memory_equal((const float *)big->args.final_state + n * STATE, alone.args.final_state, STATE * sizeof(float));
    problem_free(&alone);
}

static void same_bits_in_any_packing(void **state)
{
    (void)state;
    static const int64_t choice[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257};
    for (uint64_t packing = 0; packing < 20; ++packing) {
        int64_t lengths[6], at = 0;
        for (uint64_t n = 0; n < 6; ++n) lengths[n] = choice[(int)(13 * random_unit(packing, n))];
        lengths[5] += 1;    /* at least one token in all */
        problem big = problem_make(&(problem_options){.lengths = lengths, .N = 6, .H = H, .seed = packing,
                                                      .cu_seqlens = packing % 2 ? FKDA_I32 : FKDA_I64});
        run(&big, 1 + (int)(packing % 3));
        for (int64_t n = 0; n < 6; at += lengths[n++])
            if (lengths[n] > 0) expect_same_alone(&big, at, lengths[n], n, packing);
        problem_free(&big);
    }
}

/* forward(T) = forward(T1), then forward(T - T1) from its state. */
static void same_bits_when_split(void **state)
{
    (void)state;
    for (int64_t T1 = 16; T1 < 100; T1 += 16) {
        problem whole = problem_make(&(problem_options){.T = 100, .H = H, .seed = 5});
        problem first = problem_make(&(problem_options){.T = T1, .H = H, .seed = 5});
        problem second = problem_make(&(problem_options){.T = 100 - T1, .H = H, .seed = 5, .first_token = T1, .initial_state = FKDA_F32});
        run(&whole, 2);
        run(&first, 2);
        memcpy(second.memory[second.memory_count - 2], first.args.final_state, STATE * sizeof(float));
        run(&second, 2);
        assert_memory_equal(whole.args.out, first.args.out, (size_t)(T1 * H * D) * sizeof(float));
        assert_memory_equal((const float *)whole.args.out + T1 * H * D, second.args.out, (size_t)((100 - T1) * H * D) * sizeof(float));
        assert_memory_equal(whole.args.final_state, second.args.final_state, STATE * sizeof(float));
        problem_free(&whole);
        problem_free(&first);
        problem_free(&second);
    }
}

static void same_bits_in_place(void **state)
{
    (void)state;
    for (int layout = FKDA_STATE_NHVK; layout <= FKDA_STATE_NHKV; ++layout) {
        const problem_options options = {.T = 50, .H = H, .initial_state = FKDA_F32, .state_layout = (fkda_state_layout)layout};
        problem apart = problem_make(&options), in_place = problem_make(&options);
        run(&apart, 2);
        in_place.args.final_state = in_place.memory[in_place.memory_count - 2];
        assert_ptr_equal(in_place.args.final_state, in_place.args.initial_state);
        run(&in_place, 2);
        assert_memory_equal(apart.args.out, in_place.args.out, (size_t)apart.out_elems * sizeof(float));
        assert_memory_equal(apart.args.final_state, in_place.args.final_state, STATE * sizeof(float));
        problem_free(&apart);
        problem_free(&in_place);
    }
}

/* An empty sequence hands its initial state on, or 0. */
static void empty_sequences(void **state)
{
    (void)state;
    static const int64_t lengths[] = {0, 5, 0};
    problem given = problem_make(&(problem_options){.lengths = lengths, .N = 3, .H = H, .initial_state = FKDA_F32});
    run(&given, 2);
    assert_memory_equal(given.args.final_state, given.args.initial_state, STATE * sizeof(float));
    assert_memory_equal((const float *)given.args.final_state + 2 * STATE, (const float *)given.args.initial_state + 2 * STATE,
                        STATE * sizeof(float));
    problem_free(&given);
    problem absent = problem_make(&(problem_options){.lengths = lengths, .N = 3, .H = H});
    run(&absent, 2);
    for (int64_t i = 0; i < STATE; ++i) assert_true(problem_state(&absent, i) == 0 && problem_state(&absent, 2 * STATE + i) == 0);
    problem_free(&absent);
}

/* NaN in q, k, v, g and beta of one head, from one token of one sequence on, changes nothing else: no other head or sequence, no earlier token. */
static void nan_stays_where_it_is(void **state)
{
    (void)state;
    static const int64_t lengths[] = {40, 40, 40};
    const problem_options options = {.lengths = lengths, .N = 3, .H = H, .seed = 8};
    const int64_t bad_token = 53, bad_head = 1;    /* sequence 1 */
    problem clean = problem_make(&options);
    run(&clean, 1);
    for (int tensor = 0; tensor < 5; ++tensor) {
        problem p = problem_make(&options);
        const int64_t width = tensor == 4 ? 1 : D;
        for (int64_t c = 0; c < width; ++c) ((uint16_t *)p.memory[tensor])[(bad_token * H + bad_head) * width + c] = 0x7fc0;
        run(&p, 1);
        const float *const got = p.args.out, *const want = clean.args.out;
        int nans = 0;
        for (int64_t t = 0; t < 120; ++t)
            for (int64_t h = 0; h < H; ++h) {
                const int64_t at = (t * H + h) * D;
                if (h != bad_head || t < bad_token || t >= 80) assert_memory_equal(got + at, want + at, D * sizeof(float));
                else nans += got[at] != got[at];
            }
        assert_true(nans > 0);
        for (int64_t i = 0; i < 3 * STATE; ++i)
            if (i / (D * D) != H + bad_head) assert_true(problem_state(&p, i) == problem_state(&clean, i));
        problem_free(&p);
    }
    problem_free(&clean);
}

static void plan_tells_how(void **state)
{
    (void)state;
    problem p = problem_make(&(problem_options){.T = 64, .H = 32});
    fkda_plan plan;
    char text[200];
    p.desc.backend = FKDA_BACKEND_CPU;
    p.desc.threads = 1;
    assert_int_equal(fkda_fwd_plan(&p.desc, &plan), FKDA_OK);
    fkda_plan_describe(&plan, text, sizeof text);
    print_message("%s\n", text);
    assert_non_null(strstr(text, "16 tokens per chunk, 32 heads on 1 thread"));
    assert_true(fkda_plan_workspace_size(&plan) <= 1 << 20);    /* 1 MiB a thread */
    problem_free(&p);
}

int main(void)
{
    char text[256];
    if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
        printf("skipped: %s\n", text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_for_any_threads), cmocka_unit_test(same_bits_in_any_packing), cmocka_unit_test(same_bits_when_split),
        cmocka_unit_test(same_bits_in_place),        cmocka_unit_test(empty_sequences),          cmocka_unit_test(nan_stays_where_it_is),
        cmocka_unit_test(plan_tells_how),
    };
    return cmocka_run_group_tests_name("cpu_invariance", tests, NULL, NULL);
}
