"""Shared memory of a block, to scale, and the lives of a stage's bytes."""
from svg import Drawing, number, text_width

LIMIT = 227 * 1024    # of one block on sm_90


def draw(kernel):
    d = Drawing(900, 610, "Shared memory of a block, and the bytes of a stage")
    d.text(16, 24, "Shared memory of a block, to scale (227 KB can be had)", 15, bold=True)
    duo, solo = kernel["duo"], kernel["solo"]
    block(d, 44, "duo", duo, [("own", "operand")] * duo.kOwnStages + [("received", "send")] * duo.kReceivedStages,
          (("value", "V", "load"), ("out", "O", "store"), ("score_keys", "KI", "operand"), ("akk", "A/β", "solve")))
    block(d, 140, "solo", solo, [("stage", "operand")] * solo.kStages, (("value", "V", "load"), ("score_keys", "KI", "operand"), ("staging", "O", "store"), ("akk", "A/β", "solve")))
    stage(d, kernel["shared"], duo.kOperandBytes)
    return d.render()


def block(d, y, name, scope, stages, rest):
    left, width, height = 70, 814, 44
    x = lambda offset: left + width * offset / LIMIT
    assert scope.size("Smem") + 1024 <= LIMIT
    d.text(16, y + 27, name, 13, bold=True)
    each = scope.size("Stage")
    for i, (what, color) in enumerate(stages):
        d.box(x(i * each), y, x(each) - left - 2, height, color, [f"{what} {i}", f"{each // 1024} KB"], radius=2)
    for member, text, color in rest:
        offset, bytes_ = scope.member("Smem", member)
        w = x(offset + bytes_) - x(offset)
        d.area(x(offset), y, w - 1.5, height, color, radius=2)
        d.text(x(offset) + w / 2, y + 27, text, 11, "middle")
        assert text_width(text, 11) <= w, text
    end = scope.size("Smem")
    small = end - sum(scope.member("Smem", member)[1] for member, *_ in rest) - scope.member("Smem", "stages")[1]
    parts = [f"{member} {scope.member('Smem', member)[1] / 1024:.0f} KB" for member, *_ in rest]
    d.text(left, y + 64, f"sizeof(Smem) = {end:,} bytes: {len(stages)} stages, {', '.join(parts)}, "
           f"{small / 1024:.1f} KB of beta, queues, barriers", 11, color="muted")


def stage(d, shared, sent_first):
    total = shared.size("Stage")
    left, width = 150, 734
    x = lambda offset: left + width * offset / total
    kq, ki, mqk, solve = (shared.member("Stage", name) for name in ("kq", "ki", "mqk", "solve"))
    gate = (shared.member("Stage", "gate")[0], solve[0] - shared.member("Stage", "gate")[0])
    early = (mqk[0], mqk[1] + gate[1])    # norms, and what blocks of 16 tokens decay by
    assert kq[1] + ki[1] + mqk[1] + gate[1] + solve[1] == total
    d.text(16, 240, f"The {total // 1024} KB of one stage, four times in its life", 15, bold=True)
    kb = lambda part: f"{part[1] // 1024} KB"
    rows = (
        ("raw tiles arrive", "load", [(kq, "k and q, 32 rows each of 2 × 64 channels"), (ki, "g, 2 × 64 channels")]),
        ("gates are summed", "operand", [(kq, "k and q"), (ki, "γ of even channels"), (early, "norms, Σ")]),
        ("tiles are made", "operand", [(kq, "−K 2^−m and Q 2^−m, for the scores"), (ki, "Kr"), (early, "norms, Σ")]),
        ("all is ready", "chain", [(kq, "−K and Q"), (ki, "Kr"), (mqk, "M"), (gate, ""), (solve, "T")]),
    )
    for i, (when, color, parts) in enumerate(rows):
        y = 256 + 56 * i
        d.text(left - 10, y + 26, when, 12, "end")
        for part, text in parts:
            d.area(x(part[0]), y, x(part[1]) - left - 2, 42, color, radius=2)
            assert text_width(text, 12) <= x(part[1]) - left, text
            d.text((x(part[0]) + x(part[0] + part[1])) / 2, y + 26, text, 12, "middle")
    end = 256 + 56 * len(rows) + 14
    for part in (kq, ki, mqk, gate, solve):
        d.text((x(part[0]) + x(part[0] + part[1])) / 2, end, kb(part), 11, "middle", "muted")
    for i, text in enumerate((
            "Between M and T: 2^γ_C of 128 channels, fp32. Σ: what 16 tokens decay by. Norms and Σ lie in the bytes of M and 2^γ_C.",
            "An operand replaces the raw tile that it is made from, in the same rows and swizzle. γ is fp32, so that of odd channels stands",
            "where KI will stand: beside the stages, 8 KB for each operand group.",
            f"Sent to another CTA: the first {number(sent_first / 1024)} KB when M and the operand tiles are final, T ({kb(solve)}) after the solve.",
            "Blocks of M and T above the diagonal are zeroed once, when the kernel starts, and never written again.")):
        d.text(16, end + 28 + 18 * i, text, 12)
