// gpu_repeat.cuh: the bits of a first run, kept on the device, and how many words of a later run differ.
#pragma once

#include "gpu_case.cuh"

struct KeptBits {
    const DeviceCase &of;
    uint32_t *out, *final;
    unsigned long long *differences;

    explicit KeptBits(const DeviceCase &c)
        : of(c), out(DeviceCase::allocate<uint32_t>(c.rows() * 64)), final(DeviceCase::allocate<uint32_t>(c.state_count())),
          differences(DeviceCase::allocate<unsigned long long>(1)) {}
    ~KeptBits() { cudaFree(out), cudaFree(final), cudaFree(differences); }
    KeptBits(const KeptBits &) = delete;

    void keep(cudaStream_t on = nullptr) const {
        CHECK_CUDA(cudaMemcpyAsync(out, of.out, of.rows() * 256, cudaMemcpyDeviceToDevice, on));
        CHECK_CUDA(cudaMemcpyAsync(final, of.final, of.state_count() * 4, cudaMemcpyDeviceToDevice, on));
        watch(on);
    }
    unsigned long long differ(cudaStream_t on = nullptr) const {
        unsigned long long host = 0;
        CHECK_CUDA(cudaMemsetAsync(differences, 0, sizeof host, on));
        count_differences<<<256, 256, 0, on>>>(out, reinterpret_cast<const uint32_t *>(of.out), of.rows() * 64, differences);
        count_differences<<<256, 256, 0, on>>>(final, reinterpret_cast<const uint32_t *>(of.final), of.state_count(), differences);
        CHECK_CUDA(cudaGetLastError());
        CHECK_CUDA(cudaMemcpyAsync(&host, differences, sizeof host, cudaMemcpyDeviceToHost, on));
        watch(on);
        return host;
    }
};

// What a stress program counts.
struct Tally {
    int ran = 0, failed = 0;
    void report(const std::string &name, bool good, const std::string &note = "") {
        ran++, failed += !good;
        printf("%s %-52s %s\n", good ? "ok  " : "FAIL", name.c_str(), note.c_str());
        fflush(stdout);
    }
    int end(const char *program) const {
        printf("%s: ran %d, failed %d\n", program, ran, failed);
        return failed != 0;
    }
};

// A packed case whose sequences a program makes: DeviceCase takes their lengths.
inline case_spec packed_spec(const char *name, int64_t H) {
    case_spec s = kernel_case_parse(name, "lens=none");
    s.H = s.HV = H;
    return s;
}
