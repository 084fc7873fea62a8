"""flash_kda.decode: a few tokens of many sequences, states in place, against the float64 recurrence and against itself."""

import pytest
import torch

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

pytestmark = pytest.mark.usefixtures("road", "no_grad")

BF16, F32 = torch.bfloat16, torch.float32
INPUTS = ("q", "k", "v", "g", "beta", "scale", "A_log", "dt_bias", "lower_bound")


def decode_problem(problem, **options):
    """The arguments of a call, with its states as a clone, and what it must give: out, states."""
    p = problem(**options)
    want = recurrence(**{name: p[name] for name in INPUTS}, initial_state=p["initial_state"], cu_seqlens=p.get("cu_seqlens"))
    call = {name: p[name] for name in (*INPUTS, "out")}
    if "cu_seqlens" in p:
        call["cu_seqlens"] = p["cu_seqlens"]
    return {**call, "state": p["initial_state"].clone()}, *want


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))])
def device(request):
    return request.param


def on(device, call, *others):
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in call.items()}, *others


def check(call, want_out, want_state, rows=slice(None)):
    """rows: of the state, those of want_state."""
    assert flash_kda.decode(**call) is None
    assert relative_rms(call["out"], want_out) <= bar("stored", "bf16").out
    assert relative_rms(call["state"][rows], want_state) <= bar("f32", "any").state


@pytest.mark.parametrize("S", [1, 3, 8])
@pytest.mark.parametrize("HV", [2, 4])
def test_dense(problem, S, HV):
    check(*decode_problem(problem, B=5, T=S, H=2, HV=HV))
    assert "decode" in flash_kda.last_plan()


def test_softplus_and_64(problem):
    check(*decode_problem(problem, B=3, T=2, K=64, V=64, lower_bound=None))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_packed(problem, dtype):
    call, out, state = decode_problem(problem, lens=[1, 0, 8, 3])
    check({**call, "cu_seqlens": call["cu_seqlens"].to(dtype)}, out, state)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_pool(problem, dtype):
    """Slots any distance apart, in any order; a mask; a null slot; what belongs to nobody stays."""
    call, out, state = decode_problem(problem, B=4, T=1, H=2)
    storage = torch.arange(7 * (2 * 128 * 128 + 4), dtype=F32).reshape(7, -1) * 1e-6
    pool = storage[:, : 2 * 128 * 128].unflatten(1, (2, 128, 128))
    slots = torch.tensor([5, 2, 6, -1], dtype=dtype)
    pool[slots[:3].long()] = call["state"][:3]
    pool[2] = float("nan")
    before = storage.clone()
    masked = {**call, "state": pool, "slots": slots, "initial_mask": torch.tensor([True, False, True, True])}
    from_zero = decode_problem(problem, B=4, T=1, H=2, initial_state=torch.zeros(4, 2, 128, 128))
    for n in (1, 3):
        out[n], state[n] = from_zero[1][n], from_zero[2][n]
    check(masked, out, state[:3], slots[:3].long())
    untouched = [0, 1, 3, 4]
    assert torch.equal(storage[untouched], before[untouched]) and torch.equal(storage[:, 2 * 128 * 128 :], before[:, 2 * 128 * 128 :])


def test_tokens_one_by_one(problem):
    call, _, _ = decode_problem(problem, B=3, T=6)
    alone = call["state"].clone()
    flash_kda.decode(**call)
    for t in range(6):
        part = {name: x[:, t : t + 1] if name in ("q", "k", "v", "g", "beta") else x for name, x in call.items()}
        out = torch.full_like(call["out"][:, :1], float("nan"))
        flash_kda.decode(**{**part, "out": out, "state": alone})
        assert torch.equal(out, call["out"][:, t : t + 1])
    assert torch.equal(alone, call["state"])


def test_goes_on_from_fwd(problem):
    """Prompt by fwd, then decode, against fwd alone."""
    p = problem(B=2, T=21, H=2)
    whole, state = p.truth()
    cut = lambda begin, end: {name: p[name][:, begin:end] for name in ("q", "k", "v", "g", "beta", "out")}
    parameters = {name: p[name] for name in ("scale", "A_log", "dt_bias", "lower_bound")}
    states = p["initial_state"]
    flash_kda.fwd(**cut(0, 16), **parameters, initial_state=states, final_state=states)
    flash_kda.decode(**cut(16, 21), **parameters, state=states)
    assert relative_rms(p["out"], whole) <= bar("stored", "bf16").out and relative_rms(states, state) <= bar("f32", "any").state


def test_bf16_states_and_versions(problem):
    call, out, state = decode_problem(problem, B=2, T=2, initial_state=torch.randn(2, 2, 128, 128).to(BF16))
    versions = call["state"]._version, call["out"]._version
    flash_kda.decode(**call)
    assert relative_rms(call["out"].cpu(), out) <= bar("stored", "bf16").out and relative_rms(call["state"], state) <= bar("stored", "bf16").state
    assert (call["state"]._version, call["out"]._version) == (versions[0] + 1, versions[1] + 1)


# ---------------------------------------------------------------- commits


def first(call, count):
    """The call for the first `count` tokens alone; out is new."""
    part = {name: x[:, :count] if name in ("q", "k", "v", "g", "beta") else x for name, x in call.items()}
    return {**part, "out": torch.full_like(call["out"][:, :count], float("nan")), "state": call["state"].clone()}


def alone(call, n, tokens, max_tokens):
    """Out and state of sequence n, of only these of its tokens, in a call of so many at most: what its bits depend on."""
    part = {name: x[n : n + 1, tokens] if name in ("q", "k", "v", "g", "beta") else x for name, x in call.items()}
    part |= {"out": torch.full_like(part["v"], float("nan")), "state": call["state"][n : n + 1].clone()}
    count = part["v"].shape[1]
    if count > 0:
        bounds = torch.tensor([0, count], device=part["v"].device)
        flash_kda.decode(**{**part, "cu_seqlens": bounds, "max_tokens": max_tokens})
    return part["out"][0], part["state"][0]


def after(call, n, count):
    """Bits of the state of sequence n after `count` of its tokens."""
    return alone(call, n, slice(0, count), call["v"].shape[1])[1]


def test_verify_and_fold(problem, device):
    """Outputs of drafts without a commit; then the accepted ones, without outputs: as if only these had come."""
    call, out, _ = on(device, *decode_problem(problem, B=4, T=5, HV=4))
    before = call["state"].clone()
    versions = call["state"]._version, call["out"]._version
    flash_kda.decode(**call, commit="none")
    assert torch.equal(call["state"], before)
    assert (call["state"]._version, call["out"]._version) == (versions[0], versions[1] + 1)
    assert relative_rms(call["out"].cpu(), out) <= bar("stored", "bf16").out
    accepted = torch.tensor([0, 5, 1, 3], device=device)
    want = [after(call, n, int(count)) for n, count in enumerate(accepted)]
    for dtype in (torch.int32, torch.int64):
        call["state"].copy_(before)
        flash_kda.decode(**{**call, "q": None, "out": None}, commit="accepted", num_accepted=accepted.to(dtype))
        assert all(torch.equal(call["state"][n], state) for n, state in enumerate(want))


def test_slots_of_every_token(problem, device):
    """The state after each token to its own slot; the next step begins with the last accepted one. Rows of slots any distance apart."""
    call, out, _ = on(device, *decode_problem(problem, B=2, T=3))
    table = torch.tensor([[4, 1, 7, 9, 0], [2, 8, 3, 9, 0]], dtype=torch.int32, device=device)
    slots = table[:, :4]
    pool = torch.full((10, 2, 128, 128), float("nan"), device=device)
    pool[[7, 3]] = call["state"]
    want = [[after(call, n, t + 1) for t in range(3)] for n in range(2)]
    each = {**call, "state": pool, "slots": slots, "commit": "each", "num_accepted": torch.tensor([3, 3], device=device)}
    flash_kda.decode(**each)
    assert all(torch.equal(pool[table[n, t].long()], want[n][t]) for n in range(2) for t in range(3))
    assert pool[[0, 5, 6, 9]].isnan().all()
    assert relative_rms(call["out"].cpu(), out) <= bar("stored", "bf16").out
    flash_kda.decode(
        **{**first(call, 1), "state": pool, "slots": slots, "commit": "each", "num_accepted": torch.tensor([2, 1], device=device)}
    )
    again = {**first(call, 1), "state": torch.stack([want[0][1], want[1][0]])}
    flash_kda.decode(**again)
    assert torch.equal(pool[[4, 2]], again["state"])


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_step_states(problem, device, dtype):
    """The state after every token in a buffer of more rows than tokens, beside the usual commit."""
    call, _, _ = on(device, *decode_problem(problem, B=2, T=3))
    steps = torch.full((2, 4, 2, 128, 128), float("nan"), dtype=dtype, device=device)
    want = torch.stack([torch.stack([after(call, n, t + 1) for t in range(3)]) for n in range(2)])
    version = steps._version
    flash_kda.decode(**call, step_states=steps)
    assert steps._version == version + 1
    assert torch.equal(steps[:, :3], want.to(dtype)) and steps[:, 3].isnan().all()
    assert torch.equal(call["state"], want[:, 2])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_tree(problem, device, dtype):
    """Every path of a tree is as the path alone, token by token."""
    call, _, _ = on(device, *decode_problem(problem, B=2, T=5))
    parents = [[-1, 0, 0, 1, -1], [-1, 0, 1, 2, 1]]
    steps = torch.full((2, 5, 2, 128, 128), float("nan"), device=device)
    before = call["state"].clone()
    flash_kda.decode(**call, commit="none", step_states=steps, parent=torch.tensor(parents, dtype=dtype, device=device))
    assert torch.equal(call["state"], before)
    for n, parent in enumerate(parents):
        for t in range(5):
            path = [t]
            while parent[path[0]] >= 0:
                path.insert(0, parent[path[0]])
            state = before.clone()
            for token in path:
                out, state[n] = alone({**call, "state": state}, n, [token], 1)
            assert torch.equal(out[0], call["out"][n, t]) and torch.equal(state[n], steps[n, t])


def test_packed_commit(problem, device):
    call, _, _ = on(device, *decode_problem(problem, lens=[2, 0, 4]))
    before, lengths = call["state"].clone(), (2, 0, 4)
    flash_kda.decode(
        **{**call, "q": None, "out": None}, commit="accepted", num_accepted=torch.tensor([1, 0, 4], device=device), max_tokens=4
    )
    for n, count in enumerate((1, 0, 4)):
        begin = sum(lengths[:n])
        rows = {name: call[name].expand(3, *call[name].shape[1:]) for name in ("q", "k", "v", "g", "beta")}
        assert torch.equal(call["state"][n], alone({**call, **rows, "state": before}, n, slice(begin, begin + count), 4)[1])


def test_no_null_slot(problem):
    """slot_null="none": slot 0 is a state like the others, and a slot below 0 is refused."""
    call, out, state = decode_problem(problem, B=2, T=1)
    check({**call, "slots": torch.tensor([0, 1]), "slot_null": "none"}, out, state)
    refused({**call, "slots": torch.tensor([0, -1]), "slot_null": "none"}, ValueError, r"slots\[1\] = -1 is below 0")


# ---------------------------------------------------------------- refusals


def refused(call, error, words):
    kept = {name: call[name].clone() for name in ("state", "out", "step_states") if call.get(name) is not None}
    with pytest.raises(error, match=words):
        flash_kda.decode(**call)
    assert all(torch.equal(call[name].nan_to_num(7.0), x.nan_to_num(7.0)) for name, x in kept.items())


def test_refusals(problem):
    call, _, _ = decode_problem(problem, B=3, T=1)
    refused({**call, "slots": torch.tensor([0, 1, 3])}, ValueError, r"slots\[2\] = 3 is not below desc.state.slot_count = 3")
    refused({**call, "slots": torch.tensor([0, 1, 1])}, ValueError, "are both 1, but no two sequences may have one slot")
    refused({**call, "slots": torch.tensor([0.0, 1, 2])}, TypeError, "slots has dtype torch.float32, but it must be int32 or int64")
    refused({**call, "state": call["state"][:2]}, ValueError, r"state has shape \(2, 2, 128, 128\), but it must be \[N,HV,V,K\] = \(3,")
    refused({**call, "state": call["state"].transpose(2, 3)}, ValueError, "state is not taken as it lies")
    refused({**call, "state": call["state"].double()}, ValueError, "state is not taken as it lies")
    refused({**call, "max_tokens": 9}, ValueError, "max_tokens is 9, but it must be an int from 1 to 8")
    refused({**call, "max_tokens": "8"}, TypeError, "max_tokens is '8'")
    refused({**call, "slot_null": "never"}, ValueError, "slot_null is 'never', but it must be 'negative', 'not_positive' or 'none'")
    refused(decode_problem(problem, B=3, T=9)[0], ValueError, r"desc.S = 9 is outside \[1, 8\]")
    refused({**decode_problem(problem, lens=[1, 4])[0], "max_tokens": 3}, ValueError, "gives sequence 1 4 tokens, but desc.S = 3")
    with torch.enable_grad():
        refused({**call, "q": call["q"].float().requires_grad_()}, RuntimeError, "q requires grad")


def test_refusals_of_commits(problem):
    call, _, _ = decode_problem(problem, B=2, T=2)
    two, steps = torch.tensor([1, 1]), torch.zeros(2, 2, 2, 128, 128)
    tree = {**call, "commit": "none", "step_states": steps, "parent": torch.tensor([[-1, 0], [-1, 0]])}
    refused({**call, "commit": "all"}, ValueError, "commit is 'all', but it must be 'last', 'none', 'accepted' or 'each'")
    refused({**call, "commit": 1}, TypeError, "commit is 1, but it must be")
    refused({**call, "commit": "accepted"}, TypeError, "desc.num_accepted has dtype 0")
    refused({**call, "num_accepted": two}, ValueError, "desc.num_accepted has dtype .* but commit LAST reads none")
    refused({**call, "commit": "accepted", "num_accepted": two.double()}, TypeError, "num_accepted has dtype torch.float64")
    refused(
        {**call, "commit": "accepted", "num_accepted": two[:1]}, ValueError, r"num_accepted has shape \(1\), but it must be \[N\] = \(2\)"
    )
    refused({**call, "commit": "accepted", "num_accepted": torch.tensor([1, 3])}, ValueError, r"num_accepted\[1\] = 3 is outside \[0, 2\]")
    refused({**call, "q": None}, ValueError, "q is None, but out is given")
    refused({**call, "out": None}, ValueError, "out is None, but q is given")
    refused({**call, "q": None, "out": None, "commit": "none"}, ValueError, "without step_states nothing would be written")
    refused({**call, "commit": "each"}, ValueError, "desc.state.slot_count = 0, but commit EACH writes to slots of a pool")
    refused({**call, "commit": "each", "slots": two}, ValueError, r"slots has shape \(2\), but it must be \[N,C\] = \(2, 2\)")
    refused({**call, "commit": "each", "slots": two[:, None]}, ValueError, "desc.slots_per_sequence = 1 is below 2")
    refused({**call, "commit": "each", "slots": two[:, None].expand(2, 2)}, ValueError, "slots is not taken as it lies")
    refused({**call, "slots": torch.tensor([[0, 1], [1, 0]])}, ValueError, r"slots has shape \(2, 2\), but it must be \[N\] = \(2\)")
    refused(
        {**call, "step_states": steps[0]}, ValueError, r"step_states has shape .* but it must be \[N,P,HV,V,K\] = \(2, 2, 2, 128, 128\)"
    )
    refused({**call, "step_states": steps[:, :1]}, ValueError, "desc.step_states_per_sequence = 1 is below 2")
    refused({**call, "step_states": torch.zeros(2, 3, 2, 128, 128)[:, :2]}, ValueError, "step_states is not taken as it lies")
    refused({**call, "step_states": steps.double()}, ValueError, "step_states is not taken as it lies")
    refused({**tree, "commit": "last"}, ValueError, "a tree needs commit NONE")
    refused({**tree, "step_states": None}, ValueError, "a tree needs step_states")
    refused({**tree, "parent": torch.tensor([[-1, 0], [-1, 1]])}, ValueError, r"parent\[3\] = 1 \(token 1 of sequence 1\) is neither")
    refused({**tree, "parent": torch.tensor([[-1], [-1]])}, ValueError, r"parent has shape \(2, 1\), but it must be \[N,S\] = \(2, 2\)")
    with torch.enable_grad():
        refused({**call, "step_states": steps.requires_grad_()}, RuntimeError, "step_states requires grad")
