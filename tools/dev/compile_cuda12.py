#!/usr/bin/env python3
"""Compiles the device code with CUDA 12.9, the oldest that is promised, through its run-time compiler from PyPI. Needs no GPU and no toolkit.

    tools/dev/compile_cuda12.py [sm_80 ...]      prints registers and spills of the prefill and copy kernels on each of their architectures, or on
                                                 these; exit code 1 if it does not compile or spills

The wheels go into .cache/cuda12. NVRTC has no C library of its own: tools/dev/nvrtc_headers stands in for the few names that are used.
"""
import argparse
import ctypes
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "cuda12"
WHEELS = ("nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-cccl-cu12==12.9.27")
HOPPER, PORTABLE, COPIES = "prefill_sm90/prefill_kernel.cuh", "prefill_mma/prefill_mma_kernel.cuh", "strided_copy/strided_copy_kernel.cuh"
SETUP, CARRY = "spans/span_setup.cuh", "spans/span_carry.cuh"


def instances(kernel, space, *arguments):
    """Of a template what its launcher instantiates, as nothing else is compiled."""
    return "".join(f"template __global__ void fkdai::{space}::{kernel}<{a}>(const __grid_constant__ fkdai::{space}::Params);\n" for a in arguments)


BOUNDED, QUAD = "fkdai::GateKind::Bounded", "fkdai::prefill::quad::"
INSTANCES = {HOPPER: instances("prefill_kernel", "prefill", f"{BOUNDED}, false") +
                     instances("prefill_plain_kernel", "prefill", f"{BOUNDED}, fkdai::prefill::PlainLong") +
                     instances("prefill_cluster_kernel", "prefill", f"{BOUNDED}, {QUAD}Quad", f"{BOUNDED}, {QUAD}PlainOctet"),
             PORTABLE: instances("mma_prefill_kernel", "portable", "true, false", "true, true", "false, true")}
COMPILED = [("sm_90a", (HOPPER, PORTABLE, COPIES, SETUP, CARRY)),
            *((f"sm_{number}", (PORTABLE, COPIES, SETUP, CARRY)) for number in (80, 86, 89, 100, 103, 120))]


def fetch():
    if (CACHE / "nvidia/cuda_cccl/include").exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", CACHE, *WHEELS], check=True)
    for wheel in CACHE.glob("*.whl"):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, CACHE], check=True)
        wheel.unlink()


def compile_device_code(architecture, kernels):
    """Returns (status, log) of NVRTC."""
    source = "".join(f'#include "{kernel}"\n' for kernel in kernels) + "".join(INSTANCES.get(kernel, "") for kernel in kernels)
    nvrtc = ctypes.CDLL(str(CACHE / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"))
    includes = (ROOT / "src/cuda", ROOT / "tools/dev/nvrtc_headers", CACHE / "nvidia/cuda_runtime/include", CACHE / "nvidia/cuda_cccl/include")
    options = [f"--gpu-architecture={architecture}".encode(), b"-std=c++20", b"-default-device", b"--ptxas-options=-v",
               *(f"-I{i}".encode() for i in includes)]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"prefill.cu", 0, None, None) != 0:
        sys.exit("nvrtcCreateProgram failed")
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    return status, log.value.decode()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("architectures", nargs="*")
    asked = arguments.parse_args().architectures
    fetch()
    is_bad = False
    for architecture, kernels in COMPILED:
        if asked and architecture not in asked:
            continue
        status, log = compile_device_code(architecture, kernels)
        if status != 0:
            print(f"{architecture}: {log}")
            return 1
        for block in log.split("Compiling entry function ")[1:]:
            name = re.search(r"\d+([a-z_]+_kernel)", block).group(1)
            used, spilled = re.search(r"Used (.*)", block).group(1), re.search(r"(\d+) bytes spill stores", block).group(1)
            print(f"CUDA 12.9, {architecture}: {name}: {used}; {spilled} bytes spilled")
        is_bad |= re.search(r"[1-9]\d* bytes spill", log) is not None
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
