"""How jobs are laid end to end and cut into equal spans: schedule/jobs.cuh on a small example."""
from svg import Drawing, shade

LENGTHS, HEADS, WORKERS = (1300, 547, 2048, 800), 2, 3


def timeline(kernel):
    """(jobs, span): a job is (sequence, head, start, chunks) in units of the timeline."""
    shared = kernel["shared"]
    jobs, at = [], 0
    for n, length in enumerate(LENGTHS):
        chunks = -(-length // shared.kChunk)
        for h in range(HEADS):
            jobs.append((n, h, at, chunks))
            at += chunks + shared.FKDAI_JOB_COST
    return jobs, max(-(-at // WORKERS), max(chunks for *_, chunks in jobs) + shared.FKDAI_JOB_COST), at


def chunks_before(kernel, cut, start, chunks):
    offset, smallest = cut - start - kernel["shared"].FKDAI_JOB_COST, kernel["shared"].kSmallestPiece
    return 0 if offset < smallest else chunks if offset > chunks - smallest else offset


def pieces(kernel, worker):
    """(sequence, head, begin, end, chunks) of a worker in the order of its work: last job first, as PieceIterator goes."""
    jobs, span, total = timeline(kernel)
    low, high = span * worker, min(span * (worker + 1), total)
    for n, h, start, chunks in reversed(jobs):
        stop = start + chunks + kernel["shared"].FKDAI_JOB_COST
        if stop <= low or start >= high:
            continue
        begin = 0 if start >= low else chunks_before(kernel, low, start, chunks)
        end = chunks if stop <= high else chunks_before(kernel, high, start, chunks)
        if begin < end:
            yield n, h, begin, end, chunks


def draw(kernel):
    jobs, span, _ = timeline(kernel)
    cost = kernel["shared"].FKDAI_JOB_COST
    d = Drawing(900, 448, "Schedule: jobs on a timeline, cut into equal spans")
    d.text(16, 24, f"{len(LENGTHS)} sequences × {HEADS} heads on {WORKERS} workers", 15, bold=True)
    d.text(16, 44, f"A job is one (sequence, head): its chunks and {cost} units for its states. s1h0: sequence 1, head 0; below its chunks.", 12, color="muted")
    left, width = 92, 790
    x = lambda unit: left + width * unit / (span * WORKERS)
    color = lambda n: shade("chain", (0.95, 0.4, 0.7, 0.25)[n])
    d.text(16, 92, "timeline", 12, bold=True)
    for n, h, start, chunks in jobs:
        d.area(x(start), 66, x(start + chunks + cost) - x(start) - 1.5, 44, color(n), 0.35)
        d.text(x(start) + 5, 85, f"s{n}h{h}", 12, bold=True)
        d.text(x(start) + 5, 101, str(chunks), 11)
    for cut in range(WORKERS + 1):
        d.line([(x(span * cut), 58), (x(span * cut), 124)], "solve", 2)
    for worker in range(WORKERS):
        d.text(x(span * (worker + 0.5)), 132, f"span of worker {worker}: {span} units", 12, "middle", "muted")
    places = work(d, kernel, span, left, color)
    for worker in range(WORKERS - 1):
        _, (from_x, from_y), hands_over, _ = places[worker][0]
        (to_x, to_y), _, _, takes_over = places[worker + 1][-1]
        assert hands_over == takes_over
        if hands_over:
            d.line([(from_x, from_y + 40), (from_x, from_y + 52), (to_x + 8, to_y - 12), (to_x + 8, to_y)], "send", 1.8, arrow=True)
    for i, text in enumerate((
            "A worker does the last job of its span first. A job that a cut crosses is done in two pieces: its first chunks are the first thing that one",
            "worker does, its last chunks the last thing that the next one does. Between them the fp32 state waits in a slot in memory (pink).")):
        d.text(16, 420 + 18 * i, text, 12, color="muted")
    return d.render()


def work(d, kernel, span, left, color):
    """Draws the pieces of each worker; returns of each ((left, top), (right, top), hands over, takes over)."""
    cost, width = kernel["shared"].FKDAI_JOB_COST, 790
    x = lambda unit: left + width * unit / (span * 1.1)
    places = []
    for worker in range(WORKERS):
        y, at, here = 168 + 76 * worker, 0, []
        d.text(16, y + 24, f"worker {worker}", 12, bold=True)
        for n, h, begin, end, chunks in pieces(kernel, worker):
            units = end - begin + cost
            d.area(x(at), y, x(at + units) - x(at) - 2, 40, color(n), 0.35)
            middle = x(at + units / 2)
            d.text(middle, y + 17, f"s{n}h{h}", 12, "middle", bold=True)
            d.text(middle, y + 33, f"{begin} to {end}" if (begin, end) != (0, chunks) else "all", 11, "middle")
            here.append(((x(at), y), (x(at + units) - 8, y), end < chunks, begin > 0))
            at += units
        places.append(here)
    d.text(x(span * 1.1), 168 + 76 * WORKERS - 18, "time →", 12, "end", "muted")
    return places
