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
    assert relative_rms(call["out"], out) <= bar("stored", "bf16").out and relative_rms(call["state"], state) <= bar("stored", "bf16").state
    assert (call["state"]._version, call["out"]._version) == (versions[0] + 1, versions[1] + 1)


def refused(call, error, words):
    state, out = call["state"].clone(), call["out"].clone()
    with pytest.raises(error, match=words):
        flash_kda.decode(**call)
    assert torch.equal(call["state"], state) and torch.equal(call["out"].isnan(), out.isnan())


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
    refused({**call, "slot_null": "none"}, ValueError, "slot_null is 'none'")
    refused(decode_problem(problem, B=3, T=9)[0], ValueError, r"desc.S = 9 is outside \[1, 8\]")
    refused({**decode_problem(problem, lens=[1, 4])[0], "max_tokens": 3}, ValueError, "gives sequence 1 4 tokens, but desc.S = 3")
    with torch.enable_grad():
        refused({**call, "q": call["q"].float().requires_grad_()}, RuntimeError, "q requires grad")
