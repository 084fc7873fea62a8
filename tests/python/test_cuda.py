"""CUDA tensors through flash_kda.fwd, and through flash-linear-attention. Without a GPU that has kernels the whole file is skipped.

One file, though a long one: it is one part of the GPU check (tests/gpu/CMakeLists.txt), which loads torch once for all of it.
"""

import pathlib
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open

import flash_kda
from bars import bar
from conftest import Problem, make_problem
from flash_kda import _core
from recurrence import relative_rms

HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
pytestmark = [pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of compute capability 9.0"), pytest.mark.usefixtures("no_grad")]

DATA = pathlib.Path(__file__).parents[2] / "data"
MODEL = bar("bf16", "model")
BF16 = torch.bfloat16


def cuda_problem(**options):
    return Problem({name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in make_problem(**options).items()})


def copies_of(problem):
    """Names of what _core.fwd wants copied; none: it ran. test_copies.py looks closer, and needs no GPU."""
    order = "q k v g beta scale out A_log dt_bias lower_bound initial_state final_state cu_seqlens".split()
    return {order[position] for position in _core.fwd(*(problem.get(name) for name in order)) or ()}


def check(problem):
    out, state = problem.check(out_bound=bar("bf16", "any").out, state_bound=bar("bf16", "any").state)
    assert flash_kda.last_plan().startswith("cuda: ")
    return out, state


def run_fresh(problem):
    """Runs with poisoned outputs of its own; returns them."""
    again = Problem(problem, out=torch.full_like(problem["out"], float("nan")))
    if problem.get("final_state") is not None:
        again["final_state"] = torch.full_like(problem["final_state"], float("nan"))
    return again.run()


def same_bits(a, b):
    return all((x is None and y is None) or torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- what it computes


@pytest.mark.parametrize("sizes", [
    dict(T=1, H=130), dict(T=100), dict(B=3, T=70, H=3), dict(T=200, H=12), dict(lens=[3, 0, 65, 1, 200]), dict(lens=[64, 0] * 8),
    dict(lens=[33] * 80, H=1), dict(T=129, state=False),
], ids=str)  # fmt: skip
def test_shapes(road, sizes):
    check(cuda_problem(**sizes))


@pytest.mark.parametrize("H", [1, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
def test_heads(H):
    check(cuda_problem(lens=[64, 0, 33, 150], H=H))


@pytest.mark.parametrize("lens", [[64, 0] * 96, [1] * 512, [0] * 50, [128] * 148], ids=["64,0", "1", "0", "128"])
def test_many_sequences(lens):
    p = cuda_problem(lens=lens)
    if sum(lens) == 0:
        p.run()
        assert torch.equal(p["final_state"], p["initial_state"])
    else:
        check(p)


def test_lengths_from_1_to_80():
    check(cuda_problem(lens=list(range(1, 81))))


@pytest.mark.parametrize("lower_bound", [-5, -0.1, torch.tensor(-1.0)], ids=str)
@pytest.mark.parametrize("absent", [(), ("A_log",), ("dt_bias",), ("A_log", "dt_bias")], ids=str)
def test_gates(lower_bound, absent):
    p = cuda_problem(T=150, lower_bound=lower_bound)
    p.update(dict.fromkeys(absent))
    check(p)


@pytest.mark.parametrize("dtype", [torch.float32, BF16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["A_log", "dt_bias"])
def test_parameters(name, dtype):
    p = cuda_problem(T=100, H=3)
    p[name] = torch.nn.Parameter(p[name].to(dtype))
    check(p)


@pytest.mark.parametrize("name", ["kda_lb", "kda_softplus"])
def test_recorded_activations(name):
    with safe_open(DATA / f"{name}.safetensors", "pt", device="cuda") as file:
        inputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  a file is no dict
        metadata = file.metadata()
    want_out, want_state = inputs.pop("out").double(), inputs.pop("final_state").double()
    out, state = torch.empty_like(inputs["v"]), torch.empty_like(inputs["initial_state"])
    lower_bound = None if metadata["lower_bound"] == "none" else float(metadata["lower_bound"])
    flash_kda.fwd(**inputs, scale=float(metadata["scale"]), lower_bound=lower_bound, out=out, final_state=state)
    assert relative_rms(out, want_out) <= MODEL.out and relative_rms(state, want_state) <= MODEL.state


# ---------------------------------------------------------------- forms of the arguments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "out"])
def test_other_dtypes_go_through_bf16(road, name, dtype):
    p = cuda_problem(T=100)
    p[name] = p[name].to(dtype)
    assert copies_of(p) == {name}
    check(p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_dtypes_of_beta(road, dtype):
    p = cuda_problem(T=100, H=3)
    wide = torch.full((1, 100, 3, 2), float("nan"), dtype=dtype, device="cuda")
    wide[..., 0] = p["beta"]
    p["beta"] = wide[..., 0]
    assert copies_of(p) == (set() if dtype == torch.float32 else {"beta"})
    check(p)


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "out"])
@pytest.mark.parametrize("extra,is_copied", [(8, False), (1, True)])
def test_pitches(road, name, extra, is_copied):
    p = cuda_problem(T=100)
    wide = torch.full((*p[name].shape[:3], 128 + extra), float("nan"), dtype=BF16, device="cuda")
    wide[..., :128] = p[name]
    p[name] = wide[..., :128]
    assert not copies_of(p)
    check(p)
    assert (f", copies {name}: strides;" in flash_kda.last_plan()) == is_copied
    assert wide[..., 128:].isnan().all()


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out"])
def test_permuted(road, name):
    p = cuda_problem(B=2, T=50, H=4)
    p[name] = p[name].transpose(1, 2).contiguous().transpose(1, 2)
    assert not copies_of(p)
    check(p)


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "out", "initial_state", "final_state"])
def test_misaligned(road, name):
    p = cuda_problem(T=50)
    flat = torch.zeros(p[name].numel() + 1, dtype=p[name].dtype, device="cuda")
    flat[1:] = p[name].flatten()
    p[name] = flat[1:].view(p[name].shape)
    assert not copies_of(p)
    check(p)
    assert flat[0] == 0


def fused(p, names, extra, fill):
    """These tensors as slices of one, whose rows are `extra` elements longer."""
    B, T, H, _ = p[names[0]].shape
    rows = torch.full((B, T, len(names) * H * 128 + extra), fill, dtype=BF16, device="cuda")
    for i, name in enumerate(names):
        part = rows[..., i * H * 128 : (i + 1) * H * 128].unflatten(-1, (H, 128))
        part.copy_(p[name])
        p = Problem(p, **{name: part})
    return p, rows


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("lens,H", [([6000, *[64] * 34], 12), ([512] * 16, 8), ([3, 0, 65, 1, 200], 3)], ids=["quads", "alone", "few"])
def test_lengths_on_the_host(lens, H, dtype):
    """cu_seqlens_cpu chooses another launch: the same bits, also of a call that comes again."""
    p = cuda_problem(lens=lens, H=H)
    p["cu_seqlens"] = p["cu_seqlens"].to(dtype)
    want, known = run_fresh(p), Problem(p, cu_seqlens_cpu=p["cu_seqlens"].cpu())
    assert not want[0].isnan().any() and all(same_bits(run_fresh(known), want) for _ in range(3))
    with pytest.raises(ValueError, match=f"is beyond T = {sum(lens)} .read from args.cu_seqlens_host"):
        run_fresh(Problem(p, cu_seqlens_cpu=p["cu_seqlens"].cpu() * 2))
    with pytest.raises(ValueError, match="cu_seqlens_cpu is on device cuda:0, but it must be on cpu: the host reads it"):
        run_fresh(Problem(p, cu_seqlens_cpu=p["cu_seqlens"]))


@pytest.mark.parametrize("extra", [1, 2, 4, 6, 12])
@pytest.mark.parametrize("H", [1, 3, 12, 40])
def test_slices_of_a_fused_projection(H, extra):
    """Copied by the library, which moves them in units of 2, 4 and 8 bytes: the same bits, and nothing beside them is touched."""
    p = cuda_problem(lens=[70, 0, 1, 130], H=H)
    want = run_fresh(p)
    slices, _ = fused(p, ["q", "k", "v", "g"], extra, float("nan"))
    slices, rows = fused(slices, ["out"], extra, 7)
    slices["out"].fill_(float("nan"))
    slices["final_state"].fill_(float("nan"))
    out, state = slices.run()
    assert ", copies q, k, v, g, out: strides;" in flash_kda.last_plan()
    assert same_bits((out.contiguous(), state), want) and (rows[..., H * 128 :] == 7).all()


@pytest.mark.parametrize("last", [0, 1, 70, 114, 115])
def test_rows_behind_the_last_sequence_beside_strides(last):
    p = cuda_problem(lens=[30, 10, 30, 45], H=3)
    p["cu_seqlens"] = p["cu_seqlens"].clamp_max(last)
    want, want_state = run_fresh(p)
    slices, rows = fused(p, ["out"], 2, 7)
    rows.fill_(7)
    out, state = slices.run()
    assert same_bits((out[:, :last].contiguous(), state), (want[:, :last].contiguous(), want_state))
    assert (rows[:, last:] == 7).all() and (rows[..., -2:] == 7).all()


def test_broken_cu_seqlens_gives_nan_beside_strides():
    p = cuda_problem(lens=[30, 10, 30])
    for bounds in ([0, 40, 20, 70], [0, 30, 40, 71], [0, -1, 40, 50], [0, 30, 40, -5]):
        broken, rows = fused(Problem(p, cu_seqlens=torch.tensor(bounds, device="cuda")), ["out"], 1, 7)
        assert broken.run()[0].isnan().all() and (rows[..., -1] == 7).all(), bounds


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("null", [-1, 99])
def test_pool_of_odd_pitch(dtype, null):
    """Slots an odd number of elements apart, in place: those of the call alone are read and written; null ones, and such as do not exist, are not."""
    p = cuda_problem(lens=[70, 0, 1, 33], H=3)
    row = 3 * 128 * 128
    slots = torch.tensor([4, 0, null, 2], dtype=torch.int32, device="cuda")
    pool = torch.full((6, row + 5), 7.0, dtype=dtype, device="cuda")
    states = pool[:, :row].unflatten(-1, (3, 128, 128))
    states[[4, 0, 2]] = p["initial_state"][[0, 1, 3]].to(dtype)
    dense = p["initial_state"].to(dtype)
    dense[2] = 0
    out, state = run_fresh(Problem(p, initial_state=dense, final_state=torch.empty_like(dense)))
    got, _ = Problem(p, initial_state=states, final_state=states, initial_slots=slots, final_slots=slots).run()
    assert ", copies initial_state, final_state: strides;" in flash_kda.last_plan()
    assert same_bits((got, states[[4, 0, 2]]), (out, state[[0, 1, 3]]))
    assert (states[[1, 3, 5]] == 7).all() and (pool[:, row:] == 7).all()


@pytest.mark.parametrize("where", [dict(checkpoint_every=16), dict(checkpoint_offsets=[[40, 0], [0, 0], [1, -3], [33, 20]])], ids=str)
@pytest.mark.parametrize("has_slots", [False, True])
def test_checkpoints_of_odd_pitch(where, has_slots):
    p = cuda_problem(lens=[70, 0, 1, 33], H=2)
    row, rows = 2 * 128 * 128, 9
    where = {key: torch.tensor(x, device="cuda") if isinstance(x, list) else x for key, x in where.items()}
    if has_slots:
        where["checkpoint_slots"] = torch.tensor([8, 7, -1, 6, 5, 4, 3, 2, 1], device="cuda")
    plain = torch.full((rows, 2, 128, 128), 7.0, device="cuda")
    run_fresh(Problem(p, checkpoint_state=plain, **where))
    wide = torch.full((rows, row + 3), 7.0, device="cuda")
    run_fresh(Problem(p, checkpoint_state=wide[:, :row].unflatten(-1, (2, 128, 128)), **where))
    assert ", copies checkpoint_state: strides;" in flash_kda.last_plan()
    assert torch.equal(wide[:, :row].unflatten(-1, (2, 128, 128)), plain) and (wide[:, row:] == 7).all()
    assert (plain == 7).flatten(1).all(1).any() and (plain != 7).any()


def test_expanded_key_and_row_strided_beta():
    p = cuda_problem(T=50, H=4)
    p["k"] = p["k"][:, :, :1].expand(-1, -1, 4, -1)
    wide = torch.zeros(1, 50, 7, dtype=BF16, device="cuda")
    wide[..., :4] = p["beta"]
    p["beta"] = wide[..., :4]
    check(p)


@pytest.mark.parametrize("H,HV", [(1, 2), (2, 6), (4, 8), (16, 32), (8, 96)])
def test_more_value_heads(road, H, HV):
    p = cuda_problem(lens=[80, 0, 33], H=H, HV=HV)
    assert not copies_of(p)
    check(p)


def test_value_heads_have_the_bits_of_repeated_keys():
    p = cuda_problem(lens=[80, 0, 333, 1], H=6, HV=18)
    repeated = {name: p[name].repeat_interleave(3, dim=2) for name in ("q", "k")}
    assert same_bits(run_fresh(p), run_fresh(Problem(p, **repeated)))


@pytest.mark.parametrize("final", [torch.float32, BF16, None], ids=str)
@pytest.mark.parametrize("initial", [torch.float32, BF16, torch.float16, None], ids=str)
def test_states(initial, final):
    p = cuda_problem(lens=[70, 0, 5])
    p["initial_state"] = None if initial is None else p["initial_state"].to(initial)
    p["final_state"] = None if final is None else p["final_state"].to(final)
    check(p)


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
def test_state_in_place(dtype):
    p = cuda_problem(lens=[70, 0, 5])
    p["initial_state"] = p["initial_state"].to(dtype)
    want = run_fresh(Problem(p, final_state=p["initial_state"].clone()))
    p["final_state"] = p["initial_state"]
    assert same_bits(p.run(), want)


# ---------------------------------------------------------------- refusals


def refused(problem, error, *words):
    with pytest.raises(error) as caught:
        problem.run()
    assert all(word in str(caught.value) for word in words), caught.value
    torch.cuda.synchronize()
    assert problem["out"].isnan().all()


def test_refusals():
    refused(cuda_problem(K=96, V=96), RuntimeError, "K = 96, kernels exist for K = 128")
    mixed = cuda_problem()
    refused(Problem(mixed, k=mixed["k"].cpu()), ValueError, "k is on device cpu, but q is on cuda:0")
    packed = cuda_problem(lens=[2, 3])
    refused(Problem(packed, cu_seqlens=packed["cu_seqlens"].cpu()), ValueError, "cu_seqlens is on device cpu")
    refused(Problem(mixed, v=mixed["out"]), ValueError, "out")


@pytest.mark.parametrize("H", [2, 40], ids=["one kernel", "plan kernel"])
def test_broken_cu_seqlens_gives_nan(H):
    """Nothing on the host reads the array; nothing is right where it is wrong."""
    p = cuda_problem(lens=[30, 10, 30], H=H)
    want = run_fresh(p)
    for bounds in ([0, 40, 20, 70], [1, 30, 40, 70], [0, 30, 40, 71], [0, -1, 40, 70], [-(2**63), 30, 40, 2**63 - 1]):
        broken = Problem(p, out=torch.zeros_like(p["out"]), final_state=torch.zeros_like(p["final_state"]))
        out, state = Problem(broken, cu_seqlens=torch.tensor(bounds, device="cuda")).run()
        assert out.isnan().all() and state.isnan().all(), bounds
    assert same_bits(run_fresh(p), want)


@pytest.mark.parametrize("H", [2, 40], ids=["one kernel", "plan kernel"])
def test_rows_behind_the_last_sequence_are_untouched(H):
    p = cuda_problem(lens=[30, 10, 30, 45], H=H)
    want, want_state = run_fresh(p)
    for name in ("q", "k", "v", "g", "beta"):
        p[name][:, 70:] = float("nan")
    short = Problem(p, cu_seqlens=p["cu_seqlens"][:4], initial_state=p["initial_state"][:3], out=torch.full_like(p["out"], 7),
                    final_state=torch.empty_like(p["final_state"][:3]))  # fmt: skip
    out, state = short.run()
    assert same_bits((out[:, :70], state), (want[:, :70], want_state[:3])) and (out[:, 70:] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("last", [0, 70, 115])
def test_rows_behind_the_last_sequence_beside_copies(dtype, last):
    """out in another dtype goes through bfloat16, but not the rows that no sequence has."""
    p = cuda_problem(lens=[30, 10, 30, 45])
    p["cu_seqlens"] = p["cu_seqlens"].clamp_max(last)
    want, want_state = run_fresh(p)
    p["out"] = (torch.arange(want.numel(), device="cuda", dtype=torch.float64) * 1.2345678912345 % 400).view(want.shape).to(dtype)
    before = p["out"].clone()
    out, state = p.run()
    assert same_bits((out[:, :last].contiguous(), state), (want[:, :last].to(dtype).contiguous(), want_state))
    assert same_bits((out[:, last:].contiguous(),), (before[:, last:].contiguous(),))


def test_broken_cu_seqlens_gives_nan_beside_copies():
    p = cuda_problem(lens=[30, 10, 30])
    for bounds in ([0, 40, 20, 70], [0, 30, 40, 71], [0, -1, 40, 50], [0, 30, 40, -5]):
        broken = Problem(p, out=torch.zeros_like(p["out"], dtype=torch.float32), cu_seqlens=torch.tensor(bounds, device="cuda"))
        assert broken.run()[0].isnan().all(), bounds


@pytest.mark.parametrize("sizes", [dict(B=0), dict(B=2, T=0), dict(B=0, T=0, HV=4)], ids=str)
def test_empty_batches(road, sizes):
    p = cuda_problem(**sizes)
    out, state = p.run()
    assert out.numel() == 0 and torch.equal(state, p["initial_state"])


@pytest.mark.parametrize("T", [0, 5])
def test_no_sequences(road, T):
    p = cuda_problem(T=T, state=False, cu_seqlens=torch.zeros(1, dtype=torch.int64))
    p["out"].fill_(7)
    assert (p.run()[0] == 7).all()


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out", "A_log", "dt_bias", "initial_state", "final_state", "cu_seqlens"])
def test_negative_bit(road, name):
    p = cuda_problem(lens=[30, 0, 41])
    want = run_fresh(p)
    p[name] = torch._neg_view(-p[name])
    out, state = p.run()
    assert torch.equal(out, want[0]) and torch.equal(state, want[1])


@pytest.mark.parametrize("dtype", [BF16, torch.float32], ids=str)
def test_writes_count_in_the_version(road, dtype):
    p = cuda_problem(T=20)
    p["out"] = p["out"].to(dtype)
    before = {name: x._version for name, x in p.items() if isinstance(x, torch.Tensor)}
    p.run()
    assert all((p[name]._version > before[name]) == (name in ("out", "final_state")) for name in before)


# ---------------------------------------------------------------- the same bits


def test_int32_and_int64_bounds():
    p = cuda_problem(lens=[100, 0, 31, 1])
    assert same_bits(run_fresh(p), run_fresh(Problem(p, cu_seqlens=p["cu_seqlens"].int())))


def test_100_repeats():
    p = cuda_problem(lens=[1000, 17, 300, 64, 0, 1], H=12)
    want = run_fresh(p)
    for _ in range(100):
        assert same_bits(run_fresh(p), want)


def test_alone_and_packed():
    """200 random packings: each sequence has the bits that it has alone."""
    random = torch.Generator().manual_seed(5)
    lengths = torch.tensor([0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257, 1000, 4097])
    pool = cuda_problem(T=4097, H=2)
    alone = {}
    for _ in range(200):
        count = int(torch.randint(1, 24, (1,), generator=random))
        lens = lengths[torch.randint(len(lengths), (count,), generator=random)].tolist()
        tensors = {name: torch.cat([pool[name][:, :n] for n in lens], 1) for name in ("q", "k", "v", "g", "beta", "out")}
        states = pool["initial_state"].expand(count, -1, -1, -1).contiguous()
        bounds = torch.tensor([0, *lens]).cumsum(0).cuda()
        out, state = run_fresh(Problem(pool, **tensors, initial_state=states, final_state=states, cu_seqlens=bounds))
        for n, (length, begin) in enumerate(zip(lens, bounds.tolist(), strict=False)):
            if length not in alone:
                cut = {name: pool[name][:, :length] for name in ("q", "k", "v", "g", "beta", "out")}
                alone[length] = run_fresh(Problem(pool, **cut))
            assert same_bits((out[0, begin : begin + length], state[n]), (alone[length][0][0], alone[length][1][0])), (lens, n)


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "initial_state", "A_log", "dt_bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_containment(name, value):
    """What is not finite in one (sequence, head) stays there."""
    p = cuda_problem(lens=[40, 65, 30], H=4)
    want_out, want_state = run_fresh(p)
    bad = p[name].clone()
    if name == "initial_state":
        bad[1, 2, 3, 4] = value
    elif name in ("A_log", "dt_bias"):
        bad[2] = value
    else:
        bad[0, 70, 2] = value
    out, state = run_fresh(Problem(p, **{name: bad}))
    heads = [0, 1, 3]
    assert same_bits((out[:, :, heads], state[:, heads]), (want_out[:, :, heads], want_state[:, heads]))
    if name not in ("A_log", "dt_bias"):
        others = [*range(40), *range(105, 135)]
        assert same_bits((out[:, others], state[[0, 2]]), (want_out[:, others], want_state[[0, 2]]))


def test_beyond_2_to_31_elements():
    """T·H·K above 2^31: the last sequence has the bits that it has alone."""
    T, H, last = 180_000, 96, 1001
    assert T * H * 128 > 2**31
    make = lambda *shape: torch.randn(*shape, dtype=BF16, device="cuda")
    p = Problem({name: make(1, T, H, 128) for name in "qkvg"}, beta=make(1, T, H), scale=128**-0.5, lower_bound=-5.0, A_log=None, dt_bias=None)
    p.update(out=torch.full_like(p["v"], float("nan")), final_state=torch.empty(3, H, 128, 128, device="cuda"), initial_state=None)
    p["cu_seqlens"] = torch.tensor([0, 70_000, T - last, T], device="cuda")
    out, state = p.run()
    tail = {name: p[name][:, T - last :] for name in ("q", "k", "v", "g", "beta", "out")}
    alone = run_fresh(Problem(p, **tail, cu_seqlens=None, final_state=state[2:]))
    assert not out.isnan().any() and same_bits((out[:, T - last :], state[2:]), alone)


# ---------------------------------------------------------------- streams and graphs


def test_graph_replays_with_changed_inputs(road):
    p = cuda_problem(lens=[100, 1, 0, 300], H=4)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        p.run()
    for seed in range(100):
        new = cuda_problem(lens=[100, 1, 0, 300] if seed % 2 else [0, 200, 200, 1], H=4, seed=seed)
        for name in ("q", "k", "v", "g", "beta", "A_log", "dt_bias", "initial_state", "cu_seqlens"):
            p[name].copy_(new[name])
        p["out"].fill_(float("nan"))
        p["final_state"].fill_(float("nan"))
        graph.replay()
        assert same_bits((p["out"], p["final_state"]), run_fresh(new))


def test_graph_replays_with_strides():
    p, _ = fused(cuda_problem(lens=[100, 1, 0, 300], H=3), ["q", "k", "v"], 3, float("nan"))
    p, _ = fused(p, ["out"], 3, float("nan"))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        p.run()
    for seed in range(20):
        new = cuda_problem(lens=[100, 1, 0, 300] if seed % 2 else [0, 200, 200, 1], H=3, seed=seed)
        for name in ("q", "k", "v", "g", "beta", "A_log", "dt_bias", "initial_state", "cu_seqlens"):
            p[name].copy_(new[name])
        p["out"].fill_(float("nan"))
        graph.replay()
        assert same_bits((p["out"].contiguous(), p["final_state"]), run_fresh(new))


def test_nothing_is_kept_in_cuda_memory():
    """Not even in a private pool, which torch.compile's CUDA graphs ask of when they warm up: it holds no block after the calls."""
    calls = [(flash_kda.fwd, dict(cuda_problem(T=300, H=4))), (flash_kda.fwd, dict(cuda_problem(lens=[100, 1, 300], H=3)))]
    for call, arguments in calls:
        call(**arguments)
        step = flash_kda.bind(call, (), **arguments)
        torch.cuda.synchronize()
        held, pool = torch.cuda.memory_allocated(), torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(pool):
            for _ in range(3):
                call(**arguments)
                step()
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == held
        blocks = [block for segment in pool.snapshot() for block in segment["blocks"]]
        assert blocks and all(block["state"] == "inactive" for block in blocks)


def test_replays_beside_other_calls():
    """A captured call has a workspace of its own: what is launched in its stream beside a replay leaves it alone."""
    p, other = cuda_problem(T=2000, H=4), cuda_problem(T=2000, H=4, seed=1)
    want, other_want = run_fresh(p), run_fresh(other)
    graph, stream, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        p.run()
    with torch.cuda.graph(graph, stream=stream):
        p.run()
    for _ in range(20):
        p["out"].fill_(float("nan"))
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            graph.replay()
        with torch.cuda.stream(stream):
            for _ in range(5):
                other.run()
        torch.cuda.synchronize()
        assert same_bits((p["out"], p["final_state"]), want) and same_bits((other["out"], other["final_state"]), other_want)


@pytest.mark.parametrize("given", [("q", "k", "v", "g", "beta", "out"), ()], ids=["tokens", "none"])
def test_bound_calls(given):
    """The bits of the function, and the same road: known after the first call, in a captured graph too."""
    p = cuda_problem(T=70, H=2)
    step, brought = flash_kda.bind(flash_kda.fwd, given, **p), [p[name] for name in given]
    want = run_fresh(p)
    step(*brought)
    for _ in range(3):
        p["out"].fill_(float("nan"))
        before = _core._bound_calls()
        step(*brought)
        assert _core._bound_calls() == before + 1 and same_bits((p["out"], p["final_state"]), want)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*brought)
    p["out"].fill_(float("nan"))
    graph.replay()
    assert same_bits((p["out"], p["final_state"]), want)


def test_first_call_of_a_process_is_captured():
    code = """
import torch, flash_kda
x = [torch.randn(1, 70, 2, *w, device="cuda", dtype=torch.bfloat16) for w in ([128], [128], [128], [128], [])]
out, again = torch.zeros_like(x[2]), torch.zeros_like(x[2])
graph = torch.cuda.CUDAGraph()
with torch.no_grad(), torch.cuda.graph(graph):
    flash_kda.fwd(*x, 0.1, out, None, None, -5.0)
graph.replay()
flash_kda.fwd(*x, 0.1, again, None, None, -5.0)
print(torch.equal(out, again) and out.abs().sum().item() > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_two_streams(road):
    problems = [cuda_problem(T=3000, H=8, seed=seed) for seed in range(2)]
    want = [run_fresh(p) for p in problems]
    streams = [torch.cuda.Stream() for _ in problems]
    torch.cuda.synchronize()
    for _ in range(20):
        for p, stream in zip(problems, streams, strict=True):
            with torch.cuda.stream(stream):
                p["out"].fill_(float("nan"))
                p.run()
        torch.cuda.synchronize()
        for p, answer in zip(problems, want, strict=True):
            assert same_bits((p["out"], p["final_state"]), answer)


def test_the_current_stream_is_waited_for(road):
    """Inputs that a slow stream writes late are seen."""
    p, late = cuda_problem(T=100), torch.cuda.Stream()
    want, v = run_fresh(p), p["v"].clone()
    p["v"].zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(late):
        torch.cuda._sleep(20_000_000)
        p["v"].copy_(v)
        p.run()
    torch.cuda.synchronize()
    assert same_bits((p["out"], p["final_state"]), want)


def test_another_device_than_the_current_one(road):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    p = cuda_problem(T=100)
    want = [x.cpu() for x in run_fresh(p)]
    other = Problem({name: x.to("cuda:1") if isinstance(x, torch.Tensor) else x for name, x in p.items()})
    assert same_bits([x.cpu() for x in run_fresh(other)], want) and torch.cuda.current_device() == 0
    with torch.cuda.device(1):
        assert same_bits([x.cpu() for x in run_fresh(other)], want) and torch.cuda.current_device() == 1
        assert same_bits([x.cpu() for x in run_fresh(p)], want) and torch.cuda.current_device() == 1


def test_host_time_of_a_call():
    p = cuda_problem(T=16)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        p.run()
        times.append(time.perf_counter() - start)
        torch.cuda.synchronize()
    print(f"host time of a call: {1e6 * sorted(times)[150]:.1f} us (median)")
    assert sorted(times)[150] < 50e-6
