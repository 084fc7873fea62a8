/* Reading data/ *.safetensors: 8 bytes header length, a JSON header, the tensors. */
#include "harness.h"

#include "float64_file.h"

#include "dtype.h"

typedef struct raw_file {
    char *header;             /* the JSON text, 0-terminated */
    const uint8_t *tensors;   /* what data_offsets count from */
    uint8_t *bytes;
} raw_file;

static raw_file load(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.safetensors", FKDA_DATA_DIR, name);
    FILE *const file = fopen(path, "rb");
    if (file == NULL) fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    raw_file raw = {.bytes = must_alloc(size, 1)};
    assert_int_equal(fread(raw.bytes, 1, size, file), size);
    fclose(file);
    uint64_t header_bytes;
    memcpy(&header_bytes, raw.bytes, sizeof header_bytes);
    raw.header = must_alloc((size_t)header_bytes + 1, 1);
    memcpy(raw.header, raw.bytes + 8, (size_t)header_bytes);
    raw.tensors = raw.bytes + 8 + header_bytes;
    return raw;
}

/* The bytes of one tensor; a copy of its own, so that they are aligned. */
static void *tensor(const raw_file *raw, const char *name, size_t *bytes)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(raw->header, key);
    if (at == NULL) fail_msg("no tensor %s", name);
    at = strstr(at, "\"data_offsets\"");
    assert_non_null(at);
    char *end;
    const size_t begin = strtoull(strchr(at, '[') + 1, &end, 10);
    *bytes = strtoull(strchr(end, ',') + 1, NULL, 10) - begin;
    void *const copy = must_alloc(*bytes, 1);
    memcpy(copy, raw->tensors + begin, *bytes);
    return copy;
}

static float *floats(const raw_file *raw, const char *name, fkda_dtype dtype)
{
    size_t bytes;
    void *const stored = tensor(raw, name, &bytes);
    const int64_t count = (int64_t)bytes / fkdai_dtype_bytes(dtype);
    float *const values = must_alloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; ++i) values[i] = (float)fkdai_load(stored, dtype, i);
    free(stored);
    return values;
}

/* The files hold [N,HV,V,K]; input_values and results are [N,HV,K,V]. */
static float *state(const raw_file *raw, const char *name, const case_spec *s)
{
    float *const stored = floats(raw, name, FKDA_F32);
    float *const values = must_alloc((size_t)(s->N * case_state_elems(s)), sizeof *values);
    for (int64_t m = 0; m < s->N * s->HV; ++m)
        for (int64_t c = 0; c < s->K; ++c)
            for (int64_t v = 0; v < s->V; ++v) values[(m * s->K + c) * s->V + v] = stored[(m * s->V + v) * s->K + c];
    free(stored);
    return values;
}

float64_file float64_file_read(const char *name, const char *gate)
{
    raw_file raw = load(name);
    size_t bytes;
    int64_t *const bounds = tensor(&raw, "cu_seqlens", &bytes);
    char words[256];
    int used = snprintf(words, sizeof words, "gate=%s H=2 K=128 V=128 cu=i64 lens=", gate);
    for (size_t n = 1; n < bytes / sizeof *bounds; ++n)
        used += snprintf(words + used, sizeof words - (size_t)used, "%lld,", (long long)(bounds[n] - bounds[n - 1]));
    free(bounds);

    float64_file f = {.spec = case_parse(name, words)};
    f.values = (input_values){
        .q = floats(&raw, "q", FKDA_BF16), .k = floats(&raw, "k", FKDA_BF16), .v = floats(&raw, "v", FKDA_BF16),
        .g = floats(&raw, "g", FKDA_BF16), .beta = floats(&raw, "beta", FKDA_BF16), .A_log = floats(&raw, "A_log", FKDA_F32),
        .dt_bias = floats(&raw, "dt_bias", FKDA_F32), .initial = state(&raw, "initial_state", &f.spec),
    };
    f.out = floats(&raw, "out", FKDA_F32);
    f.state = state(&raw, "final_state", &f.spec);
    free(raw.header);
    free(raw.bytes);
    return f;
}

void float64_file_free(float64_file *f)
{
    values_free(&f->values);
    free(f->out);
    free(f->state);
}
