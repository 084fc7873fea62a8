/*
 * fkda_decode_fused on a GPU, through the public API: drawn cases against the reference, and what must hold bit for bit. Prints ran / skipped / failed. Skips
 * as a whole without a GPU.
 *
 *     decode_fused_cases [tiny]      tiny: few cases, for compute-sanitizer
 */
#include "harness.h"

#include "counter_rng.h"
#include "device_case.h"
#include "fused_case.h"

static uint64_t case_count_wanted = 150;
static uint32_t seen_status;    /* bits of device_status after the last run */

typedef struct device_places {
    void *at[FUSED_BUFFERS];
    uint32_t *status;
} device_places;

static device_places to_gpu(const fused_image *m)
{
    const uint32_t zero = 0;
    device_places p;
    for (int b = 0; b < FUSED_BUFFERS; ++b) p.at[b] = m->buffer[b].data == NULL ? NULL : on_device(m->buffer[b].data, m->buffer[b].bytes);
    p.status = on_device(&zero, sizeof zero);
    return p;
}

static void from_gpu(fused_image *m, device_places *p)
{
    MUST(cudaDeviceSynchronize());
    for (int b = 0; b < FUSED_BUFFERS; ++b) {
        if (b >= FUSED_INPUTS && p->at[b] != NULL) MUST(cudaMemcpy(m->buffer[b].data, p->at[b], m->buffer[b].bytes, cudaMemcpyDeviceToHost));
        MUST(cudaFree(p->at[b]));
    }
    MUST(cudaMemcpy(&seen_status, p->status, sizeof seen_status, cudaMemcpyDeviceToHost));
    MUST(cudaFree(p->status));
}

static fkda_status run_on_gpu(const void *slots, fused_image *m)
{
    device_places p = to_gpu(m);
    fkda_decode_fused_args args = fused_args_at(m, p.at);
    size_t bytes = 1;
    args.device_status = p.status;
    if (slots != NULL) args.slots = slots;
    m->desc.backend = FKDA_BACKEND_CUDA, m->desc.memory = FKDA_MEMORY_CUDA;
    fkda_status status = fkda_decode_fused_workspace_size(&m->desc, &bytes);
    if (status == FKDA_OK) assert_int_equal(bytes, 0);
    if (status == FKDA_OK) status = fkda_decode_fused(&m->desc, &args, NULL, 0, NULL);
    from_gpu(m, &p);
    return status;
}
static const fused_way way = {run_on_gpu, NULL, "the GPU"};

static void test_cases(void **unused)
{
    (void)unused;
    int failed = 0;
    for (uint64_t i = 0; i < case_count_wanted; ++i) {
        const fused_spec s = fused_draw(i);
        failed += !fused_check_case(&way, &s);
        assert_int_equal(seen_status, 0);
    }
    print_message("decode_fused_cases: ran %d, failed %d\n", (int)case_count_wanted, failed);
    assert_int_equal(failed, 0);
}

static void test_bits(void **unused)
{
    (void)unused;
    fused_check_batch(&way);
    fused_check_poisoned_rows(&way);
    fused_check_nan_stays(&way);
    fused_check_tokens(&way);
}

/* More states than blocks that fit on the GPU at once: every one as if it were alone. */
static void test_many(void **unused)
{
    (void)unused;
    fused_spec s = fused_draw(0), one;
    s.N = 90, s.H = 24, s.x = FKDA_BF16, s.conv_weight = s.norm_weight = s.state = FKDA_F32, s.slots = FKDA_I32, s.slot_null = FKDA_SLOT_NULL_NEGATIVE;
    s.qk_norm = FKDA_QK_NORM_L2, s.layout = FKDA_STATE_NHVK;
    fused_image all = fused_build(&s, 0xff, GUARD_AT_END);
    assert_int_equal(run_on_gpu(NULL, &all), FKDA_OK);
    fused_check_untouched(&all);
    for (int64_t n = 0; n < s.N; n += 7) {
        one = s, one.first = n, one.N = 1;
        fused_image alone = fused_build(&one, 0x7f, GUARD_AT_END);
        assert_int_equal(run_on_gpu(NULL, &alone), FKDA_OK);
        const int64_t element = s.out == FKDA_F32 ? 4 : 2, out = s.H * 128 * element, state = s.H * 128 * 128 * 4, row = fused_row(&s, n), own = fused_row(&one, 0);
        assert_memory_equal(all.buffer[FUSED_OUT].data + n * all.desc.out.batch_stride * element, alone.buffer[FUSED_OUT].data, (size_t)out);
        if (row >= 0)
            assert_memory_equal(all.buffer[FUSED_STATE].data + row * all.desc.state.row_stride * 4,
                                alone.buffer[FUSED_STATE].data + own * alone.desc.state.row_stride * 4, (size_t)state);
        fused_free(&alone);
    }
    fused_free(&all);
}

static void test_broken_slot(void **unused)
{
    (void)unused;
    static const int32_t broken[] = {7, INT32_MAX, -1};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; ++i) {
        fused_spec s = fused_draw(3);
        s.N = 2, s.slots = FKDA_I32, s.slot_null = FKDA_SLOT_NULL_NONE, s.state = FKDA_F32, s.out = FKDA_F32;
        fused_image m = fused_build(&s, 0xa5, GUARD_AT_END);
        const int32_t slots[] = {broken[i], (int32_t)fused_row(&s, 1)};
        void *const device = on_device(slots, sizeof slots);
        assert_int_equal(run_on_gpu(device, &m), FKDA_OK);
        assert_int_equal(seen_status, FKDA_DEVICE_SLOT_BROKEN);
        const int64_t at = fused_row(&s, 0) * m.desc.state.row_stride * 4;
        assert_memory_equal(m.buffer[FUSED_STATE].data + at, m.before[FUSED_STATE] + at, (size_t)(s.H * 128 * 128 * 4));
        for (int64_t e = 0; e < s.H * 128; ++e) assert_true(((float *)(void *)m.buffer[FUSED_OUT].data)[e] == 0);
        MUST(cudaFree(device));
        fused_free(&m);
    }
}

/* One graph of several tokens, replayed: the bits of the same calls in a stream, with programmatic launches between them. */
static void test_graph(void **unused)
{
    (void)unused;
    enum { CALLS = 12 };
    fused_spec s = fused_draw(5);
    s.N = 5, s.H = 3, s.conv_weight = s.norm_weight = s.state = FKDA_F32, s.x = FKDA_BF16, s.is_masked = 0, s.qk_norm = FKDA_QK_NORM_L2;
    fused_image by_graph = fused_build(&s, 0xff, GUARD_AT_END), by_stream = fused_build(&s, 0xff, GUARD_AT_END), *const both[] = {&by_graph, &by_stream};
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream));
    for (int form = 0; form < 2; ++form) {
        fused_image *const m = both[form];
        device_places p = to_gpu(m);
        fkda_decode_fused_args args = fused_args_at(m, p.at);
        cudaGraph_t graph;
        cudaGraphExec_t replay;
        m->desc.backend = FKDA_BACKEND_CUDA, m->desc.memory = FKDA_MEMORY_CUDA;
        if (form == 0) MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        for (int i = 0; i < CALLS; ++i) {
            assert_int_equal(fkda_decode_fused(&m->desc, &args, NULL, 0, stream), FKDA_OK);
            if (form == 1) MUST(cudaStreamSynchronize(stream));
        }
        if (form == 0) {
            MUST(cudaStreamEndCapture(stream, &graph));
            MUST(cudaGraphInstantiate(&replay, graph, 0));
            MUST(cudaGraphLaunch(replay, stream));
            MUST(cudaStreamSynchronize(stream));
            MUST(cudaGraphExecDestroy(replay));
            MUST(cudaGraphDestroy(graph));
        }
        from_gpu(m, &p);
    }
    for (int b = FUSED_OUT; b < FUSED_BUFFERS; ++b) assert_memory_equal(by_graph.buffer[b].data, by_stream.buffer[b].data, by_graph.buffer[b].bytes);
    MUST(cudaStreamDestroy(stream));
    fused_free(&by_graph);
    fused_free(&by_stream);
}

int main(int argc, char **argv)
{
    char text[256] = "";
    rng_seed();
    if (fkda_backend_status(FKDA_BACKEND_CUDA, text, sizeof text) != FKDA_OK) {
        printf("decode_fused_cases: no GPU, skipped (%s)\n", text);
        return 77;
    }
    if (argc > 1 && strcmp(argv[1], "tiny") == 0) case_count_wanted = 24;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_bits), cmocka_unit_test(test_broken_slot), cmocka_unit_test(test_graph)};
    const struct CMUnitTest many[] = {cmocka_unit_test(test_many)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + (argc > 1 ? 0 : cmocka_run_group_tests(many, NULL, NULL));
}
