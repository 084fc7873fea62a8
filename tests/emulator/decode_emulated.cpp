// The launcher of decode_launch.h, in the emulator: the kernel's own source, one block after the other.
#include "emulator.h"

#include "decode/decode_kernel.cuh"

using namespace fkdai::decode;
using fkdai::Axes, fkdai::Stored;

namespace {

template <fkdai_decode_shape shape, Stored stored, Axes axes>
bool launch(const fkdai_decode_call &call, unsigned seed) {
    using C = Config<shape, stored, axes>;
    return emulator::launch(call.grid.blocks, 1, C::kThreads, 1024, seed, [&call] { decode_kernel<C>(call); });
}

template <fkdai_decode_shape shape>
bool launch_stored(const fkdai_decode_call &call, unsigned seed) {
    if (call.grid.is_bf16_state)
        return call.grid.is_k_first ? launch<shape, Stored::BF16, Axes::KV>(call, seed) : launch<shape, Stored::BF16, Axes::VK>(call, seed);
    return call.grid.is_k_first ? launch<shape, Stored::F32, Axes::KV>(call, seed) : launch<shape, Stored::F32, Axes::VK>(call, seed);
}

}  // namespace

// For the test: the order of threads.
extern "C" unsigned decode_emulated_seed;
unsigned decode_emulated_seed = 0;

extern "C" int fkdai_decode_load(void) { return 0; }

extern "C" int fkdai_decode_launch(const fkdai_decode_call *call, void *) {
    const bool ended = call->grid.shape == FKDAI_DECODE_ONE ? launch_stored<FKDAI_DECODE_ONE>(*call, decode_emulated_seed)
                                                            : launch_stored<FKDAI_DECODE_SOME>(*call, decode_emulated_seed);
    return ended ? 0 : 1;
}
