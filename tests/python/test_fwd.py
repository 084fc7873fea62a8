"""flash_kda.fwd: what it computes, for every form in which its callers pass tensors."""

import pytest
import torch

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


def test_no_tokens(problem):
    p = problem(T=0)
    p.run()
    assert torch.equal(p["final_state"], p["initial_state"])


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
    p.check(state_bound=2.2e-3 if final in (torch.bfloat16, torch.float16) else 1e-5)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_state_in_place(problem, dtype):
    p, apart = problem(T=20), problem(T=20)
    apart["initial_state"] = apart["initial_state"].to(dtype)
    apart["final_state"] = apart["final_state"].to(dtype)
    apart.check(state_bound=2.2e-3)
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
