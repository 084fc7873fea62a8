/*
 * The CUDA device of the command line: memory, copies, and timed replays of a captured call. device_cuda.c talks to the CUDA runtime;
 * device_none.c, in a build without it, refuses. Both are the only files that know which of the two this build has.
 */
#ifndef CLI_DEVICE_H
#define CLI_DEVICE_H

#include <stddef.h>

#include "flashkda.h"

enum { DEVICE_ORDINAL = 0 };    /* CUDA_VISIBLE_DEVICES chooses which card that is */

fkda_status device_alloc(size_t bytes, void **data);
void device_free(void *data);
fkda_status device_left(size_t *bytes);
fkda_status device_read(void *to_host, const void *from_device, size_t bytes);
fkda_status device_write(void *to_device, const void *from_host, size_t bytes);
fkda_status device_repeat(void *data, size_t period_bytes, size_t bytes);    /* the first period, over and over */
fkda_status device_copy(void *to_device, const void *from_device, size_t bytes);
fkda_status device_wait(void);

/* What figures belong to. Clocks as they are at the moment of asking; 0 or "unknown" where the driver does not tell. */
typedef struct device_facts {
    char gpu[96], driver[64];
    int sm_mhz, memory_mhz;
} device_facts;
void device_look(device_facts *facts);

/* Work that was put into a stream once, as a CUDA graph. device_time: milliseconds of one replay, by events, behind a flush of the L2
 * cache. */
typedef struct device_replay device_replay;
typedef fkda_status (*device_work)(const void *what, fkda_stream stream);    /* fails with a sentence in failure.h */
fkda_status device_record(device_work work, const void *what, device_replay **replay);
fkda_status device_time(device_replay *replay, double *ms);
void device_forget(device_replay *replay);    /* NULL is fine */

#endif
