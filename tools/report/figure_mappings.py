"""Solo, duo, quad, octet: which warps of which CTA do what, and what passes between CTAs."""
from svg import Drawing, number

H, STEP = 26, 30    # of a role's box


def draw(kernel):
    d = Drawing(900, 1032, "Mappings of a job to 1, 2, 4 and 8 CTAs")
    shared = kernel["shared"]
    d.text(16, 24, f"One job, four mappings; a block has {shared.kThreads // 32} warps, of a quad {kernel['quad'].kGroups * 4 + 12}. "
                   "After a role: its registers a thread", 15, bold=True)
    solo(d, kernel["solo"])
    duo(d, kernel["duo"])
    quad(d, kernel["quad"])
    octet(d, kernel["octet"])
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
        ("find", warps(s.kLastWarp, s.kLastWarp), f"find · {s.kSingleRegisters}; or norms, see the card"),
    ))


def duo_roles(c, rank):
    turn = ("n, n+2, …", "n+1, n+3, …")[rank]
    return (
        ("chain", warps(0, 3), f"chain, V {64 * rank}–{64 * rank + 63} · {c.kChainRegisters}"),
        ("operand", warps(4, c.kLoadWarp - 1), f"operand, {turn} · {c.kPrepareRegisters}"),
        ("load", warps(c.kLoadWarp, c.kLoadWarp), f"load · {c.kSingleRegisters}"),
        ("store", warps(c.kStoreWarp, c.kStoreWarp), f"store · {c.kSingleRegisters}"),
        ("solve", warps(c.kFirstSolveWarp, c.kFindWarp - 1), f"solve, send · {c.kSingleRegisters}"),
        ("find", warps(c.kFindWarp, c.kFindWarp), f"find · {c.kFindRegisters}"),
        ("idle", warps(c.kFindWarp + 1, 19), f"none · {c.kFindRegisters}; or norms, see the card"),
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
    d.text(330, 344, "Each CTA prepares every second chunk and copies it into the other's shared memory.", 12, color="muted")


def receiver_roles(q, state, value, stores):
    """Of a CTA that chunks are sent to."""
    single = 4 * q.kGroups
    return (
        ("chain", warps(0, 3), f"{state} · {q.kChainRegisters}"),
        ("load", warps(single, single), f"{value} · {q.kReceiverRegisters}"),
        *(("store", warps(single + 1 + i, single + 1 + i), f"{what} · {q.kReceiverRegisters}") for i, what in enumerate(stores)),
        ("find", warps(single + 3, single + 3), f"find · {q.kReceiverRegisters}"),
        ("idle", "else", f"none · {q.kIdleRegisters}"),
    )


def preparer_roles(q, turn):
    single, is_apart = 4 * q.kGroups, q.kSolvers > 2
    send, load = single + (not is_apart), single + 8 * is_apart
    roles = (
        ("operand", warps(0, single - 1), f"operand, {turn} · {q.kGroupRegisters}"),
        ("load", warps(load, load), f"load q, k, g · {q.kFindRegisters if is_apart else q.kSingleRegisters}"),
        ("send", warps(send, send), f"send · {q.kSingleRegisters}"),
        ("solve", warps(send + 1, send + q.kSolvers), f"solve · {q.kSingleRegisters}"),
        ("operand", warps(single + 4, single + 7), f"norms{', b' if q.kSolvesAside else ''} · {q.kNormRegisters}"),
    )
    return roles + (("find", warps(load + 1, load + 1), f"find · {q.kFindRegisters}"),) * is_apart


def quad(d, q):
    assert (q.kChains, q.kOuts, q.kPreparers) == (2, 0, 2)
    d.text(16, 392, "quad", 15, bold=True)
    d.text(70, 392, "a cluster of four CTAs; few jobs", 12, color="muted")
    y = 406
    cta(d, 16, y, 196, "CTA 2", preparer_roles(q, "even"))
    cta(d, 228, y, 196, "CTA 3", preparer_roles(q, "odd"))
    cta(d, 496, y, 186, "CTA 0: V 0–63", receiver_roles(q, "chain", "load V", ("release", "store")))
    cta(d, 698, y, 186, "CTA 1: V 64–127", receiver_roles(q, "chain", "load V", ("release", "store")))
    d.box(300, y + 226, 124, 34, "send", ["L2"])
    d.line([(120, y + 210), (120, y + 243), (300, y + 243)], "send", 2, arrow=True)
    d.line([(326, y + 210), (326, y + 226)], "send", 2, arrow=True)
    d.line([(424, y + 243), (590, y + 243), (590, y + 210)], "send", 2, arrow=True)
    d.line([(590, y + 243), (790, y + 243), (790, y + 210)], "send", 2, arrow=True)
    d.text(602, y + 236, f"{number(q.kRelayBytes / 1024)} KB to both at once", 11)
    d.line([(424, y + 132), (496, y + 132)], "solve", 2, arrow=True)
    d.text(460, y + 124, "T 2 KB", 11, "middle")
    d.text(460, y + 146, "to both", 11, "middle")
    d.text(16, y + 284, "CTAs 2 and 3 prepare alternate chunks; CTAs 0 and 1 run the recurrence and make O.", 12, color="muted")


def octet(d, q):
    assert (q.kChains, q.kOuts, q.kPreparers) == (2, 2, 4)
    d.text(16, 724, "octet", 15, bold=True)
    d.text(70, 724, "a cluster of eight CTAs; the fewest jobs", 12, color="muted")
    y = 738
    cta(d, 16, y, 226, "CTAs 4 to 7", preparer_roles(q, "in turns"))
    cta(d, 318, y, 226, "CTAs 0, 1: half of V each", receiver_roles(q, "chain", "load V", ("release",)))
    cta(d, 638, y, 246, "CTAs 2, 3: half of V each", receiver_roles(q, "S again, and O", "what chunks are", ("release", "store")))
    d.box(66, y + 216, 124, 34, "send", ["L2"])
    d.line([(128, y + 180), (128, y + 216)], "send", 2, arrow=True)
    d.line([(190, y + 233), (430, y + 233), (430, y + 180)], "send", 2, arrow=True)
    d.line([(430, y + 233), (760, y + 233), (760, y + 210)], "send", 2, arrow=True)
    d.text(442, y + 226, f"{number(q.kRelayBytes / 1024)} KB to all four at once", 11)
    d.line([(242, y + 132), (318, y + 132)], "solve", 2, arrow=True)
    d.text(280, y + 124, "T 2 KB", 11, "middle")
    d.text(280, y + 146, "to both", 11, "middle")
    d.line([(544, y + 41), (638, y + 41)], "chain", 2, arrow=True)
    d.text(591, y + 33, f"U {number(q.kUpdateBytes / 1024)} KB", 11, "middle")
    d.text(591, y + 57, "of its half", 11, "middle")
    d.text(16, y + 278, "CTAs 4 to 7 prepare chunks in turns; 0 and 1 run the recurrence; 2 and 3 take the same steps with U of 0 and 1, one chunk behind, and make O.",
           12, color="muted")
