/* In the place of the launchers of span_call.h, where no call is cut (cuda_in_host_memory.c: the Hopper kernel takes whatever could be). */
#include "span_call.h"

enum { NOT_SUPPORTED = 801 };    /* cudaErrorNotSupported */

int fkdai_span_load(void) { return 0; }

int fkdai_span_set_up(const fkdai_span_setup *setup, void *stream)
{
    (void)setup, (void)stream;
    return NOT_SUPPORTED;
}

int fkdai_span_carry_states(const fkdai_span_carry *carry, void *stream)
{
    (void)carry, (void)stream;
    return NOT_SUPPORTED;
}
