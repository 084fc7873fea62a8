/*
 * The interface between the core and those who compute: whether a backend is there at all, and what it offers of each operation.
 *
 *   present   can it run anything on this machine?  text: what it runs on, or why it is off; no sentence, since being off is no error
 *   plan      looks at plan->desc (checked, every default filled in) and either fills in workspace_bytes, choice and own, or refuses
 *             with a status and one sentence.  Pure but for what `present` found out.
 *   run       does it.  args are the operation's, checked; workspace is large and aligned enough.  Nothing is written before the last check that
 *             can fail.
 *   suit      describes in plan->desc as copies, and marks in *copies, the arguments that it takes only as a copy, and then plans as `plan`
 *             does.  args may be NULL: addresses are unknown.  What it takes as it lies stays.
 */
#ifndef FKDAI_BACKEND_H
#define FKDAI_BACKEND_H

#include "operation.h"

typedef struct fkdai_plan {
    uint64_t magic;                        /* FKDAI_PLAN_MAGIC: fkdai_make_plan wrote it */
    const fkdai_operation *operation;
    const struct fkdai_backend_entry *backend;
    size_t workspace_bytes;
    uint32_t copies;                       /* arguments that every run copies, as fkda_plan_copies says */
    char choice[224];                      /* how, in words: "avx512, 32 tokens per chunk, 32 heads on 2 threads" */
    char fallback[128];                    /* why the faster backends did not take it, where AUTO fell back on the reference; else "" */
    fkdai_extents extents;                 /* of the arguments */
    uint64_t own[39];                      /* the backend's own struct; it asserts that it fits FKDAI_PLAN_OWN_BYTES */
    fkdai_desc desc;                       /* resolved */
} fkdai_plan;

#define FKDAI_PLAN_OWN_BYTES sizeof(((fkdai_plan *)0)->own)
#define FKDAI_PLAN_MAGIC UINT64_C(0x666b64612d706c6e)

/* fkda_plan never changes its size, as callers own it; what is in it may. */
_Static_assert(sizeof(fkdai_plan) <= sizeof(fkda_plan), "fkda_plan is too small");

typedef struct fkdai_offer {
    fkda_status (*plan)(fkdai_plan *plan);    /* NULL: not offered */
    fkda_status (*run)(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream);
    fkda_status (*suit)(fkdai_plan *plan, const void *args, uint32_t *copies);    /* NULL: a copy helps nowhere */
} fkdai_offer;

typedef struct fkdai_backend {
    fkda_status (*present)(char *text, size_t size);
    fkdai_offer offers[FKDAI_OP_COUNT];    /* by fkdai_operation_id */
    int has_fixed_plans;                   /* the same desc gets the same plan for as long as the process lives, so that it may be kept */
} fkdai_backend;

#define FKDAI_NO_CUDA "this library was built without CUDA"    /* the only backend that a build may lack */

extern const fkdai_backend fkdai_cpu;
extern const fkdai_backend fkdai_ref;
#ifdef FKDA_WITH_CUDA
extern const fkdai_backend fkdai_cuda;
#endif

typedef struct fkdai_backend_entry {
    fkda_backend id;
    const char *name;
    const fkdai_backend *backend;          /* NULL: not in this build */
} fkdai_backend_entry;

/* Best first, the reference last; FKDA_BACKEND_AUTO, which is nobody, ends the list. */
extern const fkdai_backend_entry fkdai_backends[];

#endif
