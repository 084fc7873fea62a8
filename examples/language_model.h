/* A byte-level language model whose only memory is that of Kimi Delta Attention: per layer one state [HEADS,V,K] and the last three inputs of a
 * short convolution, however long the text is. tools/train_language_model.py says what a layer computes, and trained the weights.
 */
#ifndef LANGUAGE_MODEL_H
#define LANGUAGE_MODEL_H

#include <flashkda.h>

enum {
    LAYERS = 5, WIDTH = 256, HEADS = 2, HEAD = 128 /* K and V */, INNER = HEADS * HEAD, RANK = 32, TAPS = 4, HIDDEN = 576, BYTES = 256,
    PIECE = 256    /* the most bytes that go through the layers at once */
};

typedef struct model_layer {
    const float *norm, *qkv, *conv, *gate_down, *gate_up, *A_log, *dt_bias, *beta, *out_gate_down, *out_gate_up, *head_norm, *out;
    const float *mlp_norm, *mlp_in, *mlp_out;
} model_layer;    /* matrices are [in,out] */

typedef struct language_model {
    const float *embedding, *norm, *head;
    model_layer layers[LAYERS];
    float *weights;          /* all of them */
    fkda_plan decode;        /* one token of one sequence */
    void *workspace;
    size_t workspace_bytes;
} language_model;

/* All that a sequence remembers. Zero is a sequence that has read nothing. */
typedef struct model_memory {
    float state[LAYERS][HEADS * HEAD * HEAD];
    float conv[LAYERS][TAPS - 1][3 * INNER];
} model_memory;

/* Both end the program with a sentence where a file is missing or not of this model, or where memory is short. */
void model_open(const char *path, language_model *model);
void model_close(language_model *model);

/* The sequence reads `count` bytes. logits [count,BYTES]: what it expects after each. model_prefill: fkda_fwd; model_decode: fkda_decode. */
void model_prefill(language_model *model, model_memory *memory, const unsigned char *text, int count, float *logits);
void model_decode(language_model *model, model_memory *memory, unsigned char byte, float *logits);

#endif
