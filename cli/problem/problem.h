/*
 * A problem: the desc, and the tensors that belong to it, in the memory of the backend that shall compute. It comes from a file
 * (problem_file.c) or from the generator (problem_made.c); who runs it (call.h) does not care.
 */
#ifndef CLI_PROBLEM_H
#define CLI_PROBLEM_H

#include "choice.h"
#include "memory.h"
#include "non_finite.h"
#include "safetensors.h"

typedef enum problem_role {
    PROBLEM_Q, PROBLEM_K, PROBLEM_V, PROBLEM_G, PROBLEM_BETA, PROBLEM_A_LOG, PROBLEM_DT_BIAS, PROBLEM_INITIAL_STATE, PROBLEM_CU_SEQLENS,
    PROBLEM_INITIAL_SLOTS, PROBLEM_FINAL_SLOTS, PROBLEM_INITIAL_MASK, PROBLEM_CHECKPOINT_OFFSETS, PROBLEM_CHECKPOINT_SLOTS,
    PROBLEM_OUT, PROBLEM_FINAL_STATE, PROBLEM_CHECKPOINT_STATE,    /* those that a run writes; the last one where checkpoints are asked for */
    PROBLEM_ROLE_COUNT
} problem_role;

typedef struct problem_tensor {
    fkda_dtype dtype;                /* NONE: absent, or the mask */
    int rank;
    int64_t shape[4];
    memory_block block;
    non_finite strays;               /* of an input: when it was loaded; of an output: when it was examined */
} problem_tensor;

typedef struct problem {
    operation op;
    fkda_fwd_desc desc;
    problem_tensor tensors[PROBLEM_ROLE_COUNT];
    int64_t *bounds;                 /* host copy of cu_seqlens [N+1]; NULL: dense */
    int64_t *final_rows;             /* row of final_state that sequence n writes, -1: none; NULL: row n */
    int64_t *checkpoint_rows;        /* row of checkpoint_state that checkpoint i is in, -1: none; NULL: no checkpoints */
    void *bounds_as_stored;          /* the same in the tensor's own dtype, for the library to check; NULL: as bounds */
    choice choice;
} problem;

/* What the person asked for, on top of what the file says. */
typedef struct problem_request {
    operation_kind op;
    fkda_backend backend;
    int32_t threads;
    fkda_dtype out_dtype;            /* NONE: the dtype of v */
    fkda_dtype final_state_dtype;    /* NONE: as the file's final_state (a pool: no), else as its initial_state, else fp32. Checkpoints too */
    int is_silent;                   /* no notes: the file was loaded before */
} problem_request;

/* The tokens of sequence n: batch row, [begin, end). */
typedef struct problem_sequence { int64_t batch, begin, end; } problem_sequence;

const char *problem_role_name(problem_role role);    /* "dt_bias" */
const char *problem_gate_name(fkda_gate gate);       /* "bounded" */

/* Loads every input of the file, allocates the outputs. On failure *p holds nothing. */
fkda_status problem_load(const safetensors_file *file, const problem_request *request, problem *p);

/* The tensor of the file as `role`, its shape checked against p->desc; in host memory. Absent: dtype NONE. */
fkda_status problem_load_answer(const safetensors_file *file, const problem *p, problem_role role, problem_tensor *answer);

/* What the gates of a generated problem look like. */
typedef enum problem_gates {
    PROBLEM_GATES_SLOW,      /* as models have them after training: A_log = log U(1,16), dt_bias = softplus^-1 of a step in [1e-3, 0.1] */
    PROBLEM_GATES_RANDOM,    /* as published benchmarks draw them: A_log = U(0,1), dt_bias = U(0,1) */
    PROBLEM_GATES_FLOOR,     /* gate logits so large that every log decay of the bounded gate is its lower bound */
    PROBLEM_GATES_COUNT
} problem_gates;
extern const char *const problem_gates_names[];    /* "slow"; NULL ends the list */

/* Sequences, heads, widths, gate, states in fp32: what the generator fills. desc: shapes, gate, backend, memory and
 * pools are set. */
fkda_status problem_make(operation op, const fkda_fwd_desc *desc, problem_gates gates, const int64_t *lens, problem *p);

problem_sequence problem_sequence_at(const problem *p, int64_t n);

/* Tokens that belong to a sequence: the rows behind the last sequence of a packed problem are no part of it. */
int64_t problem_tokens(const problem *p);

/* NaN and infinity in the elements of a role that belong to a sequence; data: all of its elements, in host memory. */
non_finite problem_examine(const problem *p, problem_role role, fkda_dtype dtype, const void *data);

fkda_status problem_examine_results(problem *p);    /* out and final_state, when they are written */

void problem_index_of(const problem_tensor *t, int64_t element, int64_t index[4]);

/* A note where there are any, with how many and where; `what` stands before the name of the tensor. */
void problem_tell_strays(const char *path, const char *what, problem_role role, const problem_tensor *t);

/* What shape the desc gives to a role: fills in rank and shape. */
void problem_shape(const fkda_fwd_desc *desc, problem_role role, problem_tensor *t);

/* Would the problem and its workspace fit into the desc's memory? NO_MEMORY if not; asked before anything is loaded or generated. */
fkda_status problem_fits(operation op, const fkda_fwd_desc *desc);

/* Of a file: pools, the null rule, and how many checkpoints there are, at most so many while cu_seqlens is not loaded. */
fkda_status problem_describe_states(const safetensors_file *file, operation_kind op, fkda_fwd_desc *desc);
int problem_has_checkpoints(const fkda_fwd_desc *desc);
void problem_count_checkpoints(problem *p);           /* cu_seqlens is loaded: exactly so many */
fkda_status problem_begin_states(problem *p);         /* all is loaded: final_rows, checkpoint_rows, and what rows hold that nobody writes */
fkda_status problem_restore(const problem *p);        /* decode: the states are once more what they were before the first call */

/* Tells the desc the dtype of a role; of the mask, that it is there. */
void problem_tell(fkda_fwd_desc *desc, problem_role role, fkda_dtype dtype);

/* Shape and memory for a role; tells the desc its dtype. */
fkda_status problem_add(problem *p, problem_role role, fkda_dtype dtype);

void problem_free(problem *p);

#endif
