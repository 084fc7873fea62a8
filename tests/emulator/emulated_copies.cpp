// The copying kernels in the place of their launcher, emulated, in a shuffled order of the threads.
#include "emulator.h"

#include "strided_copy/strided_copy_kernel.cuh"

#include <algorithm>

namespace {

// At most so many blocks for a copy, which take turns then, as beyond 2^24.
fkdai_copy_grid with_fewer_blocks(const fkdai_copies *list, int most) {
    const fkdai_copy_grid all = fkdai_copy_make_grid(list);
    fkdai_copy_grid few = all;
    few.blocks = 0;
    for (int i = 0; i < list->count; i++) {
        few.first_block[i] = few.blocks;
        few.blocks += std::min(most, all.first_block[i + 1] - all.first_block[i]);
    }
    few.first_block[list->count] = few.blocks;
    few.blocks += all.blocks - all.first_block[list->count];
    return few;
}

int launch(void (*kernel)(fkdai::strided_copy::Params), const fkdai_copies *list) {
    static unsigned seed = 0;
    const fkdai::strided_copy::Params p{*list, with_fewer_blocks(list, 1 + static_cast<int>(seed % 5))};
    if (p.grid.blocks == 0) return 0;
    return emulator::launch(static_cast<unsigned>(p.grid.blocks), 1, fkdai::strided_copy::kThreads, 1024, seed++, [&] { kernel(p); }) ? 0 : 1;
}

}  // namespace

extern "C" int fkdai_copy_load() { return 0; }
extern "C" int fkdai_copy_in(const fkdai_copies *copies, void *) { return launch(fkdai::strided_copy::copy_in_kernel, copies); }
extern "C" int fkdai_copy_out(const fkdai_copies *copies, void *) { return launch(fkdai::strided_copy::copy_out_kernel, copies); }
