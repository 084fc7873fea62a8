/* desc + machine → which workers, how much scratch; every refusal names the field and the rule. */
#include "cuda_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "status.h"

#define KERNEL "cuda.sm90"
#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, KERNEL ": " __VA_ARGS__)

static fkda_status check_device(const fkdai_cuda_machine *m, const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->memory == FKDA_MEMORY_CUDA, "the tensors are in host memory, this backend reads CUDA memory");
    REQUIRE(m->status == FKDA_OK, m->status, "%s", m->reason);
    REQUIRE(d->device < m->device_count, FKDA_ERR_NO_DEVICE, "desc.device = %d, but there are %d devices", (int)d->device, m->device_count);
    const fkdai_cuda_device *const on = &m->devices[d->device];
    REQUIRE(on->major == 9 && on->minor == 0, FKDA_ERR_ARCH, "device %d (%s) is sm_%d%d, kernels exist for sm_90", (int)d->device, on->name,
            on->major, on->minor);
    return FKDA_OK;
}

static fkda_status check_meaning(const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->K == 128, "K = %" PRId64 ", kernels exist for K = 128", d->K);
    REFUSE_UNLESS(d->V == 128, "V = %" PRId64 ", kernels exist for V = 128", d->V);
    REFUSE_UNLESS(d->HV == d->H, "HV = %" PRId64 " and H = %" PRId64 ", kernels exist for HV = H", d->HV, d->H);
    REFUSE_UNLESS(d->gate == FKDA_GATE_BOUNDED, "gate = %d, kernels exist for the bounded gate", (int)d->gate);
    REFUSE_UNLESS(d->beta_kind == FKDA_BETA_LOGIT, "beta_kind = %d, kernels exist for beta logits", (int)d->beta_kind);
    REFUSE_UNLESS(d->beta_multiplier == 1, "beta_multiplier = %d, kernels exist for 1", (int)d->beta_multiplier);
    REFUSE_UNLESS(d->qk_norm == FKDA_QK_NORM_L2, "qk_norm = %d, kernels exist for the L2 norm", (int)d->qk_norm);
    return FKDA_OK;
}

/* The copy engine reads rows through 16-byte units, and strides below 2^40 bytes. */
static fkda_status check_rows(const char *name, const fkda_tensor_desc *t, const fkda_fwd_desc *d)
{
    const struct { const char *name; int64_t stride, size; } axes[3] = {
        {"batch", t->batch_stride, d->B}, {"token", t->token_stride, d->T}, {"head", t->head_stride, d->H}};
    REFUSE_UNLESS(t->dtype == FKDA_BF16, "%s has dtype %d, kernels exist for bf16", name, (int)t->dtype);
    for (int i = 0; i < 3; ++i) {
        if (axes[i].size <= 1) continue;
        REFUSE_UNLESS(axes[i].stride % 8 == 0, "%s.%s_stride = %" PRId64 " is not a multiple of 8 elements (16 bytes)", name, axes[i].name,
                      axes[i].stride);
        REFUSE_UNLESS(axes[i].stride < INT64_C(1) << 39, "%s.%s_stride = %" PRId64 " is not below 2^39 elements", name, axes[i].name,
                      axes[i].stride);
    }
    return FKDA_OK;
}

static fkda_status check_state(const char *name, const fkda_state_desc *s)
{
    if (s->dtype == FKDA_NONE) return FKDA_OK;
    REFUSE_UNLESS(s->layout == FKDA_STATE_NHVK, "%s.layout = %d, kernels exist for NHVK", name, (int)s->layout);
    REFUSE_UNLESS(s->row_stride % 2 == 0, "%s.row_stride = %" PRId64 " is odd, pairs of elements are read at once", name, s->row_stride);
    return FKDA_OK;
}

static fkda_status check_sizes(const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->T <= INT32_MAX - 64, "T = %" PRId64 " is not below 2^31 - 63", d->T);
    REFUSE_UNLESS(d->B <= INT32_MAX, "B = %" PRId64 " is not below 2^31", d->B);
    REFUSE_UNLESS(d->H <= INT32_MAX, "H = %" PRId64 " is not below 2^31", d->H);
    REFUSE_UNLESS(d->N <= INT32_MAX / 8, "N = %" PRId64 " is above 2^28 - 1", d->N);
    return FKDA_OK;
}

fkda_status fkdai_cuda_plan(const fkdai_cuda_machine *machine, fkdai_plan *plan)
{
    const fkda_fwd_desc *const d = &plan->desc;
    TRY(check_device(machine, d));
    TRY(check_meaning(d));
    TRY(check_sizes(d));
    TRY(check_rows("q", &d->q, d));
    TRY(check_rows("k", &d->k, d));
    TRY(check_rows("v", &d->v, d));
    TRY(check_rows("g", &d->g, d));
    TRY(check_rows("out", &d->out, d));
    REFUSE_UNLESS(d->beta.dtype == FKDA_BF16, "beta has dtype %d, kernels exist for bf16", (int)d->beta.dtype);
    TRY(check_state("initial_state", &d->initial_state));
    TRY(check_state("final_state", &d->final_state));

    const fkdai_cuda_device *const on = &machine->devices[d->device];
    static const struct { const char *mapping, *workers; } names[] = {
        [FKDAI_QUAD] = {"quad", "clusters of 4"}, [FKDAI_PAIR] = {"pair", "clusters of 2"},
        [FKDAI_SOLO] = {"solo", "blocks"}, [FKDAI_EITHER] = {"pair or solo", "blocks"}};
    const fkdai_cuda_own own = {.grid = fkdai_prefill_make_grid(FKDAI_EITHER, d->B * d->T, d->N, d->H, on->multiprocessors)};
    REFUSE_UNLESS(on->shared_bytes >= fkdai_prefill_shared_bytes(), "device %d offers %d bytes of shared memory per block, the kernel needs %d",
                  (int)d->device, on->shared_bytes, fkdai_prefill_shared_bytes());
    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = fkdai_prefill_workspace_bytes(d->N, d->H, own.grid);
    snprintf(plan->choice, sizeof plan->choice, "sm90 prefill %s, 32 tokens per chunk, %" PRId64 " heads of sequences on %d %s",
             names[own.grid.mapping].mapping, d->N * d->H, own.grid.workers, names[own.grid.mapping].workers);
    return FKDA_OK;
}
