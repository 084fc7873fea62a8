#!/usr/bin/env python3
"""Compiles every kernel for sm_90a and reads what the compiler says and what it emitted. Needs nvcc, no GPU. For other architectures
that the ledger names (also_for; ptx_for: by way of an older one's PTX) only registers, spills and stack are looked at.

Fails on: serialized wgmma (C75xx), float atomics, missing proxy fences or waits, mbarrier operations of cluster scope (they
become device-wide barriers), and registers, spills or stack above tools/dev/kernel_ledger.json. Where nvdisasm is found (a CUDA
toolkit, or Triton's package), also on hot loops that are longer than the ledger says, or have more of an instruction than it
allows: an SM holds 32 KB of code (docs/decisions/0006), and the compiler finds ways to double a loop. What slow builds had more
of: descriptors from vector registers (R2UR), the lane read anew (SR_LANEID), the state moved aside (MOV), counters in uniform
registers of a chain (UISETP).

    tools/dev/lint_kernels.py                  prints one line per kernel; exit code 1 on a finding, 77 without nvcc
    tools/dev/lint_kernels.py --quick          for sm_90a alone (`make check`; all of it: `make check-long`)
    tools/dev/lint_kernels.py --same-as HEAD   compares the machine code with that of a commit: instructions of every kernel and of its
                                           hot loops; exit code 1 if a hot loop has another number of instructions, or something spills
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kernel_code
from kernel_code import ROOT

LEDGER = ROOT / "tools/dev/kernel_ledger.json"


def hot_kernels(ledger):
    return {kernel: allowed for kernel, allowed in ledger.items() if isinstance(allowed, dict) and "loops" in allowed}


def findings_in_ptx(ptx):
    """What the emitted code must not have, or must have."""
    if re.search(r"\b(atom|red)\.[\w.:]*\.(f16|bf16|f32|f64)", ptx):
        yield "a float atomic: results would depend on the order of blocks"
    if "mbarrier.arrive.release.cluster" in ptx or "acquire.cluster.shared" in ptx:
        yield "a cluster-scope release or acquire on an mbarrier: it becomes a device-wide barrier or an L1 invalidation"
    for reader in ("wgmma.mma_async", "cp.async.bulk.shared::cluster.shared::cta"):
        if reader in ptx and "fence.proxy.async.shared::cta" not in ptx:
            yield f"{reader} without any fence.proxy.async"
    if "mbarrier.init" in ptx and "shared::cluster" in ptx and "fence.mbarrier_init" not in ptx:    # seen by a peer or the copy engine
        yield "mbarrier.init without fence.mbarrier_init"
    stores = len(re.findall(r"cp\.async\.bulk[\w.:]*global\.shared::cta", ptx))
    if stores and "cp.async.bulk.wait_group" not in ptx:
        yield "a bulk store whose issuer never waits for it"


def plain(mark):
    """A regular expression as the word that it looks for."""
    return mark.replace(r"\b", "")


def findings_in_loops(sass, kernel, ledger):
    total = 0
    for name, loops in kernel_code.hot_loops(kernel, sass, ledger):
        want = ledger["loops"][name]
        if len(loops) < want.get("copies", 1):
            yield (f"{kernel}: {len(loops)} loops with {want['has']} and without {want.get('has_not', [])}, by which the {name}'s "
                   f"{want.get('copies', 1)} are known")
        for loop in loops:
            found = {mark: sum(bool(re.search(mark, instruction)) for instruction in loop) for mark in want["at_most"]}
            total += len(loop)
            print(f"{kernel}, {name}: {len(loop)} instructions in its loop, {', '.join(f'{n} {plain(mark)}' for mark, n in found.items())}")
            if len(loop) > want["instructions"]:
                yield f"{kernel}: the {name}'s loop has {len(loop)} instructions, the ledger allows {want['instructions']}"
            for mark, n in found.items():
                if n > want["at_most"][mark]:
                    yield f"{kernel}: the {name}'s loop has {n} {plain(mark)}, the ledger allows {want['at_most'][mark]}"
    if total > ledger["instructions_in_loops"]:
        yield f"{kernel}: the hot loops have {total} instructions, the ledger allows {ledger['instructions_in_loops']}"


def findings_in_sizes(report, ledger, where=""):
    for kernel, (registers, spills, stack) in kernel_code.entries(report).items():
        print(f"{kernel}{where}: {registers} registers at launch, {spills} bytes spilled, {stack} bytes of stack")
        allowed = ledger.get(kernel, {"registers": 0, "spill_bytes": 0, "stack_bytes": 0})
        for what, value in (("registers", registers), ("spill_bytes", spills), ("stack_bytes", stack)):
            if value > allowed[what]:
                yield f"{kernel}{where}: {what} {value}, the ledger allows {allowed[what]}"


def findings_elsewhere(nvcc, source, kernels, ledger, folder):
    """Sizes on the other architectures that kernels of this source are compiled for."""
    others = {architecture for kernel in kernels for architecture in ledger.get(kernel, {}).get("also_for", [])}
    for architecture in sorted(others, key=int):
        yield from findings_in_sizes(kernel_code.report_for(nvcc, source, architecture, folder), ledger, f" on sm_{architecture}")
    wanted = [ledger.get(kernel, {}).get("ptx_for", {}) for kernel in kernels]
    by_ptx = {(virtual, architecture) for versions in wanted for virtual, on in versions.items() for architecture in on}
    for virtual, architecture in sorted(by_ptx):
        report = kernel_code.report_for(nvcc, source, architecture, folder, virtual)
        yield from findings_in_sizes(report, ledger, f" on sm_{architecture} by PTX of compute_{virtual}")


def lint(nvcc, source, ledger, is_quick):
    with tempfile.TemporaryDirectory() as folder:
        report, ptx, cubin = kernel_code.compile_kernel(nvcc, source, pathlib.Path(folder))
        sass = kernel_code.disassemble(nvcc, cubin)
        kernels = kernel_code.entries(report)
        elsewhere = [] if is_quick else list(findings_elsewhere(nvcc, source, kernels, ledger, pathlib.Path(folder)))
    bad = [line.strip() for line in report.splitlines() if re.search(r"C75\d\d", line)]
    if sass is None:
        print("no nvdisasm: loops not looked at")
    elif kernel_code.cuda_release(nvcc) != ledger["loops_of_cuda"]:
        print(f"loops not judged: the ledger counts those of CUDA {ledger['loops_of_cuda']}, this is {kernel_code.cuda_release(nvcc)}")
    else:
        bad += [finding for kernel, allowed in hot_kernels(ledger).items() if kernel in kernels for finding in
                findings_in_loops(sass, kernel, allowed)]
    bad += [*findings_in_ptx(ptx), *findings_in_sizes(report, ledger), *elsewhere]
    return [f"{source.name}: {finding}" for finding in bad]


# ---------------------------------------------------------------- the same code?


def compiled(nvcc, tree, folder):
    """Of all kernels of a tree: (sizes by kernel, machine code)."""
    sizes, sass = {}, ""
    for source in kernel_code.sources(tree):
        report, _, cubin = kernel_code.compile_kernel(nvcc, source, folder)
        sizes.update(kernel_code.entries(report))
        sass += kernel_code.disassemble(nvcc, cubin) or ""
    return sizes, sass


def compare_loops(kernel, before, after, ledger):
    """Prints the hot loops; yields those that have another number of instructions."""
    for (name, old), (_, new) in zip(kernel_code.hot_loops(kernel, before, ledger), kernel_code.hot_loops(kernel, after, ledger), strict=True):
        counts = [[len(loop) for loop in loops] for loops in (old, new)]
        print(f"    {name}: {counts[0]} -> {counts[1]} instructions")
        if counts[0] != counts[1]:
            yield f"{kernel}: the {name}'s loop had {counts[0]} instructions and has {counts[1]}"


def compare(nvcc, revision, ledger):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "before").mkdir()
        archive = subprocess.run(["git", "-C", ROOT, "archive", revision, "src"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder / "before"], input=archive, check=True)
        (sizes_before, before), (sizes, after) = compiled(nvcc, folder / "before", folder), compiled(nvcc, ROOT, folder)
    bad = []
    if not before or not after:
        print("no nvdisasm: nothing compared")
        return 77
    for kernel in sizes:
        if kernel not in sizes_before:
            print(f"{kernel}: new")
            continue
        old, new = (kernel_code.code_of(kernel, sass)[0] for sass in (before, after))
        is_same = kernel_code.without_places(old) == kernel_code.without_places(new)
        print(f"{kernel}: {len(old)} -> {len(new)} instructions{', all of them identical' if is_same else ''}; registers, spilled, stack: "
              f"{sizes_before[kernel]} -> {sizes[kernel]}")
        if sizes[kernel][1] > 0:
            bad.append(f"{kernel}: {sizes[kernel][1]} bytes spilled")
        if not is_same and kernel in hot_kernels(ledger):
            bad += compare_loops(kernel, before, after, ledger[kernel])
    print("\n".join(bad) or "nothing found")
    return 1 if bad else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--same-as", metavar="REV", help="a commit to compare the machine code with")
    arguments.add_argument("--quick", action="store_true", help="sm_90a alone")
    options = arguments.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("no nvcc: not linted")
        return 77
    ledger = json.loads(LEDGER.read_text())    # kernel -> what it may need
    if options.same_as:
        return compare(nvcc, options.same_as, ledger)
    bad = [finding for source in kernel_code.sources(ROOT) for finding in lint(nvcc, source, ledger, options.quick)]
    print("\n".join(bad) or "nothing found")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
