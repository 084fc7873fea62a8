/* cc 30_language_model.c language_model.c $(pkg-config --cflags --libs flashkda) -lm -O3 -o language_model && ./language_model ../data/language_model.safetensors "The function returns" 300
 *
 * A language model that writes on: the prompt goes through fkda_fwd, which leaves its state behind, then fkda_decode takes that state through one byte
 * after the other. What the model remembers has the same size after the first byte and after the millionth: there is no cache that grows.
 */
#include "language_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PROMPT_BYTES = 1 << 16 };

static double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* In nats: -log of the probability that these logits give to a byte. */
static double loss(const float *logits, unsigned char byte)
{
    float most = logits[0];
    double sum = 0;
    for (int i = 1; i < BYTES; ++i) most = fmaxf(most, logits[i]);
    for (int i = 0; i < BYTES; ++i) sum += exp((double)logits[i] - (double)most);
    return (double)most + log(sum) - (double)logits[byte];
}

/* A byte, each with its probability at this temperature; those far less likely than the likeliest never come. */
static unsigned char draw(const float *logits, float temperature, uint64_t *random)
{
    float weight[BYTES], most = logits[0], sum = 0;
    for (int i = 1; i < BYTES; ++i) most = fmaxf(most, logits[i]);
    for (int i = 0; i < BYTES; ++i) {
        weight[i] = expf((logits[i] - most) / temperature);
        if (weight[i] < 0.03f) weight[i] = 0;
        sum += weight[i];
    }
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    float left = (float)(*random >> 40) / (float)(1 << 24) * sum;
    int last = 0;
    for (int i = 0; i < BYTES; ++i) {
        if (weight[i] == 0) continue;
        last = i;
        left -= weight[i];
        if (left < 0) break;
    }
    return (unsigned char)last;
}

int main(int count, char **words)
{
    if (count < 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT [BYTES [TEMPERATURE [SEED]]]        PROMPT -: from standard input\n", words[0]);
        return 2;
    }
    static unsigned char prompt[PROMPT_BYTES];
    static model_memory memory;
    size_t length = strlen(words[2]);
    if (strcmp(words[2], "-") == 0) length = fread(prompt, 1, sizeof prompt, stdin);
    else memcpy(prompt, words[2], length < sizeof prompt ? length : sizeof prompt);
    if (length == 0 || length > sizeof prompt) {
        fprintf(stderr, "PROMPT has %zu bytes; 1 to %zu are read\n", length, sizeof prompt);
        return 2;
    }
    const int bytes = count > 3 ? atoi(words[3]) : 300;
    const float temperature = count > 4 ? fmaxf((float)atof(words[4]), 1e-3f) : 0.6f;
    uint64_t random = count > 5 ? strtoull(words[5], NULL, 10) : 1;

    language_model model;
    model_open(words[1], &model);
    float *const logits = malloc(length * BYTES * sizeof(float));
    if (logits == NULL) return 1;
    const double began = now();
    model_prefill(&model, &memory, prompt, (int)length, logits);
    const double read = now();
    double nats = 0;
    for (size_t t = 1; t < length; ++t) nats += loss(logits + (t - 1) * BYTES, prompt[t]);

    fwrite(prompt, 1, length, stdout);
    float *const next = logits + (length - 1) * BYTES;
    for (int i = 0; i < bytes; ++i) {
        const unsigned char byte = draw(next, temperature, &random);
        putchar(byte);
        fflush(stdout);
        model_decode(&model, &memory, byte, next);
    }
    putchar('\n');
    const double wrote = now();
    fprintf(stderr, "[prompt: %zu bytes in %.0f ms, %.2f bits each; then %d bytes, %.2f ms each; memory per sequence: %zu KiB, however long]\n", length,
            1e3 * (read - began), length > 1 ? nats / log(2) / (double)(length - 1) : 0.0, bytes, bytes > 0 ? 1e3 * (wrote - read) / bytes : 0.0,
            sizeof memory / 1024);
    free(logits);
    model_close(&model);
    return ferror(stdout) ? 1 : 0;
}
