/*
 * The prefill launcher's object file against a fake runtime: which kernels are launched with which geometry, how many tensor maps are encoded, and
 * that every call that fails is handed on.
 */
#include "harness.h"

#include <cuda.h>
#include <string.h>

#include "fake_launches.h"
#include "prefill_sm90/prefill_launch.h"

enum { MOST_MAPS = 8, SMS = 132, THREADS = 640 };

typedef struct tensor_map {
    CUtensorMapDataType type;
    const void *data;
    uint64_t size[4], stride[3];    /* stride: bytes */
    uint32_t box[4];
    CUtensorMapSwizzle swizzle;
} tensor_map;

static int encoded;
static tensor_map seen_maps[MOST_MAPS];

static CUresult encode(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *data, const cuuint64_t *size, const cuuint64_t *stride,
                       const cuuint32_t *box, const cuuint32_t *step, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                       CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    (void)step, (void)interleave, (void)promotion, (void)fill;
    assert_int_equal(rank, 4);
    tensor_map *const seen = &seen_maps[encoded % MOST_MAPS];
    *seen = (tensor_map){.type = type, .data = data, .swizzle = swizzle};
    for (int i = 0; i < 4; ++i) seen->size[i] = size[i], seen->box[i] = box[i];
    for (int i = 0; i < 3; ++i) seen->stride[i] = stride[i];
    memset(map, ++encoded, sizeof *map);
    return fake_answer() == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status)
{
    __typeof__(&cuTensorMapEncodeTiled) const function = encode;
    (void)version, (void)flags;
    assert_string_equal(name, "cuTensorMapEncodeTiled");
    memcpy(found, &function, sizeof *found);
    *status = cudaDriverEntryPointSuccess;
    return fake_answer();
}

/* ---------------------------------------------------------------- tests */

static char memory[1 << 12];    /* nobody reads it */

static const fkdai_prefill_stops no_stops = {0, 0};

static fkdai_prefill_call call_of(int64_t N, int64_t H, int offset)
{
    const fkdai_strides rows = {32 * N * H * 128, H * 128, 128};
    const fkdai_tensor x = {memory + offset, rows, FKDAI_BF16};
    return (fkdai_prefill_call){.q = x, .k = x, .v = x, .g = x, .beta = x, .beta_multiplier = 1, .out = memory, .out_stride = rows, .B = 1, .T = 32 * N,
                                .N = N, .H = H, .HV = H,
                                .cu_seqlens = {memory, FKDAI_I64}, .grid = fkdai_prefill_make_grid(FKDAI_DUO, (fkdai_prefill_jobs){32 * N, N, H, 0}, no_stops, SMS), .workspace = memory};
}

static void reset(void)
{
    fake_reset(0);
    encoded = 0;
}

static void assert_launch(int i, const char *kernel, unsigned grid, unsigned block, int may_overlap)
{
    assert_true(i < fake.launched);
    assert_string_equal(strstr(fake.launches[i].kernel, "plan_kernel") != NULL ? "plan" : "prefill", kernel);
    assert_string_not_equal(fake.launches[i].kernel, "?");
    assert_int_equal(fake.launches[i].grid, grid);
    assert_int_equal(fake.launches[i].block, block);
    assert_true(fake.launches[i].shared_bytes <= (size_t)fkdai_prefill_shared_bytes());
    assert_true((fake.launches[i].shared_bytes == 0) == (strcmp(kernel, "plan") == 0));
    assert_int_equal(fake.launches[i].may_overlap, may_overlap);
}

static void test_launches(void **state)
{
    (void)state;
    fkdai_prefill_call few = call_of(1, 16, 0), many = call_of(512, 32, 0), crowd = call_of(513, 32, 0), none = call_of(0, 32, 0);
    reset();
    assert_int_equal(fkdai_prefill_load(), 0);
    reset();
    assert_int_equal(fkdai_prefill_launch(&few, NULL), 0);
    assert_int_equal(fake.launched, 1);
    assert_launch(0, "prefill", 2 * 16, THREADS, 0);
    reset();
    assert_int_equal(fkdai_prefill_launch(&many, NULL), 0);    /* every block makes the schedule */
    assert_int_equal(fake.launched, 1);
    assert_launch(0, "prefill", SMS, THREADS, 0);
    reset();
    assert_int_equal(fkdai_prefill_launch(&crowd, NULL), 0);
    assert_int_equal(fake.launched, 2);
    assert_launch(0, "plan", 1, 1024, 0);
    assert_launch(1, "prefill", SMS, THREADS, 1);
    reset();
    assert_int_equal(fkdai_prefill_launch(&none, NULL), 0);
    assert_int_equal(fake.calls, 0);
    reset();
    many.grid = fkdai_prefill_make_grid(FKDAI_SOLO, (fkdai_prefill_jobs){32 * 512, 512, 32, 0}, no_stops, SMS);
    assert_int_equal(fkdai_prefill_launch(&many, NULL), 0);
    assert_int_equal(fake.launched, 1);
    assert_launch(0, "prefill", SMS, THREADS, 0);
    reset();
    many.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){32 * 512, 512, 32, 0}, no_stops, SMS);
    assert_int_equal(fkdai_prefill_launch(&many, NULL), 0);
    assert_int_equal(fake.launched, 1);
    assert_launch(0, "prefill", SMS, THREADS, 0);
    reset();
    few.H = few.HV = 15, few.grid = fkdai_prefill_make_grid(FKDAI_SOLO, (fkdai_prefill_jobs){32, 1, 15, 0}, no_stops, SMS);
    assert_int_equal(fkdai_prefill_launch(&few, NULL), 0);
    assert_launch(0, "prefill", 16, THREADS, 0);    /* whole clusters */
    assert_int_equal(fake.launches[0].ranks, 2);
    reset();
    few.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){32, 1, 15, 0}, no_stops, SMS);
    assert_int_equal(fkdai_prefill_launch(&few, NULL), 0);
    assert_launch(0, "prefill", 8 * 15, THREADS, 0);
    assert_int_equal(fake.launches[0].ranks, 8);
    reset();
    const struct { int H, ranks, threads; fkdai_gate gate; } clusters[] = {
        {20, 5, THREADS, FKDAI_GATE_BOUNDED}, {21, 4, 896, FKDAI_GATE_BOUNDED}, {30, 4, 896, FKDAI_GATE_SOFTPLUS}, {30, 4, THREADS, FKDAI_GATE_PRECOMPUTED}};
    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; ++i) {    /* fp32 gates: three groups of operand warps, not four */
        reset();
        few.H = few.HV = clusters[i].H, few.gate = clusters[i].gate, few.g.element = few.gate == FKDAI_GATE_PRECOMPUTED ? FKDAI_F32 : FKDAI_BF16;
        few.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){32, 1, clusters[i].H, 0}, no_stops, SMS);
        assert_int_equal(fkdai_prefill_launch(&few, NULL), 0);
        assert_int_equal(fake.launched, 1);
        assert_launch(0, "prefill", (unsigned)(clusters[i].ranks * clusters[i].H), (unsigned)clusters[i].threads, 0);
        assert_int_equal(fake.launches[0].ranks, clusters[i].ranks);
    }
}

/* Packed sequences, few heads: duo or solo unless one sequence is long. Who says so: the host, if it knows the lengths; else the device, in two launches,
 * if these cost little beside the call; else nobody. */
static void test_one_long_sequence(void **state)
{
    (void)state;
    const int64_t alike[] = {0, 4096, 8192}, one_long[] = {0, 8191, 8192};
    const int32_t one_long_32[] = {0, 1, 8192};
    const struct { const void *host; fkdai_element element; int launches; unsigned blocks, threads; int ranks; } wanted[] = {
        {alike, FKDAI_I64, 1, 2 * 64, THREADS, 2}, {one_long, FKDAI_I64, 1, 4 * 30, 896, 4}, {one_long_32, FKDAI_I32, 1, 4 * 30, 896, 4},
        {NULL, FKDAI_I64, 2, 2 * 64, THREADS, 2}};
    fkdai_prefill_call call = call_of(2, 32, 0);
    call.T = 8192, call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 2, 32, 1}, no_stops, SMS);
    assert_int_equal(call.grid.quads, 30);
    assert_true(call.grid.is_asked);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        call.cu_seqlens_host = wanted[i].host, call.cu_seqlens.element = wanted[i].element;
        reset();
        assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
        assert_int_equal(fake.launched, wanted[i].launches);
        assert_launch(0, "prefill", wanted[i].blocks, wanted[i].threads, 0);
        assert_int_equal(fake.launches[0].ranks, wanted[i].ranks);
        if (wanted[i].launches == 2) assert_launch(1, "prefill", 4 * 30, 896, 1);
    }
    /* As many jobs as blocks, nearly: a block for each, where the host knows that none is long; else the device decides, never by the mean. */
    const int64_t sixteen[] = {0, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120, 5632, 6144, 6656, 7168, 7680, 8192};
    const int64_t long_first[] = {0, 6992, 7072, 7152, 7232, 7312, 7392, 7472, 7552, 7632, 7712, 7792, 7872, 7952, 8032, 8112, 8192};
    const struct { const int64_t *host; unsigned blocks; int ranks; } nearly[] = {{NULL, SMS, 2}, {sixteen, 128, 2}, {long_first, 4 * 30, 4}};
    for (size_t i = 0; i < sizeof nearly / sizeof *nearly; ++i) {
        fkdai_prefill_call few = call_of(16, 8, 0);
        few.T = 8192, few.cu_seqlens_host = nearly[i].host;
        few.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 16, 8, 1}, no_stops, SMS);
        reset();
        assert_int_equal(fkdai_prefill_launch(&few, NULL), 0);
        assert_int_equal(fake.launched, 1);
        assert_int_equal(fake.launches[0].grid, nearly[i].blocks);
        assert_int_equal(fake.launches[0].ranks, nearly[i].ranks);
    }
    assert_int_equal(fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 2, 64, 1}, no_stops, SMS).mapping, FKDAI_EITHER);
    call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 2, 32, 0}, no_stops, SMS);    /* dense: they are equal */
    assert_int_equal(call.grid.quads, 0);
    call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 35, 12, 1}, no_stops, SMS);
    assert_true(call.grid.quads == 30 && !call.grid.is_asked);    /* many */
    call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 2, 46, 1}, no_stops, SMS);
    assert_int_equal(call.grid.quads, 0);                         /* too many heads */
    call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){2047, 4, 32, 1}, no_stops, SMS);
    assert_int_equal(call.grid.quads, 0);                         /* too short */
    call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){8192, 1025, 12, 1}, no_stops, SMS);
    assert_int_equal(call.grid.quads, 0);                         /* too many sequences */
    call.grid = fkdai_prefill_make_grid(FKDAI_DUO, (fkdai_prefill_jobs){8192, 2, 32, 1}, no_stops, SMS);
    assert_int_equal(call.grid.quads, 0);                         /* asked for */
}

/* A cluster for every (sequence, head) where there are enough, of eight blocks if possible, or four; else the device, which knows the lengths,
 * decides. Clusters of eight have one job each, and no checkpoint that may lie inside a chunk. */
static void test_grids(void **state)
{
    (void)state;
    const fkdai_prefill_stops at_offsets = {2, 0}, every_chunk = {0, 64}, every = {0, 48};
    const struct { fkdai_prefill_mapping asked; int64_t N, H, each; fkdai_prefill_mapping mapping; int workers; fkdai_prefill_stops stops; } wanted[] = {
        {FKDAI_EITHER, 0, 32, 100, FKDAI_OCTET, 0, {0, 0}},         {FKDAI_EITHER, 1, 1, 100, FKDAI_OCTET, 1, {0, 0}},
        {FKDAI_EITHER, 1, 15, 8192, FKDAI_OCTET, 15, {0, 0}},       {FKDAI_EITHER, 5, 3, 1, FKDAI_OCTET, 15, {0, 0}},
        {FKDAI_EITHER, 1, 15, 8192, FKDAI_OCTET, 15, every_chunk},  {FKDAI_EITHER, 1, 15, 8192, FKDAI_SEXTET, 15, every},
        {FKDAI_EITHER, 1, 8, 8192, FKDAI_SEXTET, 8, at_offsets},    {FKDAI_EITHER, 1, 16, 8192, FKDAI_SEXTET, 16, {0, 0}},
        {FKDAI_EITHER, 1, 17, 8192, FKDAI_QUINT, 17, {0, 0}},       {FKDAI_SEXTET, 1, 16, 100, FKDAI_SEXTET, 16, {0, 0}},
        {FKDAI_SEXTET, 1, 17, 100, FKDAI_QUAD, 17, {0, 0}},         {FKDAI_EITHER, 4, 5, 9, FKDAI_QUINT, 20, {0, 0}},
        {FKDAI_EITHER, 1, 21, 8192, FKDAI_QUAD, 21, {0, 0}},
        {FKDAI_EITHER, 1, 30, 1, FKDAI_QUAD, 30, {0, 0}},           {FKDAI_EITHER, 1, 31, 2047, FKDAI_DUO, 31, {0, 0}},
        {FKDAI_EITHER, 1, 31, 2048, FKDAI_QUAD, 30, {0, 0}},        {FKDAI_EITHER, 1, 45, 8192, FKDAI_QUAD, 30, {0, 0}},
        {FKDAI_EITHER, 13, 3, 2048, FKDAI_QUAD, 30, {0, 0}},        {FKDAI_EITHER, 1, 46, 4095, FKDAI_DUO, 46, {0, 0}},
        {FKDAI_EITHER, 1, 46, 4096, FKDAI_QUAD, 30, {0, 0}},        {FKDAI_EITHER, 17, 3, 4096, FKDAI_QUAD, 30, {0, 0}},
        {FKDAI_EITHER, 1, 54, 4096, FKDAI_QUAD, 30, {0, 0}},        {FKDAI_EITHER, 1, 55, 8192, FKDAI_DUO, 55, {0, 0}},
        {FKDAI_EITHER, 12, 4, 4095, FKDAI_DUO, 48, {0, 0}},         {FKDAI_QUINT, 1, 20, 100, FKDAI_QUINT, 20, {0, 0}},
        {FKDAI_EITHER, 1, 66, 100, FKDAI_DUO, 66, {0, 0}},          {FKDAI_EITHER, 1, 67, 100, FKDAI_SOLO, 67, {0, 0}},
        {FKDAI_EITHER, 1, 67, 1000, FKDAI_EITHER, 66, {0, 0}},      {FKDAI_QUINT, 1, 21, 100, FKDAI_QUAD, 21, {0, 0}},
        {FKDAI_EITHER, 2, 66, 100, FKDAI_SOLO, 132, {0, 0}},         {FKDAI_EITHER, 2, 66, 8192, FKDAI_SOLO, 132, {0, 0}},
        {FKDAI_EITHER, 1, 96, 8192, FKDAI_EITHER, 66, {0, 0}},      {FKDAI_EITHER, 3, 45, 100, FKDAI_EITHER, 66, {0, 0}},       {FKDAI_EITHER, 1 << 20, 96, 1, FKDAI_EITHER, 66, {0, 0}},
        {FKDAI_OCTET, 1, 8, 100, FKDAI_OCTET, 8, {0, 0}},           {FKDAI_OCTET, 1, 8, 100, FKDAI_QUAD, 8, every},
        {FKDAI_OCTET, 8, 96, 100, FKDAI_QUAD, 30, {0, 0}},          {FKDAI_QUAD, 1, 8, 100, FKDAI_QUAD, 8, {0, 0}},
        {FKDAI_QUAD, 8, 96, 100, FKDAI_QUAD, 30, {0, 0}},           {FKDAI_DUO, 1, 8, 100, FKDAI_DUO, 8, {0, 0}},
        {FKDAI_DUO, 8, 96, 100, FKDAI_DUO, 66, {0, 0}},             {FKDAI_SOLO, 1, 131, 100, FKDAI_SOLO, 131, {0, 0}},
        {FKDAI_SOLO, 8, 96, 100, FKDAI_SOLO, 132, {0, 0}},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        const fkdai_prefill_grid grid =
            fkdai_prefill_make_grid(wanted[i].asked, (fkdai_prefill_jobs){wanted[i].N * wanted[i].each, wanted[i].N, wanted[i].H, 0}, wanted[i].stops, SMS);
        assert_int_equal(grid.mapping, wanted[i].mapping);
        assert_int_equal(grid.workers, wanted[i].workers);
    }
    assert_int_equal(fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){100, 1, 1, 0}, no_stops, 8).mapping, FKDAI_QUINT);    /* no room for eight or six */
    assert_int_equal(fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){100, 1, 1, 0}, no_stops, 6).mapping, FKDAI_QUAD);     /* nor for five */
}

static fkdai_prefill_jobs packed(int64_t N, int64_t H) { return (fkdai_prefill_jobs){100 * N, N, H, 1}; }

/* A worker for every (sequence, head): nothing, but what passes between the blocks of a quad or octet; else schedules and states stand beside that. */
static void test_workspace(void **state)
{
    (void)state;
    const size_t relay = 2 * 6 * 27 * 1024;    /* preparers, their stages, bytes of one without T */
    const fkdai_prefill_grid pair = {FKDAI_DUO, 8, 0, 0}, solo = {FKDAI_SOLO, 8, 0, 0}, quad = {FKDAI_QUAD, 8, 0, 0}, quint = {FKDAI_QUINT, 8, 0, 0},
                             sextet = {FKDAI_SEXTET, 8, 0, 0}, octet = {FKDAI_OCTET, 8, 0, 0}, none = {FKDAI_QUAD, 0, 0, 0}, open = {FKDAI_DUO, 8, 3, 1};
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), pair, no_stops), 0);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), solo, no_stops), 0);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(0, 8), none, no_stops), 0);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), quad, no_stops), 8 * relay);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), quint, no_stops), 8 * 3 * relay / 2);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), sextet, no_stops), 8 * 2 * relay);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), octet, no_stops), 8 * 2 * relay);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(2, 4), open, no_stops), fkdai_prefill_workspace_bytes(packed(2, 4), fkdai_prefill_quads(open), no_stops));
    for (int64_t N = 511; N <= 514; ++N) {    /* schedules of every block's own, then one for all */
        const size_t beside = fkdai_prefill_workspace_bytes(packed(N, 8), quad, no_stops) - 8 * relay, of_pair = fkdai_prefill_workspace_bytes(packed(N, 8), pair, no_stops);
        assert_true(of_pair >= 8 * 128 * 128 * sizeof(float) + (size_t)N * 12);
        assert_true(N <= 512 ? beside > of_pair : beside == of_pair);    /* twice the blocks */
    }
}

/* Sequences of equal length have no schedule in memory, unless offsets of checkpoints differ, or sums of units overflow. */
static void test_equal_jobs(void **state)
{
    (void)state;
    const fkdai_prefill_grid pair = {FKDAI_DUO, 8, 0, 0};
    const fkdai_prefill_stops at_offsets = {3, 0}, every_chunk = {0, 64};
    const fkdai_prefill_jobs alone = {800, 1, 8, 0}, equal = {100000, 1000, 8, 0}, many = {INT64_C(1) << 34, 1 << 10, 1 << 10, 0};
    assert_int_equal(fkdai_prefill_who_schedules(alone, pair, no_stops), FKDAI_SCHEDULE_NONE);
    assert_int_equal(fkdai_prefill_who_schedules(equal, pair, no_stops), FKDAI_SCHEDULE_EQUAL);
    assert_int_equal(fkdai_prefill_workspace_bytes(equal, pair, every_chunk), 8 * 128 * 128 * sizeof(float) + 256);    /* states, and flags */
    assert_int_equal(fkdai_prefill_who_schedules(equal, pair, at_offsets), FKDAI_SCHEDULE_ONCE);
    assert_int_equal(fkdai_prefill_who_schedules(packed(1000, 8), pair, no_stops), FKDAI_SCHEDULE_ONCE);
    assert_int_equal(fkdai_prefill_who_schedules(many, pair, no_stops), FKDAI_SCHEDULE_ONCE);
}

/* Checkpoints that may lie inside a chunk park a state a worker; those every so many tokens are counted where there is a schedule. */
static void test_workspace_of_checkpoints(void **state)
{
    (void)state;
    const size_t matrix = 128 * 128 * sizeof(float);
    const fkdai_prefill_stops at_offsets = {3, 0}, every_chunk = {0, 64}, every = {0, 48};
    const fkdai_prefill_grid pair = {FKDAI_DUO, 8, 0, 0}, either = {FKDAI_EITHER, 8, 0, 0};
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), pair, at_offsets), 8 * matrix);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), pair, every), 8 * matrix);
    assert_int_equal(fkdai_prefill_workspace_bytes(packed(1, 8), pair, every_chunk), 0);
    for (int64_t N = 512; N <= 513; ++N) {    /* schedules of every block's own, then one for all */
        const size_t plain = fkdai_prefill_workspace_bytes(packed(N, 8), either, no_stops), marks = (size_t)N * sizeof(int32_t) * (N <= 512 ? 16 : 1);
        assert_int_equal(fkdai_prefill_workspace_bytes(packed(N, 8), either, at_offsets), plain + 16 * matrix);
        const size_t counted = fkdai_prefill_workspace_bytes(packed(N, 8), either, every_chunk);
        assert_true(counted >= plain + marks && counted < plain + marks + 256);
        assert_int_equal(fkdai_prefill_workspace_bytes(packed(N, 8), either, every), counted + 16 * matrix);
    }
}

/* The same tensors again cost one launch and nothing else; one that differs costs its own map. */
static void test_maps_are_kept(void **state)
{
    (void)state;
    fkdai_prefill_call call = call_of(1, 16, 256);
    assert_int_equal(fkdai_prefill_load(), 0);
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 4);
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(fake.calls, 1);
    call.v.data = memory + 512;
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 1);
    call.k.stride.token += 8;
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 1);
    call.T += 1;
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 4);
}

/* Fewer heads of q and k, and tensors beyond 2^31 elements and bytes. */
static void test_maps(void **state)
{
    (void)state;
    fkdai_prefill_call call = call_of(1, 8, 2048);
    call.B = 3, call.T = INT64_C(1) << 30, call.H = 2;
    call.v.stride = call.g.stride = call.out_stride = (fkdai_strides){INT64_C(1) << 37, 1024, 128};
    call.q.stride = call.k.stride = (fkdai_strides){INT64_C(1) << 38, 256, 128};
    call.k.stride.head = INT64_C(1) << 36;
    call.out = memory + 1024, call.grid = fkdai_prefill_make_grid(FKDAI_SOLO, (fkdai_prefill_jobs){call.B * call.T, 1, 8, 0}, no_stops, SMS);
    assert_int_equal(fkdai_prefill_load(), 0);
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    const uint64_t G = UINT64_C(1) << 30;
    const struct { const void *data; uint64_t heads, stride[3]; uint32_t channels; CUtensorMapDataType type; CUtensorMapSwizzle swizzle; } want[5] = {
        {call.q.data, 2, {256, 512, 512 * G}, 64, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B},
        {call.k.data, 2, {128 * G, 512, 512 * G}, 64, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B},
        {call.v.data, 8, {256, 2048, 256 * G}, 64, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B},
        {call.g.data, 8, {256, 2048, 256 * G}, 64, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B},
        {call.out, 8, {256, 2048, 256 * G}, 16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_32B}};
    assert_int_equal(encoded, 5);
    for (int i = 0; i < 5; ++i) {
        const tensor_map *const map = &seen_maps[i];
        const uint64_t size[4] = {128, want[i].heads, G, 3};
        const uint32_t box[4] = {want[i].channels, 1, 32, 1};
        assert_ptr_equal(map->data, want[i].data);
        assert_memory_equal(map->size, size, sizeof size);
        assert_memory_equal(map->stride, want[i].stride, sizeof map->stride);
        assert_memory_equal(map->box, box, sizeof box);
        assert_true(map->type == want[i].type && map->swizzle == want[i].swizzle);
    }
    reset();
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 0);
    call.H = 4;    /* in the same places: other maps of q and k */
    assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
    assert_int_equal(encoded, 2);
}

/* Whatever fails is handed on, nothing is launched behind it, and no half-made map is kept. */
static void every_call_may_fail(fkdai_prefill_mapping mapping, int maps, int launches)
{
    reset();
    assert_int_equal(fkdai_prefill_load(), 0);
    for (int n = 1;; ++n) {
        fkdai_prefill_call call = call_of(600, 4, 1024 + 16 * n);
        call.out = memory + 1024 + 16 * n;
        call.grid = fkdai_prefill_make_grid(mapping, (fkdai_prefill_jobs){32 * 600, 600, 4, 0}, no_stops, SMS);
        reset();
        fake.fail_at = n;
        const int status = fkdai_prefill_launch(&call, NULL);
        if (fake.calls < n) {
            assert_int_equal(status, 0);
            assert_int_equal(n, maps + launches + 1);
            return;
        }
        assert_int_not_equal(status, 0);
        assert_int_equal(fake.calls, n);
        const int made = encoded;
        reset();
        assert_int_equal(fkdai_prefill_launch(&call, NULL), 0);
        assert_int_equal(encoded, n <= maps ? maps - (made - 1) : 0);
    }
}

static void test_every_call_may_fail(void **state)
{
    (void)state;
    every_call_may_fail(FKDAI_QUAD, 4, 2);      /* plan, prefill */
    every_call_may_fail(FKDAI_DUO, 4, 2);
    every_call_may_fail(FKDAI_SOLO, 5, 2);
    every_call_may_fail(FKDAI_EITHER, 5, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launches), cmocka_unit_test(test_one_long_sequence), cmocka_unit_test(test_grids),
        cmocka_unit_test(test_workspace), cmocka_unit_test(test_equal_jobs),
        cmocka_unit_test(test_workspace_of_checkpoints),
        cmocka_unit_test(test_maps_are_kept), cmocka_unit_test(test_maps),
        cmocka_unit_test(test_every_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
