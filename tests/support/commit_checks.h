/*
 * Which states a decode call keeps, bit for bit: desc.commit, step states, trees of tokens, folding without outputs. The same checks for every program
 * that can run a call. What must come out is made of calls of the plainest form: one sequence, its state over the one before.
 */
#ifndef FKDA_TEST_COMMIT_CHECKS_H
#define FKDA_TEST_COMMIT_CHECKS_H

#include "flashkda.h"
#include "guarded.h"

/* The arguments of a call. Those without data are NULL. */
typedef enum commit_argument {
    COMMIT_Q, COMMIT_K, COMMIT_V, COMMIT_G, COMMIT_BETA, COMMIT_OUT, COMMIT_A_LOG, COMMIT_DT_BIAS, COMMIT_CU_SEQLENS, COMMIT_STATE, COMMIT_SLOTS,
    COMMIT_MASK, COMMIT_NUM_ACCEPTED, COMMIT_STEP_STATES, COMMIT_PARENT, COMMIT_ARGUMENTS
} commit_argument;
typedef struct commit_buffer {
    void *data;
    size_t bytes;
} commit_buffer;

static inline int commit_is_written(int argument) { return argument == COMMIT_OUT || argument == COMMIT_STATE || argument == COMMIT_STEP_STATES; }
static inline fkda_decode_args commit_args(void *const *at)
{
    return (fkda_decode_args){
        .struct_size = sizeof(fkda_decode_args), .q = at[COMMIT_Q], .k = at[COMMIT_K], .v = at[COMMIT_V], .g = at[COMMIT_G], .beta = at[COMMIT_BETA],
        .out = at[COMMIT_OUT], .A_log = at[COMMIT_A_LOG], .dt_bias = at[COMMIT_DT_BIAS], .cu_seqlens = at[COMMIT_CU_SEQLENS], .state = at[COMMIT_STATE],
        .slots = at[COMMIT_SLOTS], .initial_mask = at[COMMIT_MASK], .num_accepted = at[COMMIT_NUM_ACCEPTED], .step_states = at[COMMIT_STEP_STATES],
        .parent = at[COMMIT_PARENT],
    };
}

/* Runs a call whose arguments lie in host memory, where the results are to be afterwards; *device_status: bits that the device found. */
typedef fkda_status commit_runner(const void *context, const fkda_decode_desc *desc, const commit_buffer *buffers, uint32_t *device_status);

typedef struct commit_way {
    commit_runner *run;
    const void *context;
    const char *name;
    int widest_only;          /* K = V = 128 alone */
    int finds_on_device;      /* what breaks a rule is a bit of the status, and not refused */
    int64_t none_together_from, last_together_from;    /* with so many tokens and that commit out and state have other bits; 0: never */
} commit_way;

void check_commits(const commit_way *way);         /* NONE, LAST, ACCEPTED, folding, EACH */
void check_step_states(const commit_way *way);     /* beside NONE, LAST and ACCEPTED */
void check_trees(const commit_way *way);
void check_commit_nan(const commit_way *way);      /* NaN stays behind the tokens that it is in */
void check_broken_commits(const commit_way *way);  /* arrays that break their rules, found on the device */

#endif
