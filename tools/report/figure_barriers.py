"""The barriers of one chunk of a duo, as messages between roles."""
import sources
from svg import Drawing, text_width

COLUMNS = (("load warp", "load"), ("copy engine", "idle"), ("operand warps", "operand"), ("solve warp", "solve"), ("chain", "chain"), ("store warp", "store"), ("CTA 1", "send"))
TOP, ROW = 84, 37


def draw(kernel):
    duo = kernel["duo"]
    arrivals = sources.count_arrivals("prefill_sm90/mapping/duo_roles.cuh")
    messages = list_of(duo, arrivals)
    named = {name for *_, name, _ in messages}
    unnamed = set(duo.layouts["Barriers"]["members"]) - named - {"norms_ready"}
    assert not unnamed, f"figure_barriers does not show {unnamed}"
    d = Drawing(900, TOP + ROW * len(messages) + 76, "Barriers of one chunk of a duo")
    d.text(16, 24, "One chunk that CTA 0 of a duo prepares: who tells whom, and by which barrier", 15, bold=True)
    x = [72 + 126 * i for i in range(len(COLUMNS))]
    for at, (name, color) in zip(x, COLUMNS, strict=True):
        d.box(at - 56, 40, 112, 26, color, [name])
        d.line([(at, 66), (at, TOP + ROW * len(messages))], color, 1, dashed=True)
    for i, (by, to, name, remark) in enumerate(messages):
        y = TOP + 22 + ROW * i
        start, end = x[by], x[to]
        color = COLUMNS[by][1] if by != 1 else "muted"
        d.line([(start, y), (end + (-3 if end > start else 3), y)], color, 1.8, arrow=True)
        text = f"{name}: {remark}" if remark else name
        middle = (start + end) / 2
        middle = min(max(middle, text_width(text, 12) / 2 + 8), d.width - text_width(text, 12) / 2 - 8)
        d.text(middle, y - 6, text, 12, "middle", over_lines=True)
    d.text(16, TOP + ROW * len(messages) + 26, "Numbers are arrivals that flip the barrier; bytes are counted on top of them. A warp arrives once, by one lane.", 12, color="muted")
    d.text(16, TOP + ROW * len(messages) + 44, "CTA 1 gets its copy on barriers of its own, of the same names, and its store warp tells CTA 0 that the copy has come.", 12, color="muted")
    d.text(16, TOP + ROW * len(messages) + 62, "Where duos work alone, three or four norm warps tell the operand warps by norms_ready that a chunk's norms are there.", 12, color="muted")
    return d.render()


def list_of(duo, arrivals):
    """(from column, to column, barrier, remark); the counts of arrivals are those of the sources."""
    load, copy, operand, solve, chain, store, peer = range(7)
    assert arrivals["raw_ready"] == ["1"] and arrivals["scores_ready"] == ["2 * kWarpArrivals"] and arrivals["operands_ready"][0] == "4 * kWarpArrivals" and arrivals["solve_ready"][0] == "kWarpArrivals"
    assert arrivals["norms_ready"] == ["Memory::kNormWarps * kWarpArrivals"]
    assert arrivals["stage_free"] == ["kRanks", "1"] and duo.kRanks == 2
    assert all(arrivals[name] == ["4 * kWarpArrivals"] for name in ("value_free", "chunk_done", "out_ready")) and arrivals["out_free"] == ["kWarpArrivals"]
    return (
        (load, copy, "six boxes of k, q, g", ""),
        (copy, operand, "raw_ready", f"1, and {duo.kRawBytes:,} bytes"),
        (operand, solve, "scores_ready", "2 warps: A/β"),
        (operand, chain, "operands_ready", "4 warps; the solve warp waits for it half-way"),
        (solve, peer, "operands_ready of CTA 1", f"1, and {duo.kOperandBytes:,} bytes"),
        (copy, chain, "value_ready", f"1, and {duo.kValueBytes:,} bytes of V"),
        (solve, chain, "solve_ready", "1 warp"),
        (solve, peer, "solve_ready of CTA 1", f"1, and {duo.size('Stage') - duo.kOperandBytes:,} bytes"),
        (chain, load, "value_free", "4 warps: V is in registers"),
        (chain, store, "chunk_done", "4 warps"),
        (store, load, "stage_free", "2: this store warp, and CTA 1's, which has seen the copy arrive"),
        (chain, store, "out_ready", "4 warps"),
        (store, chain, "out_free", "1 warp"),
    )
