"""``import flash_kda.fla``: what FLA's chunk_kda and fused_recurrent_kda then leave to this module, on CPU and CUDA tensors, and what not.

The truth is a float64 recurrence. Without a GPU, what is not taken ends in FLA's kernels, which do not run there; that is how a test sees it.
One file, though long: it is one part of the GPU check, which loads torch and FLA once for all of it.
"""

import logging
import re

import pytest
import torch
from fla.ops.kda import chunk_kda, fused_recurrent_kda
from fla.ops.kda.fused_recurrent import fused_recurrent_kda_fwd

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

BF16, F32 = torch.bfloat16, torch.float32
BOTH = pytest.mark.parametrize("function", [chunk_kda, fused_recurrent_kda], ids=lambda f: f.__name__)
pytestmark = pytest.mark.usefixtures("fla_with_us")
HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of compute capability 9.0"))])
def device(request):
    return request.param


@pytest.fixture(autouse=True)
def poisoned():
    """torch.empty gives NaN: what is not written is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def make_call(device="cpu", B=2, T=37, H=2, HV=None, D=128, dtype=BF16, lens=None, gate="logit", seed=5, **changes):
    """The arguments of a call. gate: "logit", or "precomputed", whose g is in fp32."""
    HV = HV or H
    if lens is not None:
        B, T = 1, sum(lens)
    N = B if lens is None else len(lens)
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    call = dict(q=normal(B, T, H, D), k=normal(B, T, H, D), v=normal(B, T, HV, D), g=normal(B, T, HV, D), beta=normal(B, T, HV))
    call = {name: x.to(dtype) for name, x in call.items()}
    if gate == "logit":
        call.update(A_log=normal(HV) * 0.5, dt_bias=normal(HV * D) - 2, use_gate_in_kernel=True)
    else:
        call["g"] = -torch.rand(B, T, HV, D, generator=random).pow(3) * 3
    call.update(initial_state=normal(N, HV, D, D), output_final_state=True, use_qk_l2norm_in_kernel=True, use_beta_sigmoid_in_kernel=True)
    if lens is not None:
        call["cu_seqlens"] = torch.tensor([0, *lens]).cumsum(0)
    call.update(changes)
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in call.items()}


def truth(call):
    has_gate = call.get("use_gate_in_kernel", False)
    return recurrence(
        *(call[name] for name in ("q", "k", "v", "g", "beta")),
        scale=call["q"].shape[-1] ** -0.5 if call.get("scale") is None else call["scale"],
        **{name: call.get(name) if has_gate else None for name in ("A_log", "dt_bias", "lower_bound")},
        initial_state=call.get("initial_state"), cu_seqlens=call.get("cu_seqlens"),
        gate="logit" if has_gate else "precomputed", beta_kind="logit" if call.get("use_beta_sigmoid_in_kernel") else "activated",
        beta_multiplier=2 if call.get("allow_neg_eigval") else 1, qk_norm="l2" if call.get("use_qk_l2norm_in_kernel") else "none",
        state_layout="nhvk" if call.get("state_v_first") else "nhkv",
    )  # fmt: skip


def bars_of(out):
    kind = {BF16: bar("stored", "bf16"), torch.float16: bar("stored", "f16")}.get(out.dtype, bar("f32", "any"))
    return (bar("bf16", "few").out, bar("bf16", "few").state) if out.is_cuda else (kind.out, bar("f32", "any").state)


def counts(function):
    calls = flash_kda.fla.status()[function.__name__]
    return sum(calls.taken.values()), calls.passed_on


def check(function, call):
    """FLA's answer is ours, and right."""
    want_out, want_state = truth(call)
    before = counts(function)
    out, state = function(**call)
    assert counts(function) == (before[0] + 1, before[1]), flash_kda.fla.status()[function.__name__].last_reason
    assert out.dtype == call["q"].dtype and out.shape == call["v"].shape and not out.requires_grad
    out_bar, state_bar = bars_of(out)
    assert relative_rms(out, want_out) <= out_bar
    if call["output_final_state"]:
        assert state.dtype == F32 and relative_rms(state, want_state) <= state_bar
    else:
        assert state is None
    return out, state


# ---------------------------------------------------------------- what is taken

MEANINGS = {
    "softplus": dict(),
    "softplus without bias": dict(dt_bias=None),
    "bounded": dict(lower_bound=-5.0, safe_gate=True, state_v_first=True),
    "bounded without parameters": dict(lower_bound=-2.5, A_log=None, dt_bias=None),
    "precomputed": dict(gate="precomputed"),
    "precomputed and bounded": dict(gate="precomputed", safe_gate=True, lower_bound=-5.0, state_v_first=True),
    "negative eigenvalues": dict(allow_neg_eigval=True, state_v_first=True),
    "activated beta": dict(beta=torch.rand(2, 37, 2, generator=torch.Generator().manual_seed(1)), use_beta_sigmoid_in_kernel=False),
    "grouped values": dict(HV=6),
    "scale": dict(scale=0.25),
    "no initial state": dict(initial_state=None),
    "no final state": dict(output_final_state=False),
}


@BOTH
@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.usefixtures("no_grad")
def test_meanings(device, function, meaning):
    options = {"safe_gate": False, **MEANINGS[meaning]}
    if function is fused_recurrent_kda:
        options.pop("safe_gate")
    check(function, make_call(device, **options))


@BOTH
@pytest.mark.parametrize("dtype", [F32, torch.float16, BF16], ids=str)
@pytest.mark.parametrize("D", [64, 128])
@pytest.mark.usefixtures("no_grad")
def test_dtypes_and_widths_on_a_cpu(function, dtype, D):
    for T in (5, 33):
        check(function, make_call(T=T, D=D, dtype=dtype, gate="precomputed"))


def test_without_a_length_norm(no_grad):
    call = make_call(use_qk_l2norm_in_kernel=False)
    call.update({name: torch.nn.functional.normalize(call[name].float(), dim=-1).bfloat16() for name in ("q", "k")})
    check(chunk_kda, call)
    check(fused_recurrent_kda, call)


@BOTH
@pytest.mark.parametrize("lens", [[40, 0, 1, 23], [0, 0], [1, 0, 3]], ids=str)
@pytest.mark.usefixtures("no_grad")
def test_packed(device, function, lens):
    call = make_call(device, lens=lens)
    out, state = check(function, call)
    again = function(**{**call, "cu_seqlens": call["cu_seqlens"].int()})
    assert torch.equal(again[0], out) and torch.equal(again[1], state)
    first_empty = lens.index(0)
    assert torch.equal(state[first_empty], call["initial_state"][first_empty])


@pytest.mark.usefixtures("no_grad")
def test_lengths_on_the_host(device, monkeypatch):
    """FLA's cu_seqlens_cpu goes on to fwd, in the dtype of cu_seqlens; one elsewhere, or without cu_seqlens, does not."""
    given, fwd = [], flash_kda.fwd
    monkeypatch.setattr(flash_kda, "fwd", lambda **call: (given.append(call["cu_seqlens_cpu"]), fwd(**call)))
    call = make_call(device, lens=[40, 0, 3])
    on_host, expected = call["cu_seqlens"].cpu(), chunk_kda(**call)
    packed = [{"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": copy}
              for cu_seqlens in (call["cu_seqlens"], call["cu_seqlens"].int()) for copy in (on_host, on_host.int())]  # fmt: skip
    for lengths in packed:
        have = chunk_kda(**{**call, **lengths})
        assert all(torch.equal(a, b) for a, b in zip(have, expected, strict=True))
        assert given[-1].dtype == lengths["cu_seqlens"].dtype and given[-1].tolist() == on_host.tolist() and not given[-1].is_cuda
    chunk_kda(**call, cu_seqlens_cpu=on_host.to("meta"))
    with torch.inference_mode():
        chunk_kda(**call, cu_seqlens_cpu=on_host, return_intermediate_states=True)
    chunk_kda(**make_call(device), cu_seqlens_cpu=on_host)
    assert [copy is None for copy in given] == [True, *[False] * 4, True, False, True] and counts(chunk_kda) == (8, 0)


@BOTH
@pytest.mark.parametrize("B,T", [(2, 0), (0, 5), (1, 1), (3, 8)])
@pytest.mark.usefixtures("no_grad")
def test_few_and_no_tokens(device, function, B, T):
    for options in (dict(), dict(initial_state=None), dict(output_final_state=False), dict(state_v_first=True)):
        check(function, make_call(device, B=B, T=T, **options))


@BOTH
@pytest.mark.usefixtures("no_grad")
def test_rows_behind_the_last_sequence(device, function):
    call = make_call(device, lens=[3, 20, 7])
    whole = function(**call)
    part = function(**{**call, "cu_seqlens": call["cu_seqlens"][:3], "initial_state": call["initial_state"][:2]})
    assert torch.equal(part[0][:, :23], whole[0][:, :23]) and torch.equal(part[1], whole[1][:2])
    assert counts(function) == (2, 0)
    assert function is chunk_kda or not part[0][:, 23:].any()  # fused_recurrent_kda of FLA leaves zeros


@BOTH
def test_parameters_of_a_model_in_bf16(device, function):
    """A_log and dt_bias as modules hold them: parameters, with axes of size 1, in bf16 after model.to(bf16). Under both modes."""
    call = make_call(device, T=20)
    call.update(A_log=torch.nn.Parameter(call["A_log"].bfloat16().view(1, 1, 2, 1)), dt_bias=torch.nn.Parameter(call["dt_bias"].bfloat16()))
    with torch.no_grad():
        out, state = check(function, call)
    with torch.inference_mode():
        again = function(**call)
    assert torch.equal(again[0], out) and torch.equal(again[1], state)


@pytest.mark.usefixtures("no_grad")
def test_strided_views(device):
    """q, k and v are slices of one row, k has one head for all, v and the initial state are permuted. chunk_kda gets them as they are."""
    call = make_call(device, T=30)
    row = torch.cat([call["q"], call["k"], call["v"]], dim=-1)
    call.update(q=row[..., :128], k=row[:, :, :1, 128:256].expand(-1, -1, 2, -1), v=row[..., 256:].transpose(1, 2).contiguous().transpose(1, 2))
    call["initial_state"] = call["initial_state"].transpose(-1, -2).contiguous().transpose(-1, -2)
    check(chunk_kda, call)
    check(fused_recurrent_kda, call)


@BOTH
def test_autocast(device, function):
    """What autocast leaves of a layer: bf16 from projections, fp32 from a gate; all is taken as it comes."""
    call = make_call(device, T=20, gate="precomputed")
    with torch.no_grad(), torch.autocast(device, dtype=BF16):
        check(function, call)


def test_mixed_dtypes(no_grad):
    """The output has the dtype of q in chunk_kda, that of v in fused_recurrent_kda, as in FLA."""
    call = make_call(T=20, q=make_call(T=20)["q"].float())
    assert chunk_kda(**call)[0].dtype == F32 and fused_recurrent_kda(**call)[0].dtype == BF16
    want = truth(call)
    assert relative_rms(chunk_kda(**call)[0], want[0]) <= bar("f32", "any").out
    assert relative_rms(fused_recurrent_kda(**call)[0], want[0]) <= bar("stored", "bf16").out


@pytest.mark.usefixtures("no_grad")
def test_arguments_by_position(device):
    call = make_call(device, T=9, gate="precomputed")
    named = chunk_kda(**call)
    placed = chunk_kda(*(call[name] for name in ("q", "k", "v", "g", "beta")), None, call["initial_state"], True, True, False, True)
    assert torch.equal(named[0], placed[0]) and torch.equal(named[1], placed[1]) and counts(chunk_kda) == (2, 0)


def test_the_older_name_of_the_layout(no_grad):
    call = make_call(T=9, state_v_first=True)
    want = chunk_kda(**call)
    call["transpose_state_layout"] = call.pop("state_v_first")
    assert all(torch.equal(a, b) for a, b in zip(chunk_kda(**call), want, strict=True))


def test_chunk_kda_goes_on_from_itself(no_grad):
    call = make_call(T=50)
    out, state = chunk_kda(**call)
    part = lambda a, b, h: {**{n: x[:, a:b] if n in ("q", "k", "v", "g", "beta") else x for n, x in call.items()}, "initial_state": h}
    first, between = chunk_kda(**part(0, 31, call["initial_state"]))
    second, last = fused_recurrent_kda(**part(31, 50, between))
    assert relative_rms(torch.cat([first, second], dim=1), out.double()) < 3e-3 and relative_rms(last, state.double()) < 1e-5


# ---------------------------------------------------------------- grad mode


def test_grad_mode_without_a_graph():
    """Grad is on, but nothing asks for it: nothing is lost."""
    check(chunk_kda, make_call(T=9))


def test_recurrent_arguments_that_require_grad():
    """FLA's fused_recurrent_kda has no backward: its results never require grad."""
    call = make_call(T=9)
    call.update({name: x.requires_grad_() for name, x in call.items() if isinstance(x, torch.Tensor) and x.is_floating_point()})
    check(fused_recurrent_kda, call)
    check(fused_recurrent_kda, {**call, "q": call["q"] * 1, "v": call["v"] * 1})


# ---------------------------------------------------------------- intermediate states


def check_intermediate(call):
    """The state before every chunk, by the recurrence over what is before it."""
    size, bounds = call.get("chunk_size", 64), call.get("cu_seqlens")
    if bounds is None:
        pieces = [(n, 0, call["q"].shape[1]) for n in range(call["q"].shape[0])]
    else:
        pieces = [(0, *pair) for pair in zip(bounds.tolist()[:-1], bounds.tolist()[1:], strict=True)]
    with torch.inference_mode():
        out, state, states = chunk_kda(**call, return_intermediate_states=True)
    assert states.dtype == call["k"].dtype and states.shape[0] == call["q"].shape[0] and counts(chunk_kda)[1] == 0
    want_out, want_state = truth(call)
    assert relative_rms(out, want_out) <= bars_of(out)[0] and relative_rms(state, want_state) <= bars_of(out)[1]
    rows = iter(states.flatten(0, 1))
    for n, (row, begin, end) in enumerate(pieces):
        h = None if call["initial_state"] is None else call["initial_state"][n : n + 1]
        for at in range(begin, end, size):
            prefix = {name: x[row : row + 1, begin:at] if name in ("q", "k", "v", "g", "beta") else x for name, x in call.items()}
            _, want = truth({**prefix, "initial_state": h, "cu_seqlens": None})
            assert relative_rms(next(rows), want[0]) <= bars_of(states)[0]
    assert next(rows, None) is None


LENGTHS = [dict(B=1, T=128), dict(T=33, chunk_size=32, HV=4), dict(lens=[64, 0, 65, 3]), dict(T=40, initial_state=None)]


@pytest.mark.parametrize("options", LENGTHS, ids=str)
def test_intermediate_states(device, options):
    for v_first in (False, True):
        check_intermediate(make_call(device, **{"H": 1, "D": 128 if device == "cuda" else 64, **options}, state_v_first=v_first))


def test_intermediate_states_in_other_dtypes():
    for dtype in (F32, torch.float16):
        check_intermediate(make_call(T=33, dtype=dtype, D=64, chunk_size=32))


def test_intermediate_states_of_nothing():
    with torch.inference_mode():
        for options in (dict(T=0), dict(B=0), dict(lens=[0, 0])):
            states = chunk_kda(**make_call(**options), return_intermediate_states=True)[2]
            assert states.numel() == 0 and states.ndim == 5 and states.shape[2:] == (2, 128, 128)
    assert counts(chunk_kda) == (3, 0)


# ---------------------------------------------------------------- continuous batching


def pool_call(device, S, N=3, **options):
    """Tokens of N sequences, packed, and a pool of 8 slots for their states."""
    call = make_call(device, lens=[S] * N, gate="precomputed", **options)
    call["initial_state"] = torch.randn(8, 2, 128, 128, generator=torch.Generator().manual_seed(3)).to(device)
    call.pop("output_final_state")
    return call


@pytest.mark.usefixtures("no_grad")
def test_pool(device):
    """fused_recurrent_kda_fwd as engines call it: states in place in slots of a pool, 0 among them; the others stay."""
    call = pool_call(device, S=1)
    slots, pool = torch.tensor([6, 0, 3], dtype=torch.int32, device=device), call["initial_state"]
    before = pool.clone()
    want_out, want_state = truth({**call, "initial_state": before[slots.long()]})
    out, state = fused_recurrent_kda_fwd(**call, ssm_state_indices=slots, inplace_final_state=True)
    assert state is pool and counts(fused_recurrent_kda) == (1, 0)
    assert relative_rms(out, want_out) <= bars_of(out)[0] and relative_rms(pool[slots.long()], want_state) <= bars_of(out)[1]
    assert torch.equal(pool[[1, 2, 4, 5, 7]], before[[1, 2, 4, 5, 7]])


@pytest.mark.usefixtures("no_grad")
def test_pool_of_drafts(device):
    """A slot for the state after every token; the next step goes on from the last accepted one."""
    call = pool_call(device, S=2, N=2)
    slots, pool = torch.tensor([[6, 0], [3, 5]], dtype=torch.int32, device=device), call["initial_state"]
    before = pool.clone()
    accepted = torch.tensor([2, 1], dtype=torch.int32, device=device)
    starts = slots.gather(1, accepted[:, None].long() - 1).flatten().long()
    want_out, want_state = truth({**call, "initial_state": before[starts]})
    out, _ = fused_recurrent_kda_fwd(**call, ssm_state_indices=slots, num_accepted_tokens=accepted)
    assert counts(fused_recurrent_kda) == (1, 0)
    assert relative_rms(out, want_out) <= bars_of(out)[0] and relative_rms(pool[slots[:, 1].long()], want_state) <= bars_of(out)[1]
    assert torch.equal(pool[[1, 2, 4, 7]], before[[1, 2, 4, 7]]) and not torch.equal(pool[6], before[6])


@pytest.mark.usefixtures("no_grad")
def test_in_place_without_slots(device):
    for T in (3, 20):
        call = make_call(device, T=T)
        want_out, want_state = truth(call)
        call.pop("output_final_state")
        out, state = fused_recurrent_kda_fwd(**call, out=(given := torch.full_like(call["v"], float("nan"))))
        assert state is call["initial_state"] and out is given and counts(fused_recurrent_kda)[1] == 0
        assert relative_rms(out, want_out) <= bars_of(out)[0] and relative_rms(state, want_state) <= bars_of(out)[1]


# ---------------------------------------------------------------- what is not taken

REFUSALS = {
    "q requires grad": dict(q=torch.zeros(1, 4, 2, 128, requires_grad=True)),
    "q is torch.float64, and would be rounded to torch.float32": dict(dtype=torch.float64),
    "cp_context": dict(cp_context=object(), initial_state=None, output_final_state=False),
    "return_intermediate_states needs": dict(return_intermediate_states=True),
    "allow_neg_eigval needs use_beta_sigmoid_in_kernel": dict(allow_neg_eigval=True, use_beta_sigmoid_in_kernel=False),
    "use_gate_in_kernel needs A_log or lower_bound": dict(A_log=None),
    "chunk_size is 16": dict(chunk_size=16),
    "safe_gate needs lower_bound": dict(safe_gate=True),
    "one option": dict(state_v_first=True, transpose_state_layout=True),
    "lower_bound is -7": dict(lower_bound=-7.0),
    r"initial_state has shape \(3,": dict(initial_state=torch.zeros(3, 2, 128, 128)),
    "beta has shape": dict(beta=torch.zeros(1, 4, 2, 128)),
    "v has 3 heads": dict(v=torch.zeros(1, 4, 3, 128, dtype=BF16)),
    "cu_seqlens has dtype torch.float32": dict(cu_seqlens=torch.zeros(2)),
    "AttributeError": dict(q=None),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_goes_on_to_fla(words, caplog, monkeypatch):
    """FLA's log says why, and its own code takes over: here it ends in an exception of its own."""
    monkeypatch.setattr(flash_kda, "fwd", lambda *args, **kwargs: pytest.fail("flash_kda.fwd was called"))
    options = {"B": 1, "T": 4, **REFUSALS[words]}
    with caplog.at_level(logging.INFO, "fla.backends"), pytest.raises(Exception):  # noqa: B017
        chunk_kda(**make_call(**options))
    (said,) = [x.getMessage() for x in caplog.records if "flash_kda rejected: " in x.getMessage()]
    calls = flash_kda.fla.status()["chunk_kda"]
    assert counts(chunk_kda) == (0, 1) and calls.last_reason in said and calls.reasons == {calls.last_reason: 1}
    assert re.search(words, said), said


@pytest.mark.usefixtures("no_grad")
def test_pools_that_are_not_taken():
    call, one, two = pool_call("cpu", S=1), torch.tensor([6, 0, 3]), torch.tensor([[6, 0], [3, 5], [1, 2]])
    for words, change in {
        "more than 1 tokens": {**pool_call("cpu", S=2), "ssm_state_indices": one},
        "needs ssm_state_indices": {**call, "ssm_state_indices": one, "num_accepted_tokens": torch.ones(3).int()},
        "without inplace_final_state": {**call, "ssm_state_indices": two, "inplace_final_state": False},
        "needs initial_state": {**call, "initial_state": None},
        "slots has shape": {**call, "ssm_state_indices": one[:2]},
        "fp16 tensors are not offered": {**call, "ssm_state_indices": one, "q": call["q"].half()},
    }.items():
        assert any(words in reason for reason in flash_kda.fla.explain("fused_recurrent_kda_fwd", **change)), words


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of compute capability 9.0")
@pytest.mark.usefixtures("no_grad")
def test_what_goes_on_to_triton():
    """On a GPU the call is answered, right, by FLA: dtypes that would lose accuracy."""
    for options in (dict(dtype=F32, D=128), dict(dtype=torch.float16)):
        call = make_call("cuda", **options)
        out, state = chunk_kda(**call)
        want = truth(call)
        assert counts(chunk_kda)[0] == 0 and relative_rms(out, want[0]) < 6e-3 and relative_rms(state, want[1]) < 6e-3
    assert counts(chunk_kda) == (0, 2)


@pytest.mark.usefixtures("no_grad")
def test_explain_tells_all():
    reasons = flash_kda.fla.explain("chunk_kda", **make_call(T=4, chunk_size=16, allow_neg_eigval=True, use_beta_sigmoid_in_kernel=False))
    assert len(reasons) == 2 and "chunk_size is 16" in reasons[1]
    assert flash_kda.fla.explain("chunk_kda", **make_call(T=4)) == [] and counts(chunk_kda) == (0, 0)


@pytest.mark.parametrize("value", ["0"])
def test_the_environment_turns_it_off(monkeypatch, value):
    monkeypatch.setenv("FLA_FLASH_KDA", value)
    with torch.no_grad(), pytest.raises(Exception):  # noqa: B017
        chunk_kda(**make_call(T=4))
    assert counts(chunk_kda) == (0, 0)


def test_dispatch_that_is_off_is_said(monkeypatch):
    monkeypatch.setenv("FLA_DISABLE_BACKEND_DISPATCH", "1")
    with pytest.warns(RuntimeWarning, match="FLA_DISABLE_BACKEND_DISPATCH=1"):
        flash_kda.fla._register()


@pytest.mark.usefixtures("no_grad")
def test_status_is_a_copy_that_counts(monkeypatch):
    chunk_kda(**make_call(T=4))
    with pytest.raises(Exception):  # noqa: B017
        chunk_kda(**make_call(T=4, lower_bound=-9.0))
    status = flash_kda.fla.status()
    assert status["chunk_kda"].taken == {"cpu": 1} and status["chunk_kda"].passed_on == 1 and status["fused_recurrent_kda"].taken == {}
    status["chunk_kda"].taken["cpu"] = 7
    status["chunk_kda"].reasons.clear()
    assert flash_kda.fla.status()["chunk_kda"].taken == {"cpu": 1} and len(flash_kda.fla.status()["chunk_kda"].reasons) == 1
    for n in range(30):
        flash_kda.fla._calls["chunk_kda"]._pass_on(f"reason {n}")
    assert len(flash_kda.fla.status()["chunk_kda"].reasons) == 16 and flash_kda.fla.status()["chunk_kda"].last_reason == "reason 29"
