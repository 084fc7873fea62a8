"""The CPU section of docs/benchmarks.md, and its chart: what tools/bench.py recorded, as report.py shows it."""
import textwrap

from charts import lying_bars

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


def paragraph(text):
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def draw_cpu(rows):
    cases = [row for row in rows[1:] if "faster_than_one_thread_by" not in row]
    shorter = {"flashkda": "flashkda", "plain rows": "plain loop over rows of the state", "plain dots": "the same, dot products vectorised",
               "plain columns": "plain loop, all of it vectorised"}
    bar = lambda row: (shorter[row["what"]], "flashkda" if row["what"] == "flashkda" else "plain", row["ns_per_token_head"],
                       f"  ({ratio_of(row):.1f}x)" if ratio_of(row) else "")
    groups = [(isa, [bar(row) for row in cases if row["isa"] == isa]) for isa in dict.fromkeys(row["isa"] for row in cases)]
    subtitle = f"{rows[0]['machine']}, {cases[0]['case'].replace('_', ' ')}, bf16, bounded gate; less is better"
    return lying_bars("KDA prefill on one thread", subtitle, "nanoseconds per token and head; in brackets how much faster flashkda is", groups,
                      [("flashkda", "flashkda"), ("plain token loops, compiled for the same instructions", "plain")])


def cpu_section(rows):
    first = (f"{rows[0]['machine']}, {rows[0]['cores']} cores, load {rows[0]['load']}, commit {rows[0]['commit']}, "
             f"case {rows[1]['case']} (bf16, bounded gate). One thread by its CPU time, two threads by wall time; the two virtual cores are not always "
             "two free cores, hence the last row of each ISA. Ratios within one run: absolute times belong to the machine.")
    text = ["## CPU", "", paragraph(first), "", "| ISA | what | ns per token and head | quartiles | flashkda is faster by |", "|---|---|---:|---|---:|"]
    for row in rows[1:]:
        ratio = ratio_of(row)
        text.append(f"| {row['isa']} | {WORDS[row['what']]} | {row['ns_per_token_head']:.0f} | {row['low']:.0f} .. {row['high']:.0f} | "
                    f"{'' if ratio is None else f'{ratio:.2f}x'}{' (than one thread)' if 'faster_than_one_thread_by' in row else ''} |")
    return [*text, "", "![bars](cpu.svg)", ""]
