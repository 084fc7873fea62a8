/* What the public functions do for every operation; flashkda.h says what. */
#ifndef FKDAI_API_H
#define FKDAI_API_H

#include "operation.h"

fkda_status fkdai_api_call(const fkdai_operation *operation, const void *desc, const void *args, void *workspace, size_t workspace_bytes,
                           fkda_stream stream);
fkda_status fkdai_api_plan(const fkdai_operation *operation, const void *desc, fkda_plan *plan);
fkda_status fkdai_api_run(const fkdai_operation *operation, const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes,
                          fkda_stream stream);
fkda_status fkdai_api_workspace_size(const fkdai_operation *operation, const void *desc, size_t *bytes);
fkda_status fkdai_api_query(const fkdai_operation *operation, const void *desc, fkda_backend *backend);
fkda_status fkdai_api_advise(const fkdai_operation *operation, const void *desc, const void *args, void *takes, uint32_t *copies);

#endif
