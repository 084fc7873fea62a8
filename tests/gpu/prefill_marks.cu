// prefill_marks.cu: where the time of a chunk goes. The kernel is built once more with clock marks (prefill_marks.cuh); one problem runs, and
// for every role the cycles from one moment to the next are printed, medians over 64 chunks of the first CTA.
//
//     prefill_marks [H [T]] [quad]      default 32 heads, 8192 tokens, a duo
#define FKDA_MARKS
#include "prefill_sm90/prefill_launch.cu"

#include <algorithm>
#include <cstring>

#include "gpu_case.cuh"

namespace {

const char *const kRoles[] = {
#define FKDA_MARK(role, name) #role,
#include "prefill_sm90/problem/prefill_marks.def"
#undef FKDA_MARK
};
const char *const kMoments[] = {
#define FKDA_MARK(role, name) #name,
#include "prefill_sm90/problem/prefill_marks.def"
#undef FKDA_MARK
};
unsigned at[kMarks][kMarkedChunks];

// Of the chunks that this CTA prepares for load, operand and solve; of all for the others.
int median(int from, int from_chunk, int to, int to_chunk, int step) {
    std::vector<int> cycles;
    for (int i = 0; i + std::max(from_chunk, to_chunk) < static_cast<int>(kMarkedChunks); i += step)
        cycles.push_back(static_cast<int>(at[to][i + to_chunk] - at[from][i + from_chunk]));
    std::sort(cycles.begin(), cycles.end());
    return cycles[cycles.size() / 2];
}

void print_role(int first, int last) {
    const bool prepares = strcmp(kRoles[first], "chain") != 0 && strcmp(kRoles[first], "store") != 0;
    const int step = prepares ? duo::kRanks : 1;
    printf("%-8s %6d a chunk:", kRoles[first], median(first, 0, first, step, step));
    for (int m = first + 1; m <= last; m++) printf("  %s %d", kMoments[m], median(m - 1, 0, m, 0, step));
    printf("\n");
}

}  // namespace

int main(int argc, char **argv) {
    const int multiprocessors = multiprocessors_or_skip("prefill_marks");
    read_mapping(argc, argv);
    case_spec s = kernel_case_parse("marks", "T=8192 H=32");
    if (argc > 1) s.H = s.HV = atoi(argv[1]);
    if (argc > 2) s.T = s.bounds[1] = atoi(argv[2]);
    if (s.H < 1 || s.T < static_cast<int64_t>(kFirstMarked + kMarkedChunks + 1) * kChunk) {
        printf("prefill_marks: H at least 1, T at least %u\n", (kFirstMarked + kMarkedChunks + 1) * kChunk);
        return 2;
    }
    load_kernels();
    DeviceCase c(s, multiprocessors, asked_mapping == FKDAI_QUAD ? FKDAI_QUAD : FKDAI_DUO);  // the marked ones
    for (int i = 0; i < 3; i++) c.run();
    CHECK_CUDA(cudaMemcpyFromSymbol(at, marked_clock, sizeof at));
    for (int first = 0, m = 1; m <= kMarks; m++)
        if (m == kMarks || strcmp(kRoles[m], kRoles[first]) != 0) print_role(first, m - 1), first = m;
    return 0;
}
