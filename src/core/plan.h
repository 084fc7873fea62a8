/* The device-neutral half of a plan. */
#ifndef FKDAI_PLAN_H
#define FKDAI_PLAN_H

#include "backend.h"

/* desc → *plan by the first backend that accepts, or by the one that desc names. *plan is written only on FKDA_OK. */
fkda_status fkdai_make_plan(const fkda_fwd_desc *desc, fkdai_plan *plan);

/* The backend with this id that is compiled in, or NULL. */
const fkdai_backend *fkdai_find_backend(fkda_backend id);

#endif
