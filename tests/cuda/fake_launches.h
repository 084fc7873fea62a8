/*
 * A CUDA runtime for a launcher's object file as the library has it: launches are recorded, and any call can be made to fail. No GPU, no driver; no
 * kernel runs.
 */
#ifndef FKDA_TEST_FAKE_LAUNCHES_H
#define FKDA_TEST_FAKE_LAUNCHES_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_MOST_LAUNCHES = 4, FAKE_PARAMETER_BYTES = 1024 };

typedef struct fake_launch {
    const char *kernel;              /* its mangled name; "?": not one of the object file's */
    unsigned grid, block;
    size_t shared_bytes;
    int may_overlap;                 /* programmatic stream serialization */
    unsigned ranks;                  /* blocks of a cluster */
    uint8_t parameter[FAKE_PARAMETER_BYTES];
} fake_launch;

typedef struct fake_runtime {
    int calls, fail_at;              /* which call fails, counted from 1; 0: none */
    int got, set;                    /* attributes of kernels: read, written */
    int binary_version, ptx_version; /* of every kernel: its attributes */
    int largest_shared;              /* dynamic shared memory that a kernel was last allowed, bytes */
    int launched;
    fake_launch launches[FAKE_MOST_LAUNCHES];
    size_t parameter_bytes;          /* to be recorded of a launch */
} fake_runtime;

extern fake_runtime fake;
extern int fake_kernel_count;        /* kernels in the object file */

/* Forgets what was recorded. */
void fake_reset(size_t parameter_bytes);

/* What the next call answers, whatever it is. */
cudaError_t fake_answer(void);

/* The enumerator after this word in a kernel's mangled name ("6StoredE"), or -1. */
int fake_template_argument(const char *kernel, const char *word);

/* What a launcher's load says to PTX where there is machine code (CUDA_FORCE_PTX_JIT): its kernels would not wait where a plan says that they do. */
void fake_expect_machine_code(int (*load)(void), size_t parameter_bytes);

#endif
