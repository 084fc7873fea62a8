"""Solo, duo, quad: which warps of which CTA do what, and what passes between CTAs."""
from svg import Drawing, number

H, STEP = 26, 30    # of a role's box


def draw(kernel):
    d = Drawing(900, 670, "Mappings of a job to 1, 2 and 4 CTAs")
    shared = kernel["shared"]
    d.text(16, 24, f"One job, three mappings; every block has {shared.kThreads // 32} warps. After a role: its registers a thread", 15, bold=True)
    solo(d, kernel["solo"])
    duo(d, kernel["duo"])
    quad(d, kernel["duo"], kernel["quad"])
    return d.render()


def warps(first, last):
    return f"{first}–{last}" if last > first else str(first)


def cta(d, x, y, w, name, roles):
    """roles: (colour, warps, text)"""
    d.area(x, y, w, 30 + STEP * len(roles), "muted", 0.05)
    d.text(x + 10, y + 19, name, 12, bold=True)
    for i, (color, which, text) in enumerate(roles):
        top = y + 28 + STEP * i
        d.area(x + 8, top, w - 16, H, color)
        d.text(x + 14, top + 17, which, 11, color="muted")
        d.text(x + 58, top + 17, text, 12)


def solo(d, s):
    d.text(16, 56, "solo", 15, bold=True)
    d.text(16, 74, "one CTA; many jobs", 12, color="muted")
    groups = s.kChainWarps
    cta(d, 16, 84, 270, "the CTA", (
        ("chain", warps(0, 3), f"chain, V 0–63 · {s.kChainRegisters}"),
        ("chain", warps(4, groups - 1), f"chain, V 64–127 · {s.kChainRegisters}"),
        ("operand", warps(groups, groups + 3), f"operand, even chunks · {s.kPrepareRegisters}"),
        ("operand", warps(groups + 4, s.kLoadWarp - 1), f"operand, odd chunks · {s.kPrepareRegisters}"),
        ("load", warps(s.kLoadWarp, s.kLoadWarp), f"load · {s.kSingleRegisters}"),
        ("solve", warps(s.kFirstSolveWarp, s.kFirstSolveWarp + s.kSolvers - 1), f"solve, in turns · {s.kSingleRegisters}"),
    ))


def duo_roles(c, rank):
    turn = ("n, n+2, …", "n+1, n+3, …")[rank]
    return (
        ("chain", warps(0, 3), f"chain, V {64 * rank}–{64 * rank + 63} · {c.kChainRegisters}"),
        ("operand", warps(4, c.kLoadWarp - 1), f"operand, {turn} · {c.kPrepareRegisters}"),
        ("load", warps(c.kLoadWarp, c.kLoadWarp), f"load · {c.kSingleRegisters}"),
        ("store", warps(c.kStoreWarp, c.kStoreWarp), f"store · {c.kSingleRegisters}"),
        ("solve", warps(c.kFirstSolveWarp, c.kWarps - 1), f"solve, send · {c.kSingleRegisters}"),
        ("idle", warps(c.kWarps, 19), f"none · {c.kIdleRegisters}"),
    )


def duo(d, c):
    d.text(330, 56, "duo", 15, bold=True)
    d.text(330, 74, "a cluster of two CTAs", 12, color="muted")
    cta(d, 330, 84, 250, "CTA 0", duo_roles(c, 0))
    cta(d, 634, 84, 250, "CTA 1", duo_roles(c, 1))
    operands, T = number(c.kOperandBytes / 1024), number((c.size("Stage") - c.kOperandBytes) / 1024)
    for points in ([(580, 168), (634, 168)], [(634, 196), (580, 196)]):
        d.line(points, "send", 2, arrow=True)
    d.text(607, 158, f"{operands} KB", 11, "middle")
    d.text(607, 214, f"and {T} KB", 11, "middle")
    d.text(330, 316, "Each CTA prepares every second chunk and copies it into the other's shared memory.", 12, color="muted")


def quad(d, c, q):
    d.text(16, 362, "quad", 15, bold=True)
    d.text(70, 362, "a cluster of four CTAs; few jobs", 12, color="muted")
    chain = lambda rank: (
        ("chain", warps(0, 3), f"chain · {c.kChainRegisters}"),
        ("load", warps(c.kLoadWarp, c.kLoadWarp), f"load V · {c.kSingleRegisters}"),
        ("store", warps(c.kStoreWarp, c.kStoreWarp), f"store · {c.kSingleRegisters}"),
        ("idle", "else", f"none · {c.kIdleRegisters}"),
    )
    prepare = lambda turn: (
        ("operand", warps(0, c.kLoadWarp - 1), f"operand, {turn} · {q.kPrepareRegisters}"),
        ("load", warps(c.kLoadWarp, c.kLoadWarp), f"load q, k, g · {c.kSingleRegisters}"),
        ("send", warps(q.kSendWarp, q.kSendWarp), f"send · {c.kSingleRegisters}"),
        ("solve", warps(c.kFirstSolveWarp, c.kWarps - 1), f"solve · {c.kSingleRegisters}"),
        ("operand", warps(q.kFirstNormWarp, 19), f"norms · {q.kNormRegisters}"),
    )
    y = 376
    cta(d, 16, y, 196, "CTA 2", prepare("even"))
    cta(d, 228, y, 196, "CTA 3", prepare("odd"))
    cta(d, 496, y, 186, "CTA 0: V 0–63", chain(0))
    cta(d, 698, y, 186, "CTA 1: V 64–127", chain(1))
    d.box(300, y + 226, 124, 34, "send", ["L2"])
    d.line([(120, y + 180), (120, y + 243), (300, y + 243)], "send", 2, arrow=True)
    d.line([(326, y + 180), (326, y + 226)], "send", 2, arrow=True)
    d.line([(424, y + 243), (590, y + 243), (590, y + 150)], "send", 2, arrow=True)
    d.line([(590, y + 243), (790, y + 243), (790, y + 150)], "send", 2, arrow=True)
    d.text(602, y + 236, f"{number(q.kRelayBytes / 1024)} KB to both at once", 11)
    d.line([(424, y + 132), (496, y + 132)], "solve", 2, arrow=True)
    d.text(460, y + 124, "T 2 KB", 11, "middle")
    d.text(460, y + 146, "to both", 11, "middle")
    d.text(16, y + 284, "CTAs 2 and 3 prepare alternate chunks; CTAs 0 and 1 run the recurrence and nothing else.", 12, color="muted")
