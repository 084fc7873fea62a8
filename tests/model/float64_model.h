/* The language model of examples/language_model.h once more: token by token, in float64, with the recurrence of KDA written out. */
#ifndef FKDA_TEST_FLOAT64_MODEL_H
#define FKDA_TEST_FLOAT64_MODEL_H

#include "language_model.h"
#include "safetensors.h"

typedef struct float64_model float64_model;    /* weights, and what one sequence remembers */

/* The tensor of that name as double, in the caller's memory (free); fails the test where it is not there or has another size. */
double *float64_tensor(const safetensors_file *file, const char *name, int64_t count);

float64_model *float64_open(const safetensors_file *file);
void float64_close(float64_model *model);

/* One byte more. logits [BYTES]. */
void float64_step(float64_model *model, unsigned char byte, double *logits);

#endif
