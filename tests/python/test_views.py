"""A tensor means what torch says it means: bits that change the values in memory, and tensors that have no plain memory."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from conftest import Problem
from test_errors import TENSORS, refused

pytestmark = pytest.mark.usefixtures("road", "no_grad")

FLOATING = [name for name in TENSORS if name != "cu_seqlens"]
OUTPUTS = ["out", "final_state"]


def imaginary(x):
    """x as the imaginary part of a conjugate: its memory holds -x."""
    return torch.complex(torch.zeros_like(x.float()), -x.float()).conj().imag


def negated(x):
    """x with the negative bit in its own dtype and layout."""
    return torch._neg_view(-x)


# ---------------------------------------------------------------- the negative bit


@pytest.mark.parametrize("form", [imaginary, negated])
@pytest.mark.parametrize("name", FLOATING)
def test_negative_bit(problem, name, form):
    p = problem(lens=[7, 0, 13])
    plain = Problem(p, **{output: p[output].clone() for output in OUTPUTS})
    p[name] = form(p[name])
    assert p[name].is_neg()
    out, state = p.run()
    want_out, want_state = plain.run()
    assert not want_out.isnan().any() and not want_state.isnan().any()
    assert torch.equal(out.to(want_out.dtype), want_out) and torch.equal(state, want_state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", FLOATING)
def test_negative_bit_beside_a_conversion(problem, name, dtype):
    p = problem(lens=[7, 0, 13])
    p[name] = p[name].to(dtype)
    plain = Problem(p, **{output: p[output].clone() for output in OUTPUTS})
    p[name] = negated(p[name])
    want, got = plain.run(), p.run()
    assert all(torch.equal(x, y) and not y.isnan().any() for x, y in zip(got, want, strict=True))


def test_negative_bit_of_everything(problem):
    p = problem(T=20)
    p.update({name: imaginary(x) for name, x in p.items() if isinstance(x, torch.Tensor)})
    p.check()


def test_negative_bit_of_cu_seqlens(problem):
    p = problem(lens=[3, 4])
    p["cu_seqlens"] = negated(p["cu_seqlens"])
    p.check()


def test_negative_bit_of_a_parameter(problem):
    p = problem()
    p["A_log"] = torch.nn.Parameter(negated(p["A_log"]))
    assert p["A_log"].is_neg()
    p.check()


def test_state_in_place_with_the_negative_bit(problem):
    p, plain = problem(T=9), problem(T=9)
    p["initial_state"] = p["final_state"] = imaginary(p["initial_state"])
    assert torch.equal(p.run()[1], plain.run()[1])


def test_negative_view_of_the_same_state(problem):
    """The two arguments lie in the same memory and mean values of opposite sign."""
    p, plain = problem(T=9), problem(T=9)
    p["final_state"] = torch._neg_view(p["initial_state"])
    assert torch.equal(p.run()[1], plain.run()[1]) and torch.equal(p["initial_state"], -plain["final_state"])


def test_negative_view_of_an_input_as_output(problem):
    p = problem()
    p["out"] = torch._neg_view(p["v"])
    refused(p, ValueError, "out", "v", "overlaps")


def test_negative_bit_and_an_error(problem):
    p = problem(scale=float("nan"))
    p.update({name: imaginary(p[name]) for name in OUTPUTS})
    refused(p, ValueError, "scale")


@pytest.mark.parametrize("name", FLOATING)
def test_negative_bit_of_8_bits(problem, name):
    """torch cannot resolve it."""
    p = problem()
    whole = Problem(p)
    p[name] = torch._neg_view(p[name].to(torch.float8_e4m3fn))
    with pytest.raises(TypeError, match=f"^{name} has dtype torch.float8_e4m3fn.*negative bit"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


# ---------------------------------------------------------------- subclasses


class Plain(torch.Tensor):
    pass


class Wrapper(torch.Tensor):
    """Its values are elsewhere."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=inner.device)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return function(*[x.inner if isinstance(x, Wrapper) else x for x in args], **(kwargs or {}))


class Doubled(torch.Tensor):
    """Its values are twice what its memory holds."""

    __torch_dispatch__ = Wrapper.__dict__["__torch_dispatch__"]


@pytest.mark.parametrize("name", TENSORS)
def test_subclass_that_changes_nothing(problem, name):
    p = problem(lens=[2, 3])
    p[name] = p[name].as_subclass(Plain)
    p.check()


@pytest.mark.parametrize("form", [Wrapper, lambda x: torch.Tensor._make_subclass(Doubled, x)], ids=["wrapper", "with memory"])
@pytest.mark.parametrize("name", TENSORS)
def test_subclass_with_a_dispatch_of_its_own(problem, name, form):
    p = problem(lens=[2, 3])
    whole = Problem(p)
    p[name] = form(p[name])
    with pytest.raises(TypeError, match=rf"^{name} is .*__torch_dispatch__.*plain torch.Tensor"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


@pytest.mark.parametrize("name", TENSORS)
def test_fake_tensor(problem, name):
    p = problem(lens=[2, 3])
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(p[name])
    whole = Problem(p)
    p[name] = fake
    with pytest.raises(TypeError, match=rf"^{name} is .*FakeTensor.*__torch_dispatch__"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


# ---------------------------------------------------------------- no plain memory


def freed(x):
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def row_of_freed(x):
    rows = torch.stack([x, x, x])
    row = rows[1]
    rows.untyped_storage().resize_(0)
    return row


def row_of_zeros(x):
    """A view with an offset into nothing: its address is not 0."""
    return torch._efficientzerotensor((3, *x.shape), dtype=x.dtype)[1]


@pytest.mark.parametrize("form", [
    freed, row_of_zeros, lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype), lambda x: torch._to_functional_tensor(x.clone()),
    row_of_freed,
], ids=["freed", "view of a zero tensor", "zero tensor", "functional", "view of a freed tensor"])  # fmt: skip
@pytest.mark.parametrize("name", TENSORS)
def test_empty_storage(problem, name, form):
    p = problem(lens=[2, 3])
    whole = Problem(p)
    p[name] = form(p[name])
    with pytest.raises(ValueError, match=f"^{name} has no memory"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


@pytest.mark.parametrize("form,words", [
    (lambda x: x.to_sparse(), "torch.sparse_coo"), (lambda x: x.flatten(1).to_sparse_csr(), "torch.sparse_csr"),
    (lambda x: x.to_mkldnn(), "torch._mkldnn"), (lambda x: torch.nested.nested_tensor(list(x)), "nested"),
    (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "nested"),
], ids=["sparse", "csr", "mkldnn", "nested", "jagged"])  # fmt: skip
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "initial_state", "out", "final_state"])
def test_layouts(problem, name, form, words):
    p = problem()
    whole = Problem(p)
    p[name] = form(p[name].float())
    with pytest.raises(ValueError, match=f"^{name} is a .*{words}.*torch.strided"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


@pytest.mark.parametrize("name", FLOATING)
def test_quantized(problem, name):
    p = problem()
    whole = Problem(p)
    p[name] = torch.quantize_per_tensor(p[name].float().nan_to_num(), 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match=f"^{name} has dtype torch.qint8"):
        p.run()
    assert all(whole[other].isnan().all() for other in OUTPUTS)


def test_uninitialized_parameter(problem, road):
    p = problem()
    p["A_log"] = torch.nn.UninitializedParameter()
    refused(p, ValueError, "A_log", "uninitialized" if road == "attributes" else "shape (0)")
