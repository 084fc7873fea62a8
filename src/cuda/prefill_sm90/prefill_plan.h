/*
 * Which blocks do which jobs, and where the workspace has what. Pure functions of sizes: the launcher, the plan of a call and the emulator
 * ask the same ones. A job is one (sequence, head).
 */
#ifndef FKDAI_PREFILL_PLAN_H
#define FKDAI_PREFILL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who works on a job: one block, or a cluster of two, four, five, six or eight blocks that share it. EITHER: asked for, the fastest of them; in a grid, the
 * device chooses between solo and duo once it knows the lengths. The bits are the same. */
typedef enum fkdai_prefill_mapping {
    FKDAI_SOLO = 1,
    FKDAI_DUO = 2,
    FKDAI_EITHER = FKDAI_SOLO | FKDAI_DUO,
    FKDAI_QUAD = 4,
    FKDAI_OCTET = 8,
    FKDAI_QUINT = 16,                   /* clusters of five */
    FKDAI_SEXTET = 32                   /* of six */
} fkdai_prefill_mapping;

typedef struct fkdai_prefill_grid {
    fkdai_prefill_mapping mapping;
    int workers;                        /* clusters, or blocks if FKDAI_SOLO; 0: nothing to do */
    int quads;                          /* clusters of four that may be faster, if a sequence is much longer than the others; 0: not */
    int is_asked;                       /* so the device is asked, in two launches, where the host does not know the lengths */
} fkdai_prefill_grid;

/* Where a call wants checkpoints of the state: at so many offsets in each sequence, or every so many tokens. Zeros: nowhere. */
typedef struct fkdai_prefill_stops {
    int64_t per_sequence, every;
} fkdai_prefill_stops;

/* N sequences of H heads, with `tokens` in sum; equal in length unless the call is packed. */
typedef struct fkdai_prefill_jobs {
    int64_t tokens, N, H;
    int is_packed;
} fkdai_prefill_jobs;

/* The grid for these jobs on `multiprocessors` SMs. `wanted`: FKDAI_EITHER, or for tests one mapping; a quad where an octet cannot: it has one job
 * each, and no checkpoints inside a chunk. */
fkdai_prefill_grid fkdai_prefill_make_grid(fkdai_prefill_mapping wanted, fkdai_prefill_jobs jobs, fkdai_prefill_stops stops, int multiprocessors);
fkdai_prefill_grid fkdai_prefill_quads(fkdai_prefill_grid grid);    /* of those clusters */

int fkdai_prefill_ranks(fkdai_prefill_grid grid);      /* blocks of a cluster, as launched */
int fkdai_prefill_blocks(fkdai_prefill_grid grid);     /* blocks of the launch */
int fkdai_prefill_clusters(fkdai_prefill_grid grid);   /* clusters that may work on jobs; 0: none */
int fkdai_prefill_singles(fkdai_prefill_grid grid);    /* blocks that may work on jobs alone; 0: none */

/* Who makes the schedule of the jobs. */
typedef enum fkdai_prefill_schedule {
    FKDAI_SCHEDULE_NONE,    /* one worker a job: nothing is scheduled */
    FKDAI_SCHEDULE_EQUAL,   /* nobody: all jobs are equal, the launcher knows it */
    FKDAI_SCHEDULE_OWN,     /* every block, for itself */
    FKDAI_SCHEDULE_ONCE     /* a kernel before, for all */
} fkdai_prefill_schedule;
fkdai_prefill_schedule fkdai_prefill_who_schedules(fkdai_prefill_jobs jobs, fkdai_prefill_grid grid, fkdai_prefill_stops stops);

/* Byte offsets in the workspace, each a multiple of 256; what a call does not need has no bytes. */
typedef struct fkdai_prefill_layout {
    size_t relay;        /* quads, octets: FKDAI_RELAY_BYTES of each block that prepares */
    size_t state;        /* [workers][V][K] fp32: states handed over where a job is cut */
    size_t is_ready;     /* [workers][halves of V] uint64 */
    size_t cut;          /* [schedules], FKDAI_CUT_BYTES each */
    size_t prefix;       /* [schedules][N+1] int32 */
    size_t sequence;     /* [schedules][N] two int32 */
    size_t marks;        /* [schedules][N] int32, for checkpoints every so many tokens */
    size_t parked;       /* [workers][V][K] fp32: states that wait while a checkpoint inside a chunk is made */
    size_t bytes;        /* of all */
} fkdai_prefill_layout;
fkdai_prefill_layout fkdai_prefill_make_layout(int64_t N, fkdai_prefill_grid grid, fkdai_prefill_schedule schedule, fkdai_prefill_stops stops);

/* Bytes of workspace for a call, with the schedules that it takes; quads that may be faster have theirs behind. */
size_t fkdai_prefill_workspace_bytes(fkdai_prefill_jobs jobs, fkdai_prefill_grid grid, fkdai_prefill_stops stops);

/* Sizes of the device code, which asserts them. */
enum { FKDAI_CUT_BYTES = 16, FKDAI_RELAY_BYTES = 6 * 27 * 1024 /* of a preparer: six stages but for T */ };

#ifdef __cplusplus
}
#endif
#endif
