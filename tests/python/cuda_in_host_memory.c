/*
 * A CUDA backend without CUDA, for test_copies.py: one device, the kernels' own rules about what they take, and the reference in the place of the
 * kernels. The memory that is called CUDA memory is the host's.
 */
#include <string.h>

#include "cuda_plan.h"
#include "prefill_sm90/prefill_launch.h"
#include "status.h"

const fkdai_cuda_machine *fkdai_cuda_the_machine(void)
{
    static const fkdai_cuda_machine machine = {.status = FKDA_OK, .device_count = 1, .devices = {{"host memory", 9, 0, 132, 232448}}};
    return &machine;
}

int fkdai_prefill_shared_bytes(void) { return 220000; }
int fkdai_prefill_load(void) { return 0; }
int fkdai_prefill_launch(const fkdai_prefill_call *call, void *stream)
{
    (void)call, (void)stream;
    return 0;
}

static fkda_status present(char *text, size_t size)
{
    if (size > 0) text[0] = 0;
    return FKDA_OK;
}

/* The reference keeps a state [K,V] of doubles. */
static fkda_status with_workspace(fkda_status status, fkdai_plan *plan)
{
    plan->workspace_bytes += (size_t)(plan->desc.fwd.K * plan->desc.fwd.V) * sizeof(double);
    return status;
}

static fkda_status plan_fwd(fkdai_plan *plan) { return with_workspace(fkdai_cuda_plan(fkdai_cuda_the_machine(), plan), plan); }

static fkda_status suit_fwd(fkdai_plan *plan, const void *args, uint32_t *copies)
{
    return with_workspace(fkdai_cuda_suit(fkdai_cuda_the_machine(), plan, args, copies), plan);
}

static fkda_status run_fwd(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    fkdai_cuda_own own;
    memcpy(&own, plan->own, sizeof own);
    TRY(own.kernel->check_args(&plan->desc, args));
    return fkdai_ref.offers[FKDAI_OP_FWD].run(plan, args, workspace, stream);
}

const fkdai_backend fkdai_cuda = {.present = present, .offers = {[FKDAI_OP_FWD] = {plan_fwd, run_fwd, suit_fwd}}};

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", &fkdai_cuda}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};
