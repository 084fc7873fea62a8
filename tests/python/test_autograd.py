"""What torch's autograd must hear of: no derivative is lost in silence, and writes count in the version of a tensor."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

import flash_kda

pytestmark = pytest.mark.usefixtures("road")

INPUTS = ["q", "k", "v", "g", "beta", "A_log", "dt_bias", "initial_state"]
OUTPUTS = ["out", "final_state"]
NUMBERS = ["scale", "lower_bound"]


def refused(p, *words):
    with pytest.raises(RuntimeError) as caught:
        flash_kda.fwd(**p)
    assert all(word in str(caught.value) for word in words), caught.value
    assert p["out"].detach().isnan().all() and p["final_state"].detach().isnan().all()


# ---------------------------------------------------------------- backward


@pytest.mark.parametrize("form", [
    torch.nn.Parameter, lambda x: x.requires_grad_(), lambda x: x.requires_grad_() * 1, lambda x: x.requires_grad_()[:],
    lambda x: x.requires_grad_().view_as(x),
], ids=["parameter", "leaf", "result", "slice", "view"])  # fmt: skip
@pytest.mark.parametrize("name", INPUTS + OUTPUTS)
def test_requires_grad(problem, name, form):
    p = problem()
    p[name] = form(p[name])
    refused(p, f"{name} requires grad", "torch.no_grad")


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_require_grad(problem, name):
    p = problem(**{name: torch.tensor(-1.0, requires_grad=True)})
    refused(p, f"{name} requires grad", "torch.no_grad")


@pytest.mark.parametrize("name", OUTPUTS)
def test_view_of_a_parameter_as_output(problem, name):
    """torch forbids to write into it with grad mode on, although the view was made under no_grad."""
    p = problem()
    parameter = torch.nn.Parameter(p[name].clone())
    with torch.no_grad():
        p[name] = parameter[:]
    refused(p, f"{name} requires grad")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_parameters_without_grad_mode(problem, mode):
    p, plain = problem(), problem()
    p.update({name: torch.nn.Parameter(p[name]) for name in INPUTS + OUTPUTS})
    p.update(scale=torch.tensor(p["scale"], requires_grad=True))
    with mode():
        p.run()
    plain.run()  # grad mode is on and nothing requires grad
    assert torch.equal(p["out"], plain["out"])


def test_inference_tensors(problem):
    with torch.inference_mode():
        p = problem(final_state=torch.empty(1, 2, 128, 128, dtype=torch.float16), out=torch.empty(1, 5, 2, 128, dtype=torch.float64))
        q = problem()
    with torch.no_grad():
        p.check(state_bound=2.2e-3)
        q.check()


# ---------------------------------------------------------------- forward mode


@pytest.mark.parametrize("name", INPUTS + OUTPUTS + NUMBERS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_dual_tensors(problem, name, mode):
    """no_grad does not stop tangents; inference_mode does."""
    p = problem()
    plain = p[name] if isinstance(p[name], torch.Tensor) else torch.tensor(p[name])
    with forward_ad.dual_level():
        p[name] = forward_ad.make_dual(plain.float(), torch.ones_like(plain.float()))
        if name in OUTPUTS:
            assert p[name].isnan().all()
        with mode():
            refused(p, f"{name} has a forward-mode tangent", "torch.inference_mode")
        with torch.inference_mode():
            p.run()
    with mode():
        p[name] = p[name].detach()
        p.run()  # the level has ended, and the tangent with it


def test_a_level_without_tangents(problem):
    p = problem(lens=[2, 3])
    with torch.no_grad(), forward_ad.dual_level():
        p.check()


# ---------------------------------------------------------------- torch.func


def inside(transform, use, x):
    if transform == "grad":
        return torch.func.grad(lambda y: (use(y), y.float().sum())[1])(x)
    if transform == "vmap":
        return torch.func.vmap(lambda y: (use(y), y)[1])(x[None])
    if transform == "jvp":
        return torch.func.jvp(lambda y: (use(y), y)[1], (x,), (torch.ones_like(x),))
    return torch.func.functionalize(lambda y: (use(y), y)[1])(x)


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp", "functionalize"])
@pytest.mark.parametrize("name", INPUTS + OUTPUTS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tensors_inside_torch_func(problem, transform, name, mode):
    p, used = problem(), []

    def use(y):
        with mode(), pytest.raises((TypeError, ValueError)) as caught:
            flash_kda.fwd(**{**p, name: y})
        assert str(caught.value).startswith(f"{name} "), caught.value
        assert transform == "functionalize" or "torch.func" in str(caught.value)
        used.append(name)

    inside(transform, use, p[name].float())
    assert used and p["out"].isnan().all() and p["final_state"].isnan().all()


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_inside_torch_func(problem, transform, name):
    p, used = problem(), []

    def use(y):
        with torch.no_grad(), pytest.raises(TypeError, match=f"{name} .*torch.func"):
            flash_kda.fwd(**{**p, name: y})
        used.append(name)

    inside(transform, use, torch.tensor(-1.0))
    assert used and p["out"].isnan().all()


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("copied", [(), ("q",), ("out",), ("final_state",), ("out", "final_state")], ids=str)
def test_writes_count(problem, mode, copied):
    p = problem()
    p.update({name: p[name].double() for name in copied})
    view = p["out"][:, 1:]
    before = {name: p[name]._version for name in INPUTS + OUTPUTS}
    with mode():
        p.run()
    assert all(p[name]._version == before[name] for name in INPUTS)
    assert all(p[name]._version > before[name] for name in OUTPUTS)
    assert view._version == p["out"]._version


def test_failures_do_not_count(problem):
    p = problem(scale=float("nan"))
    before = {name: p[name]._version for name in INPUTS + OUTPUTS}
    with torch.no_grad(), pytest.raises(ValueError):
        p.run()
    assert all(p[name]._version == before[name] for name in before)


def test_a_saved_output_is_not_used_after_it_was_overwritten(problem):
    """y = out^2 saves out; its backward must say that out has changed."""
    p = problem()
    out = torch.nn.Parameter(p["out"].nan_to_num().float())
    p["out"] = out.detach()
    y = (out * out).sum()
    with torch.no_grad():
        p.run()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
