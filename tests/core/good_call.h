/*
 * A call that works, to be broken in one place at a time:
 *
 *     CALL_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.B = 0", c.desc.B = 0);
 *
 * All tensors are fp32 and lie in one arena, so pointers can be moved onto each other. out and final_state begin as poison; after a
 * refusal they must still be that.
 */
#ifndef FKDA_TEST_GOOD_CALL_H
#define FKDA_TEST_GOOD_CALL_H

#include "harness.h"

typedef struct good_call {
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    void *workspace;
    size_t workspace_bytes;
} good_call;

enum { GOOD_B = 2, GOOD_T = 5, GOOD_N = 3, GOOD_H = 2, GOOD_HV = 4, GOOD_K = 64, GOOD_V = 64 };
#define GOOD_OUT_BYTES ((size_t)(GOOD_B * GOOD_T * GOOD_HV * GOOD_V) * sizeof(float))
#define GOOD_STATE_BYTES ((size_t)(GOOD_N * GOOD_HV * GOOD_K * GOOD_V) * sizeof(float))
#define GOOD_Q_BYTES ((size_t)(GOOD_B * GOOD_T * GOOD_H * GOOD_K) * sizeof(float))

good_call good_dense(void);     /* B = 2, T = 5 */
good_call good_packed(void);    /* N = 3, T = 10, cu_seqlens 0 2 2 10 in int64 */

/* A byte of the arena that belongs to nothing; `bytes` behind it are free too. */
void *good_spare(size_t bytes);

fkda_status good_run(const good_call *c);
void good_expect_works(const good_call *c, const char *change, const char *file, int line);

/* fkda_fwd refuses with this status and a sentence that contains `fragment`, twice, and writes nothing. */
void good_expect_refused(const good_call *c, fkda_status status, const char *fragment, const char *change, const char *file, int line);

/* The same, and the desc alone is enough: plan, query and workspace size refuse too and write nothing. */
void good_expect_desc_refused(const good_call *c, fkda_status status, const char *fragment, const char *change, const char *file, int line);

int good_was_seen(fkda_status status);    /* has any refusal of this program had this status? */

/* `...` changes the good_call c. */
#define CALL_REFUSED(good, status, fragment, ...)                                              \
    do {                                                                                       \
        good_call c = good;                                                                    \
        __VA_ARGS__;                                                                           \
        good_expect_refused(&c, status, fragment, #__VA_ARGS__, __FILE__, __LINE__);           \
    } while (0)
#define DESC_REFUSED(good, status, fragment, ...)                                              \
    do {                                                                                       \
        good_call c = good;                                                                    \
        __VA_ARGS__;                                                                           \
        good_expect_desc_refused(&c, status, fragment, #__VA_ARGS__, __FILE__, __LINE__);      \
    } while (0)
#define CALL_WORKS(good, ...)                                                                  \
    do {                                                                                       \
        good_call c = good;                                                                    \
        __VA_ARGS__;                                                                           \
        good_expect_works(&c, #__VA_ARGS__, __FILE__, __LINE__);                               \
    } while (0)

#endif
