"""flash_kda.decode_fused: convolution, step and gated norm in one call, against float64 and against itself."""

import pytest
import torch

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

pytestmark = pytest.mark.usefixtures("road", "no_grad")

BF16, F32 = torch.bfloat16, torch.float32


def make_call(N=4, H=2, W=128, lower_bound=-5.0, conv=True, norm=True, taps_last=False, seed=0):
    """q, k, v are slices of one row; out is NaN."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    x = normal(N, 1, 3, H, W).to(BF16)
    call = dict(
        q=x[:, :, 0], k=x[:, :, 1], v=x[:, :, 2], g=normal(N, 1, H, W).to(BF16), beta=normal(N, 1, H).to(BF16), scale=W**-0.5,
        out=torch.full((N, 1, H, W), float("nan"), dtype=BF16), A_log=normal(H) * 0.5, dt_bias=normal(H, W) - 2.0, lower_bound=lower_bound,
        state=normal(N, H, W, W) * 0.3,
    )  # fmt: skip
    if conv:
        taps = normal(N, 3, 3 * H * W).to(BF16)
        taps = taps.transpose(1, 2).contiguous().transpose(1, 2) if taps_last else taps
        call |= dict(conv_weight=normal(3, 4, H * W) * 0.5, conv_bias=normal(3, H * W) * 0.5, conv_state=taps)
    if norm:
        call |= dict(output_gate=normal(N, 1, H, W).to(BF16), norm_weight=1 + 0.2 * normal(W), norm_eps=1e-5)
    return call


def cloned(call):
    return {name: x.clone(memory_format=torch.preserve_format) if isinstance(x, torch.Tensor) else x for name, x in call.items()}


def truth(call):
    """out, state and conv_state in float64."""
    N, _, H, W = call["q"].shape
    rows = [call[name].double().reshape(N, H * W) for name in "qkv"]
    taps = call.get("conv_state")
    if taps is not None:
        inputs = torch.cat([taps.double(), torch.cat(rows, 1)[:, None]], 1)
        taps = inputs[:, 1:]
        for i in range(3):
            bias = 0 if call.get("conv_bias") is None else call["conv_bias"][i].double()
            y = bias + (inputs[:, :, i * H * W : (i + 1) * H * W] * call["conv_weight"][i].double()).sum(1)
            rows[i] = y * y.sigmoid()
    q, k, v = (row.view(N, 1, H, W) for row in rows)
    same = {name: call[name] for name in ("g", "beta", "scale", "A_log", "dt_bias", "lower_bound")}
    out, state = recurrence(q=q, k=k, v=v, **same, initial_state=call["state"])
    if call.get("norm_weight") is not None:
        out = (
            out
            / (out.square().mean(-1, keepdim=True) + call["norm_eps"]).sqrt()
            * call["norm_weight"].double()
            * call["output_gate"].double().sigmoid()
        )
    return out, state, taps


def check(call, rows=None):
    """rows: of the sequences, where others are null."""
    want_out, want_state, want_taps = truth(call)
    assert flash_kda.decode_fused(**call) is None
    assert relative_rms(call["out"], want_out) <= bar("stored", "bf16").out
    assert relative_rms(call["state"], want_state) <= bar("f32", "any").state
    if want_taps is not None:
        assert torch.equal(call["conv_state"].double(), want_taps)


@pytest.mark.parametrize("taps_last", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("conv", [False, True])
def test_parts(conv, norm, taps_last):
    check(make_call(conv=conv, norm=norm, taps_last=taps_last))
    assert "decode_fused" in flash_kda.last_plan()


def test_softplus_64_and_tuples():
    call = make_call(N=3, H=3, W=64, lower_bound=None)
    whole, parts = cloned(call), cloned(call)
    parts |= dict(conv_weight=tuple(x.clone() for x in call["conv_weight"]), conv_bias=list(call["conv_bias"]))
    check(whole)
    flash_kda.decode_fused(**parts)
    assert torch.equal(whole["out"], parts["out"]) and torch.equal(whole["state"], parts["state"])


def test_without_bias_and_one_token_after_another():
    """Five tokens: every one finds the inputs of those before it."""
    call = make_call(N=2, seed=1)
    call["conv_bias"] = None
    call["conv_state"].zero_()
    for token in range(5):
        new = make_call(N=2, seed=10 + token)
        call |= {name: new[name] for name in ("q", "k", "v", "g", "beta", "out", "output_gate")}
        check(call)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_pool(dtype):
    """Slots any distance apart, in any order; a mask; a null slot, whose out is 0; what belongs to nobody stays."""
    call = make_call(N=4)
    width, channels = 2 * 128 * 128, 3 * 2 * 128
    storage, tap_storage = torch.arange(7 * (width + 4), dtype=F32).reshape(7, -1) * 1e-6, torch.ones(7, 3 * channels + 8, dtype=BF16)
    pool, taps = storage[:, :width].unflatten(1, (2, 128, 128)), tap_storage[:, : 3 * channels].unflatten(1, (3, channels))
    slots = torch.tensor([5, 2, 6, -1], dtype=dtype)
    used = slots[:3].long()
    pool[used], taps[used] = call["state"][:3], call["conv_state"][:3]
    pool[2], taps[2] = float("nan"), float("nan")
    call["state"][1], call["conv_state"][1] = 0, 0
    out, state, conv_state = truth(call)
    before, taps_before = storage.clone(), tap_storage.clone()
    mask = torch.tensor([True, False, True, True])
    flash_kda.decode_fused(**{**call, "state": pool, "conv_state": taps, "slots": slots, "initial_mask": mask})
    assert relative_rms(call["out"][:3], out[:3]) <= bar("stored", "bf16").out and not call["out"][3].any()
    assert relative_rms(pool[used], state[:3]) <= bar("f32", "any").state and torch.equal(taps[used].double(), conv_state[:3])
    rest = [0, 1, 3, 4]
    assert torch.equal(storage[rest], before[rest]) and torch.equal(storage[:, width:], before[:, width:])
    assert torch.equal(tap_storage[rest], taps_before[rest]) and torch.equal(tap_storage[:, 3 * channels :], taps_before[:, 3 * channels :])


def test_batch_invariance_and_versions():
    call = make_call(N=5)
    alone = cloned(call)
    written = ("out", "state", "conv_state")
    versions = [call[name]._version for name in written]
    flash_kda.decode_fused(**call)
    assert [call[name]._version for name in written] == [version + 1 for version in versions]
    by_row = ("q", "k", "v", "g", "beta", "output_gate", *written)
    for n in range(5):
        flash_kda.decode_fused(**{name: x[n : n + 1] if name in by_row else x for name, x in alone.items()})
    assert all(torch.equal(call[name], alone[name]) for name in written)


def refused(call, error, words):
    before = {name: call[name].clone() for name in ("out", "state", "conv_state")}
    with pytest.raises(error, match=words):
        flash_kda.decode_fused(**call)
    assert all(torch.equal(call[name], x) or (name == "out" and call[name].isnan().all()) for name, x in before.items())


def test_refusals():
    call = make_call(N=3)
    refused({**call, "slots": torch.tensor([0, 1, 3])}, ValueError, r"slots\[2\] = 3 is not below desc.state.slot_count = 3")
    refused({**call, "slots": torch.tensor([0, 1, 1])}, ValueError, "are both 1, but no two sequences may have one slot")
    refused({**call, "conv_weight": None}, ValueError, "conv_state is given, but conv_weight of q is not")
    refused(
        {**call, "conv_weight": call["conv_weight"][:, :3]},
        ValueError,
        r"conv_weight of q has shape \(3, 256\), but it must be \[4,H\*K\] = \(4, 256\)",
    )
    refused({**call, "conv_weight": call["conv_weight"][:2]}, ValueError, r"conv_weight has 2 rows, but it must be \[3,4,H\*K\]")
    refused({**call, "conv_bias": call["conv_bias"].repeat(2, 1)}, ValueError, r"conv_bias has 6 rows, but it must be \[3,H\*K\]")
    refused({**call, "conv_weight": (call["conv_weight"][0], None, None)}, TypeError, "conv_weight of k is None, but conv_weight of q is given")
    refused({**call, "conv_weight": call["conv_weight"].double()}, ValueError, "conv_weight of q is not taken as it lies")
    refused(
        {**call, "conv_weight": (*call["conv_weight"][:2], call["conv_weight"][2].to(BF16))},
        ValueError,
        "conv_weight of v differs from conv_weight of q",
    )
    refused({**call, "conv_bias": call["conv_bias"][:, :1].expand(3, 256)}, ValueError, "conv_bias of q is not taken as it lies")
    refused({**call, "conv_state": call["conv_state"].float()}, TypeError, "desc.q has dtype 1, but desc.conv_state")
    refused({**call, "conv_state": call["conv_state"][:2]}, ValueError, r"conv_state has shape \(2, 3, 768\)")
    refused({**call, "output_gate": None}, ValueError, "norm_weight is given, but output_gate is not")
    refused({**call, "norm_weight": call["norm_weight"][:64]}, ValueError, r"norm_weight has shape \(64\)")
    refused({**call, "norm_eps": 0}, ValueError, "desc.norm_eps = 0 is not a positive normal number")
    refused({**call, "norm_eps": "1"}, TypeError, "norm_eps is '1'")
    refused({**call, "slot_null": "none"}, ValueError, "slot_null is 'none'")
    refused({**call, "q": call["q"].float()}, TypeError, "desc.k has dtype 1|desc.q has dtype 2")
    with torch.enable_grad():
        refused({**call, "norm_weight": call["norm_weight"].clone().requires_grad_()}, RuntimeError, "norm_weight requires grad")
    two = {name: torch.cat([x, x], 1) if name in ("q", "k", "v", "g", "beta", "out", "output_gate") else x for name, x in call.items()}
    refused(two, ValueError, "decode_fused takes one token")
