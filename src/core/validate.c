/* Rules on a desc: values, dtypes, shapes, strides, in this order. Rules on pointers are in validate_args.c. */
#include "validate.h"

#include <inttypes.h>
#include <math.h>

#include "dtype.h"
#include "extent.h"
#include "status.h"

static fkda_status check_enums(const fkda_fwd_desc *d)
{
    REQUIRE((unsigned)d->backend < FKDA_BACKEND_COUNT, FKDA_ERR_BAD_VALUE, "desc.backend = %d is not an fkda_backend", (int)d->backend);
    REQUIRE((unsigned)d->memory <= FKDA_MEMORY_CUDA, FKDA_ERR_BAD_VALUE, "desc.memory = %d is not an fkda_memory", (int)d->memory);
    REQUIRE(d->device >= 0, FKDA_ERR_BAD_VALUE, "desc.device = %d is negative", (int)d->device);
    REQUIRE(d->threads >= 0, FKDA_ERR_BAD_VALUE, "desc.threads = %d is negative", (int)d->threads);
    REQUIRE((d->flags & ~(FKDA_FLAG_INITIAL_MASK | FKDA_FLAG_CHECK_SEQLENS)) == 0, FKDA_ERR_BAD_VALUE,
            "desc.flags = 0x%x has bits that this library does not know", (unsigned)d->flags);
    REQUIRE(d->reserved == 0, FKDA_ERR_BAD_VALUE, "desc.reserved = %u, but it must be 0", (unsigned)d->reserved);
    REQUIRE((unsigned)d->gate <= FKDA_GATE_PRECOMPUTED, FKDA_ERR_BAD_VALUE, "desc.gate = %d is not an fkda_gate", (int)d->gate);
    REQUIRE((unsigned)d->beta_kind <= FKDA_BETA_ACTIVATED, FKDA_ERR_BAD_VALUE, "desc.beta_kind = %d is not an fkda_beta", (int)d->beta_kind);
    REQUIRE(d->beta_multiplier >= 0 && d->beta_multiplier <= 2, FKDA_ERR_BAD_VALUE, "desc.beta_multiplier = %d is not 0, 1 or 2",
            (int)d->beta_multiplier);
    REQUIRE((unsigned)d->qk_norm <= FKDA_QK_NORM_NONE, FKDA_ERR_BAD_VALUE, "desc.qk_norm = %d is not an fkda_qk_norm", (int)d->qk_norm);
    return FKDA_OK;
}

static fkda_status check_numbers(const fkda_fwd_desc *d)
{
    REQUIRE(isfinite(d->scale), FKDA_ERR_BAD_VALUE, "desc.scale = %g is not finite", (double)d->scale);
    if (d->gate == FKDA_GATE_BOUNDED)
        REQUIRE(isgreaterequal(d->lower_bound, -5.0f) && islessequal(d->lower_bound, 0.0f), FKDA_ERR_BAD_VALUE, "desc.lower_bound = %g is outside [-5, 0]",
                (double)d->lower_bound);
    if (d->gate == FKDA_GATE_PRECOMPUTED)
        REQUIRE(d->A_log == FKDA_NONE && d->dt_bias == FKDA_NONE, FKDA_ERR_BAD_VALUE,
                "desc.A_log and desc.dt_bias must be absent with a precomputed gate");
    return FKDA_OK;
}

static fkda_status check_dtype(const char *name, fkda_dtype dtype, unsigned allowed, const char *rule)
{
    REQUIRE((unsigned)dtype <= FKDA_I64 && (allowed >> dtype & 1u), FKDA_ERR_DTYPE, "desc.%s has dtype %d; it takes %s", name, (int)dtype, rule);
    return FKDA_OK;
}

#define FLOATS (1u << FKDA_BF16 | 1u << FKDA_F32 | 1u << FKDA_F16)
#define INTS   (1u << FKDA_I32 | 1u << FKDA_I64)
#define ABSENT (1u << FKDA_NONE)

static fkda_status check_state_dtypes(const char *name, const fkda_state_desc *s)
{
    TRY(check_dtype(name, s->dtype, FLOATS | ABSENT, "none, bf16, f32"));
    if (s->dtype == FKDA_NONE) return FKDA_OK;
    REQUIRE((unsigned)s->layout <= FKDA_STATE_NHKV, FKDA_ERR_BAD_VALUE, "desc.%s.layout = %d is not an fkda_state_layout", name, (int)s->layout);
    REQUIRE(s->slot_count >= 0, FKDA_ERR_SHAPE, "desc.%s.slot_count = %" PRId64 " is negative", name, s->slot_count);
    if (s->slot_count == 0) return FKDA_OK;
    TRY(check_dtype(name, s->slot_dtype, INTS, "slot indices in i32 or i64"));
    REQUIRE((unsigned)s->slot_null <= FKDA_SLOT_NULL_NOT_POSITIVE, FKDA_ERR_BAD_VALUE, "desc.%s.slot_null = %d is not an fkda_slot_null", name,
            (int)s->slot_null);
    return FKDA_OK;
}

static fkda_status check_dtypes(const fkda_fwd_desc *d)
{
    for (int i = 0; i < FKDAI_TENSOR_COUNT; ++i) {
        const fkdai_tensor_view t = fkdai_tensor_at(d, i);
        TRY(check_dtype(t.name, t.desc->dtype, FLOATS, "bf16, f32"));
        REQUIRE(t.desc->reserved == 0, FKDA_ERR_BAD_VALUE, "desc.%s.reserved = %u, but it must be 0", t.name, (unsigned)t.desc->reserved);
    }
    TRY(check_dtype("cu_seqlens", d->cu_seqlens, INTS | ABSENT, "none, i32, i64"));
    TRY(check_dtype("A_log", d->A_log, FLOATS | ABSENT, "none, bf16, f32"));
    TRY(check_dtype("dt_bias", d->dt_bias, FLOATS | ABSENT, "none, bf16, f32"));
    TRY(check_state_dtypes("initial_state", &d->initial_state));
    TRY(check_state_dtypes("final_state", &d->final_state));
    return check_state_dtypes("checkpoints", &d->checkpoints);
}

static fkda_status check_shape(const fkda_fwd_desc *d)
{
    REQUIRE(d->B >= 0, FKDA_ERR_SHAPE, "desc.B = %" PRId64 " is negative", d->B);
    REQUIRE(d->T >= 0, FKDA_ERR_SHAPE, "desc.T = %" PRId64 " is negative", d->T);
    REQUIRE(d->H >= 1, FKDA_ERR_SHAPE, "desc.H = %" PRId64 ", but it must be at least 1", d->H);
    REQUIRE(d->HV >= 1 && d->HV % d->H == 0, FKDA_ERR_SHAPE, "desc.HV = %" PRId64 " is not a positive multiple of H = %" PRId64, d->HV, d->H);
    REQUIRE(d->K >= 1, FKDA_ERR_SHAPE, "desc.K = %" PRId64 ", but it must be at least 1", d->K);
    REQUIRE(d->V >= 1, FKDA_ERR_SHAPE, "desc.V = %" PRId64 ", but it must be at least 1", d->V);
    if (d->cu_seqlens == FKDA_NONE) {
        REQUIRE(d->N == d->B, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " differs from B = %" PRId64 " of a dense batch", d->N, d->B);
    } else {
        REQUIRE(d->B == 1, FKDA_ERR_SHAPE, "desc.B = %" PRId64 ", but packed sequences need B = 1", d->B);
        REQUIRE(d->N >= 0, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " is negative", d->N);
        REQUIRE(d->N < INT64_MAX / 8, FKDA_ERR_OVERFLOW, "desc.N = %" PRId64 " needs more than 2^63 bytes", d->N);
    }
    REQUIRE(d->checkpoint_every >= 0, FKDA_ERR_SHAPE, "desc.checkpoint_every = %" PRId64 " is negative", d->checkpoint_every);
    REQUIRE(d->checkpoint_count >= 0, FKDA_ERR_SHAPE, "desc.checkpoint_count = %" PRId64 " is negative", d->checkpoint_count);
    return FKDA_OK;
}

static void fill_scalars(fkda_fwd_desc *d)
{
    if (d->HV == 0) d->HV = d->H;
    if (d->cu_seqlens == FKDA_NONE && d->N == 0) d->N = d->B;
    if (d->beta_multiplier == 0) d->beta_multiplier = 1;
    fkda_tensor_desc *const tensors[FKDAI_TENSOR_COUNT] = {&d->q, &d->k, &d->v, &d->g, &d->beta, &d->out};
    for (int i = 0; i < FKDAI_TENSOR_COUNT; ++i)
        if (tensors[i]->dtype == FKDA_NONE) tensors[i]->dtype = FKDA_BF16;
}

fkda_status fkdai_resolve_fwd(const fkda_fwd_desc *desc, fkda_fwd_desc *resolved)
{
    REQUIRE(desc != NULL, FKDA_ERR_NULL_POINTER, "desc is NULL");
    REQUIRE(desc->struct_size == sizeof *desc, FKDA_ERR_STRUCT_SIZE, "desc.struct_size = %zu, but sizeof(fkda_fwd_desc) is %zu",
            desc->struct_size, sizeof *desc);
    fkda_fwd_desc d = *desc;
    fill_scalars(&d);
    TRY(check_enums(&d));
    TRY(check_numbers(&d));
    TRY(check_dtypes(&d));
    TRY(check_shape(&d));
    TRY(fkdai_resolve_strides(&d));
    *resolved = d;
    return FKDA_OK;
}
