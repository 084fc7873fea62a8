"""flash-linear-attention calls flash_kda.fwd for CPU tensors, without a change to its code, and gets the right answer.

fla.ops.kda.chunk_kda looks for a module named flash_kda and calls its fwd when grad is off and the call has the five options below.
Shapes are those of FLA's own tests for this backend (packed: two heads), whose bound is 0.006; the truth is a float64 recurrence.
"""

import random

import pytest
import torch
from fla.ops.kda import chunk_kda

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

OPTIONS = dict(use_gate_in_kernel=True, use_qk_l2norm_in_kernel=True, use_beta_sigmoid_in_kernel=True, safe_gate=True, state_v_first=True)
OUT, STATE = bar("stored", "bf16").out, bar("f32", "any").state  # bf16 results of the CPU backend, and its fp32 states


@pytest.fixture
def calls(monkeypatch):
    """What flash_kda.fwd was called with; FLA looks the attribute up at each call."""
    seen = []
    true_fwd = flash_kda.fwd

    def fwd(*args, **kwargs):
        true_fwd(*args, **kwargs)
        seen.append((args, kwargs, flash_kda.last_plan()))

    monkeypatch.setattr(flash_kda, "fwd", fwd)
    monkeypatch.delenv("FLA_FLASH_KDA", raising=False)
    return seen


def fla_inputs(B, T, H, N, seed=42):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    uniform = lambda *shape: torch.rand(*shape, generator=generator)
    bf16 = lambda x: x.to(torch.bfloat16)
    return dict(
        q=bf16(uniform(B, T, H, 128)), k=bf16(uniform(B, T, H, 128)), v=bf16(uniform(B, T, H, 128)), g=bf16(normal(B, T, H, 128)),
        beta=bf16(normal(B, T, H)), A_log=(1 + 15 * uniform(H)).log(), dt_bias=normal(H * 128), lower_bound=-5.0,
        initial_state=normal(N, H, 128, 128),
    )  # fmt: skip


def ask_fla(inputs, calls, cu_seqlens=None, **more):
    """FLA's answer; asserts that flash_kda.fwd wrote it."""
    calls.clear()
    out, state = chunk_kda(**inputs, **OPTIONS, output_final_state=True, cu_seqlens=cu_seqlens, **more)
    assert len(calls) == 1, "FLA did not call flash_kda.fwd"
    args, kwargs, plan = calls[0]
    assert args[6] is out and kwargs["final_state"] is state
    assert plan.startswith("cpu: "), plan
    return out, state


def of_heads(heads, *, A_log, dt_bias, initial_state, lower_bound, **rows):
    return dict({name: x[:, :, heads] for name, x in rows.items()}, A_log=A_log.reshape(-1)[heads], dt_bias=dt_bias.reshape(-1, 128)[heads],
                lower_bound=lower_bound, initial_state=initial_state if initial_state is None else initial_state[:, heads])  # fmt: skip


def check(inputs, calls, cu_seqlens=None, **more):
    out, state = ask_fla(inputs, calls, cu_seqlens, **more)
    heads = sorted(random.sample(range(out.shape[2]), min(4, out.shape[2])))  # no head sees another
    want_out, want_state = recurrence(**of_heads(heads, **inputs), scale=more.get("scale", 128**-0.5), cu_seqlens=cu_seqlens)
    assert relative_rms(out[:, :, heads], want_out) < OUT and relative_rms(state[:, heads], want_state) < STATE, f"heads {heads}"
    return out, state


@pytest.mark.parametrize("B,T,H", [(1, 1024, 4), (2, 2048, 8), (1, 4096, 16), (1, 63, 1), (1, 1, 3)])
def test_fixed_length(calls, B, T, H):
    inputs = fla_inputs(B, T, H, N=B)
    with torch.no_grad():
        out, state = check(inputs, calls)
    with torch.inference_mode():
        again = ask_fla(inputs, calls)
    assert torch.equal(again[0], out) and torch.equal(again[1], state)


@pytest.mark.parametrize("bounds", [[0, 256, 500, 1000], [0, 100, 300, 1200, 2000], [0, 101, 303, 1205, 3007, 4096], [0, 0, 15, 15]], ids=str)
def test_packed(calls, bounds):
    inputs = fla_inputs(1, bounds[-1], 2, N=len(bounds) - 1)
    with torch.no_grad():
        out, state = check(inputs, calls, cu_seqlens=torch.tensor(bounds))
        again = ask_fla(inputs, calls, cu_seqlens=torch.tensor(bounds, dtype=torch.int32))
    assert torch.equal(again[0], out) and torch.equal(again[1], state)


def test_parameters_that_require_grad(calls):
    inputs = fla_inputs(1, 100, 2, N=1)
    inputs.update({name: torch.nn.Parameter(inputs[name]) for name in ("A_log", "dt_bias")})
    with torch.no_grad():
        check(inputs, calls)


def test_parameters_of_a_model_in_bf16(calls):
    inputs = fla_inputs(1, 100, 2, N=1)
    inputs.update(A_log=inputs["A_log"].bfloat16().view(1, 1, 2, 1), dt_bias=inputs["dt_bias"].bfloat16())
    with torch.no_grad():
        check(inputs, calls)


def test_permuted_value_and_expanded_key(calls):
    """FLA checks neither strides nor the dtypes of k, v, g and beta; out is empty_like(v), so it is permuted like v."""
    inputs = fla_inputs(2, 70, 4, N=2)
    inputs["v"] = inputs["v"].transpose(1, 2).contiguous().transpose(1, 2)
    inputs["k"] = inputs["k"][:, :, :1].expand(-1, -1, 4, -1)
    inputs["g"] = inputs["g"].float()
    inputs["beta"] = inputs["beta"].float()
    with torch.no_grad():
        out, _ = check(inputs, calls)
    assert out.stride() == inputs["v"].stride() and not out.is_contiguous()


def test_without_initial_state_and_with_scale(calls):
    inputs = dict(fla_inputs(1, 100, 2, N=1), initial_state=None)
    with torch.no_grad():
        check(inputs, calls, scale=0.25)


def test_bf16_initial_state(calls):
    inputs = fla_inputs(1, 100, 2, N=1)
    inputs["initial_state"] = inputs["initial_state"].bfloat16()
    with torch.no_grad():
        _, state = check(inputs, calls)
    assert state.dtype == torch.float32


def test_no_final_state_wanted(calls):
    inputs = fla_inputs(1, 100, 2, N=1)
    with torch.no_grad():
        out, state = chunk_kda(**inputs, **OPTIONS)
    assert len(calls) == 1 and state is None and relative_rms(out, recurrence(**inputs, scale=128**-0.5)[0]) < OUT


@pytest.mark.parametrize("B,T", [(0, 5), (0, 0), (2, 0)])
def test_empty_batches(calls, B, T):
    with torch.no_grad():
        out, state = ask_fla(fla_inputs(B, T, 2, N=B), calls)
    assert out.shape == (B, T, 2, 128) and state.shape == (B, 2, 128, 128)


@pytest.mark.parametrize("T", [0, 5])
def test_no_sequences(calls, T):
    with torch.no_grad():
        out, state = ask_fla(fla_inputs(1, T, 2, N=0), calls, torch.tensor([0]))
    assert out.shape == (1, T, 2, 128) and state.shape == (0, 2, 128, 128)


def test_packing_that_ends_before_the_tokens(calls):
    inputs, bounds = fla_inputs(1, 100, 2, N=2), torch.tensor([0, 30, 80])
    with torch.no_grad():
        out, state = ask_fla(inputs, calls, bounds)
    want_out, want_state = recurrence(**inputs, scale=128**-0.5, cu_seqlens=bounds)
    assert relative_rms(out[:, :80], want_out[:, :80]) < OUT and relative_rms(state, want_state) < STATE


def test_negative_bit(calls):
    inputs = fla_inputs(1, 20, 2, N=1)
    plain = dict(inputs)
    inputs.update({name: torch._neg_view(-inputs[name]) for name in ("q", "v", "beta", "A_log", "initial_state")})
    with torch.no_grad():
        out, state = ask_fla(inputs, calls)
        want_out, want_state = ask_fla(plain, calls)
    assert torch.equal(out, want_out) and torch.equal(state, want_state)


# Each of these alone keeps FLA from calling flash_kda.fwd: the list of README.md.
REFUSALS = {
    "grad is on": dict(),
    "q is not bfloat16": dict(q=torch.zeros(1, 4, 2, 128)),
    "K = 64": dict(q=torch.zeros(1, 4, 2, 64, dtype=torch.bfloat16)),
    "V = 64": dict(v=torch.zeros(1, 4, 2, 64, dtype=torch.bfloat16)),
    "HV > H": dict(v=torch.zeros(1, 4, 4, 128, dtype=torch.bfloat16)),
    "A_log is None": dict(A_log=None),
    "dt_bias is None": dict(dt_bias=None),
    "allow_neg_eigval": dict(allow_neg_eigval=True),
    "return_intermediate_states": dict(return_intermediate_states=True),
    "cp_context": dict(cp_context=object()),
    **{name: {name: False} for name in OPTIONS},
}


@pytest.mark.parametrize("change", REFUSALS)
def test_when_fla_does_not_call(monkeypatch, change):
    monkeypatch.setattr(flash_kda, "fwd", lambda *args, **kwargs: pytest.fail("FLA called flash_kda.fwd"))
    with torch.set_grad_enabled(change == "grad is on"), pytest.raises(Exception):  # noqa: B017  and its own kernels do not run on a CPU
        chunk_kda(**{**fla_inputs(1, 4, 2, N=1), **OPTIONS, **REFUSALS[change]})


def test_environment_turns_fla_off(monkeypatch):
    monkeypatch.setenv("FLA_FLASH_KDA", "0")
    monkeypatch.setattr(flash_kda, "fwd", lambda *args, **kwargs: pytest.fail("FLA called flash_kda.fwd"))
    with torch.no_grad(), pytest.raises(Exception):  # noqa: B017
        chunk_kda(**fla_inputs(1, 4, 2, N=1), **OPTIONS)
