/* The safetensors reader: every malformed file has a status and a sentence of its own, and a good one is read as it is. */
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "harness.h"
#include "safetensors.h"
#include "temp_files.h"

/* ---------------------------------------------------------------- headers that are refused */

typedef struct bad_header {
    const char *name, *header;
    size_t data_bytes;
    fkda_status status;
    const char *sentence;    /* a part of it */
} bad_header;

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{\"a\":" T(dtype, shape, offsets) "}"

static const bad_header bad_headers[] = {
    {"not_json", "hello", 0, FKDA_ERR_FORMAT, "is not JSON: it does not begin with '{'"},
    {"not_json_inside", "{\"a\":}", 0, FKDA_ERR_FORMAT, "is not JSON, at or after byte"},
    {"byte_order_mark", "\xef\xbb\xbf{}", 0, FKDA_ERR_FORMAT, "does not begin with '{'"},
    {"cut_json", "{\"a\":{\"dtype\":\"F32\"", 0, FKDA_ERR_FORMAT, "is not JSON"},
    {"string_without_end", "{\"a", 0, FKDA_ERR_FORMAT, "a string does not end"},
    {"string_ends_in_backslash", "{\"a\\", 0, FKDA_ERR_FORMAT, "a string does not end"},
    {"garbage_behind", "{} x", 0, FKDA_ERR_FORMAT, "something behind its JSON object"},
    {"second_object_behind", "{}{}", 0, FKDA_ERR_FORMAT, "something behind its JSON object"},
    {"list_at_top", "[]", 0, FKDA_ERR_FORMAT, "does not begin with '{'"},
    {"duplicate_tensor", "{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":" T("U8", "[1]", "[1,2]") ",\"a\":" T("U8", "[1]", "[2,3]") "}", 3, FKDA_ERR_FORMAT,
     "the header: duplicate key 'a'"},
    {"duplicate_tensor_escaped", "{\"a\":" T("U8", "[1]", "[0,1]") ",\"\\u0061\":" T("U8", "[1]", "[1,2]") "}", 2, FKDA_ERR_FORMAT, "duplicate key 'a'"},
    {"duplicate_field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"dtype\":\"I8\",\"data_offsets\":[0,1]}}", 1, FKDA_ERR_FORMAT, "duplicate key 'dtype'"},
    {"duplicate_metadata", "{\"__metadata__\":{\"scale\":\"1\",\"x\":\"\",\"scale\":\"2\"}}", 0, FKDA_ERR_FORMAT, "__metadata__: duplicate key 'scale'"},
    {"duplicate_metadata_object", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, FKDA_ERR_FORMAT, "duplicate key '__metadata__'"},
    {"unknown_field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"color\":1}}", 1, FKDA_ERR_FORMAT, "unknown key 'color'"},
    {"metadata_is_a_list", "{\"__metadata__\":[]}", 0, FKDA_ERR_FORMAT, "__metadata__ is not an object"},
    {"metadata_number", "{\"__metadata__\":{\"scale\":1}}", 0, FKDA_ERR_FORMAT, "'scale' is not a string"},
    {"tensor_is_a_number", "{\"a\":1}", 0, FKDA_ERR_FORMAT, "'a' is not described by an object"},
    {"deep", "{\"a\":[[[[[[[[[[[[1]]]]]]]]]]]]}", 0, FKDA_ERR_FORMAT, "nests deeper than 8"},
    {"invalid_utf8", "{\"\xff\":1}", 0, FKDA_ERR_FORMAT, "not UTF-8: byte 2 of it is 0xff"},
    {"overlong_utf8", "{\"\xc0\xaf\":1}", 0, FKDA_ERR_FORMAT, "not UTF-8"},
    {"surrogate_utf8", "{\"\xed\xa0\x80\":1}", 0, FKDA_ERR_FORMAT, "not UTF-8"},
    {"cut_utf8", "{\"\xe2\x82", 0, FKDA_ERR_FORMAT, "not UTF-8"},
    {"invalid_utf8_outside", "{\xff}", 0, FKDA_ERR_FORMAT, "not UTF-8"},
    {"control_character", "{\"a\nb\":1}", 0, FKDA_ERR_FORMAT, "control character 0x0a in a string"},
    {"control_outside", "{\x01}", 0, FKDA_ERR_FORMAT, "is not JSON: byte 1 of it is 0x01"},
    {"zero_character", "{\"a\\u0000b\":1}", 0, FKDA_ERR_FORMAT, "zero character"},
    {"lone_surrogate", "{\"\\ud800\":1}", 0, FKDA_ERR_FORMAT, "is not JSON"},
    {"no_dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FKDA_ERR_FORMAT, "dtype is missing"},
    {"no_shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, FKDA_ERR_FORMAT, "shape is missing"},
    {"no_offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, FKDA_ERR_FORMAT, "data_offsets is missing"},
    {"unknown_dtype", ONE("F7", "[1]", "[0,1]"), 1, FKDA_ERR_FORMAT, "dtype 'F7' is unknown"},
    {"dtype_number", "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FKDA_ERR_FORMAT, "dtype is not a string"},
    {"shape_object", ONE("U8", "{}", "[0,1]"), 1, FKDA_ERR_FORMAT, "shape is not a list"},
    {"shape_negative", ONE("U8", "[-1]", "[0,1]"), 1, FKDA_ERR_FORMAT, "shape holds -1, but it must not be negative"},
    {"shape_fraction", ONE("U8", "[1.5]", "[0,1]"), 1, FKDA_ERR_FORMAT, "shape holds 1.5, which is not a whole number"},
    {"shape_string", ONE("U8", "[\"1\"]", "[0,1]"), 1, FKDA_ERR_FORMAT, "shape holds something that is not a number"},
    {"shape_above_2_53", ONE("U8", "[9007199254740994]", "[0,1]"), 1, FKDA_ERR_FORMAT, "above 2^53"},
    {"shape_infinite", ONE("U8", "[1e999]", "[0,1]"), 1, FKDA_ERR_FORMAT, "above 2^53"},
    {"shape_overflows", ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, FKDA_ERR_FORMAT, "more than 2^64 bytes"},
    {"shape_wraps_to_one", ONE("F32", "[4503599627370496,4096]", "[0,0]"), 0, FKDA_ERR_FORMAT, "more than 2^64 bytes"},
    {"rank_9", ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, FKDA_ERR_LIMIT, "more than 8 dimensions"},
    {"shape_is_too_small", ONE("F32", "[3]", "[0,16]"), 16, FKDA_ERR_FORMAT, "shape x dtype is 12 bytes, but data_offsets span 16"},
    {"shape_is_too_large", ONE("F32", "[5]", "[0,16]"), 16, FKDA_ERR_FORMAT, "shape x dtype is 20 bytes, but data_offsets span 16"},
    {"empty_shape_with_bytes", ONE("F32", "[0,9007199254740992,9007199254740992]", "[0,4]"), 4, FKDA_ERR_FORMAT, "shape x dtype is 0 bytes"},
    {"offsets_negative", ONE("U8", "[1]", "[-1,0]"), 1, FKDA_ERR_FORMAT, "data_offsets holds -1"},
    {"offsets_reversed", ONE("U8", "[1]", "[1,0]"), 1, FKDA_ERR_FORMAT, "data_offsets are reversed: [1, 0]"},
    {"offsets_one", ONE("U8", "[1]", "[0]"), 1, FKDA_ERR_FORMAT, "not a list of two"},
    {"offsets_three", ONE("U8", "[1]", "[0,1,2]"), 1, FKDA_ERR_FORMAT, "not a list of two"},
    {"offsets_null", ONE("U8", "[1]", "[null,1]"), 1, FKDA_ERR_FORMAT, "not a number"},
    {"offsets_beyond", ONE("U8", "[100]", "[0,100]"), 16, FKDA_ERR_FORMAT, "ends at byte 100 of the data, but the file holds 16"},
    {"offsets_far_beyond", ONE("U8", "[1]", "[9007199254740991,9007199254740992]"), 1, FKDA_ERR_FORMAT, "but the file holds 1 bytes"},
    {"truncated_by_one", ONE("F32", "[4]", "[0,16]"), 15, FKDA_ERR_FORMAT, "ends at byte 16 of the data, but the file holds 15 bytes of data: truncated"},
    {"overlap", "{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[2,6]") "}", 6, FKDA_ERR_FORMAT,
     "'b' begins at byte 2 and overlaps tensor 'a', which ends at 4"},
    {"same_bytes_twice", "{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[0,4]") "}", 4, FKDA_ERR_FORMAT, "overlaps"},
    {"hole_in_front", ONE("U8", "[4]", "[1,5]"), 5, FKDA_ERR_FORMAT, "hole: bytes 0 to 1 before tensor 'a'"},
    {"hole_inside", "{\"b\":" T("U8", "[2]", "[4,6]") ",\"a\":" T("U8", "[2]", "[0,2]") "}", 6, FKDA_ERR_FORMAT, "hole: bytes 2 to 4 before tensor 'b'"},
    {"hole_at_the_end", ONE("U8", "[4]", "[0,4]"), 6, FKDA_ERR_FORMAT, "hole: the last 2 bytes"},
    {"format_in_name", "{\"%n%s%n\":1}", 0, FKDA_ERR_FORMAT, "'%n%s%n' is not described"},
};
enum { BAD_HEADER_COUNT = sizeof bad_headers / sizeof *bad_headers };

/* After a refusal the file struct holds nothing, and closing it again is harmless. */
static void assert_refused(const char *path, fkda_status status, const char *sentence)
{
    safetensors_file file;
    assert_string_equal(fkda_status_name(safetensors_open(path, &file)), fkda_status_name(status));
    if (strstr(failure_sentence(), sentence) == NULL) fail_msg("'%s' is not in '%s'", sentence, failure_sentence());
    assert_int_equal(strncmp(failure_sentence(), path, strlen(path)), 0);
    assert_int_equal(file.fd, -1);
    safetensors_close(&file);
}

static void refuses_header(void **state)
{
    const bad_header *const row = *state;
    assert_refused(temp_safetensors("bad", row->header, strlen(row->header), 0, row->data_bytes), row->status, row->sentence);
}

/* ---------------------------------------------------------------- files that are refused */

static void refuses_bad_lengths(void **state)
{
    (void)state;
    assert_refused(temp_file("bad", "", 0), FKDA_ERR_FORMAT, "the file is empty");
    assert_refused(temp_file("bad", "12345", 5), FKDA_ERR_FORMAT, "the file has 5 bytes, but the header length alone takes 8");
    assert_refused(temp_file("bad", "\0\0\0\0\0\0\0\0", 8), FKDA_ERR_FORMAT, "the header length is 0");
    assert_refused(temp_safetensors("bad", "{}", 2, 3, 0), FKDA_ERR_FORMAT, "the header length is 3 bytes, but only 2 bytes follow");
    assert_refused(temp_safetensors("bad", "{}", 2, 100000001, 0), FKDA_ERR_LIMIT, "the header length is 100000001 bytes, the limit is 100000000");
    assert_refused(temp_safetensors("bad", "{}", 2, UINT64_C(1) << 63, 0), FKDA_ERR_LIMIT, "9223372036854775808 bytes, the limit");
    assert_refused(temp_safetensors("bad", "{}", 2, UINT64_MAX, 0), FKDA_ERR_LIMIT, "18446744073709551615 bytes, the limit");
}

/* A header of 100 MB or just below is read, quickly, and refused for what it says. */
static void refuses_huge_headers(void **state)
{
    (void)state;
    const size_t bytes = 20 * 1000 * 1000;
    char *const header = must_alloc(bytes, 1);
    memset(header, '[', bytes);
    header[0] = '{';
    assert_refused(temp_safetensors("bad", header, bytes, 0, 0), FKDA_ERR_FORMAT, "nests deeper");
    memset(header, ',', bytes);
    header[0] = '{';
    assert_refused(temp_safetensors("bad", header, bytes, 0, 0), FKDA_ERR_LIMIT, "more than 4000000 values");
    memset(header, 'x', bytes);
    header[0] = '{';
    header[1] = '"';
    assert_refused(temp_safetensors("bad", header, bytes, 0, 0), FKDA_ERR_FORMAT, "a string does not end");
    free(header);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    const char *const fifo = temp_path("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_refused(fifo, FKDA_ERR_IO, "is a FIFO, but a regular file is needed");
    remove(fifo);
    assert_refused(temp_folder(), FKDA_ERR_IO, "is a directory, but");
    assert_refused("/dev/zero", FKDA_ERR_IO, "is a character device, but");
    assert_refused(temp_path("missing"), FKDA_ERR_IO, "cannot be opened: No such file");
    assert_refused(temp_path("%n%s"), FKDA_ERR_IO, "%n%s: cannot be opened");
    assert_refused("", FKDA_ERR_IO, "cannot be opened");
}

static void refuses_without_permission(void **state)
{
    (void)state;
    const char *const path = temp_safetensors("locked", "{}", 2, 0, 0);
    assert_int_equal(chmod(path, 0), 0);
    const uid_t me = geteuid();
    if (me == 0 && seteuid(65534) != 0) skip();    /* root may read everything, so the test looks as nobody */
    assert_refused(path, FKDA_ERR_IO, "cannot be opened: Permission denied");
    assert_int_equal(seteuid(me), 0);
}

/* ---------------------------------------------------------------- files that are read */

static void reads_a_good_file(void **state)
{
    (void)state;
    static const char header[] = "{\"b\":" T("I32", "[2,1]", "[4,12]") ",\"__metadata__\":{\"scale\":\"0.5\",\"\xc3\xa9\":\"\\u00e9\"},\"a\":"
                                 T("BF16", "[2]", "[0,4]") ",\"none\":" T("F64", "[0,3]", "[4,4]") ",\"scalar\":" T("F32", "[]", "[12,16]") "}   ";
    safetensors_file file;
    assert_int_equal(safetensors_open(temp_safetensors("good", header, strlen(header), 0, 16), &file), FKDA_OK);
    assert_int_equal(file.count, 4);
    const safetensors_tensor *const b = safetensors_find(&file, "b");
    assert_non_null(b);
    assert_int_equal(b->dtype, FKDA_I32);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 1);
    unsigned char bytes[8];
    assert_int_equal(safetensors_read(&file, b, bytes), FKDA_OK);
    for (int i = 0; i < 8; ++i) assert_int_equal(bytes[i], 4 + i);
    assert_int_equal(safetensors_find(&file, "none")->dtype, FKDA_NONE);
    assert_int_equal(safetensors_find(&file, "scalar")->rank, 0);
    assert_null(safetensors_find(&file, "c"));
    assert_string_equal(safetensors_metadata(&file, "scale"), "0.5");
    assert_string_equal(safetensors_metadata(&file, "\xc3\xa9"), "\xc3\xa9");
    assert_null(safetensors_metadata(&file, "gate"));
    safetensors_close(&file);
}

static void reads_an_empty_file(void **state)
{
    (void)state;
    safetensors_file file;
    assert_int_equal(safetensors_open(temp_safetensors("good", "{}", 2, 0, 0), &file), FKDA_OK);
    assert_int_equal(file.count, 0);
    assert_null(safetensors_metadata(&file, "scale"));
    safetensors_close(&file);
}

static void notices_a_file_that_shrinks(void **state)
{
    (void)state;
    static const char header[] = ONE("U8", "[16]", "[0,16]");
    const char *const path = temp_safetensors("good", header, strlen(header), 0, 16);
    safetensors_file file;
    unsigned char bytes[16];
    assert_int_equal(safetensors_open(path, &file), FKDA_OK);
    assert_int_equal(truncate(path, (off_t)(8 + strlen(header) + 15)), 0);
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "a"), bytes), FKDA_ERR_IO);
    assert_non_null(strstr(failure_sentence(), "became shorter while it was read"));
    safetensors_close(&file);
}

int main(void)
{
    static const struct CMUnitTest fixed[] = {
        cmocka_unit_test(refuses_bad_lengths),       cmocka_unit_test(refuses_huge_headers), cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(refuses_without_permission), cmocka_unit_test(reads_a_good_file),    cmocka_unit_test(reads_an_empty_file),
        cmocka_unit_test(notices_a_file_that_shrinks),
    };
    enum { FIXED_COUNT = sizeof fixed / sizeof *fixed };
    struct CMUnitTest tests[FIXED_COUNT + BAD_HEADER_COUNT];
    memcpy(tests, fixed, sizeof fixed);
    for (int i = 0; i < BAD_HEADER_COUNT; ++i)
        tests[FIXED_COUNT + i] = (struct CMUnitTest){bad_headers[i].name, refuses_header, NULL, NULL, (void *)(uintptr_t)&bad_headers[i]};
    return cmocka_run_group_tests_name("safetensors", tests, temp_setup, temp_teardown);
}
