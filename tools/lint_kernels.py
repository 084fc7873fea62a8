#!/usr/bin/env python3
"""Compiles every kernel for sm_90a and reads what the compiler says and what it emitted. Needs nvcc, no GPU.

Fails on: serialized wgmma (C75xx), float atomics, missing proxy fences or waits, mbarrier operations of cluster scope (they
become device-wide barriers), and registers, spills or stack above tools/kernel_ledger.json. Where nvdisasm is found (a CUDA
toolkit, or Triton's package), also on hot loops that are longer than the ledger says, or move descriptors out of vector
registers (R2UR): an SM holds 32 KB of code (docs/decisions/0006), and the compiler finds ways to double a loop.

    tools/lint_kernels.py        prints one line per kernel; exit code 1 on a finding, 77 without nvcc
"""
import argparse
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEDGER = ROOT / "tools" / "kernel_ledger.json"
FLAGS = ["-gencode", "arch=compute_90a,code=sm_90a", "-std=c++20", "-O3"]


def compile_kernel(nvcc, source, folder):
    """Returns (ptxas report, PTX text)."""
    built = subprocess.run([nvcc, *FLAGS, "-Xptxas", "-v", "-cubin", source, "-o", folder / "k.cubin"], capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(f"{source}: {built.stderr}")
    subprocess.run([nvcc, "-arch=compute_90a", *FLAGS[2:], "-ptx", source, "-o", folder / "k.ptx"], check=True, capture_output=True)
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


def disassembler(nvcc):
    """nvdisasm of a toolkit, or of Triton; None if there is none."""
    triton = importlib.util.find_spec("triton")
    places = [shutil.which("nvdisasm"), pathlib.Path(nvcc).resolve().parent / "nvdisasm"]
    places += [pathlib.Path(folder) / "backends/nvidia/bin/nvdisasm" for folder in (triton.submodule_search_locations if triton else ())]
    return next((place for place in places if place and pathlib.Path(place).exists()), None)


def loops_of(kernel, sass):
    """The loops of one kernel, shortest first, each a list of instructions. A jump back over 1,000 is a wait far from its loop."""
    body = re.search(rf"^\.text\.\S*{kernel}\S*:\n(.*?)(?=^\.text\.|\Z)", sass, re.M | re.S).group(1)
    code, labels = [], {}
    for line in body.splitlines():
        label, instruction = re.match(r"(\.L_x_\d+):", line), re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?;)", line)
        if label:
            labels[label.group(1)] = len(code)
        elif instruction:
            code.append(instruction.group(1))
    found = []
    for at, text in enumerate(code):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text)
        start = labels.get(target.group(1), at + 1) if target else at + 1
        if start <= at < start + 1000:
            found.append(code[start:at + 1])
    return sorted(found, key=len)


def findings_in_loops(sass, kernel, ledger):
    """Each hot loop is the shortest that has the instructions which tell it apart, so many of each at least, and not those of
    others: a wait that the compiler put behind the loop jumps back into its middle, and looks like a shorter one. Where a role
    stands there in `copies`, as many of the shortest are judged."""
    total = 0
    for name, want in ledger["loops"].items():
        count = lambda loop, mark: sum(bool(re.search(mark, instruction)) for instruction in loop)
        copies = want.get("copies", 1)
        found = [loop for loop in loops_of(kernel, sass) if all(count(loop, mark) >= least for mark, least in want["has"].items())
                 and not any(count(loop, mark) for mark in want.get("has_not", ()))][:copies]
        if len(found) < copies:
            yield f"{kernel}: {len(found)} loops with {want['has']} and without {want.get('has_not', [])}, by which the {name}'s {copies} are known"
        for loop in found:
            moved = sum("R2UR" in instruction for instruction in loop)
            total += len(loop)
            print(f"{kernel}, {name}: {len(loop)} instructions in its loop, {moved} R2UR")
            if len(loop) > want["instructions"]:
                yield f"{kernel}: the {name}'s loop has {len(loop)} instructions, the ledger allows {want['instructions']}"
            if moved > want["R2UR"]:
                yield f"{kernel}: the {name}'s loop has {moved} R2UR, the ledger allows {want['R2UR']}"
    if total > ledger["instructions_in_loops"]:
        yield f"{kernel}: the hot loops have {total} instructions, the ledger allows {ledger['instructions_in_loops']}"


def lint(nvcc, source, ledger):
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        report, ptx = compile_kernel(nvcc, source, pathlib.Path(folder))
        nvdisasm = disassembler(nvcc)
        sass = subprocess.run([nvdisasm, "-c", f"{folder}/k.cubin"], check=True, capture_output=True, text=True).stdout if nvdisasm else ""
    release = re.search(r"release ([\d.]+)", subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout).group(1)
    if not sass:
        print("no nvdisasm: loops not looked at")
    elif release != ledger["loops_of_cuda"]:
        print(f"loops not judged: the ledger counts those of CUDA {ledger['loops_of_cuda']}, this is {release}")
    else:
        hot = {kernel: allowed for kernel, allowed in ledger.items() if isinstance(allowed, dict) and "loops" in allowed}
        bad += [f"{source.name}: {finding}" for kernel, allowed in hot.items() for finding in findings_in_loops(sass, kernel, allowed)]
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
    arguments.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("no nvcc: not linted")
        return 77
    ledger = json.loads(LEDGER.read_text())    # kernel -> what it may need
    bad = [finding for source in sorted((ROOT / "src/cuda").glob("*/*_launch.cu")) for finding in lint(nvcc, source, ledger)]
    print("\n".join(bad) or "nothing found")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
