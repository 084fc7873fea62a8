/*
 * libFuzzer target: any bytes as a safetensors file. Opening either refuses with a sentence or gives tensors that can all be read; as a
 * stream the same bytes are refused or give the same tensors.
 *
 *     cmake -B build-fuzz -DCMAKE_C_COMPILER=clang -DFKDA_BUILD_TESTS=ON -DFKDA_SANITIZE=address,undefined -DFKDA_FUZZ=ON
 *     build-fuzz/tests/fuzz/fuzz_safetensors -max_len=4096 build-fuzz/corpus tests/fuzz/safetensors_corpus
 *
 * Without FKDA_FUZZ the same file is a program that replays files and, for each, the file cut at every byte, with every byte changed and
 * with a byte behind it: a test of every build.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failure.h"
#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void require(int condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "%s; last sentence: %s\n", what, failure_sentence());
    abort();
}

static void read_everything(const safetensors_file *file, size_t count)
{
    for (size_t i = 0; i < file->count; ++i) {
        const safetensors_tensor *const t = &file->tensors[i];
        require(t->begin <= t->end && t->end <= count, "a tensor lies outside the file");
        void *const to = malloc(t->end - t->begin + 1);
        require(to != NULL && safetensors_read(file, t, to) == FKDA_OK, "a checked tensor cannot be read");
        require(safetensors_find(file, t->name) == t, "a tensor is not found under its name");
        free(to);
    }
    (void)safetensors_metadata(file, "scale");
}

static void compare_stream(const safetensors_file *file, const safetensors_file *stream)
{
    require(file->count == stream->count, "the stream has other tensors than the file");
    for (size_t i = 0; i < file->count; ++i) {
        const size_t bytes = file->tensors[i].end - file->tensors[i].begin;
        char *const a = malloc(bytes + 1), *const b = malloc(bytes + 1);
        require(a != NULL && b != NULL && safetensors_read(file, &file->tensors[i], a) == FKDA_OK, "a checked tensor cannot be read");
        require(safetensors_read(stream, &stream->tensors[i], b) == FKDA_OK && memcmp(a, b, bytes) == 0, "the stream has other bytes than the file");
        free(a);
        free(b);
    }
}

/* file NULL: it was refused. */
static void read_as_stream(int memory, const safetensors_file *file)
{
    safetensors_file stream;
    require(lseek(memory, 0, SEEK_SET) == 0, "the memory file cannot be rewound");
    const fkda_status status = safetensors_open_stream(memory, "the stream", &stream);
    require((status == FKDA_OK) == (file != NULL), "file and stream disagree");
    if (status != FKDA_OK) {
        require(strncmp(failure_sentence(), "the stream: ", 12) == 0 && strlen(failure_sentence()) > 12, "a refusal without a sentence");
        return;
    }
    compare_stream(file, &stream);
    safetensors_close(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static int memory = -1;
    static char path[64];
    if (memory < 0) {
        memory = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    }
    require(ftruncate(memory, 0) == 0 && pwrite(memory, bytes, count, 0) == (ssize_t)count, "the memory file cannot be written");
    safetensors_file file;
    const fkda_status status = safetensors_open(path, &file);
    if (status == FKDA_OK) {
        read_everything(&file, count);
        read_as_stream(memory, &file);
        safetensors_close(&file);
    } else {
        require(strstr(failure_sentence(), path) != NULL && strlen(failure_sentence()) > strlen(path) + 2, "a refusal without a sentence");
        read_as_stream(memory, NULL);
    }
    return 0;
}

#ifndef FKDA_FUZZ
static void replay(uint8_t *bytes, size_t count)
{
    static const uint8_t changes[] = {0x00, 0xff, '"', '{', '9', '-'};
    for (size_t i = 0; i <= count; ++i) LLVMFuzzerTestOneInput(bytes, i);
    bytes[count] = 0;
    LLVMFuzzerTestOneInput(bytes, count + 1);
    for (size_t i = 0; i < count; ++i) {
        const uint8_t before = bytes[i];
        for (size_t c = 0; c < sizeof changes; ++c) {
            bytes[i] = changes[c];
            LLVMFuzzerTestOneInput(bytes, count);
        }
        bytes[i] = before;
    }
}

int main(int argc, char **argv)
{
    enum { LARGEST = 1 << 16 };
    uint8_t *const bytes = malloc(LARGEST);
    require(bytes != NULL && argc > 1, "give files to replay");
    for (int i = 1; i < argc; ++i) {
        FILE *const file = fopen(argv[i], "rb");
        require(file != NULL, "a file of the corpus cannot be opened");
        replay(bytes, fread(bytes, 1, LARGEST - 1, file));
        fclose(file);
    }
    free(bytes);
    printf("%d files replayed\n", argc - 1);
    return 0;
}
#endif
