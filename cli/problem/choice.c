/* The library is asked for each backend that comes before the one it would take. */
#include "choice.h"

#include <stdio.h>

#include "device.h"
#include "json_out.h"
#include "terminal.h"

static void keep_reason(char *reason) { snprintf(reason, CHOICE_REASON_BYTES, "%s", fkda_last_error()); }

/* Host memory if the CUDA backend is off or does not take the desc. */
static fkda_status try_cuda(operation op, fkda_fwd_desc *desc, choice *c)
{
    char text[CHOICE_REASON_BYTES];
    const fkda_status machine = fkda_backend_status(FKDA_BACKEND_CUDA, text, sizeof text);
    if (machine != FKDA_OK) return desc->backend == FKDA_BACKEND_AUTO ? FKDA_OK : failure(machine, "cuda: %s", text);
    fkda_fwd_desc on_device = *desc;
    on_device.backend = FKDA_BACKEND_CUDA;
    on_device.memory = FKDA_MEMORY_CUDA;
    if (desc->backend == FKDA_BACKEND_CUDA || operation_query(op, &on_device, NULL) == FKDA_OK) desc->memory = FKDA_MEMORY_CUDA;
    else keep_reason(c->why_not_cuda);
    return FKDA_OK;
}

fkda_status choice_make(operation op, fkda_fwd_desc *desc, choice *c)
{
    fkda_backend taken;
    *c = (choice){.why_not_cuda = ""};
    desc->memory = FKDA_MEMORY_HOST;
    desc->device = DEVICE_ORDINAL;
    if (desc->backend == FKDA_BACKEND_CUDA || desc->backend == FKDA_BACKEND_AUTO) TRY(try_cuda(op, desc, c));
    if (desc->backend != FKDA_BACKEND_AUTO || operation_query(op, desc, &taken) != FKDA_OK || taken != FKDA_BACKEND_REF) return FKDA_OK;
    fkda_fwd_desc on_cpu = *desc;
    on_cpu.backend = FKDA_BACKEND_CPU;
    if (operation_query(op, &on_cpu, NULL) != FKDA_OK) keep_reason(c->why_not_cpu);
    return FKDA_OK;
}

void choice_tell(const choice *c, const char *path)
{
    const char *const cuda = c->why_not_cuda, *const cpu = c->why_not_cpu;
    if (*cpu != 0) terminal_note(path, "ref computes this, the slow float64 reference, because of %s%s%scpu: %s", *cuda ? "cuda: " : "", cuda, *cuda ? "; " : "", cpu);
    else if (*cuda != 0) terminal_note(path, "the GPU does not take this: %s", cuda);
}

void choice_add_json(const choice *c, struct cJSON *line)
{
    if (*c->why_not_cuda != 0) json_add_text(line, "why_not_cuda", c->why_not_cuda);
    if (*c->why_not_cpu != 0) json_add_text(line, "why_not_cpu", c->why_not_cpu);
}
