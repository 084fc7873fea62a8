// The copying kernels in the place of their launcher, emulated, in a shuffled order of the threads.
#include "emulator.h"

#include "strided_copy/strided_copy_kernel.cuh"

namespace {

int launch(void (*kernel)(fkdai::strided_copy::Params), const fkdai_copies *list) {
    static unsigned seed = 0;
    const fkdai::strided_copy::Params p{*list, fkdai_copy_make_grid(list)};
    if (p.grid.blocks == 0) return 0;
    return emulator::launch(static_cast<unsigned>(p.grid.blocks), 1, fkdai::strided_copy::kThreads, 1024, seed++, [&] { kernel(p); }) ? 0 : 1;
}

}  // namespace

extern "C" int fkdai_copy_load() { return 0; }
extern "C" int fkdai_copy_in(const fkdai_copies *copies, void *) { return launch(fkdai::strided_copy::copy_in_kernel, copies); }
extern "C" int fkdai_copy_out(const fkdai_copies *copies, void *) { return launch(fkdai::strided_copy::copy_out_kernel, copies); }
