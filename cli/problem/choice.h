/* Which backend computes, and why a faster one does not. */
#ifndef CLI_CHOICE_H
#define CLI_CHOICE_H

#include "failure.h"
#include "problem_operation.h"

struct cJSON;

enum { CHOICE_REASON_BYTES = 512 };
typedef struct choice {
    char why_not_cuda[CHOICE_REASON_BYTES];    /* backend auto alone: a GPU that is there does not take the problem; "" otherwise */
    char why_not_cpu[CHOICE_REASON_BYTES];     /* backend auto alone: ref computes, and this is why; "" otherwise */
} choice;

/* Sets desc->memory and desc->device: the device's for CUDA, and for AUTO if the CUDA backend takes the operation of this desc; else the host's. */
fkda_status choice_make(operation op, fkda_fwd_desc *desc, choice *c);

void choice_tell(const choice *c, const char *path);    /* a note where there is something to tell */
void choice_add_json(const choice *c, struct cJSON *line);

#endif
