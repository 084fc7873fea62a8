/* The small parts of the command line: error measures against numbers worked by hand, text, JSON, options, generator. */
#include <cjson/cJSON.h>
#include <math.h>

#include "accuracy.h"
#include "cpu_facts.h"
#include "failure.h"
#include "generator.h"
#include "harness.h"
#include "json_out.h"
#include "memory.h"
#include "non_finite.h"
#include "options.h"
#include "text.h"

/* ---------------------------------------------------------------- accuracy */

enum { ROWS = 40, WIDTH = 2 };

static accuracy measure(const float *got, const float *want)
{
    accuracy a = {.err2 = 0};
    const accuracy_matrix m = {got, want, FKDA_F32, FKDA_F32, ROWS, WIDTH, WIDTH, accuracy_rms(want, FKDA_F32, ROWS, WIDTH, WIDTH)};
    accuracy_add(&a, &m);
    return a;
}

static void fill(float *values, float value)
{
    for (int i = 0; i < ROWS * WIDTH; ++i) values[i] = value;
}

static void measures_worked_by_hand(void **state)
{
    (void)state;
    float want[ROWS * WIDTH], got[ROWS * WIDTH];
    fill(want, 2);
    fill(got, 2);
    accuracy a = measure(got, want);
    assert_true(accuracy_m1(&a) == 0 && a.m2 == 0 && a.m3 == 0);
    got[5] = 2.5f;    /* err2 0.25 of 80 * 4; the tile of 16 rows holds 32 elements */
    a = measure(got, want);
    assert_float_equal(accuracy_m1(&a), sqrt(0.25 / 320), 1e-12);
    assert_float_equal(a.m2, sqrt(0.25 / 32) / 2, 1e-12);
    assert_float_equal(a.m3, 0.5 / (2.0 / 256), 1e-12);
    got[5] = 2;
    got[79] = 2.5f;    /* the last tile has 8 rows */
    a = measure(got, want);
    assert_float_equal(a.m2, sqrt(0.25 / 16) / 2, 1e-12);
}

/* One tile of 500 is lost: M1 does not see it, M2 does. */
static void a_lost_tile_is_seen(void **state)
{
    (void)state;
    enum { MANY = 16 * 500 };
    float *const want = must_alloc(MANY, sizeof *want), *const got = must_alloc(MANY, sizeof *got);
    for (int i = 0; i < MANY; ++i) want[i] = got[i] = 1;
    for (int i = 16; i < 32; ++i) {
        want[i] = 0.05f;
        got[i] = 0;
    }
    accuracy a = {.err2 = 0};
    const accuracy_matrix m = {got, want, FKDA_F32, FKDA_F32, MANY, 1, 1, accuracy_rms(want, FKDA_F32, MANY, 1, 1)};
    accuracy_add(&a, &m);
    assert_true(accuracy_m1(&a) < 4.5e-3);
    assert_true(a.m2 > 0.9);
    assert_false(accuracy_is_inside(&a, 4.5e-3));
    free(want), free(got);
}

/* A sequence of one token whose answer cancelled to nearly nothing is held to 0.05 of what its head usually is. */
static void one_quiet_row_is_held_to_its_head(void **state)
{
    (void)state;
    const float want[3] = {1e-4f, 1, 1}, got[1] = {2e-4f};
    accuracy a = {.err2 = 0};
    const accuracy_matrix m = {got, want, FKDA_F32, FKDA_F32, 1, 1, 1, accuracy_rms(want, FKDA_F32, 3, 1, 1)};
    accuracy_add(&a, &m);
    assert_true(fabs(a.m2 - 1e-4 / (0.05 * sqrt(2.0 / 3))) < 1e-8);
}

static void zeros_and_nan(void **state)
{
    (void)state;
    float want[ROWS * WIDTH], got[ROWS * WIDTH];
    fill(want, 0);
    fill(got, 0);
    accuracy a = measure(got, want);
    assert_true(accuracy_m1(&a) == 0 && a.m2 == 0 && a.m3 == 0 && accuracy_is_inside(&a, 1e-6));
    got[0] = 1e-30f;
    a = measure(got, want);
    assert_true(isinf(accuracy_m1(&a)) && !accuracy_is_inside(&a, 1));
    fill(got, 0);
    fill(want, 1);
    got[3] = NAN;
    a = measure(got, want);
    assert_true(isnan(accuracy_m1(&a)) && isnan(a.m2) && isnan(a.m3) && !accuracy_is_inside(&a, 1e30));
    accuracy sum = {.err2 = 0};
    accuracy_merge(&sum, &a);
    fill(got, 1);
    a = measure(got, want);
    accuracy_merge(&sum, &a);
    assert_true(isnan(accuracy_m1(&sum)) && isnan(sum.m2) && isnan(sum.m3));
}

static void bf16_is_widened(void **state)
{
    (void)state;
    const uint16_t got[2] = {0x3f80, 0xc000};    /* 1, -2 */
    const float want[2] = {1, -2};
    accuracy a = {.err2 = 0};
    const accuracy_matrix m = {got, want, FKDA_BF16, FKDA_F32, 2, 1, 1, accuracy_rms(want, FKDA_F32, 2, 1, 1)};
    accuracy_add(&a, &m);
    assert_true(accuracy_m1(&a) == 0 && a.ref2 == 5);
}

static void bars_are_those_of_the_documents(void **state)
{
    (void)state;
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CPU, FKDA_BF16, FKDA_F32, 1024), 2.2e-3, 0);
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CPU, FKDA_F32, FKDA_F32, 1024), 2e-6, 0);
    assert_float_equal(accuracy_bar_state(FKDA_BACKEND_CPU, FKDA_F32, FKDA_F32, 1024), 1e-5, 0);
    assert_float_equal(accuracy_bar_state(FKDA_BACKEND_REF, FKDA_BF16, FKDA_F32, 1024), 2.2e-3, 0);
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CUDA, FKDA_BF16, FKDA_F32, 1024), 4.5e-3, 0);
    assert_float_equal(accuracy_bar_state(FKDA_BACKEND_CUDA, FKDA_F32, FKDA_F32, 1024), 3.5e-3, 0);
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CPU, FKDA_BF16, FKDA_BF16, 1024), (sqrt(2) * 2.2e-3), 1e-9);
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CPU, FKDA_BF16, FKDA_F32, 1023), 0x1p-8, 0);    /* few elements: one rounding */
    assert_float_equal(accuracy_bar_out(FKDA_BACKEND_CPU, FKDA_F32, FKDA_F32, 1), 2e-6, 0);
}

/* ---------------------------------------------------------------- text */

static void utf8_is_strict(void **state)
{
    (void)state;
    static const struct { const char *text; size_t length; } cases[] = {
        {"a", 1}, {"\xc3\xa9", 2}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x98\x80", 4}, {"\x80", 0}, {"\xc0\x80", 0}, {"\xc1\xbf", 0}, {"\xe0\x9f\xbf", 0},
        {"\xed\xa0\x80", 0}, {"\xf0\x8f\xbf\xbf", 0}, {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"\xe2\x82", 0}, {"\xe2\x28\xa1", 0}, {"", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        assert_int_equal(text_utf8_length(cases[i].text, strlen(cases[i].text)), cases[i].length);
}

static void text_for_people(void **state)
{
    (void)state;
    char to[32], tiny[6];
    assert_string_equal(text_printable("a\xff\x1b[31m\xc3\xa9", to, sizeof to), "a\\xff\\x1b[31m\xc3\xa9");
    assert_string_equal(text_printable("abc\xff", tiny, sizeof tiny), "abc");
    assert_string_equal(text_grouped(1234567, to), "1,234,567");
    assert_string_equal(text_grouped(123, to), "123");
    assert_string_equal(text_grouped(NAN, to), "-");
    assert_string_equal(text_duration(0.0123, to), "12 us");
    assert_string_equal(text_duration(3.214, to), "3.21 ms");
    assert_string_equal(text_duration(1500, to), "1.50 s");
}

static void numbers_are_strict(void **state)
{
    (void)state;
    static const char *const not_integers[] = {"", "-", "5x", "x", " 5", "5 ", "+5", "5.0", "1e3", "0x10", "99999999999999999999", "-9223372036854775809"};
    static const char *const not_reals[] = {"", " 1", "1 ", "inf", "nan", "0x1", "1e999", "1,5", "--1", "none"};
    int64_t whole;
    double real;
    for (size_t i = 0; i < sizeof not_integers / sizeof *not_integers; ++i) assert_false(text_to_integer(not_integers[i], &whole));
    for (size_t i = 0; i < sizeof not_reals / sizeof *not_reals; ++i) assert_false(text_to_real(not_reals[i], &real));
    assert_true(text_to_integer("-9223372036854775808", &whole) && whole == INT64_MIN);
    assert_true(text_to_integer("9223372036854775807", &whole) && whole == INT64_MAX);
    assert_true(text_to_real("-5.0", &real) && real == -5);
    assert_true(text_to_real("0.08838834764831845", &real) && real == 0.08838834764831845);
}

static void sizes_for_people(void **state)
{
    (void)state;
    char to[TEXT_NUMBER_BYTES];
    assert_string_equal(text_bytes(0, to), "0 bytes");
    assert_string_equal(text_bytes(1023, to), "1023 bytes");
    assert_string_equal(text_bytes(1536, to), "1.5 KiB");
    assert_string_equal(text_bytes(0x1p62, to), "4.0 EiB");
}

static void the_nearest_word(void **state)
{
    (void)state;
    static const char *const words[] = {"run", "verify", "version", "--backend", "--T", NULL};
    static const struct { const char *word, *nearest; } cases[] = {
        {"rnu", "run"}, {"runn", "run"}, {"ru", "run"}, {"ver", "verify"}, {"versoin", "version"}, {"verifi", "verify"}, {"--back", "--backend"},
        {"--bakcend", "--backend"}, {"backend", "--backend"}, {"xyz", NULL}, {"r", NULL}, {"", NULL}, {"--", NULL}, {"--x", NULL}, {"frobnicate", NULL},
        {"a word that is much longer than any that there is", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const char *const found = text_nearest(cases[i].word, words), *const want = cases[i].nearest;
        if (found == NULL ? want != NULL : want == NULL || strcmp(found, want) != 0) fail_msg("'%s' gave '%s'", cases[i].word, found == NULL ? "none" : found);
    }
}

/* ---------------------------------------------------------------- JSON, NaN, memory */

static void json_numbers_have_seven_digits(void **state)
{
    (void)state;
    static const struct { double value; const char *text; } cases[] = {
        {0, "0"}, {8192, "8192"}, {9007199254740991.0, "9007199254740991"}, {-3, "-3"}, {0.1, "0.1"}, {0.1 + 0.2, "0.3"}, {1.0 / 3, "0.3333333"},
        {2e-6, "2e-06"}, {0.41527999937534332, "0.41528"}, {1.0000000000000002, "1"}, {1e30, "1e+30"}, {(double)NAN, "null"},
        {(double)INFINITY, "null"}, {-(double)INFINITY, "null"}, {1e300, "1e+300"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char want[64];
        cJSON *const object = cJSON_CreateObject();
        json_add_number(object, "x", cases[i].value);
        char *const text = cJSON_PrintUnformatted(object);
        snprintf(want, sizeof want, "{\"x\":%s}", cases[i].text);
        assert_string_equal(text, want);
        cJSON_free(text);
        cJSON_Delete(object);
    }
}

static void strays_are_counted(void **state)
{
    (void)state;
    const uint16_t narrow[6] = {0x7f7f /* largest */, 0x0001 /* denormal */, 0x7f81 /* signalling */, 0xff80, 0x7f80, 0xffff};
    const float wide[5] = {3.4e38f, -INFINITY, 0, NAN, 1e-45f};
    non_finite found = non_finite_count(narrow, FKDA_BF16, 6);
    assert_true(found.nan_count == 2 && found.inf_count == 2 && found.first == 2);
    found = non_finite_count(wide, FKDA_F32, 5);
    assert_true(found.nan_count == 1 && found.inf_count == 1 && found.first == 1);
    found = non_finite_count(narrow, FKDA_BF16, 2);
    assert_true(found.nan_count == 0 && found.inf_count == 0);
    found = non_finite_count(NULL, FKDA_F32, 0);
    assert_true(found.nan_count == 0 && found.inf_count == 0);
}

static void what_is_in_use_is_not_available(void **state)
{
    (void)state;
    memory_block block;
    const size_t limit = memory_host_limit();
    assert_int_equal(memory_fits(FKDA_MEMORY_HOST, limit), FKDA_OK);
    assert_int_equal(memory_fits(FKDA_MEMORY_HOST, (uint64_t)limit + 1), FKDA_ERR_NO_MEMORY);
    assert_non_null(strstr(failure_sentence(), "of memory are needed, but only"));
    assert_int_equal(memory_alloc(FKDA_MEMORY_HOST, 1000, &block), FKDA_OK);
    assert_int_equal(memory_fits(FKDA_MEMORY_HOST, limit - 999), FKDA_ERR_NO_MEMORY);
    assert_int_equal(memory_fits(FKDA_MEMORY_HOST, limit - 1000), FKDA_OK);
    memory_free(&block);
    assert_int_equal(memory_fits(FKDA_MEMORY_HOST, limit), FKDA_OK);
}

/* ---------------------------------------------------------------- options */

static const char *parsed_in, *parsed_out;
static int64_t parsed_number;
static int parsed_flag, parsed_backend;
static const option test_options[] = {
    {.name = "--output", .letter = "-o", .value = "OUT", .help = "", .kind = OPTION_TEXT, .to = &parsed_out},
    {.name = "--number", .value = "N", .help = "", .kind = OPTION_INTEGER, .to = &parsed_number, .min = 1, .max = 10},
    {.name = "--flag", .help = "", .kind = OPTION_FLAG, .to = &parsed_flag},
    {.name = "--backend", .value = "NAME", .help = "", .kind = OPTION_CHOICE, .to = &parsed_backend, .choices = option_backends},
};
static const command test_command = {.name = "test", .usage = "", .about = "", .examples = "", .operand = {.name = "IN", .to = &parsed_in},
                                     .options = test_options, .option_count = 4};

static options_outcome parse(const char *line)
{
    static char words[256];
    char *argv[16], *rest = words;
    int argc = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok_r(rest, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) argv[argc++] = word;
    return options_parse(&test_command, argc, argv);
}

static void options_are_parsed(void **state)
{
    (void)state;
    assert_int_equal(parse("in -o out --number 7 --flag --backend=ref"), OPTIONS_GO);
    assert_string_equal(parsed_in, "in");
    assert_string_equal(parsed_out, "out");
    assert_int_equal(parsed_number, 7);
    assert_int_equal(parsed_flag, 1);
    assert_int_equal(parsed_backend, FKDA_BACKEND_REF);
    assert_int_equal(parse("-- --in"), OPTIONS_GO);
    assert_string_equal(parsed_in, "--in");
    assert_int_equal(parse("--output=--force in"), OPTIONS_GO);
    assert_string_equal(parsed_out, "--force");
}

static void mistyped_options_are_refused(void **state)
{
    (void)state;
    static const struct { const char *line, *sentence; } cases[] = {
        {"", "IN is missing"}, {"a b", "unexpected argument 'b': IN is already 'a'"}, {"a --frob", "unknown option '--frob'"}, {"a --flgg=1", "unknown option '--flgg=1'; did you mean '--flag'?"}, {"a -x", "unknown option '-x'"},
        {"a --numbers 3", "unknown option '--numbers'"}, {"a --number", "--number needs a value"}, {"a --number --flag", "--number needs a value"},
        {"a -o --flag", "--output needs a value"}, {"a --number -5", "--number is '-5', but it must be a whole number from 1 to 10"},
        {"a --number 5x", "'5x'"}, {"a --number 11", "'11'"}, {"a --number 99999999999999999999", "'99999999999999999999'"}, {"a --number=", "empty value"},
        {"a --flag=1", "takes no value"}, {"a --flag --flag", "--flag is given twice"}, {"a --backend gpu", "must be one of auto, cuda, cpu, ref"},
        {"a --frob%n%s", "'--frob%n%s'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        assert_int_equal(parse(cases[i].line), OPTIONS_BAD);
        if (strstr(failure_sentence(), cases[i].sentence) == NULL) fail_msg("'%s' is not in '%s'", cases[i].sentence, failure_sentence());
    }
}

/* ---------------------------------------------------------------- CPU */

static void the_cpu_has_a_name(void **state)
{
    (void)state;
    static const struct { const char *cpuinfo, *name; } cpus[] = {
        {"processor\t: 0\nmodel\t\t: 143\nmodel name\t: A CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: B\n", "A CPU @ 2 GHz"},
        {"processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU part\t: 0xd0d\n",
         "implementer 0x41, part 0xd0c"},
        {"CPU part\t: 0xd0c\n", "implementer unknown, part 0xd0c"},
        {"model name without a colon\n", "unknown"},
        {"", "unknown"},
    };
    char name[64];
    for (size_t i = 0; i < sizeof cpus / sizeof *cpus; ++i) {
        FILE *const file = *cpus[i].cpuinfo ? fmemopen((void *)(uintptr_t)cpus[i].cpuinfo, strlen(cpus[i].cpuinfo), "r") : NULL;
        memset(name, 'x', sizeof name);
        cpu_read_model(file, name, sizeof name);
        if (file != NULL) fclose(file);
        assert_string_equal(name, cpus[i].name);
    }
}

/* What the backend chooses by default is among what the CPU is said to offer. */
static void the_cpu_offers_what_is_used(void **state)
{
    (void)state;
    static const char *const needs[][2] = {{"avx512,", "avx512f"}, {"avx2,", "avx2"}, {"neon,", "asimd"}};
    char features[512], used[256], few[12];
    cpu_list_features(features, sizeof features);
    assert_int_equal(fkda_backend_status(FKDA_BACKEND_CPU, used, sizeof used), FKDA_OK);
    for (size_t i = 0; i < sizeof needs / sizeof *needs; ++i)
        if (strncmp(used, needs[i][0], strlen(needs[i][0])) == 0) assert_non_null(strstr(features, needs[i][1]));
    cpu_list_features(few, sizeof few);    /* no room: cut */
    assert_int_equal(strncmp(few, features, strlen(few)), 0);
    assert_true(cpu_count_cores() >= 1);
}

/* ---------------------------------------------------------------- generator */

static void generated_numbers_are_normal(void **state)
{
    (void)state;
    enum { PAIRS = 50000 };
    const generator a = {.seed = 1, .stream = 0}, b = {.seed = 1, .stream = 1};
    double sum = 0, sum2 = 0, product = 0, uniform = 0;
    for (int64_t i = 0; i < PAIRS; ++i) {
        float x[2], y[2];
        generator_normal_pair(&a, i, x);
        generator_normal_pair(&b, i, y);
        sum += (double)(x[0] + x[1]);
        sum2 += (double)(x[0] * x[0] + x[1] * x[1]);
        product += (double)(x[0] * x[1] + x[0] * y[0]);
        const double u = generator_uniform(&a, i);
        assert_true(u > 0 && u < 1);
        uniform += u;
    }
    assert_true(fabs(sum / (2 * PAIRS)) < 0.015);
    assert_true(fabs(sum2 / (2 * PAIRS) - 1) < 0.02);
    assert_true(fabs(product / PAIRS) < 0.03);
    assert_true(fabs(uniform / PAIRS - 0.5) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_worked_by_hand), cmocka_unit_test(a_lost_tile_is_seen),
        cmocka_unit_test(one_quiet_row_is_held_to_its_head), cmocka_unit_test(zeros_and_nan),
        cmocka_unit_test(bf16_is_widened), cmocka_unit_test(bars_are_those_of_the_documents), cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(text_for_people), cmocka_unit_test(numbers_are_strict), cmocka_unit_test(sizes_for_people),
        cmocka_unit_test(the_nearest_word), cmocka_unit_test(json_numbers_have_seven_digits), cmocka_unit_test(strays_are_counted),
        cmocka_unit_test(what_is_in_use_is_not_available), cmocka_unit_test(options_are_parsed),
        cmocka_unit_test(mistyped_options_are_refused), cmocka_unit_test(the_cpu_has_a_name), cmocka_unit_test(the_cpu_offers_what_is_used),
        cmocka_unit_test(generated_numbers_are_normal),
    };
    return cmocka_run_group_tests_name("cli_parts", tests, NULL, NULL);
}
