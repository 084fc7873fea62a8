/* What the forward kernels take of a call alike, and how they are given it. */
#include "cuda_forward.h"

#include <inttypes.h>

#include "op_fwd.h"
#include "status.h"

_Static_assert(FKDAI_SEQLENS_BROKEN == FKDA_DEVICE_SEQLENS_BROKEN && FKDAI_SLOT_BROKEN == FKDA_DEVICE_SLOT_BROKEN &&
               FKDAI_CHECKPOINT_BROKEN == FKDA_DEVICE_CHECKPOINT_BROKEN, "one bit, two names");

#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, __VA_ARGS__)

/* ---------------------------------------------------------------- what they take */

/* Rows are read through 16-byte units, by the copy engine with strides below 2^40 bytes. */
static fkda_status check_rows(const char *name, const fkda_tensor_desc *t, fkdai_shape shape, fkda_dtype dtype)
{
    const struct { const char *name; int64_t stride, size; } axes[3] = {
        {"batch", t->batch_stride, shape.B}, {"token", t->token_stride, shape.T}, {"head", t->head_stride, shape.heads}};
    REFUSE_UNLESS(t->dtype == dtype, "%s has dtype %d, kernels exist for bf16, and for log a in fp32", name, (int)t->dtype);
    for (int i = 0; i < 3; ++i) {
        if (axes[i].size <= 1) continue;
        REFUSE_UNLESS(axes[i].stride % 8 == 0, "%s.%s_stride = %" PRId64 " is not a multiple of 8 elements (16 bytes)", name, axes[i].name,
                      axes[i].stride);
        REFUSE_UNLESS(axes[i].stride < INT64_C(1) << 39, "%s.%s_stride = %" PRId64 " is not below 2^39 elements", name, axes[i].name,
                      axes[i].stride);
    }
    return FKDA_OK;
}

/* Rows of V are read in pairs of elements, rows of K one element at a time. */
static fkda_status check_state(const char *name, const fkda_state_desc *s)
{
    if (s->dtype == FKDA_NONE || s->layout == FKDA_STATE_NHKV) return FKDA_OK;
    REFUSE_UNLESS(s->row_stride % 2 == 0, "%s.row_stride = %" PRId64 " is odd, pairs of elements are read at once", name, s->row_stride);
    return FKDA_OK;
}

/* The device counts tokens, heads, sequences, halves of states, and the chunks of one head of all sequences in 32 bits; elements in 64. */
static fkda_status check_sizes(const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->T <= INT32_MAX - 64, "T = %" PRId64 " is not below 2^31 - 64", d->T);
    REFUSE_UNLESS(d->B <= INT32_MAX, "B = %" PRId64 " is not below 2^31", d->B);
    REFUSE_UNLESS(d->B * d->T < INT64_C(1) << 35, "B*T = %" PRId64 " is not below 2^35", d->B * d->T);
    REFUSE_UNLESS(d->HV <= INT64_C(1) << 30, "HV = %" PRId64 " is above 2^30", d->HV);
    REFUSE_UNLESS(d->HV * (d->HV / d->H) <= INT64_C(1) << 32, "HV*HV/H = %" PRId64 " is above 2^32", d->HV * (d->HV / d->H));
    REFUSE_UNLESS(d->N <= INT32_MAX / 8, "N = %" PRId64 " is above 2^28 - 1", d->N);
    REFUSE_UNLESS(d->checkpoints_per_sequence < INT32_MAX, "checkpoints_per_sequence = %" PRId64 " is not below 2^31 - 1", d->checkpoints_per_sequence);
    return FKDA_OK;
}

/* The arguments that it has rules for, in the order in which they are checked. */
static const fkda_arg ruled[] = {FKDA_ARG_Q, FKDA_ARG_K, FKDA_ARG_V, FKDA_ARG_G, FKDA_ARG_OUT, FKDA_ARG_INITIAL_STATE, FKDA_ARG_FINAL_STATE,
                                 FKDA_ARG_CHECKPOINT_STATE};
enum { RULED_COUNT = sizeof ruled / sizeof *ruled };

static const char *name_of(fkda_arg argument) { return fkdai_op_fwd.arguments[argument].name; }

/* NULL: it is no state. */
static const fkda_state_desc *state_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    return argument == FKDA_ARG_INITIAL_STATE ? &d->initial_state : argument == FKDA_ARG_FINAL_STATE ? &d->final_state
         : argument == FKDA_ARG_CHECKPOINT_STATE ? &d->checkpoints : NULL;
}

/* log a is taken in fp32 too: rounded to bf16 it would be another gate. */
static int takes_f32(const fkda_fwd_desc *d, fkda_arg argument)
{
    return argument == FKDA_ARG_G && d->gate == FKDA_GATE_PRECOMPUTED && d->g.dtype == FKDA_F32;
}

/* How one argument lies, but for its address. */
static fkda_status check_form(const fkda_fwd_desc *d, fkda_arg argument)
{
    const fkda_state_desc *const state = state_of(d, argument);
    if (state != NULL) return check_state(name_of(argument), state);
    return check_rows(name_of(argument), fkdai_fwd_tensor(d, argument), fkdai_fwd_shape(d, argument), takes_f32(d, argument) ? FKDA_F32 : FKDA_BF16);
}

/* Bytes that are moved at once. */
static unsigned unit_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    const fkda_state_desc *const state = state_of(d, argument);
    return state == NULL ? 16u : (state->dtype == FKDA_F32 ? 4u : 2u) * (state->layout == FKDA_STATE_NHVK ? 2u : 1u);
}

static fkda_status check_address(const fkda_fwd_desc *d, const void *args, fkda_arg argument)
{
    const void *const data = fkdai_pointer(&fkdai_op_fwd, args, (int)argument);
    const unsigned bytes = unit_of(d, argument);
    REQUIRE(((uintptr_t)data & (bytes - 1)) == 0, FKDA_ERR_MISALIGNED, "args.%s = %p is not aligned to the %u bytes that are moved at once, and desc.unaligned"
            " lacks its bit", name_of(argument), data, bytes);
    return FKDA_OK;
}

fkda_status fkdai_forward_check_desc(const fkda_fwd_desc *d)
{
    TRY(check_sizes(d));
    for (int i = 0; i < RULED_COUNT; ++i) TRY(check_form(d, ruled[i]));
    return FKDA_OK;
}

fkda_status fkdai_forward_check_args(const fkdai_desc *desc, const void *args)
{
    for (int i = 0; i < RULED_COUNT; ++i) TRY(check_address(&desc->fwd, args, ruled[i]));
    return FKDA_OK;
}

/* ---------------------------------------------------------------- what it takes as a copy */

static fkda_status copy(fkda_fwd_desc *d, fkda_arg argument, uint32_t *copies)
{
    const fkda_state_desc *const state = state_of(d, argument);
    return fkdai_fwd_copy(d, argument, state != NULL ? state->dtype : takes_f32(d, argument) ? FKDA_F32 : FKDA_BF16, copies);
}

/* The rules above, asked of one argument after the other. */
fkda_status fkdai_forward_suit(fkdai_desc *desc, const void *args, uint32_t *copies)
{
    fkda_fwd_desc *const d = &desc->fwd;
    for (int i = 0; i < RULED_COUNT; ++i) {
        const int lies_well = check_form(d, ruled[i]) == FKDA_OK && (args == NULL || check_address(d, args, ruled[i]) == FKDA_OK);
        if (!lies_well) TRY(copy(d, ruled[i], copies));
    }
    return FKDA_OK;
}

/* ---------------------------------------------------------------- how they are given it */

fkdai_element fkdai_forward_element(fkda_dtype dtype)
{
    switch (dtype) {
    case FKDA_BF16: return FKDAI_BF16;
    case FKDA_F32: return FKDAI_F32;
    case FKDA_I32: return FKDAI_I32;
    case FKDA_I64: return FKDAI_I64;
    case FKDA_NONE: case FKDA_F16: break;
    }
    return FKDAI_ABSENT;
}

/* The stride along a dimension of size 1 is the caller's leftover; the copy engine still wants a valid one. */
fkdai_strides fkdai_forward_strides(const fkda_fwd_desc *d, fkda_arg argument)
{
    const fkda_tensor_desc *const t = fkdai_fwd_tensor(d, argument);
    const fkdai_shape shape = fkdai_fwd_shape(d, argument);
    return (fkdai_strides){shape.B > 1 ? t->batch_stride : d->K, shape.T > 1 ? t->token_stride : d->K, shape.heads > 1 ? t->head_stride : d->K};
}

fkdai_tensor fkdai_forward_tensor(const fkda_fwd_desc *d, fkda_arg argument, const void *data)
{
    return (fkdai_tensor){data, fkdai_forward_strides(d, argument), fkdai_forward_element(fkdai_fwd_tensor(d, argument)->dtype)};
}

fkdai_gate fkdai_forward_gate(fkda_gate gate)
{
    static const fkdai_gate gates[] = {[FKDA_GATE_BOUNDED] = FKDAI_GATE_BOUNDED, [FKDA_GATE_SOFTPLUS] = FKDAI_GATE_SOFTPLUS,
                                       [FKDA_GATE_PRECOMPUTED] = FKDAI_GATE_PRECOMPUTED};
    return gates[gate];
}

fkdai_state_rows fkdai_forward_state_rows(const fkda_state_desc *s, const void *slots)
{
    return (fkdai_state_rows){.row_stride = s->row_stride, .element = fkdai_forward_element(s->dtype), .is_k_first = s->layout == FKDA_STATE_NHKV,
                              .slots = {slots, s->slot_count > 0 ? fkdai_forward_element(s->slot_dtype) : FKDAI_ABSENT}, .slot_count = s->slot_count,
                              .first_slot = s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE};
}
