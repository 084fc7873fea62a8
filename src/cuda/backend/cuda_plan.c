/* Asks the kernels in order; collects their refusals into one sentence. */
#include "cuda_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_copies.h"
#include "status.h"

int fkdai_cuda_has_kernel(const fkdai_cuda_machine *m, int device)
{
    if (device < 0 || device >= m->device_count) return 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k)
        if ((*k)->runs_on(&m->devices[device])) return 1;
    return 0;
}

static const fkdai_operation *const operations[FKDAI_OP_COUNT] = {
#define ROW(NAME, name) [FKDAI_OP_##NAME] = &fkdai_op_##name,
    FKDAI_OPERATIONS(ROW)
#undef ROW
};

void fkdai_cuda_architectures(const fkdai_operation *operation, char *text, size_t size)
{
    size_t used = 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL && used < size; ++k) {
        const fkdai_operation *const does = operations[(*k)->operation];
        if (operation != NULL && operation != does) continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", used ? ", " : "", operation == NULL ? does->name : "",
                                 operation == NULL ? " on " : "", (*k)->architectures);
    }
}

static fkda_status check_device(const fkdai_cuda_machine *m, const fkdai_head *h)
{
    REQUIRE(h->memory == FKDA_MEMORY_CUDA, FKDA_ERR_UNSUPPORTED, "the tensors are in host memory, this backend reads CUDA memory");
    REQUIRE(m->status == FKDA_OK, m->status, "%s", m->reason);
    REQUIRE(h->device < m->device_count, FKDA_ERR_NO_DEVICE, "desc.device = %d, but there are %d devices", (int)h->device, m->device_count);
    return FKDA_OK;
}

static fkda_status refuse_device(const fkdai_operation *operation, const fkdai_cuda_device *on, int device)
{
    char architectures[64];
    fkdai_cuda_architectures(operation, architectures, sizeof architectures);
    const char *const asked = getenv("FKDA_CUDA_KERNEL");
    return fkdai_fail(FKDA_ERR_ARCH, "device %d (%s) is sm_%d%d, kernels exist for %s%s%s", device, on->name, on->major, on->minor, architectures,
                      asked != NULL && *asked != 0 ? "; FKDA_CUDA_KERNEL asks for " : "", asked != NULL ? asked : "");
}

/* FKDA_CUDA_KERNEL, for tests and for measuring: which kernel does the forward pass, by what stands behind "prefill_" in its name. */
static int is_asked_for(const fkdai_cuda_kernel *kernel)
{
    const char *const asked = getenv("FKDA_CUDA_KERNEL");
    if (asked == NULL || *asked == 0 || kernel->operation != FKDAI_OP_FWD) return 1;
    return strcmp(kernel->name + sizeof "prefill_" - 1, asked) == 0;
}

static int serves(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, const fkdai_plan *plan)
{
    return kernel->operation == plan->operation->id && kernel->runs_on(on) && is_asked_for(kernel);
}

/* The kernel plans for the desc as it sees it, with packed copies in the place of what it does not take as it lies. */
static fkda_status ask_packed(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, fkdai_plan *plan, fkdai_cuda_own *own)
{
    const fkdai_desc as_it_lies = plan->desc;
    fkdai_desc packed;
    if (own->unaligned != 0) TRY(fkdai_cuda_pack(&as_it_lies, own->unaligned, &packed));    /* does it fit at all? */
    if (own->strided != 0) {
        TRY(fkdai_cuda_pack(&as_it_lies, own->strided, &packed));
        plan->desc = packed;
    }
    fkda_status status = kernel->plan(on, plan, &own->plan);
    if (status == FKDA_OK && fkdai_cuda_cuts(kernel, on, &plan->desc, &own->spans)) status = fkdai_cuda_plan_spans(kernel, on, plan, &own->spans);
    plan->desc = as_it_lies;
    return status;
}

static fkda_status ask(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, fkdai_plan *plan)
{
    fkdai_cuda_own own = {.kernel = kernel, .strided = fkdai_cuda_mended_by_copies(kernel, &plan->desc, NULL)};
    if (kernel->operation == FKDAI_OP_FWD) own.unaligned = plan->desc.fwd.unaligned & fkdai_cuda_copyable(kernel, &plan->desc) & ~own.strided;
    TRY(ask_packed(kernel, on, plan, &own));
    own.copies_at = (plan->workspace_bytes + FKDA_WORKSPACE_ALIGN - 1) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN;
    const size_t room = fkdai_cuda_copies_bytes(&plan->desc, own.strided | own.unaligned);
    if (room > 0) plan->workspace_bytes = own.copies_at + room;
    plan->copies = own.strided;
    fkdai_cuda_describe_copies("copies ", own.strided, "strides", plan->choice, sizeof plan->choice);
    fkdai_cuda_describe_copies("may copy ", own.unaligned, "addresses", plan->choice, sizeof plan->choice);
    memcpy(plan->own, &own, sizeof own);
    return FKDA_OK;
}

/* Behind the choice, where several kernels do the operation: why it is this one. refusals: of those that come before. */
static void describe_reason(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, const char *refusals, fkdai_plan *plan)
{
    if (kernel->operation != FKDAI_OP_FWD) return;
    const size_t used = strlen(plan->choice), room = sizeof plan->choice - used;
    const char *const asked = getenv("FKDA_CUDA_KERNEL");
    if (asked != NULL && *asked != 0) snprintf(plan->choice + used, room, "; chosen by FKDA_CUDA_KERNEL");
    else if (*refusals != 0) snprintf(plan->choice + used, room, "; not %s", refusals);
    else if (kernel->preferred != NULL) snprintf(plan->choice + used, room, "; %s", kernel->preferred);
    else snprintf(plan->choice + used, room, "; the one for sm_%d%d", on->major, on->minor);
}

fkda_status fkdai_cuda_plan(const fkdai_cuda_machine *machine, fkdai_plan *plan)
{
    TRY(check_device(machine, &plan->desc.head));
    const fkdai_cuda_device *const on = &machine->devices[plan->desc.head.device];
    char reasons[FKDAI_SENTENCE_BYTES] = "";
    size_t used = 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k) {
        if (!serves(*k, on, plan)) continue;
        if (ask(*k, on, plan) == FKDA_OK) {
            describe_reason(*k, on, reasons, plan);
            return FKDA_OK;
        }
        if (used < sizeof reasons)
            used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", (*k)->name, fkda_last_error());
    }
    return used == 0 ? refuse_device(plan->operation, on, plan->desc.head.device) : fkdai_fail(FKDA_ERR_UNSUPPORTED, "%s", reasons);
}

/* Addresses that need a copy get their bits, but for those of arguments that the caller copies. */
static fkda_status ask_with_addresses(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, fkdai_plan *plan, const void *args,
                                      uint32_t copies)
{
    fkdai_cuda_own own;
    TRY(ask(kernel, on, plan));
    if (args == NULL) return FKDA_OK;
    memcpy(&own, plan->own, sizeof own);
    fkdai_cuda_need_addresses(plan, &own, args, copies, &plan->desc);
    return ask(kernel, on, plan);
}

/* A refusal leaves plan->desc and *copies as they were. */
static fkda_status ask_to_suit(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *on, fkdai_plan *plan, const void *args, uint32_t *copies)
{
    const fkdai_desc as_it_lies = plan->desc;
    uint32_t marked = *copies;
    fkda_status status = fkdai_cuda_leave_to_caller(kernel, &plan->desc, &marked);
    if (status == FKDA_OK) status = ask_with_addresses(kernel, on, plan, args, marked);
    if (status == FKDA_OK) *copies = marked;
    else plan->desc = as_it_lies;
    return status;
}

fkda_status fkdai_cuda_suit(const fkdai_cuda_machine *machine, fkdai_plan *plan, const void *args, uint32_t *copies)
{
    const fkda_status status = fkdai_cuda_plan(machine, plan);
    if (status != FKDA_OK && status != FKDA_ERR_UNSUPPORTED) return status;
    const fkdai_cuda_device *const on = &machine->devices[plan->desc.head.device];
    if (status == FKDA_OK) {
        fkdai_cuda_own own;
        memcpy(&own, plan->own, sizeof own);
        return ask_with_addresses(own.kernel, on, plan, args, *copies);
    }
    if (plan->desc.head.memory != FKDA_MEMORY_CUDA) return status;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k)
        if (serves(*k, on, plan) && ask_to_suit(*k, on, plan, args, copies) == FKDA_OK) return FKDA_OK;
    return fkdai_cuda_plan(machine, plan);    /* for its sentence */
}
