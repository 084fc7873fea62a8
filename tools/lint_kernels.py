#!/usr/bin/env python3
"""Compiles every kernel for sm_90a and reads what the compiler says and what it emitted. Needs nvcc, no GPU.

Fails on: serialized wgmma (C75xx), float atomics, missing proxy fences or waits, mbarrier operations of cluster scope (they
become device-wide barriers), and registers, spills or stack above tools/kernel_ledger.json.

    tools/lint_kernels.py --cutlass DIR        prints one line per kernel; exit code 1 on a finding, 77 without nvcc
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEDGER = ROOT / "tools" / "kernel_ledger.json"
FLAGS = ["-gencode", "arch=compute_90a,code=sm_90a", "-std=c++20", "-O3", "-D_GLIBCXX_IOSTREAM"]


def compile_kernel(nvcc, cutlass, source, folder):
    """Returns (ptxas report, PTX text)."""
    include = ["-isystem", cutlass]
    built = subprocess.run([nvcc, *FLAGS, *include, "-Xptxas", "-v", "-cubin", source, "-o", folder / "k.cubin"], capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(f"{source}: {built.stderr}")
    subprocess.run([nvcc, "-arch=compute_90a", *FLAGS[2:], *include, "-ptx", source, "-o", folder / "k.ptx"], check=True, capture_output=True)
    return built.stderr, (folder / "k.ptx").read_text()


def entries(report):
    """kernel name -> (registers, spill bytes, stack bytes) from `ptxas -v`."""
    found = {}
    for block in report.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", block).group(1)
        short = re.search(r"\d+([a-z_]+_kernel)", name).group(1)
        number = lambda pattern: sum(int(n) for n in re.findall(pattern, block))
        found[short] = (number(r"Used (\d+) registers"), number(r"(\d+) bytes spill"), number(r"(\d+) bytes stack frame"))
    return found


def findings_in_ptx(ptx):
    """What the emitted code must not have, or must have."""
    if re.search(r"\b(atom|red)\.[\w.:]*\.(f16|bf16|f32|f64)", ptx):
        yield "a float atomic: results would depend on the order of blocks"
    if "mbarrier.arrive.release.cluster" in ptx or "acquire.cluster.shared" in ptx:
        yield "a cluster-scope release or acquire on an mbarrier: it becomes a device-wide barrier or an L1 invalidation"
    for reader in ("wgmma.mma_async", "cp.async.bulk.shared::cluster.shared::cta"):
        if reader in ptx and "fence.proxy.async.shared::cta" not in ptx:
            yield f"{reader} without any fence.proxy.async"
    if "mbarrier.init" in ptx and "fence.mbarrier_init" not in ptx:
        yield "mbarrier.init without fence.mbarrier_init"
    stores = len(re.findall(r"cp\.async\.bulk[\w.:]*global\.shared::cta", ptx))
    if stores and "cp.async.bulk.wait_group" not in ptx:
        yield "a bulk store whose issuer never waits for it"


def lint(nvcc, cutlass, source, ledger):
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        report, ptx = compile_kernel(nvcc, cutlass, source, pathlib.Path(folder))
    bad += [f"{source.name}: {line.strip()}" for line in report.splitlines() if re.search(r"C75\d\d", line)]
    bad += [f"{source.name}: {finding}" for finding in findings_in_ptx(ptx)]
    for kernel, (registers, spills, stack) in entries(report).items():
        print(f"{kernel}: {registers} registers at launch, {spills} bytes spilled, {stack} bytes of stack")
        allowed = ledger.get(kernel, {"registers": 0, "spill_bytes": 0, "stack_bytes": 0})
        for what, value in (("registers", registers), ("spill_bytes", spills), ("stack_bytes", stack)):
            if value > allowed[what]:
                bad.append(f"{kernel}: {what} {value}, the ledger allows {allowed[what]}")
    return bad


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cutlass", required=True, help="folder with cute/ and cutlass/")
    options = arguments.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("no nvcc: not linted")
        return 77
    ledger = json.loads(LEDGER.read_text())
    bad = [finding for source in sorted((ROOT / "src/cuda").glob("*/*_launch.cu")) for finding in lint(nvcc, options.cutlass, source, ledger)]
    print("\n".join(bad) or "nothing found")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
