/* A kernel that does nothing, launched as the prefill kernel is: what a launch costs the host, whoever makes it. Both return a cudaError_t. */
#ifndef FKDA_TEST_EMPTY_KERNEL_H
#define FKDA_TEST_EMPTY_KERNEL_H

#ifdef __cplusplus
extern "C" {
#endif

int empty_kernel_load(int shared_bytes);    /* that it may be launched with */

/* Blocks of 640 threads, in clusters of `ranks`. may_overlap: programmatic stream serialization, as behind a plan kernel. */
int empty_kernel_launch(int blocks, int ranks, int shared_bytes, int may_overlap, void *stream);

#ifdef __cplusplus
}
#endif
#endif
