"""What is computed from one chunk: what can be prepared ahead, and what waits for the state."""
from svg import Drawing


def draw(kernel):
    shared = kernel["shared"]
    C, K, half = shared.kChunk, shared.kWidth, shared.kHalf
    stage_kb = shared.size("Stage") // 1024
    d = Drawing(900, 592, "Data flow of one chunk")
    inputs(d, C, K)
    prepared(d, C, K)
    d.area(496, 84, 112, 480, "muted", 0.06)
    d.text(552, 104, "shared memory", 12, "middle", bold=True)
    chain(d, C, half, K)
    d.text(552, 546, f"one stage, {stage_kb} KB,", 11, "middle", "muted")
    d.text(552, 559, "and a tile of V", 11, "middle", "muted")
    return d.render()


def inputs(d, C, K):
    for x, w, name in ((30, 100, "k"), (150, 100, "q"), (290, 100, "g"), (404, 76, "beta"), (502, 100, "v")):
        shape = f"[{C}]" if name == "beta" else f"[{C},{K}]"
        d.box(x, 18, w, 40, "load", [name, f"{shape} bf16"], size=12)
    d.line([(80, 58), (80, 122)], "load", arrow=True)
    d.line([(200, 58), (200, 122)], "load", arrow=True)
    d.line([(340, 58), (340, 122)], "load", arrow=True)
    d.line([(456, 58), (456, 304)], "load", arrow=True)
    d.line([(552, 58), (552, 84)], "load", arrow=True)


def prepared(d, C, K):
    d.area(16, 84, 468, 480, "muted", 0.0, dashed=True)
    d.text(28, 525, "Prepared ahead, by operand and solve warps", 13, bold=True)
    d.text(28, 545, "Nothing here depends on the state, so several", 12, color="muted")
    d.text(28, 560, "chunks are on their way at once.", 12, color="muted")
    d.box(32, 122, 184, 54, "operand", ["row norms, fp32", "1/|k|,  scale/|q|,  q·k"])
    d.box(234, 122, 206, 54, "operand", ["gates, fp32", "γ = Σ log2 α,  m = round(γ_15)"])
    d.line([(124, 176), (124, 204)], "operand", arrow=True)
    d.line([(330, 176), (330, 204)], "operand", arrow=True)
    d.box(32, 204, 408, 66, "operand", [f"operand tiles, [{C},{K}], one rounding each", "bf16: −K 2^−m,  Q 2^−m,  KI = k̂ 2^(m−γ)",
                                        "fp16: Kr = k̂ 2^(γ_C−γ)"], size=12)
    d.line([(124, 270), (124, 304)], "operand", arrow=True)
    d.box(32, 304, 222, 50, "operand", ["scores, fp32", "[−A/β ; M] = [−K ; Q] 2^−m KIᵀ"])
    d.line([(254, 329), (280, 329)], "operand", arrow=True)
    d.box(280, 304, 194, 50, "solve", ["solve, fp32", "T = (I + A)⁻¹ Diag(β)"])
    d.line([(124, 354), (124, 382)], "operand", arrow=True)
    d.box(32, 382, 204, 50, "operand", ["the anchor is left", "−K, Q times 2^m: exact"])
    for i, text in enumerate(("A: strictly lower triangle; A/β is kept in fp32.",
                              "M: fp16, taken by select; its diagonal is q·k of the norms.",
                              "T: fp16; forward substitution, no series in powers of A.")):
        d.text(32, 458 + 18 * i, text, 12)


def chain(d, C, half, K):
    d.area(628, 84, 262, 480, "chain", 0.0, dashed=True)
    d.text(642, 104, "The chain: waits for the state", 13, bold=True)
    steps = (
        ("−K,  V", ["R = V − K S", f"[{C},{half}]; S → bf16, R → fp16"]),
        ("2^γ_C", ["S' = Diag(2^γ_C) S", f"[{K},{half}] fp32"]),
        ("T", ["U = T R", f"[{C},{half}]; U → fp16"]),
        ("Q,  M", ["O = Q S + M U", "S in bf16, as for R; O → bf16"]),
        ("Kr", ["S ← S' + Kr U", "fp32, never rounded"]),
    )
    for i, (needs, lines) in enumerate(steps):
        y = 122 + 76 * i
        d.box(646, y, 214, 50, "chain", lines)
        d.text(552, y + 30, needs, 13, "middle")
        d.line([(608, y + 25), (646, y + 25)], "muted", arrow=True)
        if i > 0:
            d.line([(753, y - 26), (753, y)], "chain", arrow=True)
    last = 122 + 76 * 4 + 25
    d.line([(860, last), (876, last), (876, 147), (860, 147)], "chain", arrow=True)
    d.text(756, 500, "next chunk: around again", 12, "middle", "muted")
    for i, text in enumerate(("A row of V whose R does not fit fp16", "is scaled by a power of two here.")):
        d.text(756, 528 + 16 * i, text, 12, "middle", "muted")
