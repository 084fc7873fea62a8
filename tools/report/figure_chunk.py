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
    d.line([(466, 58), (466, 310)], "load", arrow=True)
    d.line([(552, 58), (552, 84)], "load", arrow=True)


def prepared(d, C, K):
    d.area(16, 84, 468, 480, "muted", 0.0, dashed=True)
    d.text(28, 525, "Prepared ahead, by operand and solve warps", 13, bold=True)
    d.text(28, 545, "Nothing here depends on the state, so several", 12, color="muted")
    d.text(28, 560, "chunks are on their way at once.", 12, color="muted")
    d.box(40, 122, 180, 50, "operand", ["row norms", "1/|k|,  scale/|q|  (fp32)"])
    d.box(250, 122, 200, 50, "operand", ["decays", "γ = Σ log2 α,  m = γ of token 15"])
    d.line([(130, 172), (130, 212)], "operand", arrow=True)
    d.line([(330, 172), (330, 212)], "operand", arrow=True)
    d.box(40, 212, 410, 62, "operand", [f"operand tiles, [{C},{K}], one rounding to bf16",
                                        "−K = −k̂ 2^(γ−m),  Q = scale q̂ 2^(γ−m),  KI = k̂ 2^(m−γ)"], size=12)
    d.line([(150, 274), (150, 310)], "operand", arrow=True)
    d.box(40, 310, 220, 50, "operand", ["scores, fp32", "[−A/β ; M] = [−K ; Q] KIᵀ"])
    d.line([(260, 335), (300, 335)], "operand", arrow=True)
    d.box(300, 310, 180, 50, "solve", ["solve, fp32", "T = (I + A)⁻¹ Diag(β)"])
    for i, text in enumerate((f"A, M, T: [{C},{C}]; M and T are rounded to bf16 once.",
                              "A: strictly lower triangle, A/β kept in fp32.",
                              "M: lower triangle with its diagonal, taken by select.",
                              "T: forward substitution, no series in powers of A.")):
        d.text(40, 396 + 18 * i, text, 12)


def chain(d, C, half, K):
    d.area(628, 84, 262, 480, "chain", 0.0, dashed=True)
    d.text(642, 104, "The chain: waits for the state", 13, bold=True)
    steps = (
        ("2^m", ["S̃ = Diag(2^m) S", "enters the chunk; fp32"]),
        ("−K,  V", ["R = V − K S̃", f"[{C},{half}]; S̃, R → bf16"]),
        ("T", ["U = T R", f"[{C},{half}]; U → bf16"]),
        ("Q,  M", ["O = Q S̃ + M U", "O → bf16, to memory"]),
        ("KI", ["S̃ ← S̃ + KIᵀ U", f"[{K},{half}] fp32, never rounded"]),
        ("2^(γ_C−m)", ["S = Diag(2^(γ_C−m)) S̃", "leaves the chunk; plain fp32"]),
    )
    for i, (needs, lines) in enumerate(steps):
        y = 122 + 70 * i
        d.box(646, y, 214, 48, "chain", lines)
        d.text(552, y + 29, needs, 13, "middle")
        d.line([(608, y + 24), (646, y + 24)], "muted", arrow=True)
        if i > 0:
            d.line([(753, y - 22), (753, y)], "chain", arrow=True)
    last = 122 + 70 * 5 + 24
    d.line([(860, last), (876, last), (876, 146), (860, 146)], "chain", arrow=True)
    d.text(756, 556, "next chunk: around again", 12, "middle", "muted")
