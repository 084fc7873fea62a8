// The launcher of decode_fused_launch.h, in the emulator: the kernel's own source, one block after the other.
#include "emulator.h"

#include "decode_fused/decode_fused_kernel.cuh"

using namespace fkdai;
using namespace fkdai::decode_fused;

// For the test: the order of threads, and which warp comes late to everything.
extern "C" unsigned decode_fused_emulated_seed;
unsigned decode_fused_emulated_seed = 0;

namespace {

template <Stored stored, Axes axes>
bool launch(const fkdai_fused_call &call) {
    using C = Config<stored, axes>;
    const emulator::Laggard laggard{0, static_cast<int>(decode_fused_emulated_seed % (C::kThreads / 32 + 1)) - 1};
    return emulator::launch(call.grid.blocks, 1, C::kThreads, sizeof(Shared<C>), decode_fused_emulated_seed, [&call] { decode_fused_kernel<C>(call); }, laggard);
}

}  // namespace

extern "C" int fkdai_decode_fused_load(void) { return 0; }

extern "C" int fkdai_decode_fused_launch(const fkdai_fused_call *call, void *) {
    const bool is_k_first = call->grid.is_k_first;
    const bool ended = call->grid.is_bf16_state ? (is_k_first ? launch<Stored::BF16, Axes::KV>(*call) : launch<Stored::BF16, Axes::VK>(*call))
                                                : (is_k_first ? launch<Stored::F32, Axes::KV>(*call) : launch<Stored::F32, Axes::VK>(*call));
    return ended ? 0 : 1;
}
