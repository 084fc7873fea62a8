/*
 * Offsets beyond 2^31 elements: two batches, or two tokens, that lie 2^31 + 64 elements apart. The memory between them is reserved, but
 * never touched, so this costs a few pages. The results must have the bits of the same problem lying close together.
 */
#include "harness.h"

#include <sys/mman.h>

#include "backend_bars.h"
#include "backend_suite.h"

#define FAR ((INT64_C(1) << 31) + 64)    /* elements; 32-bit arithmetic would come out at 64 */
enum { TENSORS = 6, STATES = 2, BUFFERS = TENSORS + STATES };

/* Two blocks of floats, FAR apart. */
typedef struct far_buffer {
    float *data;
    size_t block;    /* elements */
} far_buffer;

static size_t far_bytes(const far_buffer *b) { return ((size_t)FAR + b->block) * sizeof(float); }

/* 0 if this machine does not hand out so much address space. */
static int far_alloc(far_buffer *b, size_t block, const float *near)
{
    b->block = block;
    b->data = mmap(NULL, far_bytes(b), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->data == MAP_FAILED) return 0;
    memcpy(b->data, near, block * sizeof(float));
    memcpy(b->data + FAR, near + block, block * sizeof(float));
    return 1;
}

static void expect_equal(const far_buffer *b, const float *near, const char *what)
{
    if (memcmp(b->data, near, b->block * sizeof(float)) != 0 || memcmp(b->data + FAR, near + b->block, b->block * sizeof(float)) != 0)
        fail_msg("%s differs when its blocks lie 2^31 elements apart", what);
}

/* Spreads the blocks of every tensor (and, with two sequences, of the states), runs, compares with `near`. */
static void run_far(const case_image *image, const case_result *near, int far_states)
{
    const case_spec *const s = image->spec;
    fkda_fwd_desc d = image->desc;
    fkda_fwd_args a = image->args;
    const size_t rows = (size_t)case_rows(s) / 2, H = (size_t)s->H, HV = (size_t)s->HV, K = (size_t)s->K, V = (size_t)s->V;
    const void **const inputs[] = {&a.q, &a.k, &a.v, &a.g, &a.beta};
    fkda_tensor_desc *const descs[TENSORS] = {&d.q, &d.k, &d.v, &d.g, &d.beta, &d.out};
    const size_t blocks[TENSORS] = {rows * H * K, rows * H * K, rows * HV * V, rows * HV * K, rows * HV, rows * HV * V};
    far_buffer far[BUFFERS] = {0};
    int have = 1;
    for (int i = 0; i < TENSORS; ++i) {
        have = have && far_alloc(&far[i], blocks[i], i + 1 < TENSORS ? (const float *)*inputs[i] : near->out);
        *(s->B == 2 ? &descs[i]->batch_stride : &descs[i]->token_stride) = FAR;
        if (i + 1 < TENSORS) *inputs[i] = far[i].data;
    }
    if (have) memset(far[5].data, 0xff, blocks[5] * sizeof(float));
    a.out = far[5].data;
    if (far_states) {
        have = have && far_alloc(&far[6], HV * K * V, image->args.initial_state) && far_alloc(&far[7], HV * K * V, image->args.initial_state);
        d.initial_state.row_stride = d.final_state.row_stride = FAR;
        a.initial_state = far[6].data;
        a.final_state = far[7].data;
    }
    if (have) {
        const guarded *const workspace = &image->buffer[IMAGE_BUFFERS - 1];
        if (fkda_fwd(&d, &a, workspace->data, workspace->bytes, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
        expect_equal(&far[5], near->out, "out");
        if (far_states) expect_equal(&far[7], near->state, "final_state");
    }
    for (int i = 0; i < BUFFERS; ++i)
        if (far[i].block > 0 && far[i].data != MAP_FAILED) munmap(far[i].data, far_bytes(&far[i]));
    if (!have) {
        print_message("no address space for tensors of 8 GiB\n");
        skip();
    }
}

static void far_strides(const backend_bars *bars)
{
    static const char *const texts[] = {"B=2 T=3 H=2 HV=4 in=f32 s0_layout=nhkv s1_layout=nhkv", "T=2 H=2 HV=4 in=f32 s0_layout=nhkv s1_layout=nhkv"};
    for (int i = 0; i < 2; ++i) {
        const case_spec s = case_parse("far", texts[i]);
        input_values x = values_draw(&s);
        const run_setup setup = {bars->id, 1, 0xa5, GUARD_AT_END};
        case_result near = case_run(&s, &x, &setup);
        case_image image = image_build(&s, &x, &setup);
        run_far(&image, &near, s.B == 2);
        image_free(&image);
        result_free(&near);
        values_free(&x);
    }
}

void test_far_strides(void **state)
{
    (void)state;
    bars_for_each(far_strides);
}
