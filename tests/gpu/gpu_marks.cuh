// gpu_marks.cuh: what the programs that print clock marks share: their problem, the marks of a role side by side, medians.
#pragma once

#include <algorithm>
#include <cstring>

#include "gpu_case.cuh"

struct MarkedProblem {
    case_spec spec;
    int chunks, multiprocessors;  // chunks of 32 tokens
};

// program [H [T [EVERY]]] [mapping]: the case of `text`, with H heads, T tokens, and checkpoints every so many; or program "CASE" [mapping], in the
// words of cases.def. At most so many chunks of a worker have marks; `chunks` are those of its first sequence.
inline MarkedProblem read_marked_problem(const char *program, const char *text, int most, int argc, char **argv) {
    MarkedProblem x{kernel_case_parse("marks", text), 0, multiprocessors_or_skip(program)};
    read_mapping(argc, argv);
    if (argc > 1 && strchr(argv[1], '=') != nullptr) {
        x.spec = kernel_case_parse("marks", argv[1]);
        x.chunks = static_cast<int>((x.spec.N > 0 ? x.spec.bounds[1] - x.spec.bounds[0] : x.spec.T) / 32);
        return x;
    }
    if (argc > 1) x.spec.H = x.spec.HV = atoi(argv[1]);
    if (argc > 2) x.spec.T = x.spec.bounds[1] = atoi(argv[2]);
    if (argc > 3) x.spec.checkpoints = FKDA_F32, x.spec.checkpoint_every = atoi(argv[3]);
    x.chunks = static_cast<int>(x.spec.T / 32);
    if (x.spec.H >= 1 && x.chunks >= 1 && x.chunks <= most) return x;
    printf("%s: H at least 1, T from 32 to %d\n", program, most * 32);
    exit(2);
}

// print(first, last) of each role from mark `first` on; roles: of every mark.
template <int count, class Print>
void for_each_role(const char *const (&roles)[count], int first, const Print &print) {
    for (int m = first + 1; m <= count; m++)
        if (m == count || strcmp(roles[m], roles[first]) != 0) {
            print(first, m - 1);
            first = m;
        }
}

inline int median(std::vector<int> cycles) {
    std::sort(cycles.begin(), cycles.end());
    return cycles.empty() ? 0 : cycles[cycles.size() / 2];
}
