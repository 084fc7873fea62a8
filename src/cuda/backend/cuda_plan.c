/* Asks the kernels in order; collects their refusals into one sentence. */
#include "backend/cuda_plan.h"

#include <stdio.h>
#include <string.h>

#include "status.h"

int fkdai_cuda_has_kernel(const fkdai_cuda_machine *m, int device)
{
    if (device < 0 || device >= m->device_count) return 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k)
        if ((*k)->runs_on(&m->devices[device])) return 1;
    return 0;
}

void fkdai_cuda_architectures(char *text, size_t size)
{
    size_t used = 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL && used < size; ++k)
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", (*k)->architectures);
}

static fkda_status check_device(const fkdai_cuda_machine *m, const fkda_fwd_desc *d)
{
    REQUIRE(d->memory == FKDA_MEMORY_CUDA, FKDA_ERR_UNSUPPORTED, "the tensors are in host memory, this backend reads CUDA memory");
    REQUIRE(m->status == FKDA_OK, m->status, "%s", m->reason);
    REQUIRE(d->device < m->device_count, FKDA_ERR_NO_DEVICE, "desc.device = %d, but there are %d devices", (int)d->device, m->device_count);
    if (fkdai_cuda_has_kernel(m, d->device)) return FKDA_OK;
    const fkdai_cuda_device *const on = &m->devices[d->device];
    char architectures[64];
    fkdai_cuda_architectures(architectures, sizeof architectures);
    return fkdai_fail(FKDA_ERR_ARCH, "device %d (%s) is sm_%d%d, kernels exist for %s", (int)d->device, on->name, on->major, on->minor, architectures);
}

fkda_status fkdai_cuda_plan(const fkdai_cuda_machine *machine, fkdai_plan *plan)
{
    TRY(check_device(machine, &plan->desc));
    const fkdai_cuda_device *const on = &machine->devices[plan->desc.device];
    char reasons[FKDAI_SENTENCE_BYTES];
    size_t used = 0;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k) {
        if (!(*k)->runs_on(on)) continue;
        fkdai_cuda_own own = {.kernel = *k};
        if ((*k)->plan(on, plan, &own.plan) == FKDA_OK) {
            memcpy(plan->own, &own, sizeof own);
            return FKDA_OK;
        }
        if (used < sizeof reasons)
            used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", (*k)->name, fkda_last_error());
    }
    return fkdai_fail(FKDA_ERR_UNSUPPORTED, "%s", reasons);
}
