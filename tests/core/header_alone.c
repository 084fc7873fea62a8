/* Compiled as strict C99, C++98 and C++11: flashkda.h needs nothing before it, may come twice, and its names work in C and C++. */
#include "flashkda.h"
#include "flashkda.h"

int use_header(void);
int use_header(void)
{
    fkda_fwd_desc desc;    /* never run: only that it compiles */
    fkda_fwd_args args;
    fkda_plan plan;
    desc.struct_size = sizeof desc;
    args.struct_size = sizeof args;
    desc.backend = FKDA_BACKEND_AUTO;
    plan.opaque[0] = 0;
    return (int)fkda_fwd(&desc, &args, NULL, 0, NULL) + (int)fkda_fwd_plan(&desc, &plan) + (FKDA_WORKSPACE_ALIGN > 0 ? 0 : 1);
}
