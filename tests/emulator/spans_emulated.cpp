// The launchers of span_call.h, in the emulator, in a shuffled order of the threads. Fewer blocks than there is work, which they take in turns.
#include "emulator.h"

#include "spans/span_carry.cuh"
#include "spans/span_setup.cuh"

using namespace fkdai::spans;

static unsigned seed = 0;

extern "C" int fkdai_span_load() { return 0; }

extern "C" int fkdai_span_set_up(const fkdai_span_setup *setup, void *) {
    return emulator::launch(2, 1, kSetupThreads, 1024, seed++, [setup] { set_up_kernel(*setup); }) ? 0 : 1;
}

extern "C" int fkdai_span_carry_states(const fkdai_span_carry *carry, void *) {
    const auto blocks = static_cast<unsigned>(kSlices * carry->HV);
    return emulator::launch(blocks, 1, kCarryThreads, sizeof(CarrySmem), seed++, [carry] { carry_kernel(*carry); }) ? 0 : 1;
}
