/* The row of the test's operation: all that the core needs to know of one. */
#include "op_sum.h"

#include <inttypes.h>

#include "extent.h"
#include "status.h"

FKDAI_ASSERT_HEAD(fkda_sum_desc);

static const size_t desc_sizes[] = {FKDAI_END_OF(fkda_sum_desc, count), FKDAI_END_OF(fkda_sum_desc, step)};
static const size_t args_sizes[] = {FKDAI_END_OF(fkda_sum_args, out), FKDAI_END_OF(fkda_sum_args, bias)};

static const fkdai_argument arguments[SUM_ARGUMENTS] = {
    [SUM_IN] = {"in", offsetof(fkda_sum_args, in), FKDAI_READ, 0},
    [SUM_OUT] = {"out", offsetof(fkda_sum_args, out), FKDAI_WRITE, 0},
    [SUM_BIAS] = {"bias", offsetof(fkda_sum_args, bias), FKDAI_READ, 1},
};

static fkda_status resolve(fkdai_desc *desc)
{
    if (desc->sum.step == 0) desc->sum.step = 1;
    REQUIRE(desc->sum.count >= 0, FKDA_ERR_SHAPE, "desc.count = %" PRId64 " is negative", desc->sum.count);
    return FKDA_OK;
}

static fkda_status refuse(const fkdai_desc *desc)
{
    REQUIRE(desc->sum.step >= 0, FKDA_ERR_UNSUPPORTED, "desc.step = %" PRId64 ": backwards is not offered yet", desc->sum.step);
    return FKDA_OK;
}

static int is_empty(const fkdai_desc *desc) { return desc->sum.count == 0; }

static void measure(const fkdai_desc *desc, fkdai_extent *extents)
{
    extents[SUM_IN] = fkdai_array_extent(FKDA_F32, desc->sum.count * desc->sum.step);
    extents[SUM_OUT] = fkdai_array_extent(FKDA_F32, desc->sum.count);
    extents[SUM_BIAS] = fkdai_array_extent(FKDA_F32, 1);
}

static int may_be_in_place(const fkdai_desc *desc, int written, int read) { return written == SUM_OUT && read == SUM_IN && desc->sum.step == 1; }

static fkda_status check_values(const fkdai_desc *desc, const void *args, void *workspace)
{
    (void)workspace;
    const fkda_sum_args *const a = args;
    REQUIRE(desc->sum.memory != FKDA_MEMORY_HOST || a->bias == NULL || *a->bias >= 0, FKDA_ERR_BAD_VALUE, "args.bias[0] is negative");
    return FKDA_OK;
}

static fkda_status suit(fkdai_desc *desc, const void *args, uint32_t *copies)
{
    (void)desc, (void)args, (void)copies;
    return FKDA_OK;
}

const fkdai_operation fkdai_op_sum = {
    .id = FKDAI_OP_SUM,
    .name = "sum",
    .desc = {"fkda_sum_desc", desc_sizes, 2},
    .args = {"fkda_sum_args", args_sizes, 2},
    .flags = 0,
    .arguments = arguments,
    .argument_count = SUM_ARGUMENTS,
    .resolve = resolve,
    .refuse = refuse,
    .is_empty = is_empty,
    .measure = measure,
    .may_be_in_place = may_be_in_place,
    .check_values = check_values,
    .suit = suit,
};
