"""The section on gates of docs/benchmarks.md: the same shapes with every gate, in one call."""
from report_cpu import paragraph

KINDS = ("bounded", "softplus", "precomputed", "precomputed-f32")


def gates_section(rows, table):
    times = {(row["case"], row["gate"]): row["median_ms"] for row in rows}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    values = lambda key: ", ".join(sorted({str(row[key]) for row in rows if key in row}))
    body = []
    for case in cases:
        bounded = times[case, "bounded"]
        ratios = [f"{times[case, kind]:.3f} ({times[case, kind] / bounded:.2f})" for kind in KINDS[1:]]
        body.append([case, f"{bounded:.3f}", *ratios])
    text = (f"{values('gpu')}, driver {values('driver')}, commit {values('commit')}. {values('method')}; median of {values('runs')} runs; slow channels; "
            "fp32 states in and out. In brackets the time over that of the bounded gate. A precomputed gate in fp32 has twice the bytes of g.")
    heading = ["case", "bounded, ms", "softplus, ms", "log a in bf16, ms", "log a in fp32, ms"]
    return ["## GPU, gates", "", paragraph(text), "", *table(heading, body)]
