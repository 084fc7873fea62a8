/* A build without CUDA: there is no device, and no way to get memory on one. */
#include <stdio.h>

#include "device.h"
#include "failure.h"

static fkda_status none(void) { return failure(FKDA_ERR_NO_DEVICE, "cuda: this build has no CUDA backend"); }

fkda_status device_alloc(size_t bytes, void **data)
{
    (void)bytes;
    *data = NULL;
    return none();
}

void device_free(void *data) { (void)data; }

fkda_status device_left(size_t *bytes)
{
    *bytes = 0;
    return none();
}

fkda_status device_read(void *to_host, const void *from_device, size_t bytes)
{
    (void)to_host, (void)from_device, (void)bytes;
    return none();
}

fkda_status device_write(void *to_device, const void *from_host, size_t bytes)
{
    (void)to_device, (void)from_host, (void)bytes;
    return none();
}

fkda_status device_repeat(void *data, size_t period_bytes, size_t bytes)
{
    (void)data, (void)period_bytes, (void)bytes;
    return none();
}

fkda_status device_copy(void *to_device, const void *from_device, size_t bytes)
{
    (void)to_device, (void)from_device, (void)bytes;
    return none();
}

fkda_status device_wait(void) { return none(); }

void device_look(device_facts *facts)
{
    *facts = (device_facts){.sm_mhz = 0};
    snprintf(facts->gpu, sizeof facts->gpu, "none");
    snprintf(facts->driver, sizeof facts->driver, "none");
}

fkda_status device_record(device_work work, const void *what, device_replay **replay)
{
    (void)work, (void)what;
    *replay = NULL;
    return none();
}

fkda_status device_time(device_replay *replay, double *ms)
{
    (void)replay, (void)ms;
    return none();
}

void device_forget(device_replay *replay) { (void)replay; }
