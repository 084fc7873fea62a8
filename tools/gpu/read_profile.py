#!/usr/bin/env python3
"""Where the warps of a kernel spend their time, instruction by instruction, from a profile of Nsight Compute.

    ncu --clock-control none -k regex:prefill_kernel --launch-skip 5 --launch-count 1 --section SourceCounters \\
        --warp-sampling-interval 0 -o profile build/gpu/tests/prefill_time 3
    ncu --import profile.ncu-rep --page source --csv --print-source sass > profile.csv

    tools/gpu/read_profile.py profile.csv                        the loops: size, share of all samples, stalls
    tools/gpu/read_profile.py profile.csv --loop 4 --cycles 1850 one of them: each instruction's share of 1850 cycles a turn, with its stalls
    tools/gpu/read_profile.py profile.csv --loop 4 --cycles 1850 --least 10     only those of at least 10 cycles
    tools/gpu/read_profile.py profile.csv --runs --cycles 710000 --warps 2640 --least 50
        neighbours that run equally often, with the cycles that a warp takes for one pass: the kernel took 710000 cycles (SpeedOfLight:
        Elapsed Cycles) and had 2640 warps, 20 in each of 132 blocks. Warps that share a role's code may take different branches of it.
    tools/gpu/read_profile.py profile.csv --runs --cycles 710000 --warps 2640 --between c370 11810
        the same of single instructions

Samples count a warp's time, waiting or not: the cycles of a loop are those of one warp's turn. A mark in the kernel's code (prefill_marks)
slows the block that it stands in; samples slow nothing. Time at a product that waits for the other warps of its warpgroup has no column
in this page: it shows as cycles without a stall.
"""
import argparse
import csv
import re

SMALLEST = 60    # instructions; shorter loops are polls


class Instruction:
    def __init__(self, row, columns, base):
        self.at = int(row[columns["Address"]], 16) - base
        self.text = row[columns["Source"]].strip()
        self.samples, self.executed = int(row[columns["# Samples"]]), int(row[columns["Instructions Executed"]])
        self.stalls = {name[6:]: int(row[i]) for name, i in columns.items() if name.startswith("stall_") and "Not" not in name}

    def target(self, base):
        """Where a backward branch goes, else None."""
        found = re.search(r"\bBRA\S*\s.*?(0x[0-9a-f]+)", self.text)
        to = int(found.group(1), 16) - base if found else None
        return to if to is not None and 0 <= to < self.at else None


def read(path):
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    head = next(i for i, row in enumerate(rows) if "Address" in row)
    columns = {name: i for i, name in enumerate(rows[head])}
    base = int(rows[head + 1][columns["Address"]], 16)
    return [Instruction(row, columns, base) for row in rows[head + 1:]], base


def loops(code, base):
    """(first, last) of the loops, outer ones left out where an inner one is most of them; far jumps back are no loops."""
    found = {}
    for one in code:
        to = one.target(base)
        if to is not None and SMALLEST <= (one.at - to) // 16 < 1000:
            found[to] = max(found.get(to, 0), one.at)
    return sorted(found.items())


def runs(code, unit, are_single):
    """(first, last, instructions, passes, cycles a pass, stalls) of neighbours that were executed equally often, within a twentieth."""
    found = []
    for one in code:
        if one.executed == 0:
            continue
        if not found or are_single or abs(found[-1][0].executed - one.executed) > 0.05 * one.executed:
            found.append([])
        found[-1].append(one)
    for inside in found:
        stalls = {name: sum(one.stalls[name] for one in inside) for name in inside[0].stalls}
        passes = inside[0].executed
        yield inside[0].at, inside[-1].at, len(inside), passes, unit * sum(one.samples for one in inside) / passes, stalls


def total(stalls):
    return ", ".join(f"{name} {count}" for name, count in sorted(stalls.items(), key=lambda item: -item[1])[:6] if count > 0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("profile")
    arguments.add_argument("--loop", type=int, help="number of a loop in the list")
    arguments.add_argument("--cycles", type=float, default=100.0, help="what one turn of it takes (default: percent)")
    arguments.add_argument("--runs", action="store_true", help="neighbours that run equally often")
    arguments.add_argument("--between", nargs=2, metavar=("FIRST", "LAST"), help="with --runs: single instructions there")
    arguments.add_argument("--warps", type=int, default=0, help="of the whole kernel")
    arguments.add_argument("--least", type=float, default=0.0)
    options = arguments.parse_args()
    code, base = read(options.profile)
    if options.runs:
        unit = options.cycles * options.warps / max(sum(one.samples for one in code), 1)    # warp cycles a sample
        low, high = (int(at, 16) for at in options.between or ("0", "ffffff"))
        inside = [one for one in code if low <= one.at <= high]
        for first, last, count, passes, cycles, stalls in runs(inside, unit, options.between is not None):
            if cycles >= options.least:
                share = {name: 100 * samples // max(sum(stalls.values()), 1) for name, samples in stalls.items()}
                print(f"{first:05x}..{last:05x}  {count:4} instructions, {passes:8} passes  {cycles:8.0f} cycles   percent of it: {total(share)}")
        return
    everything = sum(one.samples for one in code)
    listed = loops(code, base)
    if options.loop is None:
        for number, (first, last) in enumerate(listed):
            inside = [one for one in code if first <= one.at <= last]
            samples = sum(one.samples for one in inside)
            stalls = {name: 100 * sum(one.stalls[name] for one in inside) // max(samples, 1) for name in inside[0].stalls}
            print(f"{number:3}  {first:05x}..{last:05x}  {len(inside):4} instructions, {sum(one.executed > 0 for one in inside):4} of them run  "
                  f"{100 * samples / everything:5.1f} %   percent of it: {total(stalls)}")
        return
    first, last = listed[options.loop]
    inside = [one for one in code if first <= one.at <= last]
    unit, sum_so_far = options.cycles / max(sum(one.samples for one in inside), 1), 0.0
    for one in inside:
        cycles = one.samples * unit
        sum_so_far += cycles
        if cycles >= options.least:
            print(f"{one.at:05x} {cycles:8.1f} {sum_so_far:9.1f}  {one.text[:70]:70}  "
                  f"{total({name: round(count * unit) for name, count in one.stalls.items()})}")


if __name__ == "__main__":
    main()
