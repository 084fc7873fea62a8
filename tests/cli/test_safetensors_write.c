/* The safetensors writer: all of a file or nothing of it. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failure.h"
#include "harness.h"
#include "safetensors.h"
#include "temp_files.h"

static const float state_values[2] = {1.5f, -2.0f};
static const uint16_t out_values[3] = {0x3f80, 0x4000, 0x7fc0};
static const safetensors_entry entries[2] = {
    {.name = "final_state", .dtype = FKDA_F32, .rank = 2, .shape = {1, 2}, .data = state_values},
    {.name = "out", .dtype = FKDA_BF16, .rank = 1, .shape = {3}, .data = out_values},
};
static const safetensors_pair metadata[2] = {{"scale", "0.5"}, {"note", "quote \" and \xc3\xa9"}};
static const safetensors_content content = {entries, 2, metadata, 2};

static void assert_sentence(const char *part)
{
    if (strstr(failure_sentence(), part) == NULL) fail_msg("'%s' is not in '%s'", part, failure_sentence());
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const char *const path = temp_path("written");
    assert_int_equal(safetensors_write(path, SAFETENSORS_KEEP_EXISTING, &content), FKDA_OK);
    safetensors_file file;
    assert_int_equal(safetensors_open(path, &file), FKDA_OK);
    assert_int_equal(file.data_start % 8, 0);
    float read_state[2];
    uint16_t read_out[3];
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "final_state"), read_state), FKDA_OK);
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "out"), read_out), FKDA_OK);
    assert_memory_equal(read_state, state_values, sizeof read_state);
    assert_memory_equal(read_out, out_values, sizeof read_out);
    assert_string_equal(safetensors_metadata(&file, "note"), metadata[1].value);
    safetensors_close(&file);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    const mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(info.st_mode & 0777, 0666 & ~mask);
    remove(path);
}

static void existing_files_are_kept(void **state)
{
    (void)state;
    const char *const path = temp_file("precious", "precious", 8);
    assert_int_equal(safetensors_check_output(path, NULL, SAFETENSORS_KEEP_EXISTING), FKDA_ERR_IO);
    assert_sentence("exists already; --force replaces it");
    assert_int_equal(safetensors_write(path, SAFETENSORS_KEEP_EXISTING, &content), FKDA_ERR_IO);
    assert_sentence("exists already; --force replaces it");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 8);
    assert_int_equal(temp_entry_count(), 1);
    assert_int_equal(safetensors_check_output(path, NULL, SAFETENSORS_REPLACE_EXISTING), FKDA_OK);
    assert_int_equal(safetensors_write(path, SAFETENSORS_REPLACE_EXISTING, &content), FKDA_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size > 8);
    assert_int_equal(temp_entry_count(), 1);
    remove(path);
}

static void the_input_is_never_the_output(void **state)
{
    (void)state;
    const char *const path = temp_file("input", "x", 1), *const hard = temp_path("hard"), *const soft = temp_path("soft");
    assert_int_equal(link(path, hard), 0);
    assert_int_equal(symlink(path, soft), 0);
    const char *const names[] = {path, hard, soft};
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(safetensors_check_output(names[i], path, SAFETENSORS_REPLACE_EXISTING), FKDA_ERR_IO);
        assert_sentence("the output is the same file as the input");
    }
    remove(soft), remove(hard), remove(path);
}

static void strange_outputs_are_refused(void **state)
{
    (void)state;
    assert_int_equal(safetensors_check_output("/dev/null", NULL, SAFETENSORS_REPLACE_EXISTING), FKDA_ERR_IO);
    assert_sentence("not a regular file");
    assert_int_equal(safetensors_check_output(temp_folder(), NULL, SAFETENSORS_REPLACE_EXISTING), FKDA_ERR_IO);
    assert_sentence("not a regular file");
    assert_int_equal(safetensors_check_output("/no/such/folder/file", NULL, SAFETENSORS_REPLACE_EXISTING), FKDA_ERR_IO);
    assert_sentence("its folder: No such file or directory");
    assert_int_equal(safetensors_write("/no/such/folder/file", SAFETENSORS_REPLACE_EXISTING, &content), FKDA_ERR_IO);
    assert_sentence("a temporary file beside it: No such file or directory");
    assert_int_equal(safetensors_check_output("", NULL, SAFETENSORS_REPLACE_EXISTING), FKDA_ERR_IO);
    assert_int_equal(safetensors_check_output(temp_path("new/"), NULL, SAFETENSORS_KEEP_EXISTING), FKDA_ERR_IO);
}

/* A file-size limit stands for a full disk: write() fails half way. */
static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 300;
    const safetensors_entry large[1] = {{.name = "out", .dtype = FKDA_F32, .rank = 1, .shape = {1000}, .data = must_alloc(1000, sizeof(float))}};
    const safetensors_content too_large = {large, 1, NULL, 0};
    const char *const path = temp_file("old", "old", 3), *const fresh = temp_path("fresh");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const fkda_status replaced = safetensors_write(path, SAFETENSORS_REPLACE_EXISTING, &too_large);
    const fkda_status created = safetensors_write(fresh, SAFETENSORS_KEEP_EXISTING, &too_large);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(replaced, FKDA_ERR_IO);
    assert_int_equal(created, FKDA_ERR_IO);
    assert_sentence("cannot be written: File too large");
    assert_int_equal(temp_entry_count(), 1);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 3);
    remove(path);
    free((void *)(uintptr_t)large[0].data);
}

/* A child is stopped while it writes: the temporary file goes with it. The pipe-like pace comes from a file that takes seconds. */
static void a_signal_leaves_nothing(void **state)
{
    (void)state;
    enum { BYTES = 1 << 28 };
    const safetensors_entry large[1] = {{.name = "out", .dtype = FKDA_F32, .rank = 1, .shape = {BYTES / 4}, .data = must_alloc(BYTES, 1)}};
    const safetensors_content slow = {large, 1, NULL, 0};
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        safetensors_write(temp_path("never"), SAFETENSORS_KEEP_EXISTING, &slow);
        pause();
        _exit(0);
    }
    while (temp_entry_count() == 0) usleep(200);    /* the temporary file is there: now */
    assert_int_equal(kill(child, SIGTERM), 0);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGTERM);
    const int left = temp_entry_count();
    assert_true(left == 0 || (left == 1 && access(temp_path("never"), F_OK) == 0));    /* nothing, or, very fast, all of it */
    remove(temp_path("never"));
    free((void *)(uintptr_t)large[0].data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),     cmocka_unit_test(existing_files_are_kept),    cmocka_unit_test(the_input_is_never_the_output),
        cmocka_unit_test(strange_outputs_are_refused), cmocka_unit_test(a_full_disk_leaves_nothing), cmocka_unit_test(a_signal_leaves_nothing),
    };
    return cmocka_run_group_tests_name("safetensors_write", tests, temp_setup, temp_teardown);
}
