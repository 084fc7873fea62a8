/* What may be asked. The order of checks is fixed, so that every bad input has one answer. */
#ifndef FKDAI_VALIDATE_H
#define FKDAI_VALIDATE_H

#include "flashkda.h"

/* Checks desc by itself and writes it to *resolved with every default filled in. */
fkda_status fkdai_resolve_fwd(const fkda_fwd_desc *desc, fkda_fwd_desc *resolved);

/* Checks the pointers, their alignment and overlap, and (host memory, or a host copy) the values of cu_seqlens. */
fkda_status fkdai_validate_args(const fkda_fwd_desc *resolved, const fkda_fwd_args *args);

/* Checks the workspace of a plan that needs `needed` bytes: large enough, aligned, apart from every argument. args are checked. */
fkda_status fkdai_validate_workspace(const fkda_fwd_desc *resolved, const fkda_fwd_args *args, size_t needed, const void *workspace,
                                     size_t workspace_bytes);

#endif
