// prefill_tiny.cu: six tiny problems, each launched once in every mapping, for the tools that watch every access. Nothing is poisoned first: what a kernel
// reads without anyone having written it is to be seen.
#include "gpu_repeat.cuh"

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    const int multiprocessors = multiprocessors_or_skip("prefill_tiny");
    CHECK_CUDA(fkdai_prefill_load());
    CaseShape bf16 = packed_shape({33, 1}, 1), dense = packed_shape({40, 40}, 2), stateless = packed_shape({70}, 1);
    dense.packed = false, stateless.has_initial = false;
    const CaseShape shapes[] = {packed_shape({1}, 1), dense, stateless, packed_shape({0, 17, 0, 65}, 2), packed_shape(repeated({3}, 70), 1), bf16};
    int ran = 0;
    for (int i = 0; i < 18; i++) {
        CaseShape s = shapes[i % 6];
        if (asked_mapping < 0) s.mapping = i < 6 ? FKDAI_DUO : i < 12 ? FKDAI_SOLO : FKDAI_QUAD;
        const bool is_bf16 = i % 6 == 5;
        DeviceCase c(s, multiprocessors);
        if (is_bf16) {
            CHECK_CUDA(cudaMemset(c.initial, 0, c.state_count() * 4));
            c.call.initial_rows.element = c.call.final_rows.element = FKDAI_BF16;
        }
        watched = "a tiny problem";
        c.launch(nullptr);
        watch(nullptr, 300);  // under a tool everything is slow
        ran++;
    }
    printf("prefill_tiny: ran %d, failed 0\n", ran);
    return 0;
}
