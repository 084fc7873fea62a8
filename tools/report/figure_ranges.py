"""Why the scores are anchored: exponents of the factors of a chunk when every gate is at its bound."""
import math

from svg import Drawing

LIMIT = 126    # normal numbers of fp32 and of bf16 reach from 2^-126 to 2^127


def draw(kernel):
    C = kernel["shared"].kChunk
    step = 5 * math.log2(math.e)    # bits a token at lower_bound -5
    gamma = [-step * (t + 1) for t in range(C)]
    m = round(gamma[C // 2 - 1])    # Operands::load_anchor
    worst = max(max(g - m for g in gamma), max(m - g for g in gamma), -m)
    assert worst < LIMIT and -gamma[-1] > LIMIT
    d = Drawing(900, 400, "Exponents of the factors of a chunk, all gates at -5")
    d.text(16, 24, "Exponents of the factors of a chunk where every gate is at its bound of −5", 15, bold=True)
    left, right, top, bottom = 70, 630, 44, 346
    x = lambda t: left + (right - left) * t / (C - 1)
    y = lambda e: bottom - (bottom - top) * (e + 250) / 500
    d.area(left, y(127), right - left, y(-LIMIT) - y(127), "store", 0.08, border=0)
    for e in (-240, -126, -60, 0, 60, 127, 240):
        d.line([(left, y(e)), (right, y(e))], "grid", 1)
        d.text(left - 8, y(e) + 4, "1" if e == 0 else f"2^{e}".replace("-", "−"), 12, "end", "muted")
    for t in (0, 7, C // 2 - 1, 23, C - 1):
        d.text(x(t), bottom + 18, str(t), 12, "middle", "muted")
    d.text((left + right) / 2, bottom + 40, "token of the chunk", 12, "middle", "muted")
    d.line([(x(C / 2 - 0.5), top), (x(C / 2 - 0.5), bottom)], "muted", 1, dashed=True)
    curves = (("idle", "2^(−γ), without an anchor", [-g for g in gamma], True), ("operand", "2^(m−γ), in KI", [m - g for g in gamma], False),
              ("chain", "2^(γ−m), in K and Q of the scores", [g - m for g in gamma], False),
              ("store", "2^γ, in K and Q of the chain", gamma, False), ("send", "2^(γ_C−γ), in Kr", [gamma[-1] - g for g in gamma], False))
    for color, name, values, dashed in curves:
        d.line([(x(t), y(e)) for t, e in enumerate(values)], color, 2.2, dashed=dashed)
        d.text(right + 12, y(values[-1]) + 4, name, 12, color=color if color != "idle" else "muted", bold=not dashed)
    for i, text in enumerate(("shaded: normal numbers of bf16", f"the largest with an anchor: 2^{worst:.0f}", "what falls out below counts as 0")):
        d.text(right + 12, y(82) + 15 * i, text, 12, color="muted")
    d.text(x(C / 2 - 0.5) + 8, bottom - 10, "anchor: m = γ of token 15, rounded", 12, color="muted")
    return d.render()
