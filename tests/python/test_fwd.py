"""flash_kda.fwd: what it computes, for every form in which its callers pass tensors."""

import pytest
import torch
from numpy.lib.stride_tricks import as_strided

import flash_kda

pytestmark = pytest.mark.usefixtures("road", "no_grad")

FLOATS = [torch.bfloat16, torch.float32, torch.float16, torch.float64]


def nan(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan"), dtype=dtype)


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("sizes", [
    dict(T=1, H=1), dict(T=17), dict(B=2, T=70, H=3), dict(T=9, H=2, HV=6), dict(T=20, K=64, V=64), dict(T=6, H=1, K=32, V=48),
    dict(T=3, H=1, K=1, V=1),
], ids=str)  # fmt: skip
def test_dense(problem, sizes):
    problem(**sizes).check()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("lens", [[7], [3, 0, 65, 1], [0, 0], [0, 33, 0, 16]], ids=str)
def test_packed(problem, lens, dtype):
    p = problem(lens=lens)
    p["cu_seqlens"] = p["cu_seqlens"].to(dtype)
    want = p["initial_state"]
    _, state = p.check()
    for n, length in enumerate(lens):
        assert length > 0 or torch.equal(state[n], want[n])


def test_packed_is_each_sequence_alone(problem):
    lens = [5, 40, 1]
    p = problem(lens=lens)
    out, state = p.run()
    for n, (begin, end) in enumerate([(0, 5), (5, 45), (45, 46)]):
        alone = type(p)(p, cu_seqlens=None, out=nan(1, end - begin, 2, 128, dtype=torch.bfloat16), final_state=nan(1, 2, 128, 128),
                        initial_state=p["initial_state"][n : n + 1])  # fmt: skip
        alone.update({name: p[name][:, begin:end] for name in ("q", "k", "v", "g", "beta")})
        alone.run()
        assert torch.equal(alone["out"][0], out[0, begin:end]) and torch.equal(alone["final_state"][0], state[n])


@pytest.mark.parametrize("B", [1, 3])
def test_no_tokens(problem, B):
    p = problem(B=B, T=0)
    p.run()
    assert torch.equal(p["final_state"], p["initial_state"])


@pytest.mark.parametrize("out_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("sizes", [dict(B=0), dict(B=0, T=0), dict(B=0, HV=4), dict(B=0, state=False)], ids=str)
def test_no_batch(problem, sizes, out_dtype):
    p = problem(**sizes)
    p["out"] = p["out"].to(out_dtype)
    out, state = p.run()
    assert out.numel() == 0 and (state is None or state.shape[0] == 0)


@pytest.mark.parametrize("T", [0, 5])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("out_dtype", FLOATS, ids=str)
def test_no_sequences(problem, T, dtype, out_dtype):
    """cu_seqlens = [0]: there is nothing to compute, and no row of out is touched."""
    p = problem(T=T, state=False, cu_seqlens=torch.zeros(1, dtype=dtype), initial_state=nan(0, 2, 128, 128), final_state=nan(0, 2, 128, 128))
    p["out"] = torch.full_like(p["out"], 7, dtype=out_dtype)
    out, _ = p.run()
    assert (out == 7).all()


def pattern(*shape, dtype):
    """Values that no narrower dtype holds."""
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape) * 1.2345678912345 + 0.1).to(dtype)


@pytest.mark.parametrize("form,dtype", [
    *((lambda x: x, dtype) for dtype in (*FLOATS, torch.float8_e4m3fn)), (lambda x: every_second(x), torch.float64),
    (lambda x: torch._neg_view(x), torch.bfloat16), (lambda x: torch._neg_view(x), torch.float64),
], ids=lambda value: str(value) if isinstance(value, torch.dtype) else "")  # fmt: skip
@pytest.mark.parametrize("bounds", [[0, 3, 3, 20], [0, 0], [0, 0, 64]], ids=str)
def test_rows_behind_the_last_sequence_are_untouched(problem, bounds, dtype, form):
    p = problem(T=70, state=False, cu_seqlens=torch.tensor(bounds))
    for name in ("q", "k", "v", "g", "beta"):
        p[name][:, bounds[-1] :] = float("nan")
    cut = type(p)(p, out=nan(1, bounds[-1], 2, 128, dtype=dtype))
    cut.update({name: p[name][:, : bounds[-1]] for name in ("q", "k", "v", "g", "beta")})
    p["out"] = form(pattern(1, 70, 2, 128, dtype=dtype))
    behind = p["out"][:, bounds[-1] :].resolve_neg().clone()
    out, _ = p.run()
    want, _ = cut.run()
    as_bytes = lambda x: x.resolve_neg().contiguous().flatten().view(torch.uint8)
    assert torch.equal(as_bytes(out[:, bounds[-1] :]), as_bytes(behind))
    assert torch.equal(as_bytes(out[:, : bounds[-1]]), as_bytes(want))


def test_rows_of_a_broken_packing_on_cuda():
    """The kernels answer a broken cu_seqlens with NaN in all rows: that must reach out, wherever the last sequence seems to end."""
    from flash_kda import _copies

    out = torch.full((1, 6, 1, 2), 7.0, dtype=torch.float64)
    for last, stand_in in ((4, torch.zeros(1, 6, 1, 2)), (-3, torch.full((1, 6, 1, 2), float("nan"))), (9, torch.full((1, 6, 1, 2), float("nan")))):
        answer = _copies._with_untouched_rows(out, stand_in, torch.tensor([0, last]))
        assert answer.isnan().all() if stand_in.isnan().any() else ((answer[:, :4] == 0).all() and (answer[:, 4:] == 7).all())


@pytest.mark.parametrize("stride", [0, 1, 3, 10**9])
def test_strides_along_axes_of_size_1(problem, stride):
    """No step is ever taken along them."""
    p = problem(B=1, T=1, H=1)

    def odd(x):
        return x.as_strided(x.shape, [stride if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True)])

    p.update({name: odd(x) for name, x in p.items() if isinstance(x, torch.Tensor)})
    p.check()
    packed = problem(lens=[3], H=1)
    packed.update({name: odd(x) for name, x in packed.items() if isinstance(x, torch.Tensor)})
    packed.check()


@pytest.mark.parametrize("stride", [0, 1, 10**9])
def test_strides_of_tensors_without_elements(problem, stride):
    p = problem(B=2, T=0)
    for name in ("q", "k", "v", "g", "beta", "out"):
        p[name] = p[name].as_strided(p[name].shape, [stride] * p[name].ndim)
    p.run()
    assert torch.equal(p["final_state"], p["initial_state"])


def test_negative_strides_along_axes_of_size_1(problem):
    """torch makes none itself, but takes them from others."""
    p = problem(T=9, H=1)
    q = p["q"].float().numpy()
    p["q"] = torch.from_dlpack(as_strided(q, q.shape, (-q.strides[0], q.strides[1], -q.strides[2], q.strides[3])))
    assert p["q"].stride()[0] < 0 or p["q"].stride()[2] < 0 or p["q"].stride() == (9 * 128, 128, 128, 1)
    p.check()


def test_empty_sequence_without_initial_state_ends_at_zero(problem):
    p = problem(lens=[0, 2], initial_state=None)
    _, state = p.check()
    assert (state[0] == 0).all()


def test_no_states(problem):
    problem(T=12, state=False).check()


@pytest.mark.parametrize("poison", [0.0, 3e4, float("inf")])
def test_every_element_is_written_and_nothing_of_it_is_read(problem, poison):
    p, again = problem(T=33), problem(T=33)
    p.run()
    again["out"].fill_(poison)
    again["final_state"].fill_(poison)
    again.run()
    assert torch.equal(p["out"], again["out"]) and torch.equal(p["final_state"], again["final_state"])


# ---------------------------------------------------------------- gate


@pytest.mark.parametrize("lower_bound", [-5, -5.0, -0.1, torch.tensor(-1.0), None], ids=str)
@pytest.mark.parametrize("absent", [(), ("A_log",), ("dt_bias",), ("A_log", "dt_bias")], ids=str)
def test_gates(problem, lower_bound, absent):
    p = problem(T=20, lower_bound=lower_bound)
    p.update(dict.fromkeys(absent))
    p.check()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", [
    lambda x: x, lambda x: x.view(1, 1, -1, 1), lambda x: torch.nn.Parameter(x), lambda x: x.repeat_interleave(3)[::3],
    lambda x: x[:1].expand(3),
], ids=["HV", "11HV1", "parameter", "strided", "expanded"])  # fmt: skip
def test_forms_of_A_log(problem, dtype, form):
    p = problem(H=3)
    p["A_log"] = form(p["A_log"].to(dtype))
    p.check()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", [
    lambda x: x, lambda x: x.reshape(-1), lambda x: x.view(1, 1, 3, 128), lambda x: torch.nn.Parameter(x),
    lambda x: x.t().contiguous().t(), lambda x: x[0].expand(3, 128),
], ids=["HVK", "HV*K", "11HVK", "parameter", "strided", "expanded"])  # fmt: skip
def test_forms_of_dt_bias(problem, dtype, form):
    p = problem(H=3)
    p["dt_bias"] = form(p["dt_bias"].to(dtype))
    p.check()


# ---------------------------------------------------------------- dtypes and strides


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out"])
def test_dtypes(problem, name, dtype):
    p = problem(T=20)
    p[name] = p[name].to(dtype)
    p.check()


def permuted(x):
    """The same values, axes 1 and 2 swapped in memory: [B,H,T,*] storage behind a [B,T,H,*] tensor."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def padded(x):
    """A slice of a tensor whose last axis is longer, as the parts of a packed projection are."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 24), 7.0, dtype=x.dtype)
    wide[..., 16:-8] = x
    return wide[..., 16:-8]


def every_second(x):
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 7.0, dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def misaligned(x):
    """float32 values at an address that is no multiple of 4."""
    raw = torch.zeros(x.numel() * 4 + 2, dtype=torch.uint8)
    y = torch.frombuffer(raw.numpy(), dtype=torch.float32, offset=2).view(x.shape)
    return y.copy_(x)


@pytest.mark.parametrize("form", [permuted, padded, every_second, misaligned])
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out"])
def test_strides(problem, name, form):
    p = problem(B=2, T=20, H=3)
    p[name] = form(p[name])
    p.check()


def test_strided_outputs_keep_their_gaps(problem):
    for form, gaps in ((padded, lambda x: x._base[..., :16]), (every_second, lambda x: x._base[..., 1::2])):
        p = problem(T=20)
        p["out"] = form(p["out"])
        p.check()
        assert (gaps(p["out"]) == 7).all()


@pytest.mark.parametrize("name,axis", [("q", 0), ("k", 1), ("v", 2), ("g", 3), ("beta", 2), ("beta", 1), ("initial_state", 0)])
def test_expanded_inputs(problem, name, axis):
    p = problem(B=2, T=4, H=3)
    p[name] = p[name].narrow(axis, 0, 1).expand(p[name].shape)
    p.check()


def test_overlapping_windows(problem):
    p = problem(T=4, H=2)
    p["q"] = torch.randn(1000).as_strided((1, 4, 2, 128), (1000, 100, 50, 1))
    p.check()


def test_columns_of_one_projection(problem):
    p = problem(T=20, H=2)
    packed = torch.randn(1, 20, 3 * 2 * 128 + 2).to(torch.bfloat16)
    q, k, v, beta = packed.split([256, 256, 256, 2], dim=-1)
    p.update(q=q.unflatten(-1, (2, 128)), k=k.unflatten(-1, (2, 128)), v=v.unflatten(-1, (2, 128)), beta=beta)
    p["out"] = torch.empty_like(p["v"])
    p.check()


def test_inputs_are_not_modified(problem):
    p = problem(T=20, lens=[12, 8])
    p.update(q=every_second(p["q"]), k=p["k"].half())
    before = {name: x.clone() for name, x in p.items() if isinstance(x, torch.Tensor)}
    p.run()
    assert all(torch.equal(before[name], p[name]) for name in before if name not in ("out", "final_state"))


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("final", FLOATS, ids=str)
@pytest.mark.parametrize("initial", FLOATS, ids=str)
def test_dtypes_of_states(problem, initial, final):
    p = problem(T=20)
    p["initial_state"] = p["initial_state"].to(initial)
    p["final_state"] = p["final_state"].to(final)
    p.check()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_state_in_place(problem, dtype):
    p, apart = problem(T=20), problem(T=20)
    apart["initial_state"] = apart["initial_state"].to(dtype)
    apart["final_state"] = apart["final_state"].to(dtype)
    apart.check()
    p["initial_state"] = p["final_state"] = p["initial_state"].to(dtype)
    p.run()
    assert torch.equal(p["final_state"], apart["final_state"]) and torch.equal(p["out"], apart["out"])


def test_rows_of_a_state_pool(problem):
    p = problem(B=2, T=20)
    pool = torch.full((2, 3, 2, 128, 128), 7.0)
    pool[:, 1] = p["initial_state"]
    p["initial_state"] = p["final_state"] = pool[:, 1]
    p.check()
    assert (pool[:, ::2] == 7).all()


@pytest.mark.parametrize("name", ["initial_state", "final_state"])
def test_states_that_lie_key_first(problem, name):
    p = problem(T=20)
    p[name] = p[name].transpose(2, 3).contiguous().transpose(2, 3)
    p.check()


def test_cu_seqlens_with_a_stride(problem):
    p = problem(lens=[3, 4])
    p["cu_seqlens"] = p["cu_seqlens"].repeat_interleave(2)[::2]
    p.check()


# ---------------------------------------------------------------- the module


def test_positional_arguments(problem):
    p = problem(T=20, lens=[12, 8])
    named = problem(T=20, lens=[12, 8])
    named.run()
    order = "q k v g beta scale out A_log dt_bias lower_bound initial_state final_state cu_seqlens".split()
    assert flash_kda.fwd(*(p[name] for name in order)) is None
    assert torch.equal(p["out"], named["out"]) and torch.equal(p["final_state"], named["final_state"])


def test_last_plan_names_the_backend(problem):
    problem(T=20).run()
    backend, _, rest = flash_kda.last_plan().partition(": ")
    assert backend in ("cpu", "ref") and "workspace" in rest
