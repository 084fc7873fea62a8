"""Pools, masks and checkpoints of flash_kda.fwd, and how flash-linear-attention, SGLang and vLLM ask for the same."""

import pytest
import torch

import flash_kda
from bars import bar
from conftest import STORED
from recurrence import recurrence, relative_rms

pytestmark = pytest.mark.usefixtures("road", "no_grad")

BF16, F32, F16, F64 = torch.bfloat16, torch.float32, torch.float16, torch.float64
LENS = [20, 0, 33, 1, 64]
TOKENS = ("q", "k", "v", "g", "beta", "out")


def filled(*shape, dtype=F32):
    """No two rows alike, and values that no narrower dtype holds."""
    return (torch.arange(torch.Size(shape).numel(), dtype=F64).reshape(shape) * 1.0001234567891e-5 + 0.1).to(dtype)


def part(p, n, tokens):
    """The call on the first tokens of sequence n alone: out, final state."""
    begin = int(p["cu_seqlens"][n])
    cut = {name: p[name][:, begin : begin + tokens].clone() for name in TOKENS}
    states = {"initial_state": p["initial_state"][n : n + 1], "final_state": torch.full((1, *p["initial_state"].shape[1:]), float("nan"))}
    plain = {name: p[name] for name in ("scale", "A_log", "dt_bias", "lower_bound")}
    call = type(p)(**plain, **cut, **states)
    out, state = call.run()
    return out, state[0]


def pool_problem(problem, slots_dtype=torch.int32, gap=0, **options):
    """Sequence n reads slot 2n + 1 and writes slot 2n + 2 of a pool whose slots are longer than a state by `gap`."""
    p = problem(lens=LENS, H=2, K=64, V=64, **options)
    dense = p["initial_state"]
    N, row = len(LENS), dense[0].numel()
    storage = filled(2 * N + 3, row + gap)
    pool = storage[:, :row].unflatten(1, dense.shape[1:])
    pool[1 : 2 * N : 2] = dense
    slots = torch.arange(N, dtype=slots_dtype) * 2
    pooled = type(p)(p, initial_state=pool, final_state=pool, initial_slots=slots + 1, final_slots=slots + 2)
    return p, pooled, storage


# ---------------------------------------------------------------- pools


@pytest.mark.parametrize("gap", [0, 7])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_pool_in_place(problem, dtype, gap):
    p, pooled, storage = pool_problem(problem, dtype, gap)
    before = storage.clone()
    out, state = p.run()
    pooled["out"] = torch.full_like(out, float("nan"))
    pool_out, pool = pooled.run()
    assert torch.equal(pool_out, out) and torch.equal(pool[2::2][: len(LENS)], state)
    before[2::2, : state[0].numel()][: len(LENS)] = state.flatten(1)
    assert torch.equal(storage, before)  # slots that are read, slot 0, the gaps


@pytest.mark.parametrize("slot_null,nulls", [("negative", [-1, -7]), ("not_positive", [0, -3])])
def test_null_slots(problem, slot_null, nulls):
    p, pooled, storage = pool_problem(problem)
    p["initial_state"][2] = 0
    pooled["initial_slots"][2], pooled["final_slots"][4] = nulls
    pooled["slot_null"] = slot_null
    before = storage.clone()
    out, state = p.run()
    pool_out, pool = pooled.run()
    assert torch.equal(pool_out, out) and torch.equal(pool[[2, 4, 6, 8]], state[:4])
    assert torch.equal(storage[[0, 1, 3, 5, 7, 9, 10, 11, 12]], before[[0, 1, 3, 5, 7, 9, 10, 11, 12]])


@pytest.mark.parametrize("mask", [
    torch.tensor([True, False, False, True, True]), torch.tensor([255, 0, 0, 1, 2], dtype=torch.uint8),
    torch.tensor([[True, False, False, True, True]] * 2).T[:, 0],
], ids=["bool", "uint8", "strided"])  # fmt: skip
def test_initial_mask(problem, mask):
    p, pooled, _ = pool_problem(problem)
    masked = type(p)(p, initial_mask=mask, out=p["out"].clone(), final_state=p["final_state"].clone())
    p["initial_state"] = torch.where(mask.bool()[:, None, None, None], p["initial_state"], 0)
    out, state = p.run()
    masked["initial_state"][1:3] = float("nan")  # not read
    masked_out, masked_state = masked.run()
    assert torch.equal(masked_out, out) and torch.equal(masked_state, state)
    pooled["initial_mask"] = mask
    pool_out, pool = pooled.run()
    assert torch.equal(pool_out, out) and torch.equal(pool[2::2][:5], state)


@pytest.mark.parametrize("dtype", [BF16, F16, F64], ids=str)
def test_pools_in_other_dtypes(problem, dtype):
    """As a copy, where the dtype needs one: what is not written keeps its bits."""
    p, pooled, _ = pool_problem(problem)
    pool = filled(*pooled["initial_state"].shape, dtype=dtype)
    pool[1:11:2] = p["initial_state"].to(dtype)
    pooled.update(initial_state=pool, final_state=pool)
    pooled["final_slots"][3] = -1
    before = pool.clone()
    p.update(initial_state=p["initial_state"].to(dtype), final_state=torch.zeros_like(p["final_state"], dtype=dtype))
    out, state = p.run()
    pool_out, _ = pooled.run()
    before[[2, 4, 6, 10]] = state[[0, 1, 2, 4]]
    assert torch.equal(pool_out, out) and torch.equal(pool, before)


def test_pool_whose_matrices_are_not_contiguous(problem):
    p, pooled, _ = pool_problem(problem)
    k_first = filled(*pooled["initial_state"].transpose(2, 3).shape).transpose(2, 3)
    k_first[1:11:2] = p["initial_state"]
    pooled.update(initial_state=k_first, final_state=k_first)
    before = k_first.clone()
    out, state = p.run()
    pool_out, _ = pooled.run()
    before[2:12:2] = state
    assert torch.equal(pool_out, out) and torch.equal(k_first, before)


# ---------------------------------------------------------------- checkpoints


def expect_prefixes(p, rows, where):
    """Row i holds what the call leaves that ends after where[i] = (sequence, tokens); None: it is untouched."""
    for i, at in enumerate(where):
        want = part(p, *at)[1] if at else filled(*rows.shape)[i]
        assert torch.equal(rows[i], want), (i, at)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_checkpoint_offsets(problem, dtype):
    p = problem(lens=LENS, H=2, K=64, V=64)
    plain_out, plain_state = (x.clone() for x in p.run())
    offsets = torch.tensor([[1, 20, 16], [0, -1, 0], [33, 32, 33], [1, 0, 1], [64, 17, -5]], dtype=dtype)
    rows = filled(16, 2, 64, 64)
    p.update(checkpoint_state=rows, checkpoint_offsets=offsets, out=torch.full_like(p["out"], float("nan")))
    out, state = p.run()
    assert torch.equal(out, plain_out) and torch.equal(state, plain_state)
    expect_prefixes(p, rows, [(n, o) if o > 0 else None for n in range(5) for o in offsets[n].tolist()] + [None])

    one = filled(5, 2, 64, 64)
    p.update(checkpoint_state=one, checkpoint_offsets=offsets[:, 0])  # [N], with a stride of 3
    p.run()
    assert torch.equal(one[[0, 2, 3, 4]], rows[[0, 6, 9, 12]]) and torch.equal(one[1], filled(5, 2, 64, 64)[1])


@pytest.mark.parametrize("every", [1, 7, 16, 20, 33, 64, 65])
def test_checkpoint_every(problem, every):
    p = problem(lens=LENS, H=2, K=64, V=64)
    where = [(n, tokens) for n, length in enumerate(LENS) for tokens in range(every, length + 1, every)]
    rows = filled(len(where) + 1, 2, 64, 64)
    p.update(checkpoint_state=rows, checkpoint_every=every)
    p.run()
    expect_prefixes(p, rows, [*where, None])


def test_checkpoints_in_a_pool(problem):
    p = problem(lens=LENS, H=2, K=64, V=64)
    where = [(n, tokens) for n, length in enumerate(LENS) for tokens in range(16, length + 1, 16)]
    slots = torch.tensor([9, 2, -1, 4, 8, 5, 1], dtype=torch.int32)
    pool = filled(10, 2, 64, 64)
    p.update(checkpoint_state=pool, checkpoint_every=16, checkpoint_slots=slots)
    p.run()
    at = {slot: where[row] for row, slot in enumerate(slots.tolist()) if slot >= 0}
    expect_prefixes(p, pool, [at.get(slot) for slot in range(10)])


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_checkpoints_in_other_dtypes(problem, dtype):
    """Against the float64 recurrence of each prefix."""
    p = problem(lens=LENS, H=2)
    rows = filled(5, 2, 128, 128, dtype=dtype)
    before = rows.clone()
    p.update(checkpoint_state=rows, checkpoint_offsets=torch.tensor([17, 0, 32, 1, 0]))
    p.run()
    for n, tokens in ((0, 17), (2, 32), (3, 1)):
        begin = int(p["cu_seqlens"][n])
        inputs = {name: p[name][:, begin : begin + tokens] for name in TOKENS[:-1]}
        inputs |= {name: p[name] for name in ("scale", "A_log", "dt_bias", "lower_bound")}
        want = recurrence(**inputs, initial_state=p["initial_state"][n : n + 1])[1][0]
        assert relative_rms(rows[n], want) <= STORED.get(dtype, bar("f32", "any")).state
    assert torch.equal(rows[[1, 4]], before[[1, 4]])


def test_writes_count(problem):
    p = problem(lens=LENS)
    p.update(checkpoint_state=filled(5, 2, 128, 128), checkpoint_offsets=torch.tensor([17, 0, 32, 1, 0]))
    versions = [p[name]._version for name in ("out", "final_state", "checkpoint_state", "initial_state", "checkpoint_offsets")]
    p.run()
    after = [p[name]._version for name in ("out", "final_state", "checkpoint_state", "initial_state", "checkpoint_offsets")]
    assert [b - a for a, b in zip(versions, after, strict=True)] == [1, 1, 1, 0, 0]


# ---------------------------------------------------------------- what is refused


I32 = torch.int32


@pytest.mark.parametrize("changes,error,words", [
    (dict(initial_slots=torch.zeros(5)), TypeError, "initial_slots has dtype torch.float32, but it must be int32 or int64"),
    (dict(initial_slots=torch.zeros(4, dtype=I32)), ValueError, r"initial_slots has shape \(4\), but it must be \[N\] = \(5\)"),
    (dict(initial_slots=torch.tensor([0, 1, 2, 3, 13], dtype=I32)), ValueError, r"initial_slots\[4\] = 13 is not below .*slot_count = 13"),
    (dict(final_slots=torch.tensor([2, 4, 4, 6, 8], dtype=I32)), ValueError, r"final_slots\[1\] and args.final_slots\[2\] are both 4"),
    (dict(final_slots=torch.tensor([3, 4, 6, 8, 10], dtype=I32)), ValueError, r"\[0\] and args.initial_slots\[1\] are both 3, but in place"),
    (dict(initial_state=None), ValueError, "initial_slots is given, but initial_state is not"),
    (dict(final_state=None), ValueError, "final_slots is given, but final_state is not"),
    (dict(initial_state=torch.zeros(0, 2, 64, 64)), ValueError, "initial_state has no slots"),
    (dict(final_state=torch.zeros(9, 2, 64, 32)), ValueError, r"must be \[slots,HV,V,K\] = \(9, 2, 64, 64\)"),
    (dict(slot_null="zero"), ValueError, "slot_null is 'zero', but it must be 'negative' or 'not_positive'"),
    (dict(slot_null=0), TypeError, "slot_null is 0"),
    (dict(initial_mask=torch.ones(5)), TypeError, "initial_mask has dtype torch.float32, but it must be bool or uint8"),
    (dict(initial_mask=torch.ones(6, dtype=torch.bool)), ValueError, r"initial_mask has shape \(6\)"),
    (dict(checkpoint_offsets=torch.zeros(5, dtype=I32)), ValueError, "checkpoint_offsets is given, but checkpoint_state is not"),
    (dict(checkpoint_slots=torch.zeros(5, dtype=I32)), ValueError, "checkpoint_slots is given, but checkpoint_state is not"),
    (dict(checkpoint_every=4), ValueError, "checkpoint_every is given, but checkpoint_state is not"),
    (dict(checkpoint_every=-4), ValueError, "checkpoint_every is -4, but it must be an int, 0 or more"),
    (dict(checkpoint_every=10**30), ValueError, "checkpoint_every is 10"),
    (dict(checkpoint_every=4.0), TypeError, "checkpoint_every is 4.0"),
    (dict(checkpoint_state=torch.zeros(5, 2, 64, 64)), ValueError, "neither checkpoint_offsets nor checkpoint_every"),
    (dict(checkpoint_state=torch.zeros(5, 2, 64, 64), checkpoint_every=4, checkpoint_offsets=torch.zeros(5, dtype=I32)), ValueError, "both given"),
    (dict(checkpoint_state=torch.zeros(4, 2, 64, 64), checkpoint_offsets=torch.zeros(5, dtype=I32)), ValueError, "checkpoint_count = 4 is below N"),
    (dict(checkpoint_state=torch.zeros(9, 2, 64, 64), checkpoint_offsets=torch.zeros(5, 0, dtype=I32)), ValueError, "has no columns"),
    (dict(checkpoint_state=torch.zeros(9, 2, 64, 64), checkpoint_offsets=torch.tensor([21, 0, 0, 0, 0])), ValueError, "beyond the 20 tokens"),
    (dict(checkpoint_state=torch.zeros(3, 2, 64, 64), checkpoint_every=20), ValueError, "sequence 4 has a checkpoint in row 3"),
    (dict(checkpoint_state=torch.zeros(3, 64, 64), checkpoint_every=20), ValueError, r"checkpoint_state has shape \(3, 64, 64\)"),
    (dict(checkpoint_state=torch.zeros(1, 2, 64, 64).expand(9, -1, -1, -1), checkpoint_every=20), ValueError, "has elements that share memory"),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")  # fmt: skip
def test_refusals(problem, changes, error, words):
    _, pooled, storage = pool_problem(problem)
    pooled.update(changes)
    before = storage.clone()
    with pytest.raises(error, match=words):
        pooled.run()
    assert pooled["out"].isnan().all() and torch.equal(storage, before)


def test_checkpoints_overlap_nothing(problem):
    p = problem(lens=LENS, H=2, K=64, V=64)
    for dtype in (F32, F64):  # as it lies, as a copy
        shared = torch.zeros(5, 2, 64, 64, dtype=dtype)
        p.update(final_state=shared, checkpoint_state=shared, checkpoint_every=64)
        with pytest.raises(ValueError, match="overlaps"):
            p.run()


# ---------------------------------------------------------------- other projects


def test_fla_return_intermediate_states(problem):
    """FLA's h [1,NT,HV,V,K] has the state before each chunk of 64 tokens: the initial state, then checkpoints; a last one of a full chunk is no h."""
    lens = [130, 64, 0, 63, 200]
    p = problem(lens=lens, H=2, K=64, V=64)
    rows = torch.empty(sum(length // 64 for length in lens), 2, 64, 64)
    p.update(checkpoint_state=rows, checkpoint_every=64)
    p.run()
    h, row = [], 0
    for n, length in enumerate(lens):
        chunks = -(-length // 64)
        h += [p["initial_state"][n : n + 1][:chunks], rows[row : row + max(chunks - 1, 0)]]
        row += length // 64
    h = torch.cat(h)
    where = [(n, 64 * c) for n, length in enumerate(lens) for c in range(-(-length // 64))]
    assert len(h) == len(where)
    for state, (n, tokens) in zip(h, where, strict=True):
        assert torch.equal(state, part(p, n, tokens)[1])


def test_sglang_track_state(problem):
    """track_state[i]: the state before chunk track_chunk_idx[i] of 64 tokens; -1: none. Chunk 0 begins with the initial state, which SGLang has."""
    lens = [130, 64, 10, 200]
    p = problem(lens=lens, H=2, K=64, V=64)
    pool = filled(20, 2, 64, 64)
    cache_indices = torch.tensor([7, 3, 11, 2], dtype=torch.int32)
    pool[cache_indices] = p["initial_state"]
    track_chunk_idx = torch.tensor([2, 1, -1, 3], dtype=torch.int32)
    track_state = filled(4, 2, 64, 64)
    call = type(p)(p, initial_state=pool, final_state=pool, initial_slots=cache_indices, final_slots=cache_indices,
                   cu_seqlens=p["cu_seqlens"].int(), checkpoint_state=track_state, checkpoint_offsets=64 * track_chunk_idx)  # fmt: skip
    call.run()
    expect_prefixes(p, track_state, [(0, 128), (1, 64), None, (3, 192)])
    for n, slot in enumerate(cache_indices.tolist()):
        assert torch.equal(pool[slot], part(p, n, lens[n])[1])


def test_vllm_checkpoint_offsets(problem):
    """checkpoint_offsets int32 [N], multiples of 16, 0: none; dense rows; slots of the pool below 1 are null; has_initial_state is a mask."""
    lens = [48, 16, 5, 100]
    p = problem(lens=lens, H=2, K=64, V=64)
    p["initial_state"][1] = 0
    pool = filled(9, 2, 64, 64)
    slots = torch.tensor([7, 3, 0, 2], dtype=torch.int32)  # 0: a padded request
    pool[slots[[0, 3]]] = p["initial_state"][[0, 3]]
    untouched = pool[[0, 1, 4, 5, 6, 8]].clone()
    checkpoints = filled(4, 2, 64, 64)
    offsets = torch.tensor([32, 0, 0, 96], dtype=torch.int32)
    call = type(p)(p, initial_state=pool, final_state=pool, initial_slots=slots, final_slots=slots, slot_null="not_positive",
                   initial_mask=torch.tensor([True, False, True, True]), checkpoint_state=checkpoints, checkpoint_offsets=offsets)  # fmt: skip
    call.run()
    expect_prefixes(p, checkpoints, [(0, 32), None, None, (3, 96)])
    assert all(torch.equal(pool[slots[n]], part(p, n, lens[n])[1]) for n in (0, 1, 3))
    assert torch.equal(pool[[0, 1, 4, 5, 6, 8]], untouched)


def test_said_by_last_plan(problem):
    _, pooled, _ = pool_problem(problem)
    pooled.run()
    assert flash_kda.last_plan().startswith("cpu: ")
