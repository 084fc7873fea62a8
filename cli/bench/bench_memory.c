/*
 * What a sequence of Kimi Linear remembers, for four layers: 3 of KDA and 1 of full attention, beside 4 of full attention. By formula, on any machine.
 *
 *     KDA layer     H K V states in fp32, and 3 rows of 3 H K channels in bf16 in front of the short convolution; whatever the context
 *     full, MLA     512 + 64 numbers in bf16 a token: the compressed keys and values, and the rotary part
 *     full, GQA     8 heads of 128, keys and values, in bf16 a token
 */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "bench_case.h"
#include "failure.h"
#include "fkda_commit.h"
#include "json_out.h"
#include "text.h"

enum { HEADS = 32, WIDTH = 128, TAPS_BEFORE = 3, FIRST_CONTEXT = 1 << 10, LAST_CONTEXT = 1 << 20 };
static const double kda_layer = 4.0 * HEADS * WIDTH * WIDTH + 2.0 * TAPS_BEFORE * 3 * HEADS * WIDTH;

static const struct { const char *name; double token_bytes; } caches[] = {{"MLA", 2 * (512 + 64)}, {"GQA", 2 * 2 * 8 * 128}};
enum { CACHE_COUNT = sizeof caches / sizeof *caches };

static void print_row(int64_t context)
{
    char tokens[TEXT_NUMBER_BYTES], full[TEXT_NUMBER_BYTES], hybrid[TEXT_NUMBER_BYTES];
    printf("%9s", text_grouped((double)context, tokens));
    for (int i = 0; i < CACHE_COUNT; ++i) {
        const double cache = caches[i].token_bytes * (double)context;
        printf("   %12s  %14s  %8.1f %%", text_bytes(4 * cache, full), text_bytes(3 * kda_layer + cache, hybrid), 100 * (3 * kda_layer + cache) / (4 * cache));
    }
    printf("\n");
}

static void print_json(int64_t context)
{
    for (int i = 0; i < CACHE_COUNT; ++i) {
        cJSON *const line = cJSON_CreateObject();
        const double cache = caches[i].token_bytes * (double)context;
        cJSON_AddStringToObject(line, "suite", "kimi-linear");
        cJSON_AddStringToObject(line, "case", "memory");
        cJSON_AddStringToObject(line, "cache", caches[i].name);
        cJSON_AddStringToObject(line, "commit", FKDA_COMMIT);
        json_add_number(line, "context", (double)context);
        json_add_number(line, "kda_layer_bytes", kda_layer);
        json_add_number(line, "full_layer_bytes", cache);
        json_add_number(line, "four_full_bytes", 4 * cache);
        json_add_number(line, "three_kda_one_full_bytes", 3 * kda_layer + cache);
        json_print_line(line);
    }
}

fkda_status bench_print_memory(int is_json)
{
    if (!is_json)
        printf("\nMemory per sequence: 4 layers of full attention, or 3 of KDA (%.2f MiB each) and 1 of full attention\n%9s   %12s  %14s  %10s   %12s  %14s  %10s\n",
               kda_layer / (1 << 20), "context", "4 MLA", "3 KDA + 1 MLA", "of that", "4 GQA", "3 KDA + 1 GQA", "of that");
    for (int64_t context = FIRST_CONTEXT; context <= LAST_CONTEXT; context *= 2) {
        if (is_json) print_json(context);
        else print_row(context);
    }
    CHECK(fflush(stdout) == 0, FKDA_ERR_IO, "standard output cannot be written");
    return FKDA_OK;
}
