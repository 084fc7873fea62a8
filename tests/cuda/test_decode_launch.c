/*
 * The decode launcher's object file against a runtime of this file: which of its kernels is launched, with which geometry and parameter, and that
 * every call that fails is handed on. No GPU, no driver; no kernel runs.
 */
#include "harness.h"

#include <cuda_runtime_api.h>
#include <string.h>

#include "decode/decode_launch.h"
#include "fake_registration.h"

enum { VARIANTS = 8 * FKDAI_DECODE_SHAPES };

static struct { int calls, fail_at, launched, attributes, may_overlap; const char *kernel; unsigned grid, block; fkdai_decode_call parameter; } fake;

static cudaError_t answer(void) { return ++fake.calls == fake.fail_at ? cudaErrorUnknown : cudaSuccess; }

/* ---------------------------------------------------------------- the runtime */

cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    (void)attributes, (void)kernel;
    fake.attributes++;
    return answer();
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **args)
{
    const cudaError_t error = answer();
    if (error != cudaSuccess) return error;
    fake.launched++;
    fake.kernel = name_of_kernel(kernel);
    fake.grid = config->gridDim.x, fake.block = config->blockDim.x;
    fake.may_overlap = config->numAttrs == 1 && config->attrs[0].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
                       config->attrs[0].val.programmaticStreamSerializationAllowed == 1;
    assert_true(config->dynamicSmemBytes == 0 && config->gridDim.y == 1 && config->gridDim.z == 1 && (config->numAttrs == 0 || fake.may_overlap));
    memcpy(&fake.parameter, args[0], sizeof fake.parameter);
    return cudaSuccess;
}

/* ---------------------------------------------------------------- tests */

static void reset(void) { memset(&fake, 0, sizeof fake); }

static fkdai_decode_call make_call(int shape, int is_bf16, int is_k_first, int has_plain_input, int major)
{
    const fkdai_decode_request request = {.N = 3, .HV = 5, .S = 1, .is_bf16_state = is_bf16, .is_k_first = is_k_first, .has_plain_input = has_plain_input};
    fkdai_decode_call call = {.S = 1, .HV = 5, .scale = 0.25f, .T = 1, .grid = fkdai_decode_make_grid(&request, major)};
    call.grid.shape = (fkdai_decode_shape)shape;
    call.grid.blocks = (uint32_t)(15 * fkdai_decode_blocks_per_state(call.grid.shape, is_bf16));
    return call;
}

/* The template arguments in the name of a kernel: "shape0...StoredE1...AxesE0". */
static int argument_of(const char *kernel, const char *word)
{
    const char *const at = strstr(kernel, word);
    return at == NULL ? -1 : at[strlen(word)] - '0';
}

static void test_each_variant(void **unused)
{
    (void)unused;
    static const int threads[FKDAI_DECODE_SHAPES] = {[FKDAI_DECODE_ONE] = 128, [FKDAI_DECODE_FEW] = 256, [FKDAI_DECODE_MANY] = 128, [FKDAI_DECODE_STEPS] = 256};
    assert_int_equal(kernel_count, VARIANTS);
    for (int i = 0; i < 2 * VARIANTS; ++i) {
        const int is_plain = i & 1, is_bf16 = i >> 1 & 1, is_k_first = i >> 2 & 1, major = i >> 3 & 1 ? 9 : 8, shape = i >> 4;
        const fkdai_decode_call call = make_call(shape, is_bf16, is_k_first, is_plain, major);
        reset();
        assert_int_equal(fkdai_decode_launch(&call, NULL), 0);
        assert_int_equal(fake.launched, 1);
        assert_int_equal(argument_of(fake.kernel, "fkdai_decode_shape"), shape);
        assert_int_equal(argument_of(fake.kernel, "6StoredE"), is_bf16);
        assert_int_equal(argument_of(fake.kernel, "4AxesE"), is_k_first);
        assert_int_equal(argument_of(fake.kernel, "6InputsE"), !is_plain);
        assert_int_equal(fake.may_overlap, major >= 9);
        assert_int_equal(fake.grid, 15 * fkdai_decode_blocks_per_state(call.grid.shape, is_bf16));
        assert_int_equal(fake.block, threads[shape]);
        assert_memory_equal(&fake.parameter, &call, sizeof call);
    }
}

static void test_nothing_to_do(void **unused)
{
    (void)unused;
    fkdai_decode_call call = make_call(FKDAI_DECODE_ONE, 0, 0, 1, 9);
    call.grid.blocks = 0;
    reset();
    assert_int_equal(fkdai_decode_launch(&call, NULL), 0);
    assert_int_equal(fake.calls, 0);
}

static void test_failures_are_handed_on(void **unused)
{
    (void)unused;
    const fkdai_decode_call call = make_call(FKDAI_DECODE_ONE, 0, 0, 1, 9);
    reset();
    assert_int_equal(fkdai_decode_load(), 0);
    assert_int_equal(fake.attributes, VARIANTS);
    for (int n = 1; n <= VARIANTS; ++n) {
        reset();
        fake.fail_at = n;
        assert_int_equal(fkdai_decode_load(), cudaErrorUnknown);
        assert_int_equal(fake.attributes, n);
    }
    reset();
    fake.fail_at = 1;
    assert_int_equal(fkdai_decode_launch(&call, NULL), cudaErrorUnknown);
    assert_int_equal(fake.launched, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_variant), cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_failures_are_handed_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
