// prefill_marks.cu: where the time of a chunk goes. The kernel is built once more with clock marks (prefill_marks.cuh); one problem runs, and
// for every role the cycles from one moment to the next are printed, medians over the chunks in the middle; then when the first and the last
// chunks reach them: where the time of starts and ends goes.
//
//     prefill_marks [H [T [EVERY]] | "CASE"] [solo | duo | quad | quint | sextet | octet] [cold]
//         default 32 heads, 8192 tokens, no checkpoints, a duo; CASE: in the words of cases.def, as "lens=1024*8 H=96"
#define FKDA_MARKS
#include "prefill_sm90/prefill_launch.cu"

#include "gpu_cold.cuh"
#include "gpu_marks.cuh"
#include "gpu_states.cuh"

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
unsigned long long ns[kMarks][8];
int chunks;  // of the problem's sequence, as far as they are marked

bool is_of(int mark, const char *role) { return strcmp(kRoles[mark], role) == 0; }
bool is_of_preparer(int mark) { return is_of(mark, "load") || is_of(mark, "operand") || is_of(mark, "solve"); }
int ranks, preparers;  // of the mapping
// A CTA prepares every second or fourth chunk.
int step_of(int mark) { return is_of_preparer(mark) ? preparers : 1; }

// Over the chunks in the middle.
int cycles_between(int from, int from_chunk, int to, int to_chunk, int step) {
    std::vector<int> cycles;
    for (int i = chunks / 3 / step * step; i + std::max(from_chunk, to_chunk) <= chunks * 2 / 3; i += step)
        cycles.push_back(static_cast<int>(at[to][i + to_chunk] - at[from][i + from_chunk]));
    return median(cycles);
}

void print_role(int first, int last) {
    const int step = step_of(first);
    printf("%-8s %6d a chunk:", kRoles[first], cycles_between(first, 0, first, step, step));
    for (int m = first + 1; m <= last; m++) printf("  %s %d", kMoments[m], cycles_between(m - 1, 0, m, 0, step));
    printf("\n");
}

// Cycles since the blocks of the cluster met, which all of its SMs know; `block` has the role.
void print_moment(int mark, int i, int block) {
    printf("  %s %d", kMoments[mark], static_cast<int>(at[mark][i] - at[mark_block_has_met][block]));
}
void print_chunk(const char *role, int chunk, int block) {
    printf("  %-8s %4d:", role, chunk);
    for (int m = 0; m < kMarks; m++)
        if (is_of(m, role)) print_moment(m, chunk, block);
    printf("\n");
}
// Of a worker that has several jobs or checkpoints all chunks are printed, and what its chain does between two of them.
int marked_chunks() {
    int count = 0;
    while (count < static_cast<int>(kMarkedChunks) && at[mark_chain_has_the_state][count] != 0) count++;
    return count;
}
void print_ends(int blocks, int checkpoints) {
    for (int block = 0; block < blocks; block++) print_chunk("block", block, block);
    const int preparer = blocks == 2 ? 0 : blocks == 8 ? 4 : 2, marked = marked_chunks();
    const int firsts = marked > chunks || checkpoints > 0 ? marked : 4, states = marked > chunks ? marked / chunks + 2 : 2;
    for (const char *role : {"load", "operand", "solve"})
        for (int chunk = 0; chunk < firsts * preparers && chunk < marked; chunk += preparers) print_chunk(role, chunk, preparer);
    for (const char *role : {"chain", "out", "store"})
        for (int chunk = 0; chunk < marked; chunk++)
            if (chunk < firsts || chunk >= marked - 2) print_chunk(role, chunk, strcmp(role, "chain") != 0 && blocks == 8 ? 2 : 0);
    for (int i = 0; i < states; i++) print_chunk("state", i, 0);
    for (int i = 0; i + 1 < checkpoints; i++) print_chunk("checkpoint", i, 0);
}

}  // namespace

int main(int argc, char **argv) {
    static_assert(kChunk == 32);
    const bool is_cold = argc > 1 && strcmp(argv[argc - 1], "cold") == 0;
    if (is_cold) argc--;
    const MarkedProblem x = read_marked_problem("prefill_marks", "T=8192 H=32", static_cast<int>(kMarkedChunks), argc, argv);
    chunks = x.chunks;
    load_kernels();
    DeviceCase c(x.spec, x.multiprocessors, asked_mapping >= 0 ? asked_mapping : FKDAI_DUO);  // the marked ones
    const DeviceStates states(c);
    ranks = fkdai_prefill_ranks(c.call.grid), preparers = c.call.grid.mapping == FKDAI_SOLO ? 1 : ranks >= 6 ? 4 : ranks == 5 ? 3 : 2;
    for (int i = 0; i < 3; i++) {
        if (is_cold) ColdCaches().enqueue(nullptr);
        c.run();
    }
    CHECK_CUDA(cudaMemcpyFromSymbol(at, marked_clock, sizeof at));
    CHECK_CUDA(cudaMemcpyFromSymbol(ns, marked_ns, sizeof ns));
    for_each_role(kRoles, mark_load_wants_stage, [](int first, int last) {
        if (!is_of(first, "state") && !is_of(first, "checkpoint")) print_role(first, last);
    });
    const unsigned cycles = at[mark_block_ends][0] - at[mark_block_begins][0];
    const double us = static_cast<double>(ns[mark_block_ends][0] - ns[mark_block_begins][0]) * 1e-3;
    printf("first block: %u cycles in %.1f us, %.2f GHz\n", cycles, us, cycles / us * 1e-3);
    printf("cycles since the cluster met:\n");
    print_ends(ranks, x.spec.checkpoint_every > 0 ? static_cast<int>(x.spec.T / x.spec.checkpoint_every) : 0);
    return 0;
}
