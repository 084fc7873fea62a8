/*
 * The interface between the core and those who compute: a name and three functions.
 *
 *   present   can it run anything on this machine?  text: what it runs on, or why it is off; no sentence, since being off is no error
 *   plan      looks at plan->desc (checked, every default filled in) and either fills in workspace_bytes, choice and own, or refuses
 *             with a status and one sentence.  Pure but for what `present` found out.
 *   run       does it.  args are checked; workspace is large and aligned enough.  Nothing is written before the last check that can fail.
 */
#ifndef FKDAI_BACKEND_H
#define FKDAI_BACKEND_H

#include "flashkda.h"

struct fkdai_backend;

typedef struct fkdai_plan {
    uint64_t magic;                        /* FKDAI_PLAN_MAGIC: fkda_fwd_plan wrote it */
    const struct fkdai_backend *backend;
    fkda_fwd_desc desc;                    /* resolved: strides, HV, N, dtypes, multiplier, row_stride filled in */
    size_t workspace_bytes;
    char choice[128];                      /* how, in words: "avx512, 32 tokens per chunk, 32 heads on 2 threads" */
    char fallback[128];                    /* why the faster backends did not take it, where AUTO fell back on the reference; else "" */
    uint64_t own[32];                      /* the backend's own struct; it asserts that it fits FKDAI_PLAN_OWN_BYTES */
} fkdai_plan;

#define FKDAI_PLAN_OWN_BYTES sizeof(((fkdai_plan *)0)->own)
#define FKDAI_PLAN_MAGIC UINT64_C(0x666b64612d706c6e)
_Static_assert(sizeof(fkdai_plan) <= sizeof(fkda_plan), "fkda_plan is too small");

typedef struct fkdai_backend {
    fkda_backend id;
    const char *name;
    fkda_status (*present)(char *text, size_t size);
    fkda_status (*plan)(fkdai_plan *plan);
    fkda_status (*run)(const fkdai_plan *plan, const fkda_fwd_args *args, void *workspace, fkda_stream stream);
} fkdai_backend;

#define FKDAI_NO_CUDA "this library was built without CUDA"    /* the only backend that a build may lack */

extern const fkdai_backend fkdai_cpu;
extern const fkdai_backend fkdai_ref;
#ifdef FKDA_WITH_CUDA
extern const fkdai_backend fkdai_cuda;
#endif

/* Best first, the reference last; NULL ends the list. */
extern const fkdai_backend *const fkdai_backends[];

#endif
