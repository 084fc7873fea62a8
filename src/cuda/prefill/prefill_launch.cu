// prefill_launch.cu: tensor maps, workspace layout, and the launch of the prefill kernel.
#include "../cuda_launch.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <ctime>

#include "prefill_kernel.cuh"

namespace fkdai::prefill {
namespace {

static_assert(kBrokenSeqlens == FKDAI_SEQLENS_BROKEN);

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
std::atomic<EncodeTiled> encode_tiled{nullptr};

// One function measures the workspace and carves it.
struct Workspace {
    uint8_t *relay;
    Schedule schedule;
    HandOver hand_over;
    size_t bytes;
};

template <class T>
T *take(char *base, size_t &used, size_t count) {
    T *const taken = reinterpret_cast<T *>(base + used);
    used += (count * sizeof(T) + 255) / 256 * 256;
    return taken;
}

constexpr int64_t kWorthCutting = 2048;  // tokens of a sequence, on average

bool may_pair(const fkdai_prefill_grid &grid) { return grid.mapping != FKDAI_SOLO; }
bool may_solo(const fkdai_prefill_grid &grid) { return grid.mapping == FKDAI_SOLO || grid.mapping == FKDAI_EITHER; }
int ranks_of(const fkdai_prefill_grid &grid) { return grid.mapping == FKDAI_QUAD ? quad::kRanks : pair::kRanks; }
Workers workers_of(const fkdai_prefill_grid &grid) {
    const int solo = !may_solo(grid) ? 0 : may_pair(grid) ? grid.workers * pair::kRanks : grid.workers;
    return {may_pair(grid) ? grid.workers : 0, solo};
}
int blocks_of(const fkdai_prefill_grid &grid) {
    return may_pair(grid) ? grid.workers * ranks_of(grid) : (grid.workers + pair::kRanks - 1) / pair::kRanks * pair::kRanks;
}

Workspace carve(void *memory, int64_t N, int64_t H, const fkdai_prefill_grid &grid) {
    Workspace w{};
    char *const base = static_cast<char *>(memory);
    const Workers workers = workers_of(grid);
    if (grid.mapping == FKDAI_QUAD) w.relay = take<uint8_t>(base, w.bytes, static_cast<size_t>(grid.workers) * quad::kRelayBytesOfCluster);
    if (N * H == grid.workers) return w;
    const size_t most = static_cast<size_t>(std::max(workers.pair, workers.solo));
    w.hand_over.state = take<float>(base, w.bytes, most * kWidth * kWidth);
    w.hand_over.is_ready = take<uint64_t>(base, w.bytes, most * kHalves);
    w.schedule.is_own = N <= kMostOwnSequences;
    const size_t schedules = w.schedule.is_own ? static_cast<size_t>(blocks_of(grid)) : 1, sequences = static_cast<size_t>(N);
    w.schedule.cut = take<Cut>(base, w.bytes, schedules);
    w.schedule.prefix = take<int32_t>(base, w.bytes, schedules * (sequences + 1));
    w.schedule.sequence = take<int2>(base, w.bytes, schedules * sequences);
    return w;
}

// [B][T][H][128] bf16 as (channel, head, token, batch); boxes of 32 tokens of one head: 64 channels to read, 16 to write.
cudaError_t encode_map(CUtensorMap *map, const fkdai_tensor &x, bool is_read, const fkdai_prefill_call &call) {
    const cuuint64_t size[4] = {kWidth, static_cast<cuuint64_t>(call.H), static_cast<cuuint64_t>(call.T),
                                static_cast<cuuint64_t>(call.B)};
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
    int64_t batch, token, head, B, T, H;
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
    const MapKey key{x.data, x.stride.batch, x.stride.token, x.stride.head, call.B, call.T, call.H};
    if (!(key == known.key)) {
        known.key.data = nullptr;
        if (const cudaError_t error = encode_map(&known.map, x, which < 4, call); error != cudaSuccess) return error;
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

cudaError_t fill_params(const fkdai_prefill_call &call, Params *p) {
    const fkdai_tensor out{call.out, call.out_stride}, *const tensors[kMaps] = {&call.q, &call.k, &call.v, &call.g, &out};
    CUtensorMap *const maps[kMaps] = {&p->q, &p->k, &p->v, &p->g, &p->o};
    const int count = call.T == 0 ? 0 : may_solo(call.grid) ? 5 : 4;
    for (int i = 0; i < count; i++)
        if (const cudaError_t error = make_map(maps[i], i, *tensors[i], call); error != cudaSuccess) return error;
    p->beta = static_cast<const __nv_bfloat16 *>(call.beta.data);
    p->out = static_cast<__nv_bfloat16 *>(call.out);
    p->beta_strides = strides(call.beta.stride), p->out_strides = strides(call.out_stride);
    p->A_log = vector(call.A_log), p->dt_bias = vector(call.dt_bias);
    p->initial_state = {call.initial_state, call.initial_rows.row_stride, element(call.initial_rows.element)};
    p->final_state = {call.final_state, call.final_rows.row_stride, element(call.final_rows.element)};
    p->sequences = {call.cu_seqlens.data, call.cu_seqlens.element == FKDAI_I64, static_cast<int>(call.N),
                    static_cast<int>(call.T)};
    p->status = call.device_status;
    p->heads = static_cast<int>(call.H), p->scale = call.scale, p->lower_bound = call.lower_bound;
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

// Behind the plan kernel it starts beside that one and waits for it inside (dependent_launch.cuh).
cudaError_t launch_prefill(const Params &p, const fkdai_prefill_grid &grid, bool is_behind, cudaStream_t stream) {
    cudaLaunchAttribute attributes[2]{};
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim = {static_cast<unsigned>(ranks_of(grid)), 1, 1};
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks_of(grid))), config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kSharedBytes, config.stream = stream;
    config.attrs = attributes, config.numAttrs = is_behind ? 2 : 1;
    return cudaLaunchKernelEx(&config, prefill_kernel, p);
}

}  // namespace
}  // namespace fkdai::prefill

using namespace fkdai;
using namespace fkdai::prefill;

extern "C" fkdai_prefill_grid fkdai_prefill_make_grid(fkdai_prefill_mapping mapping, int64_t tokens, int64_t N, int64_t H, int multiprocessors) {
    // Of four SMs as many fit as the places of an H200's SMs allow: 30 on 132.
    const int clusters = std::max(multiprocessors / pair::kRanks, 1), quads = std::max(multiprocessors * 5 / 22, 1);
    const auto is_room = [&](int workers) { return H == 0 || N <= workers / H; };  // for one worker each
    // A step of a quad takes 0.72 of a pair's, so 1.3 jobs each end before one in a pair, if they are long enough to be cut.
    if (mapping == FKDAI_EITHER && (is_room(quads) || (is_room(quads * 13 / 10) && tokens / N >= kWorthCutting))) mapping = FKDAI_QUAD;
    else if (mapping == FKDAI_EITHER && is_room(clusters)) mapping = FKDAI_PAIR;
    const int room = mapping == FKDAI_SOLO ? clusters * pair::kRanks : mapping == FKDAI_QUAD ? quads : clusters;
    const bool is_enough = is_room(room);
    return {mapping, static_cast<int>(is_enough ? N * H : room)};
}

extern "C" size_t fkdai_prefill_workspace_bytes(int64_t N, int64_t H, fkdai_prefill_grid grid) {
    return carve(nullptr, N, H, grid).bytes;
}

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
    return cudaFuncSetAttribute(prefill_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
}

extern "C" int fkdai_prefill_launch(const fkdai_prefill_call *call, void *stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    if (call->grid.workers == 0) return cudaSuccess;
    Params p{};
    p.workers = workers_of(call->grid);
    if (const cudaError_t error = fill_params(*call, &p); error != cudaSuccess) return error;
    const Workspace w = carve(call->workspace, call->N, call->H, call->grid);
    p.schedule = w.schedule, p.hand_over = w.hand_over, p.relay = w.relay;
    if (p.schedule.cut != nullptr) p.hand_over.number = launch_number();
    const bool is_planned = p.schedule.cut != nullptr && !p.schedule.is_own;
    if (is_planned)
        if (const cudaError_t error = launch_plan(p, on); error != cudaSuccess) return error;
    return launch_prefill(p, call->grid, is_planned, on);
}
