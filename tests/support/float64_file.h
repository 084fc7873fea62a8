/*
 * The recorded activations of data/ with their float64 answers: a reader for these trusted files only (the safe safetensors reader
 * is the command line's).
 */
#ifndef FKDA_TEST_FLOAT64_FILE_H
#define FKDA_TEST_FLOAT64_FILE_H

#include "case_spec.h"
#include "input_values.h"

typedef struct float64_file {
    case_spec spec;          /* packed, fp32 results */
    input_values values;
    float *out;              /* [T,HV,V] float64 answer, rounded to fp32 */
    float *state;            /* [N,HV,K,V] */
} float64_file;

/* data/<name>.safetensors; gate words are those of cases.def. */
float64_file float64_file_read(const char *name, const char *gate);
void float64_file_free(float64_file *f);

#endif
