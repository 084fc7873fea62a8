#!/usr/bin/env python3
"""Writes docs/benchmarks.md, docs/kimi-linear.md and their charts from the JSON lines in bench/results, and from nothing else.

    cpu.jsonl      tools/bench.py --record          CPU backend against plain loops
    gpu.jsonl      flashkda bench --json            suites on a GPU
    gates.jsonl    flashkda bench --gate KIND --json    the same shapes with every gate
    peers.jsonl    bench/peers.py                   flashkda and its peers in one process
    decode.jsonl   bench/peers.py --op decode       flashkda and its peers, one new token of each of N sequences
    kimi_linear.jsonl  flashkda bench --suite kimi-linear --json, bench/kimi_linear.py
    bench/baselines/h200_baselines.json             published kernels, measured earlier on the same kind of GPU

A file that is missing leaves its section out.
"""
import argparse
import json
import math
import pathlib
import sys

from charts import grouped_bars, token_lines
from report_cpu import cpu_section, draw_cpu, paragraph
from report_decode import decode_section
from report_gates import gates_section
from report_kimi import kimi_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
GATES = ("random", "slow", "floor")
GATES_TEXT = {"random": "random", "slow": "slow channels", "floor": "all −5"}


def read(name):
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def distinct(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def table(heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "|".join("---" if i == 0 else "---:" for i in range(len(heading))) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def belongs_to(rows):
    """One sentence for the machine behind a set of lines; every value that occurs is named."""
    values = lambda key: sorted({row[key] for row in rows if key in row}, key=str)
    word = lambda key: ", ".join(map(str, values(key)))
    clocks = " to ".join(str(clock) for clock in dict.fromkeys((min(values("sm_mhz")), max(values("sm_mhz")))))
    extra = f", torch {word('torch')}, Triton {word('triton')}, flash-linear-attention {word('fla')}" if "torch" in rows[0] else ""
    return paragraph(f"{word('gpu')}, driver {word('driver')}, SM clock {clocks} MHz, commit {word('commit')}{extra}. "
            f"{word('method')}; median of {word('runs')} runs; fp32 states in and out.")


def ms(value):
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


# ---------------------------------------------------------------- against peers


def baseline_of(baselines, row):
    """What was measured earlier for this shape: T, H and the number of sequences tell the cases apart."""
    shape = (row["T"], row["H"], row["N"])
    return next((known for known in baselines["rows"] if (known["T"], known["H"], len(known["seq_lens"])) == shape), {})


MINE = {"flashkda": "flashkda", "flashkda-mma": "portable kernel"}    # who -> heading
OTHERS = {"fla": "FLA in the same run", "flashkda_ms": "FlashKDA's earlier figures"}


def peer_rows(rows, baselines, mine):
    """The cells, and the ratios of each heading to those of FLA and FlashKDA."""
    text, ratios = [], {(who, other): [] for who in mine for other in OTHERS}
    find = lambda who, case, gates: next((r for r in rows if (r["who"], r["case"], r["gates"]) == (who, case, gates)), None)
    for case in distinct(rows, "case"):
        for gates in [g for g in GATES if find("flashkda", case, g)]:
            lines, fla = [find(who, case, gates) for who in mine], find("fla", case, gates)
            published = baseline_of(baselines, lines[0]).get("flashkda_ms")
            cells = [case, GATES_TEXT[gates], ms(lines[0]["median_ms"]), f"{100 * lines[0]['hbm_fraction']:.0f} %"]
            cells += [ms(line and line["median_ms"]) for line in lines[1:]]
            for other, time in (("fla", fla and fla["median_ms"]), ("flashkda_ms", published)):
                cells.append(ms(time))
                for who, line in zip(mine, lines, strict=True):
                    if time and line:
                        ratios[who, other].append(time / line["median_ms"])
                    cells.append(f"{ratios[who, other][-1]:.1f}x" if time and line else "")
            text.append(cells)
    return text, ratios


def peers_section(rows, baselines):
    mine = [who for who in MINE if any(row["who"] == who for row in rows)]
    faster = [f"{MINE[who]} is faster by" for who in mine]
    heading = ["case", "gates", "flashkda, ms", "of HBM floor", *(f"{MINE[who]}, ms" for who in mine[1:]), "FLA Triton, ms", *faster,
               "FlashKDA (earlier), ms", *faster]
    worst = max(row["out_from_flashkda"] for row in rows)
    text = ["## GPU, against other kernels", "", belongs_to(rows), "", paragraph(
            f"FLA is `chunk_kda` of flash-linear-attention in Triton, in the same process on the same tensors; the answers differ by at most {worst:.1e} "
            f"relative RMS. FlashKDA ({baselines['flashkda']}) was measured earlier on an {baselines['gpu']} (driver {baselines['driver']}, {baselines['date']}; "
            f"{baselines['method'].split(';')[0]})."), ""]
    if len(mine) > 1:
        text += [paragraph("The portable kernel is what other GPUs than Hopper ones run, here on the same GPU (`FKDA_CUDA_KERNEL=mma`). Autotuning chose FLA's "
                           "kernels for each length by itself."), ""]
    for suite in distinct(rows, "suite"):
        body, ratios = peer_rows([row for row in rows if row["suite"] == suite], baselines, mine)
        if suite != rows[0]["suite"]:
            text += [f"### Suite {suite}", ""]
        means = lambda who, ratios=ratios: ", ".join(f"{geomean(ratios[who, other]):.2f}x faster than {name}" for other, name in OTHERS.items() if ratios[who, other])
        text += [paragraph("Geometric mean over the lines: " + "; the portable kernel ".join(map(means, mine)) + "."), ""]
        text += table(heading, body)
        if suite == rows[0]["suite"]:
            text += ["![bars: milliseconds a case](gpu_peers.svg)", ""]
    return text


def draw_peers(rows, baselines):
    rows = [row for row in rows if row["suite"] == rows[0]["suite"]]
    gates = "slow" if any(row["gates"] == "slow" for row in rows) else rows[0]["gates"]
    shown = [row for row in rows if row["gates"] == gates]
    cases = distinct(shown, "case")
    of = lambda who, key: {row["case"]: row[key] for row in shown if row["who"] == who}
    earlier = {row["case"]: baseline_of(baselines, row).get("flashkda_ms") for row in shown}
    series = [("FLA Triton", "fla", of("fla", "median_ms")), ("FlashKDA (earlier)", "FlashKDA", earlier),
              ("portable kernel", "chain", of("flashkda-mma", "median_ms")), ("flashkda", "flashkda", of("flashkda", "median_ms")), ("what the memory needs", "floor", of("flashkda", "hbm_floor_ms"))]
    subtitle = f"{rows[0]['gpu']}, {shown[0]['T']} tokens, H heads, milliseconds a call; less is better. fp32 states in and out, gates: {GATES_TEXT[gates]}"
    return grouped_bars("KDA prefill: flashkda and its peers", subtitle, "ms", [case.replace("T8192 ", "") for case in cases],
                        [(name, color, [values.get(case) for case in cases]) for name, color, values in series if any(values.values())])


# ---------------------------------------------------------------- suites


def suite_rows(rows, baselines):
    find = lambda case, gates: next((row for row in rows if row["case"] == case and row["gates"] == gates), None)
    text = []
    for case in distinct(rows, "case"):
        by_gates = [find(case, gates) for gates in GATES]
        best = next(row for row in by_gates if row)
        slowest = max((row for row in by_gates if row), key=lambda row: row["median_ms"])
        published = baseline_of(baselines, best).get("flashkda_ms")
        text.append([case, *(ms(row["median_ms"]) if row else "" for row in by_gates), f"{slowest['p10_ms']:.3f} .. {slowest['p90_ms']:.3f}",
                     f"{best['hbm_floor_ms']:.3f}", f"{slowest['tb_per_s']:.2f}", f"{100 * slowest['hbm_fraction']:.0f} %",
                     ms(published), f"{published / slowest['median_ms']:.1f}x" if published else ""])
    return text


def suites_section(rows, baselines):
    lines = ["## GPU, suites", "", belongs_to(rows), "", paragraph(
             "The floor is the time that the fewest bytes need at 4.2 TB/s: 1280 a token and head, and the states once in and once out. Spread (10th to "
             "90th percentile), TB/s, fraction and ratio are those of the slowest gates. FlashKDA's figures are those of bench/baselines, where it has the "
             "shape."), ""]
    heading = ["case", *(f"{GATES_TEXT[gates]}, ms" for gates in GATES), "spread, ms", "floor, ms", "TB/s", "of the floor", "FlashKDA (earlier), ms",
               "faster by"]
    for suite in distinct(rows, "suite"):
        lines += [f"### `flashkda bench --suite {suite}`", "", *table(heading, suite_rows([row for row in rows if row["suite"] == suite], baselines))]
    return [*lines, "![lines: fraction of the HBM floor](gpu_shapes.svg)", ""] if any(row["suite"] == "shapes" for row in rows) else lines


def draw_shapes(rows):
    dense = [row for row in rows if row["suite"] == "shapes" and row["N"] == 1 and row["gates"] == rows[0]["gates"]]
    lines = [(f"H = {H:.0f}", sorted((row["T"], 100 * row["hbm_fraction"]) for row in dense if row["H"] == H))
             for H in sorted(distinct(dense, "H"), reverse=True)]
    subtitle = f"{rows[0]['gpu']}, one sequence; H heads. 100 % is the time that the fewest bytes need at 4.2 TB/s"
    return token_lines("KDA prefill: how near to what the memory allows", subtitle, "tokens of the sequence", lines)


# ---------------------------------------------------------------- the page


def files_of_the_page():
    """path -> text"""
    cpu, gpu, peers = read("cpu.jsonl"), [row for row in read("gpu.jsonl") if row["backend"] == "cuda"], read("peers.jsonl")
    baselines = json.loads((ROOT / "bench" / "baselines" / "h200_baselines.json").read_text())
    if not (cpu or gpu or peers):
        sys.exit(f"{RESULTS} has no JSON lines; record some first")
    text = ["# Benchmarks", "", "Written by `tools/report/report.py` from the JSON lines in `bench/results`; do not edit.", ""]
    files = {}
    if peers:
        text += peers_section(peers, baselines)
        files["gpu_peers.svg"] = draw_peers(peers, baselines)
    if gpu:
        text += suites_section(gpu, baselines)
        if any(row["suite"] == "shapes" for row in gpu):
            files["gpu_shapes.svg"] = draw_shapes(gpu)
    if gates := read("gates.jsonl"):
        text += gates_section(gates, table)
    if decode := read("decode.jsonl"):
        text += decode_section(decode, json.loads((ROOT / "bench" / "baselines" / "h200_decode_peers.json").read_text()), table)
    if cpu:
        text += cpu_section(cpu)
        files["cpu.svg"] = draw_cpu(cpu)
    return {"benchmarks.md": "\n".join(text), **files, **kimi_files(read("kimi_linear.jsonl"), table)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 if a file is not what the results say")
    arguments = arguments.parse_args()
    files = files_of_the_page()
    if arguments.check:
        stale = [name for name, text in files.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != text]
        print("\n".join(f"docs/{name} is not what tools/report/report.py writes" for name in stale) or f"{len(files)} files are as written")
        return 1 if stale else 0
    for name, text in files.items():
        (DOCS / name).write_text(text)
    print(f"wrote docs/: {', '.join(files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
