"""The CPU section of docs/benchmarks.md, and its picture: what tools/bench.py recorded, as tools/report.py shows it."""
WORDS = {
    "flashkda": "flashkda, one thread",
    "flashkda, 2 threads": "flashkda, two threads (wall time)",
    "flashkda, 2 calls": "two calls of one thread at the same time: what the machine gives",
    "plain rows": "plain loop over rows of the state, dot products as C has them",
    "plain dots": "the same, dot products vectorised (what ggml does)",
    "plain columns": "plain loop laid out so that the compiler vectorises all of it",
}


def ratio_of(row):
    """How much faster flashkda is than this row; for two threads, than one."""
    return row.get("flashkda_is_faster_by") or row.get("faster_than_one_thread_by")


def draw_cpu(rows, path):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flashkda"
    from matplotlib import pyplot

    cases = [row for row in rows[1:] if "faster_than_one_thread_by" not in row]
    names = [f"{row['isa']}: {row['what']}" for row in cases]
    figure, axes = pyplot.subplots(figsize=(8, 0.35 * len(cases) + 1.2))
    axes.barh(names, [row["ns_per_token_head"] for row in cases],
              color=["tab:blue" if row["what"] == "flashkda" else "tab:gray" for row in cases])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("ns per token and head, one thread (log scale)")
    axes.set_title(f"KDA prefill on {rows[0]['machine']}, {cases[0]['case']}")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def cpu_section(rows):
    text = ["## CPU", "", "Ratios within one run: absolute times belong to the machine.", "",
            f"{rows[0]['machine']}, {rows[0]['cores']} cores, load {rows[0]['load']}, commit {rows[0]['commit']}, "
            f"case {rows[1]['case']} (bf16, bounded gate). One thread by its CPU time, two threads by wall time; the two virtual cores are not always two free cores, hence the last row of each ISA.", "",
            "| ISA | what | ns per token and head | quartiles | flashkda is faster by |", "|---|---|---:|---|---:|"]
    for row in rows[1:]:
        ratio = ratio_of(row)
        text.append(f"| {row['isa']} | {WORDS[row['what']]} | {row['ns_per_token_head']:.0f} | {row['low']:.0f} .. {row['high']:.0f} | "
                    f"{'' if ratio is None else f'{ratio:.2f}x'}{' (than one thread)' if 'faster_than_one_thread_by' in row else ''} |")
    return [*text, "", "![bars](cpu.svg)", ""]
