/* Rules on the fields of a desc that operations share. Rules on pointers are in validate_args.c. */
#include "validate.h"

#include <inttypes.h>

#include "status.h"

fkda_status fkdai_check_dtype(const char *name, fkda_dtype dtype, unsigned allowed, const char *rule)
{
    REQUIRE((unsigned)dtype <= FKDA_I64 && (allowed >> dtype & 1u), FKDA_ERR_DTYPE, "desc.%s has dtype %d; it takes %s", name, (int)dtype, rule);
    return FKDA_OK;
}

fkda_status fkdai_check_tensor_dtype(const char *name, const fkda_tensor_desc *t)
{
    TRY(fkdai_check_dtype(name, t->dtype, FKDAI_FLOATS, "bf16, f32"));
    REQUIRE(t->reserved == 0, FKDA_ERR_BAD_VALUE, "desc.%s.reserved = %u, but it must be 0", name, (unsigned)t->reserved);
    return FKDA_OK;
}

fkda_status fkdai_check_state_dtypes(const char *name, const fkda_state_desc *s)
{
    TRY(fkdai_check_dtype(name, s->dtype, FKDAI_FLOATS | FKDAI_ABSENT, "none, bf16, f32"));
    if (s->dtype == FKDA_NONE) return FKDA_OK;
    REQUIRE((unsigned)s->layout <= FKDA_STATE_NHKV, FKDA_ERR_BAD_VALUE, "desc.%s.layout = %d is not an fkda_state_layout", name, (int)s->layout);
    REQUIRE(s->slot_count >= 0, FKDA_ERR_SHAPE, "desc.%s.slot_count = %" PRId64 " is negative", name, s->slot_count);
    if (s->slot_count == 0) return FKDA_OK;
    TRY(fkdai_check_dtype(name, s->slot_dtype, FKDAI_INTS, "slot indices in i32 or i64"));
    REQUIRE((unsigned)s->slot_null <= FKDA_SLOT_NULL_NONE, FKDA_ERR_BAD_VALUE, "desc.%s.slot_null = %d is not an fkda_slot_null", name,
            (int)s->slot_null);
    return FKDA_OK;
}
