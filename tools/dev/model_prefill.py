#!/usr/bin/env python3
"""A model of the prefill kernel's pipeline: how long a step takes when every role takes what it was measured to take.

Two CTAs prepare alternate chunks; each chunk passes load, operands, solve, a copy to the peer, and both chains. A chunk starts as soon as
what it needs is there: its stage, a group, a solver, the copy engine, the chunk before. Durations vary by +-`jitter`, as they do.

    tools/dev/model_prefill.py                                   the measured durations (H=8, cycles), and what changes would bring
    tools/dev/model_prefill.py chain=1450 operands=4500          with some of them changed

It was set against one reading: 1,804 cycles a step, of which the chain waits 177, where the model says 1,700 and 90.
"""
import random
import statistics
import sys

MEASURED = {
    "load": 280,        # from a free stage to the request of its tiles
    "arrival": 1100,    # until they are there
    "operands": 5490, "groups": 2,
    "solve": 2500, "solvers": 2,
    "copy": 1670,       # 27 KB to the peer
    "copy_T": 360,      # T to the peer
    "chain": 1610,
    "release": 250,     # until the chain's end of reading is known where it matters
    "confirm": 700,     # until the arrival of a copy is known to its sender
    "own": 4, "received": 2,
    "jitter": 0.2,
}
CHANGES: tuple[dict[str, float], ...] = (
    {}, {"jitter": 0.0}, {"chain": 1450}, {"operands": 4500}, {"chain": 1450, "operands": 4500}, {"operands": 2800, "groups": 1},
    {"solve": 1500}, {"own": 5}, {"received": 3}, {"confirm": 200}, {"chain": 1300, "operands": 2800, "groups": 1})
CHUNKS, SKIPPED, DRAWS = 400, 100, 5


def run(d, seed, log=lambda what, cta, chunk, begin, end: None):
    """(cycles a step, of which the chain waits). `log` is told what each role does when."""
    draw = random.Random(seed)
    vary = lambda cycles: cycles * (1 + d["jitter"] * draw.uniform(-1.7, 1.7))
    operands_end, sent, received = {}, {}, {}
    chain_end = [{-1: 0.0}, {-1: 0.0}]
    engine, load_end, waited = [0.0, 0.0], [0.0, 0.0], 0.0
    for n in range(CHUNKS):
        maker, peer, before = n % 2, 1 - n % 2, n - 2 * d["own"]
        free = 0.0 if before < 0 else max(chain_end[maker][before] + d["release"], received[before] + d["confirm"])
        asked = max(free, load_end[maker])
        load_end[maker] = asked + d["load"]
        tiles = load_end[maker] + vary(d["arrival"])
        operands_start = max(tiles, operands_end.get(n - 2 * d["groups"], 0.0))
        operands_end[n] = operands_start + vary(d["operands"])
        solve_start = max(operands_end[n], sent.get(n - 2 * d["solvers"], 0.0))
        solve_end = solve_start + vary(d["solve"])
        older = n - 2 * d["received"]
        free_at = 0.0 if older < 0 else chain_end[peer][older] + d["release"]
        early = max(solve_start if free_at <= solve_start else max(solve_end, free_at), engine[maker])
        engine[maker] = early + d["copy"] - 300
        late = max(solve_end, free_at, engine[maker])
        engine[maker] = late + 100
        log("load", maker, n, asked, load_end[maker])
        log("operands", maker, n, operands_start, operands_end[n])
        log("solve", maker, n, solve_start, solve_end)
        log("copy", maker, n, early, early + d["copy"])
        received[n], sent[n] = max(early + d["copy"], late + d["copy_T"]), max(solve_end, free_at) + 200
        for cta in (0, 1):
            start = max(chain_end[cta][n - 1], solve_end if cta == maker else received[n])
            waited += (start - chain_end[cta][n - 1]) / 2 if n > SKIPPED else 0.0
            chain_end[cta][n] = start + vary(d["chain"])
            log("chain", cta, n, start, chain_end[cta][n])
            log("store", cta, n, chain_end[cta][n], chain_end[cta][n] + d["release"])
    steps = CHUNKS - 1 - SKIPPED
    return (chain_end[0][CHUNKS - 1] - chain_end[0][SKIPPED]) / steps, waited / steps


def main():
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    unknown = set(words) - set(MEASURED)
    if unknown:
        sys.exit(f"no such duration: {', '.join(sorted(unknown))}; there are {', '.join(MEASURED)}")
    base = {**MEASURED, **{name: type(MEASURED[name])(value) for name, value in words.items()}}
    for change in CHANGES if not words else ({},):
        results = [run({**base, **change}, seed) for seed in range(DRAWS)]
        step, wait = (statistics.mean(column) for column in zip(*results, strict=True))
        named = ", ".join(f"{name} {value}" for name, value in {**words, **change}.items()) or "as measured"
        print(f"{named:40} {step:6.0f} cycles a step, of which the chain waits {wait:4.0f}")


if __name__ == "__main__":
    main()
