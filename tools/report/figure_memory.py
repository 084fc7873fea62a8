"""Shared memory of a block, to scale, and the lives of a stage's bytes."""
from svg import Drawing, number, text_width

LIMIT = 227 * 1024    # of one block on sm_90
BLOCKS = 96           # pixels of a block's row
VALUES, OUT, SCORE_KEYS, AKK = ("value", "V", "load"), ("out", "O", "store"), ("score_keys", "KI", "operand"), ("akk", "A/β", "solve")
STATE_ROWS = ("state_rows", "S", "idle")


def draw(kernel):
    duo, solo, quad, octet = (kernel[name] for name in ("duo", "solo", "quad", "octet"))
    own, received = ("own", "operand"), ("received", "send")
    blocks = (
        (("duo",), duo, "Smem", [own] * duo.kOwnStages + [received] * duo.kReceivedStages, (VALUES, OUT, SCORE_KEYS, AKK)),
        (("solo",), solo, "Smem", [("stage", "operand")] * solo.kStages, (VALUES, SCORE_KEYS, ("staging", "O", "store"), AKK)),
        (("quad,", "preparer"), quad, "Smem", [own] * quad.kOwnStages, (SCORE_KEYS, AKK)),
        (("quad,", "chain"), quad, "ChainSmem", [received] * quad.kStages, (VALUES, OUT, STATE_ROWS)),
        (("octet,", "chain"), octet, "ChainSmem", [received] * octet.kStages, (VALUES, ("out", "", "idle"), STATE_ROWS)),
        (("octet,", "out"), octet, "ChainSmem", [received] * octet.kStages, (("update", "U", "chain"), OUT, STATE_ROWS)),
    )
    below = 44 + BLOCKS * len(blocks)
    d = Drawing(900, below + 414, "Shared memory of a block, and the bytes of a stage")
    d.text(16, 24, "Shared memory of a block, to scale (227 KB can be had)", 15, bold=True)
    for i, of in enumerate(blocks):
        block(d, 44 + BLOCKS * i, *of)
    d.text(16, below, "A preparer of an octet has KI of one group less and A/β of one chunk more than one of a quad. All blocks are launched with the bytes of a duo.", 12)
    stage(d, below + 44, kernel["shared"], duo.kOperandBytes)
    return d.render()


def block(d, y, names, scope, struct, stages, rest):
    left, width, height = 92, 792, 44
    x = lambda offset: left + width * offset / LIMIT
    assert scope.size(struct) + 1024 <= LIMIT
    for i, name in enumerate(names):
        d.text(16, y + 27 + 16 * i - 8 * (len(names) - 1), name, 13, bold=True)
    each = scope.size("Stage")
    for i, (what, color) in enumerate(stages):
        d.box(x(i * each), y, x(each) - left - 2, height, color, [f"{what} {i}", f"{each // 1024} KB"], radius=2)
    for member, text, color in rest:
        offset, bytes_ = scope.member(struct, member)
        w = x(offset + bytes_) - x(offset)
        d.area(x(offset), y, w - 1.5, height, color, radius=2)
        d.text(x(offset) + w / 2, y + 27, text, 11, "middle")
        assert text_width(text, 11) <= w, text
    end = scope.size(struct)
    small = end - sum(scope.member(struct, member)[1] for member, *_ in rest) - scope.member(struct, "stages")[1]
    parts = [f"{member} {scope.member(struct, member)[1] / 1024:.0f} KB{'' if text else ' that nobody uses'}" for member, text, _ in rest]
    others = {"Smem": "beta, queues, barriers", "ChainSmem": "factors, queues, barriers"}[struct]
    d.text(left, y + 64, f"sizeof({struct}) = {end:,} bytes: {len(stages)} stages, {', '.join(parts)}, {small / 1024:.1f} KB of {others}", 11, color="muted")


def stage(d, top, shared, sent_first):
    total = shared.size("Stage")
    left, width = 150, 734
    x = lambda offset: left + width * offset / total
    kq, ki, mqk, solve = (shared.member("Stage", name) for name in ("kq", "ki", "mqk", "solve"))
    gate = (shared.member("Stage", "gate")[0], solve[0] - shared.member("Stage", "gate")[0])
    early = (mqk[0], mqk[1] + gate[1])    # norms, and what blocks of 16 tokens decay by
    assert kq[1] + ki[1] + mqk[1] + gate[1] + solve[1] == total
    d.text(16, top, f"The {total // 1024} KB of one stage, four times in its life", 15, bold=True)
    kb = lambda part: f"{part[1] // 1024} KB"
    rows = (
        ("raw tiles arrive", "load", [(kq, "k and q, 32 rows each of 2 × 64 channels"), (ki, "g, 2 × 64 channels")]),
        ("gates are summed", "operand", [(kq, "k and q"), (ki, "γ of even channels"), (early, "norms, Σ")]),
        ("tiles are made", "operand", [(kq, "−K 2^−m and Q 2^−m, for the scores"), (ki, "Kr"), (early, "norms, Σ")]),
        ("all is ready", "chain", [(kq, "−K and Q"), (ki, "Kr"), (mqk, "M"), (gate, ""), (solve, "T")]),
    )
    for i, (when, color, parts) in enumerate(rows):
        y = top + 16 + 56 * i
        d.text(left - 10, y + 26, when, 12, "end")
        for part, text in parts:
            d.area(x(part[0]), y, x(part[1]) - left - 2, 42, color, radius=2)
            assert text_width(text, 12) <= x(part[1]) - left, text
            d.text((x(part[0]) + x(part[0] + part[1])) / 2, y + 26, text, 12, "middle")
    end = top + 16 + 56 * len(rows) + 14
    for part in (kq, ki, mqk, gate, solve):
        d.text((x(part[0]) + x(part[0] + part[1])) / 2, end, kb(part), 11, "middle", "muted")
    for i, text in enumerate((
            "Between M and T: 2^γ_C of 128 channels, fp32. Σ: what 16 tokens decay by. Norms and Σ lie in the bytes of M and 2^γ_C.",
            "An operand replaces the raw tile that it is made from, in the same rows and swizzle. γ is fp32, so that of odd channels stands",
            "where KI will stand: beside the stages, 8 KB for each operand group.",
            f"Sent to another CTA: the first {number(sent_first / 1024)} KB when M and the operand tiles are final, T ({kb(solve)}) after the solve.",
            "Blocks of M and T above the diagonal are zeroed once, when the kernel starts, and never written again.")):
        d.text(16, end + 28 + 18 * i, text, 12)
