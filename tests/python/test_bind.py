"""flash_kda.bind (python/ext/py_bound.c): a call that holds what does not change, with the bits and the errors of the function."""

import gc
import pathlib
import weakref

import pytest
import torch

import flash_kda
from flash_kda import _core
from test_known_calls import NAMES, cloned, make, same_bits, written

TOKENS = ("q", "k", "v", "g", "beta", "out")


def bound(name, call, given=TOKENS):
    return flash_kda.bind(getattr(flash_kda, name), given, **call)


def brought(call, given=TOKENS):
    return [call[key] for key in given]


def is_known(step, *tensors):
    before = _core._bound_calls()
    assert step(*tensors) is None
    return _core._bound_calls() == before + 1


@pytest.fixture(params=[TOKENS, (), ("out", "beta")], ids=["tokens", "none", "two"])
def given(request):
    return request.param


@pytest.mark.parametrize("name", NAMES)
def test_bits_and_versions(name, given, no_grad):
    """What is held, states too, goes on from call to call."""
    held = make(name)
    step = bound(name, held, given)
    for seed in range(4):
        call = {**held, **{key: make(name, seed)[key] for key in given}}
        expected = cloned(call)
        versions = [x._version for x in written(call)]
        assert is_known(step, *brought(call, given)) == (seed > 0)
        assert [x._version for x in written(call)] == [version + 1 for version in versions]
        getattr(flash_kda, name)(**expected)
        assert same_bits(written(call), written(expected))


@pytest.mark.parametrize("name", NAMES)
def test_other_kinds_of_tensors(name, no_grad):
    """They go the way of the function, and those after them are known again."""
    held = make(name)
    step = bound(name, held)
    wide = torch.zeros(*held["g"].shape[:-1], 128, dtype=torch.bfloat16)
    for change in ({}, {"beta": held["beta"].float()}, {"g": wide[..., 64:]}, {}):
        call = {**held, **change}
        for known in (False, True, True):
            expected = cloned(call)
            assert is_known(step, *brought(call)) == known
            getattr(flash_kda, name)(**expected)
            assert same_bits(written(call), written(expected))


@pytest.mark.parametrize("name", NAMES)
def test_held_tensors_with_other_memory(name, no_grad):
    call = make(name)
    key = "state" if "state" in call else "initial_state"
    step = bound(name, call)
    assert [is_known(step, *brought(call)) for _ in range(2)] == [False, True]
    other = cloned(call)
    other[key].mul_(0.5)
    other["A_log"].add_(1)
    call[key].data, call["A_log"].data = other[key].clone(), other["A_log"].clone()
    assert is_known(step, *brought(call))
    getattr(flash_kda, name)(**other)
    assert same_bits(written(call), written(other))
    call["A_log"].data = call["A_log"].data.bfloat16()
    assert not is_known(step, *brought(call))


def test_without_guards(torch_alone):
    """A torch without them, or one that is looked up while it traces, where they do not tell: tensors are asked one by one."""
    code = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import torch, flash_kda
from flash_kda import _core
from test_known_calls import make
del torch._C._dynamo.guards.TensorGuards
call = make("decode")
step = flash_kda.bind(flash_kda.decode, ("q", "g"), **call)
for _ in range(20):
    step(call["q"], call["g"])
known = _core._bound_calls()
try:
    step(call["q"], call["g"].clone().requires_grad_())
except RuntimeError as error:
    print(known, error)
try:
    step(call["q"], torch._neg_view(-call["g"]))
except ValueError as error:
    print(_core._bound_calls() == known, error)
"""
    lines = torch_alone(code).splitlines()
    assert lines[0].startswith("19 g requires grad") and lines[1].startswith("True g is not taken as it lies"), lines


@pytest.mark.parametrize("name", NAMES)
def test_after_other_numbers_of_threads(name, no_grad):
    """The function knows the same call with more threads, too, and that one came first."""
    call, count = make(name), torch.get_num_threads()
    _core._forget_calls()
    try:
        for more in (3, 2, 1, 0):
            torch.set_num_threads(count + more)
            getattr(flash_kda, name)(**call)
            step = bound(name, call)
            assert not is_known(step, *brought(call)) and is_known(step, *brought(call)), f"{more} threads more"
    finally:
        torch.set_num_threads(count)


@pytest.mark.parametrize("name", NAMES)
def test_errors_of_the_function(name, no_grad):
    call = make(name)
    step = bound(name, call)
    for _ in range(3):
        step(*brought(call))
    before = cloned(call)
    with pytest.raises(ValueError, match="overlaps"):
        step(*brought({**call, "out": call["v"]}))
    with pytest.raises(ValueError, match="k has shape"):
        step(*brought({**call, "q": call["q"][:1]}))
    with pytest.raises(TypeError, match="q is <class 'int'>"):
        step(*brought({**call, "q": 5}))
    with torch.enable_grad(), pytest.raises(RuntimeError, match="g requires grad"):
        step(*brought({**call, "g": call["g"].clone().requires_grad_()}))
    assert same_bits(written(call), written(before))
    assert is_known(step, *brought(call))
    with torch.enable_grad():
        assert is_known(step, *brought(call))
        call["A_log"].requires_grad_()
        with pytest.raises(RuntimeError, match="A_log requires grad"):
            step(*brought(call))


@pytest.mark.parametrize("name", NAMES)
def test_the_negative_bit_of_what_is_brought(name, no_grad):
    call = make(name)
    step = bound(name, call)
    for _ in range(3):
        step(*brought(call))
    minus = {**call, "v": torch._neg_view(-call["v"])}
    if name == "fwd":
        step(*brought(call))
        expected = cloned(call)["out"]
        step(*brought(minus))
        assert same_bits([call["out"]], [expected])
    else:
        with pytest.raises(ValueError, match="v is not taken as it lies"):
            step(*brought(minus))
    step(*brought(call))
    assert is_known(step, *brought(call))


def test_without_an_exchange_table(no_grad):
    call = make("decode")
    expected = cloned(call)
    _core._use_exchange_table(False)
    try:
        step = bound("decode", call)
        assert not is_known(step, *brought(call)) and not is_known(step, *brought(call))
    finally:
        _core._use_exchange_table(True)
    for _ in range(2):
        flash_kda.decode(**expected)
    assert same_bits(written(call), written(expected))


def test_one_tensor_of_weights(no_grad):
    call = make("decode_fused")
    call |= {"conv_weight": torch.stack(call["conv_weight"]), "conv_bias": torch.stack(call["conv_bias"])}
    expected, step = cloned(call), bound("decode_fused", call, (*TOKENS, "output_gate"))
    for known in (False, True, True):
        assert is_known(step, *brought(call, (*TOKENS, "output_gate"))) == known
        flash_kda.decode_fused(**expected)
        assert same_bits(written(call), written(expected))


def test_what_bind_refuses():
    call = make("decode")
    with pytest.raises(TypeError, match="bind takes flash_kda\\.fwd, decode or decode_fused"):
        flash_kda.bind(print, ())
    with pytest.raises(TypeError, match="must be a sequence of names"):
        bound("decode", call, "out")
    for given in (("scale",), ("conv_state",), ("q", "q"), ("nothing",)):
        with pytest.raises(ValueError, match=f"given: '{given[-1]}'"):
            bound("decode", call, given)
    with pytest.raises(ValueError, match="given: 'conv_weight'"):
        bound("decode_fused", make("decode_fused"), ("conv_weight",))
    with pytest.raises(TypeError, match="missing a required argument: 'v'"):
        flash_kda.bind(flash_kda.decode, (), call["q"], call["k"])
    with pytest.raises(TypeError, match="cannot create"):
        _core.Bound()
    for arguments in ((), ("decode", (), (1,), print), ("decode", (1,), ("q",), print), ("decode", (1,), (5,), print), ("nothing", (1,), (), print)):
        with pytest.raises((TypeError, ValueError)):
            _core.bind(*arguments)


def test_wrong_numbers_of_tensors(no_grad):
    call = make("decode")
    step = bound("decode", call)
    for arguments, keywords in (([], {}), (brought(call)[:5], {}), ([*brought(call), call["q"]], {}), (brought(call), {"q": call["q"]})):
        with pytest.raises(TypeError, match="this bound decode takes 6 tensors by position"):
            step(*arguments, **keywords)


def test_what_it_holds(no_grad):
    """State and weights, not what calls bring; and nothing of it is left when it goes, in a cycle too."""
    call = make("decode")
    step = bound("decode", call)
    step(*brought(call))
    held = {key: weakref.ref(x) for key, x in call.items() if isinstance(x, torch.Tensor)}
    del call
    gc.collect()
    assert {key for key, ref in held.items() if ref() is not None} == {"A_log", "dt_bias", "state"}
    held["state"]().step = step
    del step
    gc.collect()
    assert all(ref() is None for ref in held.values())
