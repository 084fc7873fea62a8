"""flash-linear-attention on CUDA tensors: chunk_kda calls flash_kda.fwd, and the answer is within FLA's own bound of a float64 recurrence.

Shapes and packings are those of FLA's tests for this backend. Without a GPU that has kernels the whole file is skipped.
"""

import pytest
import torch
from fla.ops.kda import chunk_kda

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms
from test_fla import OPTIONS, fla_inputs

BAR = bar("bf16", "any")  # FLA's own tests for this backend ask for the same, 0.006
HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
pytestmark = [pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of compute capability 9.0"), pytest.mark.usefixtures("no_grad")]


@pytest.fixture
def calls(monkeypatch):
    seen = []
    true_fwd = flash_kda.fwd

    def fwd(*args, **kwargs):
        true_fwd(*args, **kwargs)
        seen.append(flash_kda.last_plan())

    monkeypatch.setattr(flash_kda, "fwd", fwd)
    monkeypatch.delenv("FLA_FLASH_KDA", raising=False)
    return seen


def cuda_inputs(*sizes, **options):
    return {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in fla_inputs(*sizes, **options).items()}


def check(inputs, calls, cu_seqlens=None):
    out, state = chunk_kda(**inputs, **OPTIONS, output_final_state=True, cu_seqlens=cu_seqlens)
    assert len(calls) == 1 and calls[0].startswith("cuda: "), calls
    want_out, want_state = recurrence(**inputs, scale=128**-0.5, cu_seqlens=cu_seqlens)
    assert relative_rms(out, want_out) < BAR.out and relative_rms(state, want_state) < BAR.state
    return out


@pytest.mark.parametrize("B,T,H", [(1, 1024, 4), (2, 2048, 8), (1, 4096, 16), (1, 63, 1)])
def test_fixed_length(calls, B, T, H):
    check(cuda_inputs(B, T, H, N=B), calls)


@pytest.mark.parametrize("H,bounds", [(4, [0, 256, 500, 1000]), (8, [0, 100, 300, 1200, 2000]), (16, [0, 101, 303, 1205, 3007, 4096])])
def test_packed(calls, H, bounds):
    check(cuda_inputs(1, bounds[-1], H, N=len(bounds) - 1), calls, torch.tensor(bounds, device="cuda"))


def test_parameters_and_strides_as_models_have_them(calls):
    inputs = cuda_inputs(2, 100, 4, N=2)
    inputs.update({name: torch.nn.Parameter(inputs[name]) for name in ("A_log", "dt_bias")})
    inputs["v"] = inputs["v"].transpose(1, 2).contiguous().transpose(1, 2)
    inputs["k"] = inputs["k"][:, :, :1].expand(-1, -1, 4, -1)
    inputs["g"], inputs["beta"] = inputs["g"].float(), inputs["beta"].float()
    out = check(inputs, calls)
    assert out.stride() == inputs["v"].stride() and not out.is_contiguous()


def test_triton_agrees(calls, monkeypatch):
    """Triton's answer and ours agree, and FLA_FLASH_KDA=0 does turn this module off."""
    inputs = cuda_inputs(1, 1024, 4, N=1)
    ours = chunk_kda(**inputs, **OPTIONS, output_final_state=True)
    monkeypatch.setenv("FLA_FLASH_KDA", "0")
    theirs = chunk_kda(**inputs, **OPTIONS, output_final_state=True)
    assert len(calls) == 1
    assert all(relative_rms(a, b.double()) < 2 * bound for a, b, bound in zip(ours, theirs, (BAR.out, BAR.state), strict=True))
