// mma_marks.cu: where the time of a step of the portable kernel goes. It is built once more with clock marks (mma_marks.cuh); one problem runs, and for
// every role of the first block the cycles from one moment to the next are printed, medians over the steps in the middle.
//
//     mma_marks [H [T]] [mma<slices>]      default 4 heads, 8192 tokens
#define FKDA_MARKS
#include "prefill_mma/prefill_mma_launch.cu"

#include "gpu_marks.cuh"

namespace {

const char *const kRoles[] = {
#define FKDA_MARK(role, name) #role,
#include "prefill_mma/mma_marks.def"
#undef FKDA_MARK
};
const char *const kMoments[] = {
#define FKDA_MARK(role, name) #name,
#include "prefill_mma/mma_marks.def"
#undef FKDA_MARK
};
unsigned at[kMarks][kMarkedSteps];

// Over the steps in the middle; a moment that was never passed has no clock.
int cycles_between(int from, int to, int steps, int later) {
    std::vector<int> cycles;
    for (int i = steps / 3; i + later <= steps * 2 / 3; i++)
        if (at[from][i] != 0 && at[to][i + later] != 0) cycles.push_back(static_cast<int>(at[to][i + later] - at[from][i]));
    return median(cycles);
}

void print_role(int first, int last, int steps) {
    printf("%-8s %6d a step:", kRoles[first], cycles_between(first, first, steps, 1));
    for (int m = first + 1; m <= last; m++) printf("  %s %d", kMoments[m], cycles_between(m - 1, m, steps, 0));
    printf("\n");
}

}  // namespace

int main(int argc, char **argv) {
    static_assert(kChunk == 32);
    const MarkedProblem x = read_marked_problem("mma_marks", "T=8192 H=4", kMarkedSteps, argc, argv);
    CHECK_CUDA(fkdai_mma_load());
    DeviceCase c(x.spec, x.multiprocessors, asked_mapping < kMma ? kMma : asked_mapping);
    for (int i = 0; i < 3; i++) c.run();
    CHECK_CUDA(cudaMemcpyFromSymbol(at, marked_clock, sizeof at));
    printf("H=%d, %d slices, %d solve warps, %d chain warps\n", static_cast<int>(x.spec.H), c.mma.slices, c.mma.solve_warps, c.mma.chain_warps);
    for_each_role(kRoles, 0, [&](int first, int last) { print_role(first, last, x.chunks); });
    return 0;
}
