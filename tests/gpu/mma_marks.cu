// mma_marks.cu: where the time of a step of the portable kernel goes. It is built once more with clock marks (mma_marks.cuh); one problem runs, and for
// every role of the first block the cycles from one moment to the next are printed, medians over the steps in the middle.
//
//     mma_marks [H [T]] [mma<slices>]      default 4 heads, 8192 tokens
#define FKDA_MARKS
#include "prefill_mma/prefill_mma_launch.cu"

#include <algorithm>
#include <cstring>

#include "gpu_case.cuh"

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
int median(int from, int to, int steps, int later) {
    std::vector<int> cycles;
    for (int i = steps / 3; i + later <= steps * 2 / 3; i++)
        if (at[from][i] != 0 && at[to][i + later] != 0) cycles.push_back(static_cast<int>(at[to][i + later] - at[from][i]));
    std::sort(cycles.begin(), cycles.end());
    return cycles.empty() ? 0 : cycles[cycles.size() / 2];
}

void print_role(int first, int last, int steps) {
    printf("%-8s %6d a step:", kRoles[first], median(first, first, steps, 1));
    for (int m = first + 1; m <= last; m++) printf("  %s %d", kMoments[m], median(m - 1, m, steps, 0));
    printf("\n");
}

}  // namespace

int main(int argc, char **argv) {
    const int multiprocessors = multiprocessors_or_skip("mma_marks");
    read_mapping(argc, argv);
    case_spec s = kernel_case_parse("marks", "T=8192 H=4");
    if (argc > 1) s.H = s.HV = atoi(argv[1]);
    if (argc > 2) s.T = s.bounds[1] = atoi(argv[2]);
    const int steps = static_cast<int>(s.T / kChunk);
    if (s.H < 1 || steps < 1 || steps > kMarkedSteps) {
        printf("mma_marks: H at least 1, T from %d to %d\n", kChunk, kMarkedSteps * kChunk);
        return 2;
    }
    CHECK_CUDA(fkdai_mma_load());
    DeviceCase c(s, multiprocessors, asked_mapping < kMma ? kMma : asked_mapping);
    for (int i = 0; i < 3; i++) c.run();
    CHECK_CUDA(cudaMemcpyFromSymbol(at, marked_clock, sizeof at));
    printf("H=%d, %d slices, %d solve warps, %d chain warps\n", static_cast<int>(s.H), c.mma.slices, c.mma.solve_warps, c.mma.chain_warps);
    for (int first = 0, m = 1; m <= kMarks; m++)
        if (m == kMarks || strcmp(kRoles[m], kRoles[first]) != 0) {
            print_role(first, m - 1, steps);
            first = m;
        }
    return 0;
}
