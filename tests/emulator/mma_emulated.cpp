// The launcher of prefill_mma_launch.h, in the emulator: the kernel's own source, one block after the other.
#include "emulator.h"

#include "prefill_mma/mma_call.cuh"
#include "prefill_mma/prefill_mma_kernel.cuh"

using namespace fkdai::portable;

// For the test: the order of threads.
extern "C" unsigned mma_emulated_seed;
unsigned mma_emulated_seed = 0;

extern "C" int fkdai_mma_shared_bytes(void) { return kSharedBytes; }
extern "C" int fkdai_mma_load(void) { return 0; }

extern "C" int fkdai_mma_launch(const fkdai_mma_call *call, void *) {
    const Params p = params_of(*call);
    const auto threads = static_cast<unsigned>(fkdai_mma_threads(call->grid));
    return emulator::launch(call->grid.blocks, 1, threads, kSharedBytes - kAlignment, mma_emulated_seed, [&p] {
        if (p.gate != fkdai::GateKind::Bounded) mma_prefill_kernel<false, true>(p);
        else if (p.checkpoints.element != fkdai::Element::Absent) mma_prefill_kernel<true, true>(p);
        else mma_prefill_kernel<true, false>(p);
    }) ? 0 : 1;
}
