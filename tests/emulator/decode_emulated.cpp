// The launcher of decode_launch.h, in the emulator: the kernel's own source, one block after the other.
#include "emulator.h"

#include "decode/decode_kernel.cuh"

using namespace fkdai::decode;
using fkdai::Axes, fkdai::Stored;

namespace {

template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs, Start start>
bool launch_from(const fkdai_decode_call &call, unsigned seed) {
    if constexpr (is_built_for<shape, stored, axes, inputs, start>(8) || is_built_for<shape, stored, axes, inputs, start>(9)) {
        using C = Config<shape, stored, axes, inputs, start>;
        return emulator::launch(call.grid.blocks, 1, C::kBlockThreads, 1024 + kPersistentBytes<C>, seed, [&call] { decode_kernel<C>(call); });
    } else {
        return false;
    }
}

template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs>
bool launch(const fkdai_decode_call &call, unsigned seed) {
    return call.grid.is_early ? launch_from<shape, stored, axes, inputs, Start::EARLY>(call, seed)
                              : launch_from<shape, stored, axes, inputs, Start::LATE>(call, seed);
}

template <fkdai_decode_shape shape, Stored stored, Axes axes>
bool launch_inputs(const fkdai_decode_call &call, unsigned seed) {
    return call.grid.has_plain_input ? launch<shape, stored, axes, Inputs::BF16>(call, seed) : launch<shape, stored, axes, Inputs::ANY>(call, seed);
}

template <fkdai_decode_shape shape>
bool launch_shape(const fkdai_decode_call &call, unsigned seed) {
    if (call.grid.is_bf16_state)
        return call.grid.is_k_first ? launch_inputs<shape, Stored::BF16, Axes::KV>(call, seed) : launch_inputs<shape, Stored::BF16, Axes::VK>(call, seed);
    return call.grid.is_k_first ? launch_inputs<shape, Stored::F32, Axes::KV>(call, seed) : launch_inputs<shape, Stored::F32, Axes::VK>(call, seed);
}

bool launch_any(const fkdai_decode_call &call, unsigned seed) {
    switch (call.grid.shape) {
        case FKDAI_DECODE_ONE: return launch_shape<FKDAI_DECODE_ONE>(call, seed);
        case FKDAI_DECODE_ONE_SMALL: return launch_shape<FKDAI_DECODE_ONE_SMALL>(call, seed);
        case FKDAI_DECODE_ONE_SOME: return launch_shape<FKDAI_DECODE_ONE_SOME>(call, seed);
        case FKDAI_DECODE_FEW: return launch_shape<FKDAI_DECODE_FEW>(call, seed);
        case FKDAI_DECODE_MANY: return launch_shape<FKDAI_DECODE_MANY>(call, seed);
        case FKDAI_DECODE_CHUNK: return launch_shape<FKDAI_DECODE_CHUNK>(call, seed);
        case FKDAI_DECODE_CHUNK_HALF: return launch_shape<FKDAI_DECODE_CHUNK_HALF>(call, seed);
        case FKDAI_DECODE_PERSISTENT: return launch_shape<FKDAI_DECODE_PERSISTENT>(call, seed);
        default: return launch_shape<FKDAI_DECODE_STEPS>(call, seed);
    }
}

}  // namespace

// For the test: the order of threads.
extern "C" unsigned decode_emulated_seed;
unsigned decode_emulated_seed = 0;

extern "C" int fkdai_decode_load(void) { return 0; }

extern "C" int fkdai_decode_launch(const fkdai_decode_call *call, void *) {
    return launch_any(*call, decode_emulated_seed) ? 0 : 1;
}
