/*
 * The command line's device memory and replays against a CUDA runtime that is malloc: copies arrive, every call may fail, nothing leaks.
 * memory_choose is asked about machines and refusals that this file invents in place of the library.
 */
#include "harness.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "choice.h"
#include "device.h"
#include "failure.h"
#include "memory.h"

/* ---------------------------------------------------------------- the runtime */

static struct { int calls, fail_at, blocks, objects, launches, flushes, is_out_of_memory; } fake;

static cudaError_t answer(void) { return ++fake.calls == fake.fail_at ? cudaErrorUnknown : cudaSuccess; }

const char *cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "a fake error"; }
const char *cudaGetErrorName(cudaError_t error) { return error == cudaSuccess ? "cudaSuccess" : "cudaErrorFake"; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == DEVICE_ORDINAL ? answer() : cudaErrorInvalidDevice; }
cudaError_t cudaDeviceSynchronize(void) { return answer(); }

cudaError_t cudaMalloc(void **data, size_t bytes)
{
    if (fake.is_out_of_memory) return cudaErrorMemoryAllocation;
    const cudaError_t error = answer();
    if (error == cudaSuccess) *data = malloc(bytes), fake.blocks++;
    return error;
}

cudaError_t cudaFree(void *data)
{
    fake.blocks -= data != NULL;
    free(data);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    *left = (size_t)1 << 30, *all = (size_t)2 << 30;
    return answer();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    const cudaError_t error = answer();
    if (error == cudaSuccess) memcpy(to, from, bytes);
    return error;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device)
{
    (void)device;
    *value = what == cudaDevAttrL2CacheSize ? 1024 : 0;
    return answer();
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    (void)device;
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "a fake GPU");
    return answer();
}

cudaError_t cudaDeviceGetPCIBusId(char *bus_id, int size, int device)
{
    (void)bus_id, (void)size, (void)device;
    return cudaErrorUnknown;
}

/* Streams, events and graphs are all one byte. */
static cudaError_t make(void *object)
{
    void *const made = malloc(1);
    const cudaError_t error = answer();
    memcpy(object, &made, sizeof made);
    if (error == cudaSuccess) fake.objects++;
    else free(made);
    if (error != cudaSuccess) memset(object, 0, sizeof made);
    return error;
}

static cudaError_t destroy(void *object)
{
    free(object);
    fake.objects--;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return make(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return destroy(stream); }
cudaError_t cudaEventCreate(cudaEvent_t *event) { return make(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return destroy(event); }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return destroy(graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return destroy(graph); }
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) { return stream != NULL ? make(graph) : cudaErrorUnknown; }

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    return graph != NULL ? make(made) : cudaErrorUnknown;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return answer();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream, (void)mode;
    return answer();
}

cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(data, value, bytes);
    fake.flushes++;
    return answer();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event, (void)stream;
    return answer();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    (void)graph, (void)stream;
    fake.launches++;
    return answer();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    (void)from, (void)to;
    *ms = 0.5f;
    return answer();
}

/* ---------------------------------------------------------------- the library */

static fkda_status machine_status, query_status;

const char *fkda_last_error(void) { return "the kernels refuse it"; }
fkda_status operation_query(operation op, const fkda_fwd_desc *desc, fkda_backend *backend)
{
    (void)op, (void)backend;
    return desc->memory == FKDA_MEMORY_CUDA && desc->backend == FKDA_BACKEND_CUDA ? query_status : FKDA_ERR_INTERNAL;
}
fkda_status fkda_backend_status(fkda_backend backend, char *text, size_t size)
{
    (void)backend;
    snprintf(text, size, "what the machine says");
    return machine_status;
}

static void reset(void) { memset(&fake, 0, sizeof fake); }

/* ---------------------------------------------------------------- tests */

static void test_bytes_arrive(void **state)
{
    (void)state;
    reset();
    memory_block block;
    char *data;
    assert_int_equal(memory_alloc(FKDA_MEMORY_CUDA, 10, &block), FKDA_OK);
    assert_int_equal(memory_map(&block, MEMORY_WRITE, (void **)&data), FKDA_OK);
    memcpy(data, "0123456789", 10);
    assert_ptr_not_equal(data, block.data);
    assert_int_equal(memory_unmap(&block, MEMORY_WRITE, data), FKDA_OK);
    assert_int_equal(memory_map(&block, MEMORY_READ, (void **)&data), FKDA_OK);
    assert_memory_equal(data, "0123456789", 10);
    data[0] = 'x';
    assert_int_equal(memory_unmap(&block, MEMORY_READ, data), FKDA_OK);
    assert_memory_equal(block.data, "0123456789", 10);
    memory_free(&block);
    assert_int_equal(fake.blocks, 0);
}

static void test_repeats(void **state)
{
    (void)state;
    for (int where = FKDA_MEMORY_HOST; where <= FKDA_MEMORY_CUDA; ++where)
        for (size_t bytes = 1; bytes < 24; ++bytes) {
            reset();
            memory_block block;
            assert_int_equal(memory_alloc((fkda_memory)where, bytes, &block), FKDA_OK);
            assert_int_equal(memory_repeat(&block, "abc", 3), FKDA_OK);
            for (size_t i = 0; i < bytes; ++i) assert_int_equal(((const char *)block.data)[i], "abc"[i % 3]);
            memory_free(&block);
        }
}

static void test_copies(void **state)
{
    (void)state;
    for (int where = FKDA_MEMORY_HOST; where <= FKDA_MEMORY_CUDA; ++where) {
        reset();
        memory_block from, to;
        assert_int_equal(memory_alloc((fkda_memory)where, 3, &from), FKDA_OK);
        assert_int_equal(memory_alloc((fkda_memory)where, 9, &to), FKDA_OK);
        assert_int_equal(memory_repeat(&from, "abc", 3), FKDA_OK);
        assert_int_equal(memory_repeat(&to, "-", 1), FKDA_OK);
        assert_int_equal(memory_copy(&to, 4, &from), FKDA_OK);
        assert_memory_equal(to.data, "----abc--", 9);
        memory_free(&from);
        memory_free(&to);
    }
}

static void test_out_of_memory_is_a_sentence(void **state)
{
    (void)state;
    reset();
    memory_block block;
    fake.is_out_of_memory = 1;
    assert_int_equal(memory_alloc(FKDA_MEMORY_CUDA, (size_t)3 << 30, &block), FKDA_ERR_NO_MEMORY);
    assert_non_null(strstr(failure_sentence(), "3.0 GiB more are needed, 1.0 GiB are free"));
}

static void test_choice_of_memory(void **state)
{
    (void)state;
    const struct { fkda_backend backend; fkda_status machine, query, status; fkda_memory memory; const char *reason; } cases[] = {
        {FKDA_BACKEND_AUTO, FKDA_OK, FKDA_OK, FKDA_OK, FKDA_MEMORY_CUDA, ""},
        {FKDA_BACKEND_AUTO, FKDA_OK, FKDA_ERR_UNSUPPORTED, FKDA_OK, FKDA_MEMORY_HOST, "the kernels refuse it"},
        {FKDA_BACKEND_AUTO, FKDA_ERR_NO_DEVICE, FKDA_OK, FKDA_OK, FKDA_MEMORY_HOST, ""},
        {FKDA_BACKEND_CUDA, FKDA_OK, FKDA_ERR_UNSUPPORTED, FKDA_OK, FKDA_MEMORY_CUDA, ""},
        {FKDA_BACKEND_CUDA, FKDA_ERR_NO_DEVICE, FKDA_OK, FKDA_ERR_NO_DEVICE, FKDA_MEMORY_HOST, ""},
        {FKDA_BACKEND_CPU, FKDA_OK, FKDA_OK, FKDA_OK, FKDA_MEMORY_HOST, ""},
        {FKDA_BACKEND_REF, FKDA_OK, FKDA_OK, FKDA_OK, FKDA_MEMORY_HOST, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        fkda_fwd_desc desc = {.struct_size = sizeof desc, .backend = cases[i].backend};
        choice made;
        machine_status = cases[i].machine, query_status = cases[i].query;
        assert_int_equal(choice_make((operation){.kind = OPERATION_DECODE}, &desc, &made), cases[i].status);
        assert_int_equal(desc.memory, cases[i].memory);
        assert_int_equal(desc.backend, cases[i].backend);
        assert_string_equal(made.why_not_cuda, cases[i].reason);
    }
}

static fkda_status some_work(const void *what, fkda_stream stream)
{
    ++*(int *)(uintptr_t)what;
    return stream != NULL ? FKDA_OK : failure(FKDA_ERR_INTERNAL, "no stream");
}

static fkda_status record_and_time(void)
{
    device_replay *replay;
    double ms = 0;
    int issued = 0;
    TRY(device_record(some_work, &issued, &replay));
    const fkda_status status = device_time(replay, &ms);
    device_forget(replay);
    TRY(status);
    assert_int_equal(issued, 2);    /* once to warm up, once captured */
    assert_int_equal(fake.launches, 1);
    assert_int_equal(fake.flushes, 1);
    assert_true(ms == 0.5);
    return FKDA_OK;
}

static void test_replays_and_every_failure(void **state)
{
    (void)state;
    for (int n = 1;; ++n) {
        reset();
        fake.fail_at = n;
        const fkda_status status = record_and_time();
        assert_int_equal(fake.blocks, 0);
        assert_int_equal(fake.objects, 0);
        if (fake.calls < n) {
            assert_int_equal(status, FKDA_OK);
            assert_true(n > 15);
            return;
        }
        assert_int_equal(status, FKDA_ERR_CUDA);
        assert_non_null(strstr(failure_sentence(), "a fake error"));
    }
}

static void test_facts_without_a_management_library(void **state)
{
    (void)state;
    reset();
    device_facts facts;
    device_look(&facts);
    assert_string_equal(facts.gpu, "a fake GPU");
    assert_string_equal(facts.driver, "unknown");
    assert_int_equal(facts.sm_mhz, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive),     cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_choice_of_memory), cmocka_unit_test(test_copies), cmocka_unit_test(test_out_of_memory_is_a_sentence),
        cmocka_unit_test(test_replays_and_every_failure), cmocka_unit_test(test_facts_without_a_management_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
