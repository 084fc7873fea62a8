#!/usr/bin/env python3
"""Writes docs/benchmarks.md and its charts from the JSON lines in bench/results, and from nothing else.

    cpu.jsonl      tools/bench.py --record          CPU backend against plain loops
    gpu.jsonl      flashkda bench --json            suites on a GPU
    peers.jsonl    bench/peers.py                   flashkda and its peers in one process
    bench/baselines/h200_baselines.json             published kernels, measured earlier on the same kind of GPU

A file that is missing leaves its section out.
"""
import json
import math
import pathlib
import sys

from report_cpu import cpu_section, draw_cpu

ROOT = pathlib.Path(__file__).resolve().parent.parent
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
    values = lambda key: sorted(set(row[key] for row in rows if key in row), key=str)
    word = lambda key: ", ".join(map(str, values(key)))
    clocks = " to ".join(str(clock) for clock in dict.fromkeys((min(values("sm_mhz")), max(values("sm_mhz")))))
    extra = f", torch {word('torch')}, Triton {word('triton')}, flash-linear-attention {word('fla')}" if "torch" in rows[0] else ""
    return (f"{word('gpu')}, driver {word('driver')}, SM clock {clocks} MHz, commit {word('commit')}{extra}. "
            f"{word('method')}; median of {word('runs')} runs; fp32 states in and out.")


def ms(value):
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


# ---------------------------------------------------------------- against peers


def baseline_of(baselines, row):
    """What was measured earlier for this shape: T, H and the number of sequences tell the cases apart."""
    shape = (row["T"], row["H"], row["N"])
    return next((known for known in baselines["rows"] if (known["T"], known["H"], len(known["seq_lens"])) == shape), {})


def peer_rows(rows, baselines):
    text, ratios = [], {"fla": [], "flashkda_ms": []}
    find = lambda who, case, gates: next((r for r in rows if (r["who"], r["case"], r["gates"]) == (who, case, gates)), None)
    for case in distinct(rows, "case"):
        for gates in [g for g in GATES if find("flashkda", case, g)]:
            ours, fla, published = find("flashkda", case, gates), find("fla", case, gates), baseline_of(baselines, find("flashkda", case, gates))
            cells = [case, GATES_TEXT[gates], ms(ours["median_ms"]), f"{100 * ours['hbm_fraction']:.0f} %", "", "", "", ""]
            if fla:
                ratios["fla"].append(fla["median_ms"] / ours["median_ms"])
                cells[4:6] = [ms(fla["median_ms"]), f"{ratios['fla'][-1]:.1f}x"]
            if published.get("flashkda_ms"):
                ratios["flashkda_ms"].append(published["flashkda_ms"] / ours["median_ms"])
                cells[6:8] = [ms(published["flashkda_ms"]), f"{ratios['flashkda_ms'][-1]:.1f}x"]
            text.append(cells)
    return text, ratios


def peers_section(rows, baselines):
    body, ratios = peer_rows(rows, baselines)
    heading = ["case", "gates", "flashkda, ms", "of HBM floor", "FLA Triton, ms", "flashkda is faster by", "FlashKDA (earlier), ms", "flashkda is faster by"]
    worst = max(row["out_from_flashkda"] for row in rows)
    return ["## GPU, against other kernels", "", belongs_to(rows), "",
            f"FLA is `chunk_kda` of flash-linear-attention in Triton, in the same process on the same tensors; the answers differ by at most {worst:.1e} "
            f"relative RMS. FlashKDA ({baselines['flashkda']}) was measured earlier on an {baselines['gpu']} (driver {baselines['driver']}, {baselines['date']}; "
            f"{baselines['method'].split(';')[0]}).", "",
            f"Geometric mean over the lines: {geomean(ratios['fla']):.2f}x faster than FLA in the same run, {geomean(ratios['flashkda_ms']):.2f}x faster than "
            "FlashKDA's earlier figures.", "", *table(heading, body), "![bars: milliseconds a case](gpu_peers.svg)", ""]


def draw_peers(rows, baselines, path):
    pyplot = plotter()
    shown = [row for row in rows if row["gates"] == ("slow" if any(r["gates"] == "slow" for r in rows) else rows[0]["gates"])]
    cases = distinct(shown, "case")
    series = {"FlashKDA (earlier)": {row["case"]: baseline_of(baselines, row).get("flashkda_ms") for row in shown}}
    for who, name in (("fla", "FLA Triton"), ("flashkda", "flashkda")):
        series[name] = {row["case"]: row["median_ms"] for row in shown if row["who"] == who}
    series["HBM floor"] = {row["case"]: row["hbm_floor_ms"] for row in shown}
    figure, axes = pyplot.subplots(figsize=(9, 4))
    for i, (name, color) in enumerate(zip(series, ("tab:orange", "tab:gray", "tab:blue", "lightsteelblue"))):
        places = [place + 0.2 * (i - 1.5) for place in range(len(cases))]
        axes.bar(places, [series[name].get(case) or 0 for case in cases], width=0.2, label=name, color=color)
    axes.set_xticks(range(len(cases)), [case.replace(" ", "\n", 1) for case in cases])
    axes.set_ylabel("ms")
    axes.set_title(f"KDA prefill on {rows[0]['gpu']}, gates: {GATES_TEXT[shown[0]['gates']]}")
    axes.legend()
    save(figure, path)


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
    lines = ["## GPU, suites", "", belongs_to(rows), "",
             "The floor is the time that the fewest bytes need at 4.2 TB/s: 1280 a token and head, and the states once in and once out. Spread (10th to "
             "90th percentile), TB/s, fraction and ratio are those of the slowest gates. FlashKDA's figures are those of bench/baselines, where it has the "
             "shape.", ""]
    heading = ["case", *(f"{GATES_TEXT[gates]}, ms" for gates in GATES), "spread, ms", "floor, ms", "TB/s", "of the floor", "FlashKDA (earlier), ms",
               "faster by"]
    for suite in distinct(rows, "suite"):
        lines += [f"### `flashkda bench --suite {suite}`", "", *table(heading, suite_rows([row for row in rows if row["suite"] == suite], baselines))]
    return [*lines, "![lines: fraction of the HBM floor](gpu_shapes.svg)", ""] if any(row["suite"] == "shapes" for row in rows) else lines


def draw_shapes(rows, path):
    pyplot = plotter()
    dense = [row for row in rows if row["suite"] == "shapes" and row["N"] == 1 and row["gates"] == rows[0]["gates"]]
    figure, axes = pyplot.subplots(figsize=(9, 4))
    for H in sorted(distinct(dense, "H"), reverse=True):
        line = sorted((row for row in dense if row["H"] == H), key=lambda row: row["T"])
        axes.plot([row["T"] for row in line], [100 * row["hbm_fraction"] for row in line], marker="o", label=f"H = {H:.0f}")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens, one sequence")
    axes.set_ylabel("% of the HBM floor")
    axes.set_ylim(bottom=0)
    axes.set_title(f"KDA prefill on {rows[0]['gpu']}: how near to what the memory allows")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


# ---------------------------------------------------------------- charts and file


def plotter():
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flashkda"    # the same lines make the same file
    from matplotlib import pyplot
    return pyplot


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    cpu, gpu, peers = read("cpu.jsonl"), [row for row in read("gpu.jsonl") if row["backend"] == "cuda"], read("peers.jsonl")
    baselines = json.loads((ROOT / "bench" / "baselines" / "h200_baselines.json").read_text())
    text = ["# Benchmarks", "", "Written by `tools/report.py` from the JSON lines in `bench/results`; do not edit.", ""]
    if peers:
        text += peers_section(peers, baselines)
        draw_peers(peers, baselines, DOCS / "gpu_peers.svg")
    if gpu:
        text += suites_section(gpu, baselines)
        if any(row["suite"] == "shapes" for row in gpu):
            draw_shapes(gpu, DOCS / "gpu_shapes.svg")
    if cpu:
        text += cpu_section(cpu)
        draw_cpu(cpu, DOCS / "cpu.svg")
    if not (cpu or gpu or peers):
        sys.exit(f"{RESULTS} has no JSON lines; record some first")
    (DOCS / "benchmarks.md").write_text("\n".join(text))
    print("wrote docs/benchmarks.md")


if __name__ == "__main__":
    main()
