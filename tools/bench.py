#!/usr/bin/env python3
"""CPU backend against plain token loops: `make bench`.

Runs build/bench/bench/fkda_bench_cpu, prints its rows as they come, and leaves them as JSON lines and as a picture:

    tools/bench.py             out/cpu.jsonl and out/cpu.svg
    tools/bench.py --quick     fewer tokens, fewer repetitions
    tools/bench.py --record    the same, and bench/results/cpu.jsonl, from which tools/report/report.py writes docs/benchmarks.md
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "report"))
from report_cpu import WORDS, draw_cpu, ratio_of  # noqa: E402

PROGRAM = ROOT / "build/bench/bench/fkda_bench_cpu"


def machine():
    """What the figures belong to."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {"machine": model, "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1), "commit": commit}


def row_text(row):
    ratio, slower = ratio_of(row), row["what"].startswith("plain")
    says = "" if ratio is None else f"flashkda is {ratio:.2f}x faster" if slower else f"{ratio:.2f}x one thread"
    return f"  {row['isa']:<7} {WORDS[row['what']]:<66} {row['ns_per_token_head']:>8.0f}  ({row['low']:.0f} .. {row['high']:.0f})  {says}"


def measure(options):
    """Runs the program; returns its rows behind a row about the machine."""
    rows = [machine()]
    print(f"{rows[0]['machine']}, {rows[0]['cores']} cores, load {rows[0]['load']}; ns per token and head, median (quartiles)")
    with subprocess.Popen([PROGRAM, "--json", *options], stdout=subprocess.PIPE, text=True) as program:
        for line in program.stdout:
            rows.append(json.loads(line))
            print(row_text(rows[-1]), flush=True)
    if program.returncode != 0:
        sys.exit(f"{PROGRAM.name} failed with status {program.returncode}")
    return rows


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="a shorter case")
    arguments.add_argument("--record", action="store_true", help="keep the result in the repository")
    arguments = arguments.parse_args()
    rows = measure(["--quick"] if arguments.quick else [])
    out, results = ROOT / "out", ROOT / "bench" / "results"
    out.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (out / "cpu.jsonl").write_text(lines)
    (out / "cpu.svg").write_text(draw_cpu(rows))
    if arguments.record:
        results.mkdir(exist_ok=True)
        (results / "cpu.jsonl").write_text(lines)
    print("wrote out/cpu.jsonl and out/cpu.svg" + (", bench/results/cpu.jsonl; tools/report/report.py makes the page" if arguments.record else ""))


if __name__ == "__main__":
    main()
