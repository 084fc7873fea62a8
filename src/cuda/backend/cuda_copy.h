/*
 * Copies between a caller's tensors, which lie anyhow, and packed ones in the workspace. What the backend asks of src/cuda/strided_copy, which
 * knows rows of 256 bytes and nothing of what they mean.
 *
 * Both calls enqueue and return a cudaError_t as int (0: success): no allocation, no synchronisation, safe under stream capture. Every pointer is
 * a device pointer; packed ones are multiples of 256 bytes.
 */
#ifndef FKDAI_CUDA_COPY_H
#define FKDAI_CUDA_COPY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FKDAI_COPY_ROW = 256, FKDAI_COPY_MOST = 5 };

/* The mark of what has not been written: two NaN of bf16, or one of fp32, that no arithmetic on the device makes, as its NaN are 0x7fff and
 * 0x7fffffff. */
#define FKDAI_COPY_UNWRITTEN 0x7fde7fdeu

typedef struct fkdai_copy_array {    /* int32 or int64 */
    const void *data;                /* NULL: absent */
    int is_64bit;
} fkdai_copy_array;

typedef struct fkdai_copy {
    char *strided, *packed;
    int64_t size[3], stride[3];      /* rows along the outer, middle and inner axis; bytes from one to the next on the strided side */
    fkdai_copy_array slots;          /* of each outer index: where it lies along that axis; absent: there */
    int64_t slot_count, first_slot;  /* of slots: those below first_slot are null, those from slot_count on broken. In: 0. Out: not written */
    const uint8_t *mask;             /* in, optional: an outer index whose byte is 0 is not read, and its packed rows are undefined */
    fkdai_copy_array end;            /* out, optional, one element: only the rows below it along the middle axis were written, unless the very last
                                        row lacks its mark: then all were */
    int is_marked;                   /* out: outer indices whose first packed row still has its mark were not written */
} fkdai_copy;

/* `count` marks, `step` bytes apart, made by a copy in. */
typedef struct fkdai_copy_marks {
    char *at;
    int64_t count, step;
} fkdai_copy_marks;

typedef struct fkdai_copies {
    int count, mark_count;
    fkdai_copy copy[FKDAI_COPY_MOST];
    fkdai_copy_marks marks[2];
    uint32_t *status;                /* optional: gets broken_slot if a slot is broken */
    uint32_t broken_slot;
} fkdai_copies;

/* Loads the kernels on the current device; once before a capture. */
int fkdai_copy_load(void);

int fkdai_copy_in(const fkdai_copies *copies, void *stream);     /* strided to packed, and marks */
int fkdai_copy_out(const fkdai_copies *copies, void *stream);    /* packed to strided: what was written */

#ifdef __cplusplus
}
#endif
#endif
