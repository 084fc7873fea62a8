/* Rules that operations share. The order of checks is fixed, so that every bad input has one answer. */
#ifndef FKDAI_VALIDATE_H
#define FKDAI_VALIDATE_H

#include "backend.h"

/* Sets of dtypes. */
#define FKDAI_FLOATS (1u << FKDA_BF16 | 1u << FKDA_F32 | 1u << FKDA_F16)
#define FKDAI_INTS   (1u << FKDA_I32 | 1u << FKDA_I64)
#define FKDAI_ABSENT (1u << FKDA_NONE)

/* desc.<name> has one of the allowed dtypes; `rule` is the list in words. */
fkda_status fkdai_check_dtype(const char *name, fkda_dtype dtype, unsigned allowed, const char *rule);
fkda_status fkdai_check_tensor_dtype(const char *name, const fkda_tensor_desc *tensor);
fkda_status fkdai_check_state_dtypes(const char *name, const fkda_state_desc *state);

/* Checks the pointers, their alignment and overlap, the workspace (large enough, aligned, apart from every argument), and, with its help, the values
 * that the host can read. Every call pays for it. */
fkda_status fkdai_validate_call(const fkdai_plan *plan, const void *args, void *workspace, size_t workspace_bytes);

#endif
