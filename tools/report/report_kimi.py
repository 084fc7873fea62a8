"""docs/kimi-linear.md and its chart: what `flashkda bench --suite kimi-linear --json` and bench/kimi_linear.py recorded."""
from charts import log_lines
from report_cpu import paragraph

TITLE = "# Kimi Linear: memory and decoding over long contexts"
INTRODUCTION = (
    "Kimi Linear ([arXiv:2510.26692](https://arxiv.org/abs/2510.26692)) puts one layer of full attention behind every three of Kimi Delta Attention. "
    "Its paper says: up to 75 % less key-value cache, and up to 6 times the decoding throughput at one million tokens. This page has what four layers "
    "of attention cost here, 3 of KDA and 1 of full attention, beside 4 of full attention. Layers have 32 heads of K = V = 128.")
CACHES = ("Two caches of full attention, both in bf16. **MLA**: 512 + 64 numbers a token, keys and values compressed, as Kimi Linear and DeepSeek have "
          "them. **GQA**: keys and values of 8 heads of 128 a token, as Llama 3 and Qwen 3 have them.")
MEMORY = ("`flashkda bench --suite kimi-linear` prints it, by formula, on any machine. A KDA layer keeps one state a head in fp32 and, in front of its "
          "short convolution, the last 3 rows of q, k and v in bf16: {kda:.2f} MiB, whatever the context. A quarter of the caches is left, so 75 % is "
          "what the saving comes near to: above 70 % from 32K tokens on. A sequence of 1K tokens takes more than with MLA alone.")
METHOD = (
    "One new token of each of N sequences, attention alone: projections, convolutions, norms, experts and the launches around them are not in it. KDA: "
    "`fkda_decode`, states in fp32, in place. Full attention: the fastest of what PyTorch offers at each context (`bench/kimi_linear.py` tries "
    "`scaled_dot_product_attention` with its flash, cuDNN, memory-efficient and math backends, and matrix products whole and in pieces of the context, "
    "and holds each against float64 first). Both in a CUDA graph with one launch a layer and so many layers that states and caches come from memory; "
    "medians. The floor is the cache read once at 4.2 TB/s, what a large copy reaches on an H200: no kernel for these caches can be faster, and the last "
    "column is the ratio with full attention at that floor.")
READING = (
    "With equal batches the ratio of attention alone stays below 4, as one of four layers still reads its cache. The paper's 6 is the time per token of a "
    "whole model, with the larger batches for which the smaller cache leaves room.")


def grouped(number):
    return f"{number:,}"


def size(count):
    for unit, bytes_ in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def us(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def memory_section(rows, table):
    contexts = sorted({row["context"] for row in rows})
    of = {(row["cache"], row["context"]): row for row in rows}
    body = []
    for context in contexts:
        cells = [grouped(context)]
        for cache in ("MLA", "GQA"):
            row = of[cache, context]
            full, hybrid = row["four_full_bytes"], row["three_kda_one_full_bytes"]
            cells += [size(full), size(hybrid), f"{100 * (1 - hybrid / full):.0f} %".replace("-", "−")]
        body.append(cells)
    heading = ["context"]
    for cache in ("MLA", "GQA"):
        heading += [f"4 {cache}", f"3 KDA + 1 {cache}", "saved"]
    return ["## Memory per sequence", "", paragraph(MEMORY.format(kda=rows[0]["kda_layer_bytes"] / 2**20)), "", *table(heading, body)]


def layer_times(rows):
    """Microseconds of a KDA layer by N, and the rows of full attention by (N, cache), contexts in order."""
    kda = {row["N"]: 1e3 * row["median_ms"] for row in rows if row.get("op") == "decode" and row["backend"] == "cuda"}
    full = {}
    for row in sorted((row for row in rows if row["case"] == "full attention"), key=lambda row: row["context"]):
        if row["N"] in kda:
            full.setdefault((row["N"], row["cache"]), []).append(row)
    return kda, full


def ratio(kda, full):
    return 4 * full / (3 * kda + full)


def time_tables(kda, full, table):
    lines = []
    for (N, cache), rows in sorted(full.items(), key=lambda entry: (entry[0][0], entry[0][1] != "MLA")):
        body = [[grouped(row["context"]), us(row["us"]), row["way"], us(row["roof_us"]), us(4 * row["us"]), us(3 * kda[N] + row["us"]),
                 f"{ratio(kda[N], row['us']):.2f}x", f"{ratio(kda[N], row['roof_us']):.2f}x"] for row in rows]
        lines += [f"### {cache}, N = {N}: a KDA layer takes {kda[N]:.1f} µs", "",
                  *table(["context", f"{cache} layer, µs", "way", "floor, µs", f"4 {cache}, µs", f"3 KDA + 1 {cache}, µs", "ratio", "at the floor"], body)]
    return lines


def time_section(rows, table):
    kda, full = layer_times(rows)
    values = lambda key: ", ".join(sorted({str(row[key]) for row in rows if key in row and "gpu" in row}))
    summary = []
    for (N, cache), found in full.items():
        last = found[-1]
        summary.append(f"{ratio(kda[N], last['us']):.2f}x with {cache} at N = {N}")
    longest = max(row["context"] for found in full.values() for row in found)
    return ["## Time of one decoded token", "", paragraph(METHOD), "",
            paragraph(f"{values('gpu')}, driver {values('driver')}, torch {values('torch')}, commit {values('commit')}."), "",
            paragraph(f"At {grouped(longest)} tokens, measured: {', '.join(summary)}. {READING}"), "",
            "![lines: microseconds of one token's attention over the context](kimi_linear.svg)", "", *time_tables(kda, full, table)]


def draw_times(rows):
    kda, full = layer_times(rows)
    N = min(N for N, _ in full)
    lines = []
    for cache, color in (("GQA", "FlashKDA"), ("MLA", "fla")):
        if (N, cache) in full:
            lines.append((f"4 {cache}", color, [(row["context"], 4 * row["us"]) for row in full[N, cache]]))
            lines.append((f"3 KDA + 1 {cache}", "flashkda", [(row["context"], 3 * kda[N] + row["us"]) for row in full[N, cache]]))
    gpu = next(row["gpu"] for row in rows if "gpu" in row)
    subtitle = f"{gpu}, N = {N}, 32 heads; microseconds of attention alone; less is better. Full attention: the fastest way of PyTorch"
    return log_lines("One decoded token: four layers of attention", subtitle, "tokens of the context", "µs", lines)


def kimi_files(rows, table):
    """path -> text; {} without lines."""
    memory = [row for row in rows if row["case"] == "memory"]
    if not memory:
        return {}
    text = [TITLE, "", "Written by `tools/report/report.py` from `bench/results/kimi_linear.jsonl`; do not edit.", "", paragraph(INTRODUCTION), "",
            paragraph(CACHES), "", *memory_section(memory, table)]
    if not layer_times(rows)[1]:
        return {"kimi-linear.md": "\n".join(text)}
    return {"kimi-linear.md": "\n".join([*text, *time_section(rows, table)]), "kimi_linear.svg": draw_times(rows)}
