// One fused kernel, in five mappings of jobs to blocks; a job is one (sequence, head). See prefill.md.
//
//     S <- Diag(alpha) S;  u = beta (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
//
// Octet, sextet, quint, quad and duo: the eight, six, five, four or two CTAs of a cluster share a job; solo: a CTA has one for itself. The same operations in the
// same order, so the same bits; who does them differs. The host chooses one of the first four where there are few jobs; between the others, where only
// the device knows the lengths, it chooses. All are compiled twice, for plain calls and for all others: a launch brings the first 64 KB of a kernel's
// code near the multiprocessors, the rest comes line by line (docs/kernel.md, section 3).
#pragma once

#include "prefill_sm90/mapping/duo_roles.cuh"
#include "device/dependent_launch.cuh"
#include "prefill_sm90/problem/workspace.cuh"
#include "prefill_sm90/roles/refuse.cuh"
#include "schedule/make_schedule.cuh"
#include "prefill_sm90/mapping/quad_roles.cuh"
#include "prefill_sm90/mapping/solo_roles.cuh"

namespace fkdai::prefill {

static_assert(duo::kStages >= solo::kStages && duo::kStages >= quad::kOwnStages, "the stages of both begin where shared memory does: their triangles lie in the same places");

inline constexpr int kSharedBytes = quad::kBlockBytes + 1024;  // dynamic_shared
static_assert(sizeof(solo::Smem) <= quad::kBlockBytes && kSharedBytes <= 232448);
static_assert(sizeof(duo::Smem) <= kNearSchedule && sizeof(solo::Smem) <= kNearSchedule && kNearSchedule + sizeof(NearSchedule) <= quad::kBlockBytes);

// Is it this launch's turn? All blocks of both launches find the same answer. The first launch lets the second start beside it: if it works, that one
// ends only when it has ended, as the next kernel may count on both.
template <class Memory, bool are_quads>
__device__ __forceinline__ bool has_turn(const Params &p) {
    if (p.turn == Turn::Alone) return true;
    const bool has_it = (uniform(best_kind<kChunk, are_plain<Memory>>(p)) == kQuadKind) == are_quads;
    if (p.turn == Turn::Second && !has_it) await_previous_kernel();
    return has_it;
}

enum BeginBarrier : int { kRawBarrier = 0, kOtherBarrier = 14 };  // the barriers of raw tiles stand; all others do
static_assert(duo::kFirstPairBarrier + 2 * quad::Quad::kGroups <= kOtherBarrier && kOtherBarrier < kAnyBarrier,
              "those of the roles come before");
enum class Begin { Goes, HasNothing, IsRefused };

// What a block does before its roles begin. takes_turns: the call may be two launches; are_quads: and this one of quads; load_warp: of a block that
// prepares chunks, else -1: if it can, it makes its own barriers, calls ask_first, and waits for nobody until then, as the first tiles are what all
// others will wait for; choose: what the block is, from the schedule; init_barriers: by one thread.
template <class Memory, int threads, bool takes_turns, bool are_quads, class AskFirst, class Choose, class InitBarriers>
__device__ __forceinline__ Begin begin_block(const Params &p, const duo::View &s, int load_warp, const AskFirst &ask_first, const Choose &choose,
                                            const InitBarriers &init_barriers) {
    mark_block(mark_block_begins, thread_here() == 0);
    if constexpr (takes_turns) {
        if (p.turn == Turn::First) release_next_kernel();
        if (!has_turn<Memory, are_quads>(p)) return Begin::HasNothing;
    }
    if (p.turn == Turn::Alone) await_previous_kernel();
    const bool asks_first = Memory::kAsksFirst && load_warp >= 0 && may_ask_first(p);
    if (Memory::kAsksFirst && uniform(thread_here() / 32) == load_warp) {
        const SharedView<Memory> here{reinterpret_cast<Memory *>(s.memory), s.base};
        init_raw_barriers(here);
        if (asks_first) {
            block_arrive<kRawBarrier, threads>();
            const uint32_t asked = ask_first();
            const bool is_broken = warp_finds_broken(p);
            if (!is_broken) return block_sync<kOtherBarrier, threads>(), Begin::Goes;
            for (uint32_t i = 0; i < asked; i++) wait(here.at(here->barriers.raw_ready[i]), 0);  // nobody leaves while the copy engine writes here
            return Begin::IsRefused;
        }
    }
    // Maps and barriers by a warp each, side by side.
    if (thread_here() == threads - 64) prefetch_map(p.q), prefetch_map(p.k), prefetch_map(p.g), prefetch_map(p.v);
    if (load_warp >= 0 && thread_here() < kClearingThreads) clear_triangles<duo::kStages>(s, thread_here());  // no load warp is among these
    mark_block(mark_block_may_read, thread_here() == 0);
    if (!are_lone<Memory> && p.schedule.is_own) make_schedule<kChunk, threads, are_plain<Memory>>(p, p.schedule_here(), s->akk);
    if (!are_lone<Memory>) choose(p.schedule_here().cut);
    if (thread_here() == threads - 32) {
        init_barriers();
        fence_barrier_init();
    }
    if (seqlens_are_broken<threads, are_lone<Memory>>(p, asks_first ? load_warp : -1)) {  // all blocks are
        // Not behind this function in kernels that have no need of it: there ptxas then spills 650 bytes where keys have no norm.
        if constexpr (Memory::kAsksFirst) return Begin::IsRefused;
        else return refuse<threads, are_plain<Memory>>(p), Begin::HasNothing;
    }
    block_sync<kRawBarrier, threads>();
    if (asks_first) block_arrive<kOtherBarrier, threads>();
    mark_block(mark_block_has_barriers, thread_here() == 0);
    return Begin::Goes;
}

// Is there nothing for the roles to do? A call that is refused is done then.
template <class Memory, int threads>
__device__ __forceinline__ bool ends_at_once(const Params &p, Begin begin) {
    if (begin == Begin::Goes) return false;
    if (begin == Begin::IsRefused) refuse<threads, are_plain<Memory>>(p);
    return true;
}

// Duo and solo, in a kernel of both or of one: what their shared memory says that it is compiled for.
template <class DuoSmem, class SoloSmem>
struct Blocks {
    using Duo = DuoSmem;    // void: none
    using Solo = SoloSmem;
    static constexpr bool kHasDuo = !std::is_void_v<DuoSmem>, kHasSolo = !std::is_void_v<SoloSmem>;
    using Any = std::conditional_t<kHasDuo, DuoSmem, SoloSmem>;
};
using AllBlocks = Blocks<duo::Smem, solo::Smem>;
using RawBlocks = Blocks<void, solo::Smem>;
// Names for the kernels of plain calls.
struct PlainAny : Blocks<duo::PlainSmem, solo::PlainSmem> {};
struct PlainShort : Blocks<duo::EarlySmem, solo::EarlySmem> {};
struct PlainLong : Blocks<duo::EarlySmem, solo::NormsAside<solo::EarlySmem>> {};
struct PlainDuos : Blocks<duo::ManySmem, void> {};
struct PlainDuo : Blocks<duo::LoneSmem, void> {};
struct PlainSolo : Blocks<void, solo::LoneSmem> {};
struct PlainLongSolo : Blocks<void, solo::NormsAside<solo::LoneSmem>> {};
// Other gates want more registers, and lose by some of them.
template <GateKind kind, class Bounded, class Other>
using ByGate = std::conditional_t<kind == GateKind::Bounded, Bounded, Other>;

template <GateKind kind, bool is_raw, class Of>
__device__ __forceinline__ void run_blocks(const Params &p) {
    using Duo = std::conditional_t<Of::kHasDuo, typename Of::Duo, duo::Smem>;
    using Solo = std::conditional_t<Of::kHasSolo, typename Of::Solo, solo::Smem>;
    const uint32_t base = uniform(shared_address(&dynamic_shared<solo::Smem>()));
    const duo::View any{&dynamic_shared<duo::Smem>(), base};
    const SharedView<Duo> duo{&dynamic_shared<Duo>(), base};
    const SharedView<Solo> solo{&dynamic_shared<Solo>(), base};
    bool is_solo = Of::kHasSolo;
    const auto choose = [&](const Cut *cut) {
        if constexpr (Of::kHasDuo && Of::kHasSolo)
            is_solo = uniform(cut != nullptr ? cut->kind == kSingleKind : p.equal.weight > 0 ? p.equal.kind == kSingleKind : p.mapping == FKDAI_SOLO);
    };
    GateRequest gate;
    if constexpr (!Of::kHasSolo) gate = duo::request_only_gate<kind, Duo>(p);
    else if constexpr (!Of::kHasDuo) gate = solo::request_only_gate<kind, Solo>(p);
    const auto init_barriers = [&] { is_solo ? solo::init_barriers(solo) : duo::init_barriers(duo); };
    const int cluster = blockIdx.x / duo::kRanks, rank = blockIdx.x % duo::kRanks, load_warp = Of::kHasDuo ? int{duo::kLoadWarp} : int{solo::kLoadWarp};
    const auto ask_first = [&] {
        if constexpr (!Of::Any::kAsksFirst) return 0u;
        else if constexpr (Of::kHasDuo) return duo::Loads<kind, Duo>{p, duo, rank, cluster, lane_here()}.run_early();
        else return solo::LoadRole<Solo, kind>{p, solo}.run_early();
    };
    constexpr bool takes_turns = Of::kHasDuo && Of::kHasSolo;
    const Begin begin = begin_block<typename Of::Any, kThreads, takes_turns, false>(p, any, load_warp, ask_first, choose, init_barriers);
    if (ends_at_once<typename Of::Any, kThreads>(p, begin)) return;
    if constexpr (!Of::kHasSolo) return duo::run<kind>(p, duo, gate);
    // Behind a condition that it can see through ptxas puts the duo's code in front. Plain calls of many sequences are solos mostly, and start 3 us earlier
    // if their code is among the first 64 KB.
    if constexpr (Of::kHasDuo)
        if (Of::Any::kAsksSchedule ? here_alone(is_solo) == 0 : !is_solo) return duo::run<kind>(p, duo, gate);
    solo::run<kind, is_raw>(p, solo, gate);
}

// Both. is_raw: q and k have no norm, which is rare; so only solo is compiled for it.
template <GateKind kind, bool is_raw>
__global__ void __launch_bounds__(kThreads, 1) prefill_kernel(const __grid_constant__ Params p) {
    run_blocks<kind, is_raw, std::conditional_t<is_raw, RawBlocks, AllBlocks>>(p);
}
// For plain calls.
template <GateKind kind, class Of>
__global__ void __launch_bounds__(kThreads, 1) prefill_plain_kernel(const __grid_constant__ Params p) {
    run_blocks<kind, false, Of>(p);
}

// Quad and octet. Kernels of their own: the host knows when, and code that does not run costs those beside it (2026-11-28-starts.md).
template <GateKind kind, class Shape>
__global__ void __launch_bounds__(quad::Warps<Shape>::kThreads, 1) prefill_cluster_kernel(const __grid_constant__ Params p) {
    const uint32_t base = uniform(shared_address(&dynamic_shared<duo::Smem>()));
    const duo::View any{&dynamic_shared<duo::Smem>(), base};
    const quad::ChainView<Shape> receiver{&dynamic_shared<quad::ChainSmem<Shape>>(), base};
    const quad::View<Shape> preparer{&dynamic_shared<quad::Smem<Shape>>(), base};
    const quad::Part<Shape> part{static_cast<int>(blockIdx.x % quad::kRanks<Shape>)};
    const GateRequest gate = quad::request_only_gate<kind, Shape>(p, part);
    const auto init_barriers = [&] { quad::init_barriers<Shape>(p, receiver, preparer, part); };
    const auto ask_first = [&] {
        return quad::Loads<kind, Shape>{p, preparer, part.preparer(), static_cast<int>(blockIdx.x / quad::kRanks<Shape>), lane_here()}.run_early();
    };
    constexpr int threads = quad::Warps<Shape>::kThreads;
    const int load_warp = part.is_preparer() ? quad::Warps<Shape>::kLoad : -1;
    const Begin begin = begin_block<quad::Smem<Shape>, threads, !Shape::kIsLone, true>(p, any, load_warp, ask_first, [](const Cut *) {}, init_barriers);
    if (ends_at_once<quad::Smem<Shape>, threads>(p, begin)) return;
    quad::run<kind, Shape>(p, receiver, preparer, part, gate);
}

}  // namespace fkdai::prefill
