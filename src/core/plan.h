/* The device-neutral half of a plan. */
#ifndef FKDAI_PLAN_H
#define FKDAI_PLAN_H

#include "backend.h"

/* desc → *plan by the first backend that accepts, or by the one that desc names. After a failure *plan is no plan. */
fkda_status fkdai_make_plan(const fkdai_operation *operation, const void *desc, fkdai_plan *plan);

/* The same, but with arguments described as copies where that makes a backend accept; *copies has their bits. args may be NULL. */
fkda_status fkdai_make_suited_plan(const fkdai_operation *operation, const void *desc, const void *args, fkdai_plan *plan, uint32_t *copies);

/* The backend with this id, or the entry that ends the list. */
const fkdai_backend_entry *fkdai_find_backend(fkda_backend id);

#endif
