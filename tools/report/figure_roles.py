"""What the warps of a duo do during two steps of the chain, from the measured durations of tools/dev/model_prefill.py."""
import pathlib
import statistics
import sys

from svg import Drawing, text_width

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dev"))
import model_prefill

FIRST = 200    # a chunk far from both ends; figures call it n
LEFT, WIDTH, TOP, ROW = 168, 716, 84, 40


def draw(kernel):
    duo = kernel["duo"]
    assert (duo.kOwnStages, duo.kReceivedStages, duo.kPrepareGroups) == tuple(model_prefill.MEASURED[key] for key in ("own", "received", "groups"))
    events = []
    measured = {**model_prefill.MEASURED, "jitter": 0.0}
    step, _ = model_prefill.run(measured, 0, lambda *event: events.append(event))
    waits = statistics.mean(model_prefill.run(model_prefill.MEASURED, seed)[1] for seed in range(model_prefill.DRAWS))
    begin = next(start for what, cta, n, start, _ in events if (what, cta, n) == ("chain", 0, FIRST))
    end = begin + 2 * step
    rows = lanes(duo)
    d = Drawing(900, TOP + ROW * len(rows) + 114, "Warp roles of a duo over two steps")
    d.text(16, 24, "CTA 0 of a duo during two steps of the chain (chunks n and n+1)", 15, bold=True)
    d.text(16, 44, "Each bar names the chunk that is worked on. CTA 0 prepares n, n+2, n+4, …; CTA 1 prepares the others.", 12, color="muted")
    x = lambda time: LEFT + WIDTH * (time - begin) / (end - begin)
    for i in range(3):
        d.line([(x(begin + i * step), TOP - 6), (x(begin + i * step), TOP + ROW * len(rows))], "muted", 1, dashed=True)
    d.text(x(begin + 0.5 * step), TOP - 12, "step n", 12, "middle", "muted")
    d.text(x(begin + 1.5 * step), TOP - 12, "step n+1", 12, "middle", "muted")
    for i, (name, warps, color, chosen) in enumerate(rows):
        y = TOP + ROW * i
        d.text(16, y + 18, name, 12, bold=True)
        d.text(16, y + 32, warps, 11, color="muted")
        for event in events:
            if chosen(event):
                bar(d, event, y, x, begin, end, color)
    y = TOP + ROW * len(rows)
    d.text(x(begin), y + 18, "0", 12, "middle", "muted")
    d.text(x(begin + step), y + 18, f"{step:,.0f}", 12, "middle", "muted")
    d.text(x(end), y + 18, f"{2 * step:,.0f} cycles", 12, "end", "muted")
    for i, text in enumerate((
            f"Durations were read from samples at H = 8 on an H200: operands {measured['operands']:,} cycles, solve {measured['solve']:,}, chain {measured['chain']:,}, "
            f"copy {measured['copy']:,}.",
            f"Drawn without their variation; with it the chain waits {waits:.0f} cycles a step (tools/dev/model_prefill.py).",
            "They are those of the anchored state of 2026-11-25. Since then a solve begins with the scores, before the operand tiles are final.")):
        d.text(16, y + 50 + 18 * i, text, 12, color="muted")
    return d.render()


def lanes(duo):
    """(name, warps, colour, which events it shows)"""
    warps = lambda first, count: f"warps {first} to {first + count - 1}" if count > 1 else f"warp {first}"
    mine = lambda what, turn=None: lambda e: e[0] == what and e[1] == 0 and (turn is None or e[2] // 2 % 2 == turn)
    solve = duo.kFirstSolveWarp
    return (
        ("load", warps(duo.kLoadWarp, 1), "load", mine("load")),
        ("operand, group 0", warps(4, 4), "operand", mine("operands", 0)),
        ("operand, group 1", warps(8, 4), "operand", mine("operands", 1)),
        ("solve", warps(solve, 1), "solve", mine("solve", 0)),
        ("solve", warps(solve + 1, 1), "solve", mine("solve", 1)),
        ("copy to CTA 1", "copy engine", "send", mine("copy")),
        ("chain", warps(0, 4), "chain", mine("chain")),
        ("store", warps(duo.kStoreWarp, 1), "store", mine("store")),
    )


def bar(d, event, y, x, begin, end, color):
    _, _, chunk, start, stop = event
    if stop <= begin + 1 or start >= end - 1:
        return
    left, right = x(max(start, begin)), x(min(stop, end))
    d.area(left, y + 4, right - left - 1, ROW - 12, color, 0.3, radius=2)
    text = f"n+{chunk - FIRST}" if chunk > FIRST else "n" if chunk == FIRST else f"n−{FIRST - chunk}"
    if text_width(text, 12) <= right - left - 10:
        d.text(left + 8, y + 22, text, 12)
