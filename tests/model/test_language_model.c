/* examples/language_model.c: weights, logits against float64, prefill and decode against prefill alone, and that it has learnt English. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "float64_model.h"
#include "harness.h"

/* Longer than a piece of PIECE bytes, and in no documentation. */
static const char text[] =
    "The library reads the file once and keeps the result in memory, so that the next call returns at once. If the file has changed since "
    "then, it is read again; the old contents are not used any more. A second thread may call the same function while the first one is "
    "waiting, but it must not close the file before both of them have returned.";
enum { COUNT = sizeof text - 1 };
static const unsigned char *const bytes = (const unsigned char *)text;

static language_model model;
static float whole[COUNT * BYTES], parts[COUNT * BYTES];    /* logits */

static int open_model(void **state)
{
    (void)state;
    static model_memory memory;
    model_open(FKDA_MODEL_FILE, &model);
    memset(whole, 0xff, sizeof whole);    /* NaN */
    model_prefill(&model, &memory, bytes, COUNT, whole);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_close(&model);
    return 0;
}

static double loss_bits(const float *logits, unsigned char byte)
{
    double sum = 0;
    for (int i = 0; i < BYTES; ++i) sum += exp((double)logits[i] - (double)logits[byte]);
    return log2(sum);
}

/* rms(x - ref) / rms(ref) */
static double relative_rms(const float *x, const float *ref, size_t count)
{
    double wrong = 0, size = 0;
    for (size_t i = 0; i < count; ++i) {
        wrong += pow((double)x[i] - (double)ref[i], 2);
        size += pow((double)ref[i], 2);
    }
    return sqrt(wrong / size);
}

static void assert_same(const safetensors_file *file, const char *name, const float *ours, int64_t count)
{
    double *const wanted = float64_tensor(file, name, count);
    for (int64_t i = 0; i < count; ++i)
        if ((double)ours[i] != wanted[i]) fail_msg("%s[%lld] is %g, but the file has %g", name, (long long)i, (double)ours[i], wanted[i]);
    free(wanted);
}

static void test_weights_are_those_of_the_file(void **state)
{
    (void)state;
    safetensors_file file;
    assert_int_equal(safetensors_open(FKDA_MODEL_FILE, &file), FKDA_OK);
    assert_int_equal(file.count, 3 + 15 * LAYERS);
    assert_string_equal(safetensors_metadata(&file, "lower_bound"), "-5.0");
    assert_same(&file, "embedding", model.embedding, BYTES * WIDTH);
    assert_same(&file, "layers.0.dt_bias", model.layers[0].dt_bias, INNER);
    assert_same(&file, "layers.0.mlp_in", model.layers[0].mlp_in, WIDTH * 2 * HIDDEN);
    assert_same(&file, "layers.4.A_log", model.layers[4].A_log, HEADS);
    assert_same(&file, "layers.4.mlp_out", model.layers[4].mlp_out, HIDDEN * WIDTH);
    assert_same(&file, "norm", model.norm, WIDTH);
    assert_same(&file, "head", model.head, WIDTH * BYTES);
    safetensors_close(&file);
}

static void test_logits_against_float64(void **state)
{
    (void)state;
    safetensors_file file;
    assert_int_equal(safetensors_open(FKDA_MODEL_FILE, &file), FKDA_OK);
    float64_model *const reference = float64_open(&file);
    double logits[BYTES], wrong = 0, size = 0;
    for (int t = 0; t < COUNT; ++t) {
        float64_step(reference, bytes[t], logits);
        for (int i = 0; i < BYTES; ++i) {
            wrong += pow((double)whole[t * BYTES + i] - logits[i], 2);
            size += pow(logits[i], 2);
        }
    }
    print_message("logits of %d bytes: %.2e relative RMS from float64\n", COUNT, sqrt(wrong / size));
    assert_true(sqrt(wrong / size) < 2e-6);
    float64_close(reference);
    safetensors_close(&file);
}

/* The state that fkda_fwd leaves behind is the one that fkda_decode goes on with, wherever the prompt ends. */
static void test_decode_goes_on_where_prefill_ends(void **state)
{
    (void)state;
    static const int prompts[] = {0, 1, 63, PIECE - 1, PIECE + 1};
    for (size_t p = 0; p < sizeof prompts / sizeof *prompts; ++p) {
        static model_memory memory;
        memset(&memory, 0, sizeof memory);
        memset(parts, 0xff, sizeof parts);
        const int end = prompts[p] + 16;
        model_prefill(&model, &memory, bytes, prompts[p], parts);
        for (int t = prompts[p]; t < end; ++t) model_decode(&model, &memory, bytes[t], parts + t * BYTES);
        const double error = relative_rms(parts, whole, (size_t)end * BYTES);
        if (!(error < 2e-6)) fail_msg("a prompt of %d bytes, then one by one: %.2e relative RMS from prefill alone", prompts[p], error);
    }
}

/* Two prompts in turns through one plan: what is remembered is in the memory of each alone. */
static void test_sequences_do_not_touch_each_other(void **state)
{
    (void)state;
    static model_memory one, other;
    static float logits[BYTES];
    memset(&one, 0, sizeof one);
    memset(&other, 0, sizeof other);
    for (int t = 0; t < 60; ++t) {
        model_decode(&model, &one, bytes[t], parts + t * BYTES);
        model_decode(&model, &other, bytes[COUNT - 1 - t], logits);
    }
    assert_true(relative_rms(parts, whole, (size_t)60 * BYTES) < 2e-6);
}

static void test_it_has_learnt_english(void **state)
{
    (void)state;
    double bits = 0;
    for (int t = 1; t < COUNT; ++t) bits += loss_bits(whole + (t - 1) * BYTES, bytes[t]);
    print_message("%.2f bits a byte\n", bits / (COUNT - 1));
    assert_true(bits / (COUNT - 1) < 2.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_are_those_of_the_file),
        cmocka_unit_test(test_logits_against_float64),
        cmocka_unit_test(test_decode_goes_on_where_prefill_ends),
        cmocka_unit_test(test_sequences_do_not_touch_each_other),
        cmocka_unit_test(test_it_has_learnt_english),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
