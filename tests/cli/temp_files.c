#include "temp_files.h"

#include <dirent.h>
#include <unistd.h>

#include "harness.h"

static char folder[64];

int temp_setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fkda-cli-XXXXXX");
    return mkdtemp(folder) == NULL;
}

/* Counts the entries; removes them too if asked to. The suites make no folders inside that are not empty. */
static int walk(int (*visit)(const char *path))
{
    int count = 0;
    DIR *const open = opendir(folder);
    assert_non_null(open);
    for (const struct dirent *e = readdir(open); e != NULL; e = readdir(open)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        ++count;
        if (visit != NULL) visit(temp_path(e->d_name));
    }
    closedir(open);
    return count;
}

int temp_teardown(void **state)
{
    (void)state;
    walk(remove);
    return rmdir(folder);
}

const char *temp_folder(void) { return folder; }
int temp_entry_count(void) { return walk(NULL); }

const char *temp_path(const char *name)
{
    static char paths[4][512];
    static int next;
    char *const path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

const char *temp_file(const char *name, const void *bytes, size_t count)
{
    const char *const path = temp_path(name);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    return path;
}

const char *temp_safetensors(const char *name, const char *header, size_t header_bytes, uint64_t claimed, size_t data_bytes)
{
    const uint64_t length = claimed != 0 ? claimed : header_bytes;
    unsigned char *const bytes = must_alloc(8 + header_bytes + data_bytes, 1);
    for (int i = 0; i < 8; ++i) bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; ++i) bytes[8 + header_bytes + i] = (unsigned char)i;
    const char *const path = temp_file(name, bytes, 8 + header_bytes + data_bytes);
    free(bytes);
    return path;
}
