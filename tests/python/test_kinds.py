"""Tensors like those of calls before: torch is asked one question about all of them, and hears of every difference that matters."""

import pathlib

import pytest
import torch
from torch.autograd import forward_ad

from conftest import Problem

TENSORS = ["q", "k", "v", "g", "beta", "out", "A_log", "dt_bias", "initial_state", "final_state", "cu_seqlens"]
FLOATING = TENSORS[:-1]
MANY = 40  # calls in a row, after which a new kind has been learnt


def learnt(problem, **options):
    """A packed problem of a kind that the calls before were of."""
    p = problem(lens=[3, 0, 2], **options)
    for _ in range(MANY):
        p.run()
    return p


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("name", TENSORS)
def test_the_negative_bit_after_plain_calls(problem, road, name, mode):
    with mode():
        want = tuple(x.clone() for x in learnt(problem).run())
        p = problem(lens=[3, 0, 2])
        p[name] = torch._neg_view(-p[name])
        out, state = p.run()
        assert torch.equal(out.resolve_neg(), want[0]) and torch.equal(state.resolve_neg(), want[1])


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_gets_the_negative_bit(problem, road, name):
    """The same object, at the same address, with the same version."""
    with torch.no_grad():
        p = learnt(problem)
        out, state = p.run()
        want = out.clone(), state.clone()
        other = Problem({key: x.clone() if isinstance(x, torch.Tensor) else x for key, x in p.items()})
        for _ in range(MANY):
            other.run()
        other[name].copy_(-other[name])
        torch._C._set_neg(other[name], True)
        out, state = other.run()
    assert torch.equal(out.resolve_neg(), want[0]) and torch.equal(state.resolve_neg(), want[1])


@pytest.mark.parametrize("name", FLOATING)
def test_requires_grad_after_plain_calls(problem, road, name):
    p = learnt(problem)
    before = p["out"].clone(), p["final_state"].clone()
    p[name] = p[name].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"{name} requires grad"):
        p.run()
    p[name].requires_grad_(False)
    p["out" if name != "out" else "final_state"].fill_(7)
    out, state = p.run()
    assert torch.equal(out, before[0]) and torch.equal(state, before[1])


@pytest.mark.parametrize("name", FLOATING)
def test_requires_grad_where_it_was_learnt(problem, road, name):
    """Under no_grad it does not matter; afterwards it does."""
    p = problem(lens=[3, 0, 2])
    p[name] = torch.nn.Parameter(p[name]) if name == "A_log" else p[name].clone().requires_grad_()
    with torch.no_grad():
        for _ in range(MANY):
            p.run()
    with pytest.raises(RuntimeError, match=f"{name} requires grad"):
        p.run()


def test_tangents_after_plain_calls(problem, road):
    p = learnt(problem)
    with forward_ad.dual_level():
        p["A_log"] = forward_ad.make_dual(p["A_log"], p["A_log"])
        with pytest.raises(RuntimeError, match="A_log has a forward-mode tangent"):
            p.run()


def test_kinds_in_turns(problem, road):
    """Other sizes are of the same kind; other dtypes, classes, absent tensors and states in place are not. Nothing is mixed up."""
    with torch.no_grad():
        kinds = [problem(), problem(T=9, H=3), problem(lens=[4, 1]), problem(state=False), problem(A_log=None, dt_bias=None)]
        kinds.append(Problem(problem(), A_log=torch.nn.Parameter(torch.zeros(2))))
        kinds.append(Problem(problem(), q=problem()["q"].float(), out=problem()["out"].float()))
        kinds.append(Problem(problem(), k=torch._neg_view(-problem()["k"])))
        in_place = problem()
        kinds.append(Problem(in_place, k=in_place["q"], final_state=in_place["initial_state"]))
        starts = [p["initial_state"].clone() if "initial_state" in p else None for p in kinds]
        for repeats in (1, MANY, 1):
            for p, start in zip(kinds, starts, strict=True):
                for i in range(repeats):
                    if start is not None:
                        p["initial_state"].copy_(start)
                    p["out"].fill_(float("nan"))
                    p.check() if i == repeats - 1 else p.run()


# A torch that has no such question, and one that has another under the same name.
OTHER_GUARDS = """
import sys, torch
sys.path.insert(0, {tests!r})
guards = torch._C._dynamo.guards
class AlwaysTrue:
    def __init__(self, *tensors, **options): pass
    def check(self, *tensors): return True
class WithoutSizes:
    def __init__(self, *tensors): pass
{change}
from conftest import make_problem
with torch.no_grad():
    p = make_problem()
    for _ in range(50):
        p.check()
    want = p["out"].clone()
    p["v"] = torch._neg_view(-p["v"])
    p.run()
    print(torch.equal(p["out"], want))
"""


@pytest.mark.parametrize("change", ["del guards.TensorGuards", "guards.TensorGuards = AlwaysTrue", "guards.TensorGuards = WithoutSizes",
                                    "guards.TensorGuards = 3", "del torch._C._dynamo"])  # fmt: skip
def test_other_torches(torch_alone, change):
    assert torch_alone(OTHER_GUARDS.format(tests=str(pathlib.Path(__file__).parent), change=change)).strip() == "True"
