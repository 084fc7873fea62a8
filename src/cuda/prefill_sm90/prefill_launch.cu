// Tensor maps, parameters, and the launch of the prefill kernel.
#include "prefill_sm90/prefill_launch.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <ctime>

#include "backend/forward_scale.h"
#include "prefill_sm90/plan_kernel.cuh"
#include "prefill_sm90/prefill_kernels.cuh"
#include "prefill_sm90/problem/workspace.cuh"
#ifdef FKDA_BOUNDED_ALONE
#include "prefill_sm90/prefill_bounded.cu"
#endif

namespace fkdai::prefill {
namespace {

static_assert(kBrokenSeqlens == FKDAI_SEQLENS_BROKEN && kBrokenSlot == FKDAI_SLOT_BROKEN && kBrokenCheckpoint == FKDAI_CHECKPOINT_BROKEN);
static_assert(quad::kRelayBytesOfPreparer == FKDAI_RELAY_BYTES);

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
std::atomic<EncodeTiled> encode_tiled{nullptr};

// [B][T][heads][128] bf16 as (channel, head, token, batch); boxes of 32 tokens of one head: 64 channels to read, 16 to write.
cudaError_t encode_map(CUtensorMap *map, const fkdai_tensor &x, int64_t heads, bool is_read, const fkdai_prefill_call &call) {
    const cuuint64_t size[4] = {kWidth, static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(call.T), static_cast<cuuint64_t>(call.B)};
    const cuuint64_t stride[3] = {static_cast<cuuint64_t>(x.stride.head) * 2, static_cast<cuuint64_t>(x.stride.token) * 2,
                                  static_cast<cuuint64_t>(x.stride.batch) * 2};
    const cuuint32_t box[4] = {is_read ? kHalf : 16u, 1, kChunk, 1}, step[4] = {1, 1, 1, 1};
    const EncodeTiled encode = encode_tiled.load(std::memory_order_acquire);
    if (encode == nullptr) return cudaErrorNotReady;
    const CUresult result = encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void *>(x.data), size, stride, box, step,
                                   CU_TENSOR_MAP_INTERLEAVE_NONE, is_read ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_32B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// A map depends on these alone. A thread's next call often has the same tensors in the same places.
struct MapKey {
    const void *data;
    int64_t batch, token, head, B, T, heads;
    bool operator==(const MapKey &) const = default;
};
struct KnownMap {
    CUtensorMap map;
    MapKey key;  // data is null: none yet
};
constexpr int kMaps = 5;  // q, k, v, g, out
thread_local KnownMap known_maps[kMaps];

cudaError_t make_map(CUtensorMap *map, int which, const fkdai_tensor &x, const fkdai_prefill_call &call) {
    KnownMap &known = known_maps[which];
    const int64_t heads = which < 2 ? call.H : call.HV;
    const MapKey key{x.data, x.stride.batch, x.stride.token, x.stride.head, call.B, call.T, heads};
    if (!(key == known.key)) {
        known.key.data = nullptr;
        if (const cudaError_t error = encode_map(&known.map, x, heads, which < 4, call); error != cudaSuccess) return error;
        known.key = key;
    }
    *map = known.map;
    return cudaSuccess;
}

Element element(fkdai_element e) {
    return e == FKDAI_BF16 ? Element::BF16 : e == FKDAI_F32 ? Element::F32 : Element::Absent;
}
Strides strides(const fkdai_strides &x) { return {x.batch, x.token, x.head}; }
Vector vector(const fkdai_vector &x) { return {x.data, element(x.element)}; }
Indices indices(const fkdai_vector &x) { return {x.data, x.element == FKDAI_I64}; }
States states(const void *data, const fkdai_state_rows &x) {
    return {const_cast<void *>(data), x.row_stride, element(x.element), x.is_k_first != 0, indices(x.slots), x.slot_count, x.first_slot};
}

void fill_checkpoints(const fkdai_checkpoints &from, Params *p) {
    if (from.rows.element == FKDAI_ABSENT) return;
    Checkpoints &to = p->checkpoints;
    to.states = states(from.state, from.rows), to.count = from.count;
    p->offsets = indices(from.offsets), p->per_sequence = static_cast<int>(from.stops.per_sequence);
    p->mark_every = static_cast<int>(from.stops.every < INT32_MAX ? from.stops.every : INT32_MAX);  // longer than any sequence
}

cudaError_t fill_params(const fkdai_prefill_call &call, Params *p) {
    const fkdai_tensor out{call.out, call.out_stride, FKDAI_BF16}, *const tensors[kMaps] = {&call.q, &call.k, &call.v, &call.g, &out};
    CUtensorMap *const maps[kMaps] = {&p->q, &p->k, &p->v, &p->g, &p->o};
    const int count = call.T == 0 ? 0 : fkdai_prefill_singles(call.grid) > 0 ? 5 : 4;
    for (int i = 0; i < count; i++)
        if (const cudaError_t error = make_map(maps[i], i, *tensors[i], call); error != cudaSuccess) return error;
    if (call.g.element == FKDAI_F32) p->g_f32 = static_cast<const float *>(call.g.data), p->g_strides = strides(call.g.stride);
    p->beta = {call.beta.data, strides(call.beta.stride), element(call.beta.element), call.is_beta_activated != 0, call.beta_multiplier};
    p->out = static_cast<__nv_bfloat16 *>(call.out), p->out_strides = strides(call.out_stride);
    p->A_log = vector(call.A_log), p->dt_bias = vector(call.dt_bias);
    p->initial_state = states(call.initial_state, call.initial_rows), p->final_state = states(call.final_state, call.final_rows);
    p->initial_mask = call.initial_mask;
    fill_checkpoints(call.checkpoints, p);
    p->sequences = {call.cu_seqlens.data, call.cu_seqlens.element == FKDAI_I64, static_cast<int>(call.N),
                    static_cast<int>(call.T)};
    p->status = call.device_status;
    p->heads = static_cast<int>(call.HV), p->key_factor = key_factor_of(static_cast<uint32_t>(call.HV / call.H));
    const fkdai_scale scale = fkdai_split_scale(call.scale);
    p->scale = scale.q, p->out_factor = scale.out, p->lower_bound = call.lower_bound;
    p->is_raw = call.is_raw != 0, p->usual_range = usual_range_of(p->out_factor);
    return cudaSuccess;
}

// A number that no launch has had before, in this process or another (but for one chance in 2^64): splitmix64 of a counter.
std::atomic<uint64_t> launches{0};
uint64_t launch_number() {
    if (launches.load(std::memory_order_relaxed) == 0) {
        timespec now{};
        (void)timespec_get(&now, TIME_UTC);
        uint64_t none = 0;
        const uint64_t nanoseconds = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
        launches.compare_exchange_strong(none, (nanoseconds ^ reinterpret_cast<uintptr_t>(&now) << 20) | 1);
    }
    uint64_t x = launches.fetch_add(1, std::memory_order_relaxed) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u, x = (x ^ x >> 27) * 0x94d049bb133111ebu, x ^= x >> 31;
    return x == 0 ? 1 : x;
}

cudaError_t launch_plan(const Params &p, cudaStream_t stream) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(1), config.blockDim = dim3(kPlanThreads), config.stream = stream;
    return cudaLaunchKernelEx(&config, plan_kernel, static_cast<const Timeline &>(p));
}

#ifdef FKDA_BOUNDED_ALONE  // a test program that has no other gate, and compiles a quarter
const Kernels *const kKernels[] = {&kBoundedKernels};
#else
const Kernels *const kKernels[] = {&kBoundedKernels, &kSoftplusKernels, &kPrecomputedKernels, &kPrecomputedF32Kernels};
#endif
const Kernel &kernel_of(const fkdai_prefill_call &call, const Params &p, fkdai_prefill_mapping mapping) {
    const Kernels &of = *kKernels[call.gate == FKDAI_GATE_PRECOMPUTED && call.g.element == FKDAI_F32 ? FKDAI_GATES : call.gate];
    if (call.is_raw != 0) return of.raw;
    const ClusterKernels &clusters = is_plain(p) ? of.plain_cluster : of.cluster;
    if (mapping == FKDAI_OCTET) return clusters.octet;
    if (mapping == FKDAI_SEXTET || mapping == FKDAI_QUINT) return mapping == FKDAI_SEXTET ? clusters.sextet : clusters.quint;
    if (mapping == FKDAI_QUAD) return clusters.quad;
    if (!is_plain(p)) return of.any;
    if (are_many_duos(p)) return of.plain_duos;
    if (!is_lone(p) || mapping == FKDAI_EITHER) return mean_tokens(p) >= FKDAI_LONG_TOKENS ? of.plain_long : of.plain_short;
    if (mapping == FKDAI_DUO) return of.plain_duo;
    return mean_tokens(p) >= FKDAI_LONG_TOKENS ? of.plain_long_solo : of.plain_solo;
}

// The grid for lengths that the host knows, from a copy of cu_seqlens that is good: the call's, or quads, or a block for each job without a schedule.
// As best_kind on the device, but for checkpoints.
fkdai_prefill_grid grid_of_known(const fkdai_prefill_call &call, bool is_plain) {
    const bool may_be_lone = call.grid.mapping == FKDAI_EITHER && call.N * call.HV <= fkdai_prefill_singles(call.grid);
    if (call.cu_seqlens_host == nullptr || !(call.grid.quads > 0 || may_be_lone)) return call.grid;
    const bool is_64bit = call.cu_seqlens.element == FKDAI_I64;
    const auto entry = [&](int64_t n) {
        return is_64bit ? static_cast<const int64_t *>(call.cu_seqlens_host)[n] : static_cast<const int32_t *>(call.cu_seqlens_host)[n];
    };
    JobSums jobs{call.N * call.HV, 0, 0};
    for (int64_t n = 0; n < call.N; n++) {
        const int64_t chunks = chunk_count<kChunk>(static_cast<int>(entry(n + 1) - entry(n)));
        jobs.longest = chunks > jobs.longest ? chunks : jobs.longest, jobs.total += chunks * call.HV;
    }
    Timeline timeline{};
    place_kinds(timeline, call.grid);
    if (may_be_lone) timeline.kinds[kClusterKind].start_cost = FKDAI_SCHEDULE_COST;
    if (is_plain && jobs.count == call.grid.workers) timeline.kinds[kClusterKind].chunk_cost = FKDAI_LONE_DUO_CHUNK_COST;
    const int kind = best_cut(timeline.kinds, jobs).kind;
    if (kind == kQuadKind) return fkdai_prefill_quads(call.grid);
    return may_be_lone && kind == kSingleKind ? fkdai_prefill_grid{FKDAI_SOLO, static_cast<int>(jobs.count), 0, 0} : call.grid;
}

fkdai_prefill_jobs jobs_of(const fkdai_prefill_call &call) { return {call.B * call.T, call.N, call.HV, call.cu_seqlens.element != FKDAI_ABSENT}; }

// Behind the plan kernel it starts beside that one and waits for it inside (dependent_launch.cuh).
cudaError_t launch_prefill(const Kernel &kernel, const Params &p, const fkdai_prefill_grid &grid, bool is_behind, cudaStream_t stream) {
    cudaLaunchAttribute attributes[2]{};
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim = {static_cast<unsigned>(fkdai_prefill_ranks(grid)), 1, 1};
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(fkdai_prefill_blocks(grid))), config.blockDim = dim3(static_cast<unsigned>(kernel.threads));
    config.dynamicSmemBytes = kSharedBytes, config.stream = stream;
    config.attrs = attributes, config.numAttrs = is_behind ? 2 : 1;
    return cudaLaunchKernelEx(&config, kernel.function, p);
}

}  // namespace
}  // namespace fkdai::prefill

using namespace fkdai;
using namespace fkdai::prefill;

extern "C" int fkdai_prefill_shared_bytes(void) { return kSharedBytes; }

extern "C" int fkdai_prefill_load(void) {
    void *found = nullptr;
    cudaDriverEntryPointQueryResult status;
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status);
    if (error != cudaSuccess) return error;
    if (status != cudaDriverEntryPointSuccess) return cudaErrorCallRequiresNewerDriver;
    encode_tiled.store(reinterpret_cast<EncodeTiled>(found), std::memory_order_release);
    cudaFuncAttributes attributes;
    error = cudaFuncGetAttributes(&attributes, plan_kernel);
    if (error != cudaSuccess) return error;
    for (const Kernels *const of : kKernels)
        for (const Kernel &kernel : {of->any, of->raw, of->plain_short, of->plain_long, of->plain_duos, of->plain_duo, of->plain_solo, of->plain_long_solo,
                                     of->cluster.quad, of->cluster.quint, of->cluster.sextet, of->cluster.octet, of->plain_cluster.quad,
                                     of->plain_cluster.quint, of->plain_cluster.sextet, of->plain_cluster.octet})
            if (error = cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes); error != cudaSuccess) return error;
    return cudaSuccess;
}

extern "C" int fkdai_prefill_launch(const fkdai_prefill_call *call, void *stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    if (call->grid.workers == 0) return cudaSuccess;
    Params p{};
    if (const cudaError_t error = fill_params(*call, &p); error != cudaSuccess) return error;
    const bool is_asked = call->grid.is_asked != 0 && call->cu_seqlens_host == nullptr;
    const fkdai_prefill_grid grid = grid_of_known(*call, is_plain(p));
    const fkdai_prefill_jobs jobs = jobs_of(*call);
    const fkdai_prefill_schedule schedule = fkdai_prefill_who_schedules(jobs, grid, call->checkpoints.stops);
    place_workspace(p, grid, schedule, call->checkpoints.stops, call->workspace, schedule == FKDAI_SCHEDULE_NONE ? 0 : launch_number());
    const bool is_planned = schedule == FKDAI_SCHEDULE_ONCE;
    if (is_planned)
        if (const cudaError_t error = launch_plan(p, on); error != cudaSuccess) return error;
    p.turn = is_asked ? Turn::First : Turn::Alone;
    if (const cudaError_t error = launch_prefill(kernel_of(*call, p, grid.mapping), p, grid, is_planned, on); error != cudaSuccess || !is_asked) return error;
    return launch_prefill(kernel_of(*call, p, FKDAI_QUAD), place_quads(p, grid, jobs, call->checkpoints.stops, call->workspace, launch_number()),
                          fkdai_prefill_quads(grid), true, on);
}
