"""cu_seqlens_cpu of flash_kda.fwd: a copy of cu_seqlens that the host reads in the call, however the call is made. No bit depends on it.

On CPU tensors nothing is gained by it, but the library checks its values: that is how a test sees that they were read.
"""

import gc
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flash_kda
import flash_kda.torch_ops
from flash_kda import _core
from test_errors import OnCuda, refused
from test_known_calls import is_known

LENS = [3, 0, 20, 1]
READ = "read from args.cu_seqlens_host"


def make(problem, dtype=torch.int64, **changes):
    p = problem(lens=LENS, H=1, K=64, V=64)
    p["cu_seqlens"] = p["cu_seqlens"].to(dtype)
    p["cu_seqlens_cpu"] = p["cu_seqlens"].clone()
    p.update(changes)
    return p


def broken(p):
    """The problem with a copy whose last sequence ends behind T."""
    bounds = p["cu_seqlens"].clone()
    bounds[-1] += 1
    return type(p)(p, cu_seqlens_cpu=bounds)


def want(problem):
    p = make(problem)
    del p["cu_seqlens_cpu"]
    return p.run()


def same(have, expected):
    return all(torch.equal(x, y) for x, y in zip(have, expected, strict=True))


# ---------------------------------------------------------------- taken


@pytest.mark.usefixtures("road", "no_grad")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_no_bit_depends_on_it(problem, dtype):
    assert same(make(problem, dtype).run(), want(problem))
    p = make(problem, dtype)
    assert same(type(p)(p, cu_seqlens_cpu=p["cu_seqlens"]).run(), want(problem))


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("bounds,words", [
    ([1, 3, 3, 23, 24], "cu_seqlens[0] = 1"), ([0, 3, 2, 23, 24], "cu_seqlens[2] = 2"), ([0, 3, 3, 23, 25], "cu_seqlens[4] = 25 is beyond T = 24"),
])  # fmt: skip
def test_its_values_are_checked(problem, bounds, words, dtype):
    refused(make(problem, dtype, cu_seqlens_cpu=torch.tensor(bounds, dtype=dtype)), ValueError, words, READ)


@pytest.mark.usefixtures("road", "no_grad")
@pytest.mark.parametrize("change", [lambda x: x.repeat_interleave(2)[::2], lambda x: torch._neg_view(-x)], ids=["stride", "negative bit"])
def test_it_is_copied_as_cu_seqlens_is(problem, change):
    changed = lambda p, *names: type(p)(p, **{name: change(p[name]) for name in names})
    assert same(changed(make(problem), "cu_seqlens_cpu").run(), want(problem))
    assert same(changed(make(problem), "cu_seqlens_cpu", "cu_seqlens").run(), want(problem))
    refused(changed(broken(make(problem)), "cu_seqlens_cpu"), ValueError, READ)


# ---------------------------------------------------------------- refused


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("change,exception,words", [
    ([0, 24], TypeError, "cu_seqlens_cpu is <class 'list'>, but it must be a torch.Tensor"),
    (torch.zeros(5, dtype=torch.int32), TypeError, "cu_seqlens_cpu has dtype torch.int32, but it must be int64, that of cu_seqlens"),
    (torch.zeros(5), TypeError, "cu_seqlens_cpu has dtype torch.float32, but it must be int64, that of cu_seqlens"),
    (torch.zeros(4, dtype=torch.int64), ValueError, "cu_seqlens_cpu has shape (4), but it must be [N+1] = (5)"),
    (torch.zeros(1, 5, dtype=torch.int64), ValueError, "cu_seqlens_cpu has shape (1, 5), but it must be [N+1] = (5)"),
    (torch.zeros(5, dtype=torch.int64, device="meta"), ValueError, "cu_seqlens_cpu is on device meta"),
], ids=["list", "int32", "float", "short", "axes", "meta"])  # fmt: skip
def test_refusals(problem, change, exception, words):
    refused(make(problem, cu_seqlens_cpu=change), exception, words)


@pytest.mark.usefixtures("road")
def test_it_belongs_to_cu_seqlens(problem):
    refused(problem(cu_seqlens_cpu=torch.tensor([0, 5])), ValueError, "cu_seqlens_cpu is given, but cu_seqlens is not")


def test_it_is_not_on_a_gpu(problem):
    """What the attribute road sees of a CUDA tensor; that of a call on CUDA tensors is in test_copies.py."""
    _core._use_exchange_table(False)
    try:
        p = make(problem)
        p["cu_seqlens_cpu"] = p["cu_seqlens_cpu"].as_subclass(OnCuda)
        refused(p, ValueError, "cu_seqlens_cpu is on device cuda:1, but it must be on cpu: the host reads it")
    finally:
        _core._use_exchange_table(True)


def test_queries(problem):
    names = list(flash_kda.torch_ops._PARAMETERS["fwd"])
    ask = lambda p: _core.query(*(p.get(name, flash_kda.torch_ops._PARAMETERS["fwd"][name].default) for name in names))
    p = make(problem)
    with torch.no_grad():
        strided = {**p, "cu_seqlens_cpu": p["cu_seqlens"].repeat_interleave(2)[::2]}
        assert ask(p) == {} and ask(strided) == {names.index("cu_seqlens_cpu"): torch.int64}
        with pytest.raises(ValueError, match="cu_seqlens_cpu has shape"):
            ask({**p, "cu_seqlens_cpu": p["cu_seqlens"][:2]})


# ---------------------------------------------------------------- calls that come again


def test_a_known_call_reads_its_own(problem, no_grad):
    """Of every call the tensor that it brings, and the values that are there then."""
    _core._forget_calls()
    assert not is_known("fwd", make(problem))
    p = make(problem)
    assert is_known("fwd", p) and same((p["out"], p["final_state"]), want(problem))
    refused(broken(make(problem)), ValueError, READ)
    p["cu_seqlens_cpu"][-1] = 99
    refused(p, ValueError, "cu_seqlens[4] = 99", READ)
    p["cu_seqlens_cpu"][-1] = 24
    assert is_known("fwd", p)
    bounds = torch.tensor([0, 10, 11, 11, 24])
    other, alone = make(problem, cu_seqlens=bounds, cu_seqlens_cpu=bounds.clone()), make(problem, cu_seqlens=bounds, cu_seqlens_cpu=None)
    assert is_known("fwd", other) and same((other["out"], other["final_state"]), alone.run())


def test_a_known_call_holds_nothing(problem, no_grad):
    for _ in range(3):
        p = make(problem)
        flash_kda.fwd(**p)
    ref = weakref.ref(p["cu_seqlens_cpu"])
    del p
    gc.collect()
    assert ref() is None
    assert is_known("fwd", make(problem))


@pytest.mark.parametrize("given", [(), ("cu_seqlens", "cu_seqlens_cpu"), ("out", "cu_seqlens_cpu")], ids=str)
def test_bound(problem, given, no_grad):
    p = make(problem)
    step = flash_kda.bind(flash_kda.fwd, given, **p)
    brought = lambda p: [p[name] for name in given]
    for known in (False, True, True):
        before = _core._bound_calls()
        p["out"].fill_(float("nan"))
        step(*brought(p))
        assert (_core._bound_calls() == before + 1) == known and same((p["out"], p["final_state"]), want(problem))
        if given:
            with pytest.raises(ValueError, match=READ):
                step(*brought(broken(p)))
    gc.collect()
    if not given:  # what is held may change its values
        p["cu_seqlens_cpu"][-1] = 99
        with pytest.raises(ValueError, match=READ):
            step()
        p["cu_seqlens_cpu"].data = p["cu_seqlens"].clone()
        step()


# ---------------------------------------------------------------- where torch traces


def test_op(problem, no_grad):
    p = make(problem)
    torch.ops.flashkda.fwd(**p)
    assert same((p["out"], p["final_state"]), want(problem))
    with pytest.raises(ValueError, match=READ):
        torch.ops.flashkda.fwd(**broken(p))


def test_compile(problem, no_grad):
    """One graph, which reads the values of each call."""
    torch._dynamo.reset()
    run = torch.compile(lambda p: flash_kda.fwd(**p), fullgraph=True, backend="aot_eager")
    for _ in range(2):
        p = make(problem)
        run(dict(p))
        assert same((p["out"], p["final_state"]), want(problem))
        with pytest.raises(ValueError, match=READ):
            run(dict(broken(p)))


def test_fake_cuda_tensors(problem, no_grad):
    """An op of two devices: the copy stays on the host."""
    p = make(problem)
    with FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for name, x in p.items()}
        there = lambda x: torch.empty(x.shape, dtype=x.dtype, device="cuda:0")
        on_gpu = {name: there(x) if isinstance(x, torch.Tensor) else x for name, x in fake.items()}
        call = {**on_gpu, "cu_seqlens_cpu": fake["cu_seqlens_cpu"]}
        for function in (flash_kda.fwd, torch.ops.flashkda.fwd):
            function(**call)
            for change, exception, words in (
                (on_gpu["cu_seqlens"], ValueError, "cu_seqlens_cpu is on device cuda:0, but it must be on cpu"),
                (fake["cu_seqlens_cpu"].int(), TypeError, "cu_seqlens_cpu has dtype torch.int32, but it must be int64, that of cu_seqlens"),
                (fake["cu_seqlens_cpu"][:2], ValueError, r"cu_seqlens_cpu has shape \(2,\), but it must be \[N\+1\] = \(5,\)"),
            ):
                with pytest.raises(exception, match=words):
                    function(**{**call, "cu_seqlens_cpu": change})
            with pytest.raises(ValueError, match="cu_seqlens_cpu is given, but cu_seqlens is not"):
                function(**{**call, "cu_seqlens": None, "initial_state": None, "final_state": None})
