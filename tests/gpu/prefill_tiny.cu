// prefill_tiny.cu: suite tiny of cases.def, each case launched once in every mapping, for the tools that watch every access. Nothing is poisoned
// first: what a kernel reads without anyone having written it is to be seen.
#include "gpu_repeat.cuh"
#include "gpu_states.cuh"

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    const int multiprocessors = multiprocessors_or_skip("prefill_tiny");
    load_kernels();
    int ran = 0;
    for (const int mapping : {FKDAI_DUO, FKDAI_SOLO, FKDAI_QUAD, FKDAI_QUINT, FKDAI_SEXTET, FKDAI_OCTET})
        for (int i = 0; i < kernel_case_count("tiny"); i++, ran++) {
            DeviceCase c(kernel_case_at("tiny", i), multiprocessors, asked_mapping < 0 ? mapping : asked_mapping);
            const DeviceStates states(c);
            watched = "a tiny problem";
            c.launch(nullptr);
            watch(nullptr, 300);  // under a tool everything is slow
        }
    printf("prefill_tiny: ran %d, failed 0\n", ran);
    return 0;
}
