/*
 * The CPU backend: KDA in the chunk form, fp32, C tokens at once. A task is a few neighbouring value heads of one sequence.
 *
 *     cpu_backend.c    present, plan, run
 *     cpu_threads.c    hands tasks to threads
 *     cpu_pool.c       the threads: who wakes, who waits, fork, dlclose, exit
 *     cpu_available.c  CPUs, quota, OMP_NUM_THREADS
 *     cpu_task.c       one task: state in, chunk after chunk, state out
 *     cpu_decode.c     decode: plan, run, and one head of it: state in, token after token, state out
 *     cpu_decode_fused.c   the same with convolution and gated norm
 *     cpu_rows.c       from the caller's tensors to a chunk's operands: dtypes, strides, activations, tails
 *     cpu_state.c      the caller's states, also checkpoints, and the panels below
 *     ukr/             micro-kernels, the only place that knows an instruction set; ukr.h lists them
 *
 * Rows of one token lie side by side for neighbouring heads, rows of one head lie a page or more apart: heads that take turns, chunk by chunk,
 * share page translations and cache lines: one head at a time is 3 to 6 % slower over T = 4096 to 8192 (H = 32, bf16). Near the end of a call tasks
 * shrink to one head, so that no thread waits long for another.
 *
 * Inside a task the state S [K,V] of a head is kept in panels of PANEL columns, each [K,PANEL] and contiguous (16 KB at K = 128): a panel stays in
 * the first-level cache while R, U, O and S' are computed from it.
 */
#ifndef FKDAI_CPU_H
#define FKDAI_CPU_H

#include "backend.h"
#include "state_rows.h"
#include "ukr/ukr.h"

enum {
    FKDAI_CPU_MAX_PANELS = FKDAI_CPU_MAX_WIDTH / FKDAI_CPU_PANEL,
    FKDAI_CPU_HEADS_PER_TASK = 4,    /* their states, 256 KB, stay in the second-level cache */
    FKDAI_CPU_TOKEN_HEADS_PER_THREAD = 16,    /* about 25 us of work: less is not worth waking another thread */
    FKDAI_CPU_STATES_PER_THREAD = 4,          /* of decode, the same */
    FKDAI_CPU_STATES_PER_TASK = 16            /* of decode: the first one of a task was not asked for before */
};

/* What a task keeps of one value head from chunk to chunk. */
typedef struct fkdai_cpu_head {
    _Alignas(64) float state[FKDAI_CPU_MAX_PANELS][FKDAI_CPU_MAX_WIDTH][FKDAI_CPU_PANEL];    /* S [K,V], in panels */
    fkdai_cpu_gate gate;
} fkdai_cpu_head;

/* What one thread needs: all of it is here, in the caller's workspace. Every field but the first is written before it is read in each task. */
typedef struct fkdai_cpu_scratch {
    fkdai_checkpoints checkpoints;                                 /* of the sequence that the thread was at: rows are counted from there on */
    _Alignas(64) float v[FKDAI_CPU_CHUNK][FKDAI_CPU_MAX_WIDTH];    /* V [C,V], the task's columns */
    float out[FKDAI_CPU_CHUNK][FKDAI_CPU_MAX_WIDTH];               /* O [C,V], the same */
    float update[FKDAI_CPU_CHUNK][FKDAI_CPU_PANEL];                /* U of one panel */
    float ended[FKDAI_CPU_MAX_WIDTH][FKDAI_CPU_PANEL];             /* one panel of S at a checkpoint inside a chunk */
    fkdai_cpu_group group;
    fkdai_cpu_chunk chunk;
    fkdai_cpu_head head[FKDAI_CPU_HEADS_PER_TASK];
} fkdai_cpu_scratch;

/* How the work is cut; it does not change a bit of the result. */
typedef struct fkdai_cpu_plan {
    const fkdai_cpu_ukr *ukr;
    int32_t threads;
    int32_t panels_per_task;    /* V/PANEL; fewer when there are more threads than heads. Columns of S never meet */
} fkdai_cpu_plan;

/* Some value heads of one sequence, and some of their panels, done chunk by chunk side by side. */
typedef struct fkdai_cpu_task {
    const fkda_fwd_desc *desc;
    const fkda_fwd_args *args;
    const fkdai_cpu_ukr *ukr;
    const fkdai_checkpoints *checkpoints;    /* of the sequence */
    fkdai_sequence seq;
    int64_t n, first_head;
    int head_count, first_panel, panel_count;
} fkdai_cpu_task;

void fkdai_cpu_run_task(const fkdai_cpu_task *task, fkdai_cpu_scratch *scratch);

/* cpu_backend.c: what every operation asks of the machine; the micro-kernels, and at most so many threads, each for a share of `shares`. */
fkda_status fkdai_cpu_plan_threads(const fkda_fwd_desc *desc, int64_t shares, fkdai_cpu_plan *plan);

/* cpu_decode.c. Decode changes states where they lie; those that are bf16 or null pass through here. */
typedef struct fkdai_cpu_decode_scratch {
    fkdai_cpu_scratch rows;                              /* for the functions of cpu_rows.c */
    fkdai_cpu_token token[FKDA_DECODE_MAX_TOKENS];
    _Alignas(64) float state[FKDAI_CPU_MAX_WIDTH * FKDAI_CPU_MAX_WIDTH];
} fkdai_cpu_decode_scratch;
fkda_status fkdai_cpu_plan_decode(fkdai_plan *plan);
fkda_status fkdai_cpu_run_decode(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream);

/* The state of the task's head, where it lies, through its first `len` tokens, of which scratch has everything; out goes there. */
void fkdai_cpu_step_state(const fkdai_cpu_task *task, int len, fkdai_cpu_decode_scratch *scratch);

/* cpu_decode_fused.c */
fkda_status fkdai_cpu_plan_fused(fkdai_plan *plan);
fkda_status fkdai_cpu_run_fused(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream);

/* cpu_rows.c, for one value head. Rows >= len of a group or chunk count as k = q = v = 0, log a = 0, b = 0, and are never read. */
void fkdai_cpu_read_gate(const fkdai_cpu_task *task, int64_t hv, fkdai_cpu_gate *gate);
void fkdai_cpu_read_betas(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, fkdai_cpu_scratch *scratch);
void fkdai_cpu_read_group(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int b, int len, const fkdai_cpu_gate *gate,
                          fkdai_cpu_scratch *scratch);
/* One token, but for its beta. */
void fkdai_cpu_read_token(const fkdai_cpu_task *task, int64_t hv, int64_t t, const fkdai_cpu_gate *gate, fkdai_cpu_scratch *scratch,
                          fkdai_cpu_token *token);
void fkdai_cpu_read_values(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, fkdai_cpu_scratch *scratch);
void fkdai_cpu_write_out(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, const fkdai_cpu_scratch *scratch);

/* Asks the cache for rows [begin, end) of q, k, g and v. */
void fkdai_cpu_prefetch(const fkdai_cpu_task *task, int64_t hv, int64_t begin, int64_t end);

/* cpu_state.c: the task's columns of one head's S. */
void fkdai_cpu_read_state(const fkdai_cpu_task *task, int64_t hv, fkdai_cpu_head *head);
void fkdai_cpu_write_state(const fkdai_cpu_task *task, int64_t hv, const fkdai_cpu_head *head);

/* Panel p of S, the state after `position` tokens, into every checkpoint that is there. */
void fkdai_cpu_write_checkpoints(const fkdai_cpu_task *task, int64_t hv, int64_t position, int p, const float *panel);

/* cpu_threads.c */
typedef void fkdai_cpu_work(void *context, int64_t first, int64_t count, int thread);    /* items [first, first + count) */
/* Calls work for every item in [0, count), each once, at most `most` neighbours together, on at most `threads` threads numbered from 0, the
 * caller's among them. Work runs in the default floating-point environment. */
void fkdai_cpu_for_each(int64_t count, int64_t most, int threads, fkdai_cpu_work *work, void *context);

#endif
