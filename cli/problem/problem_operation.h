/*
 * Which operation of the library a command asks for. Both are described by the desc and the args of the forward pass. Decode: B sequences of T tokens,
 * or packed ones; final_state is the state (slots: initial_slots), read and written in place; it begins as initial_state.
 */
#ifndef CLI_PROBLEM_OPERATION_H
#define CLI_PROBLEM_OPERATION_H

#include "flashkda.h"

typedef enum operation_kind { OPERATION_PREFILL, OPERATION_DECODE } operation_kind;
extern const char *const operation_names[];    /* "prefill"; NULL ends the list */

typedef struct operation {
    operation_kind kind;
    int64_t most_tokens;      /* packed decode: of one sequence; 0: not known yet, as many as decode takes */
    int64_t layers;           /* decode: so many states of every sequence, one behind the other, each of which a call updates; 0: 1 */
} operation;

int64_t operation_layers(operation op);    /* 1 or more */

/* As fkda_fwd_query and so on; failures are sentences of the library. */
fkda_status operation_query(operation op, const fkda_fwd_desc *desc, fkda_backend *backend);
fkda_status operation_workspace_size(operation op, const fkda_fwd_desc *desc, size_t *bytes);
fkda_status operation_plan(operation op, const fkda_fwd_desc *desc, fkda_plan *plan);
fkda_status operation_run(operation op, const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream);

#endif
