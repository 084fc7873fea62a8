"""Calls that come again are compared with an earlier one (python/ext/py_recipe.c): with the same bits, and nothing unseen."""

import ctypes
import mmap

import pytest
import torch

import flash_kda
from conftest import make_problem
from flash_kda import _core
from test_decode_fused import make_call

NAMES = ("fwd", "decode", "decode_fused")
MANY = 20  # calls after which one question is asked about all tensors


def make(name, seed=0):
    """Arguments of the same kind in every call, with other values."""
    if name == "decode_fused":
        call = make_call(N=2, H=1, W=64, seed=seed)
        return {**call, "conv_weight": tuple(call["conv_weight"]), "conv_bias": tuple(call["conv_bias"])}
    p = make_problem(B=2, T=3, H=1, K=64, V=64, seed=seed)
    if name == "fwd":
        return dict(p)
    return {**{key: x for key, x in p.items() if key not in ("initial_state", "final_state")}, "state": p["initial_state"]}


def cloned(call):
    return {key: x.clone(memory_format=torch.preserve_format) if isinstance(x, torch.Tensor) else x for key, x in call.items()}


def written(call):
    return [call[key] for key in ("out", "final_state", "state", "conv_state") if key in call]


def is_known(name, call):
    before = _core._known_calls()
    getattr(flash_kda, name)(**call)
    return _core._known_calls() == before + 1


def same_bits(a, b):
    return all(torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8)) for x, y in zip(a, b, strict=True))


@pytest.fixture
def learnt(no_grad):
    """A kind of call that has come so often that everything about it is known."""

    def of(name):
        for seed in range(MANY):
            is_known(name, make(name, seed))
        assert is_known(name, make(name))
        return make(name)

    return of


@pytest.mark.parametrize("name", NAMES)
def test_forgotten_calls_are_planned_anew(learnt, name):
    call, again = learnt(name), make(name)
    _core._forget_calls()
    assert not is_known(name, call) and is_known(name, again)
    assert same_bits(written(call), written(again))


@pytest.mark.parametrize("name", NAMES)
def test_bits_and_versions(name, learnt):
    learnt(name)
    for seed in range(3):
        call = make(name, 50 + seed)
        other = cloned(call)
        versions = [x._version for x in written(call)]
        assert is_known(name, call)
        assert [x._version for x in written(call)] == [version + 1 for version in versions]
        _core._use_exchange_table(False)
        assert not is_known(name, other)
        _core._use_exchange_table(True)
        assert same_bits(written(call), written(other))


@pytest.mark.parametrize("name", NAMES)
def test_the_negative_bit(name, learnt):
    call = learnt(name)
    if name == "fwd":
        other = cloned(call)
        other["v"] = torch._neg_view(-call["v"])
        flash_kda.fwd(**call)
        flash_kda.fwd(**other)
        assert same_bits(written(call), written(other))
    else:
        for key in ("v", "A_log", "state"):
            with pytest.raises(ValueError, match="is not taken as it lies"):
                is_known(name, {**call, key: torch._neg_view(call[key])})
    assert is_known(name, make(name))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name, learnt):
    call = learnt(name)
    before = [x.clone() for x in written(call)]
    with torch.enable_grad():
        with pytest.raises(RuntimeError, match="A_log requires grad"):
            is_known(name, {**call, "A_log": call["A_log"].requires_grad_()})
        call["A_log"].requires_grad_(False)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(call["g"].float(), torch.ones_like(call["g"].float()))
            with pytest.raises(RuntimeError, match="g has a forward-mode tangent"):
                is_known(name, {**call, "g": dual})
    assert all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(written(call), before, strict=True))
    with torch.enable_grad():
        getattr(flash_kda, name)(**call)


def test_a_parameter_that_requires_grad(no_grad):
    for _ in range(MANY + 2):
        known = is_known("decode", {**make("decode"), "A_log": torch.nn.Parameter(torch.zeros(1))})
    assert known
    with torch.enable_grad(), pytest.raises(RuntimeError, match="A_log requires grad"):
        flash_kda.decode(**{**make("decode"), "A_log": torch.nn.Parameter(torch.zeros(1))})


@pytest.mark.parametrize("name", NAMES)
def test_with_grad_mode_on(name):
    """As a caller has it who says nothing: known from the second call on, and after many."""
    with torch.enable_grad():
        known = [is_known(name, make(name, seed)) for seed in range(MANY)]
        assert sum(known) >= MANY - 2
        call = make(name)
        with pytest.raises(RuntimeError, match="A_log requires grad"):
            is_known(name, {**call, "A_log": call["A_log"].requires_grad_()})
        with pytest.raises(RuntimeError, match="g requires grad"):
            is_known(name, {**make(name), "g": make(name)["g"].requires_grad_()})
        assert is_known(name, make(name))


def test_requires_grad_in_an_early_call():
    with torch.enable_grad():
        for _ in range(3):
            call = make("decode", 1)
            flash_kda.decode(**call)
        before = [x.clone() for x in written(call)]
        with pytest.raises(RuntimeError, match="A_log requires grad"):
            is_known("decode", {**call, "A_log": call["A_log"].requires_grad_()})
        assert same_bits(written(call), before)


def test_one_tensor_of_weights(no_grad):
    """Three addresses from one."""
    for seed in range(MANY):
        call = make_call(N=2, H=1, W=64, seed=seed)
        parts = {**cloned(call), "conv_weight": [x.clone() for x in call["conv_weight"]], "conv_bias": [x.clone() for x in call["conv_bias"]]}
        known = is_known("decode_fused", call)
        is_known("decode_fused", parts)
        assert same_bits(written(call), written(parts))
    assert known
    wide = torch.zeros(3, 4, 128)
    wide[:, :, :64] = call["conv_weight"]
    call, other = cloned(call), cloned(call)
    is_known("decode_fused", call)
    assert not is_known("decode_fused", {**other, "conv_weight": wide[:, :, :64]})
    assert same_bits(written(call), written(other))


def test_values(learnt):
    call = learnt("decode")
    assert is_known("decode", {**make("decode"), "scale": float(str(call["scale"])), "slot_null": "".join(["neg", "ative"])})
    minus = {**make("decode"), "scale": -0.0}
    zero = {**make("decode"), "scale": 0.0}
    assert not is_known("decode", zero) and not is_known("decode", minus)
    assert is_known("decode", zero) and is_known("decode", minus)
    assert not is_known("decode", {**make("decode"), "commit": "none"})
    assert not is_known("decode", {**make("decode"), "scale": torch.tensor(call["scale"])})


def test_states_that_are_only_read_have_their_version(no_grad):
    for _ in range(3):
        call = {**make("decode"), "commit": "none"}
        version = call["state"]._version, call["out"]._version
        known = is_known("decode", call)
        assert (call["state"]._version, call["out"]._version) == (version[0], version[1] + 1)
    assert known


def test_shapes_strides_dtypes(learnt):
    call = learnt("decode")
    wide = torch.zeros(2, 3, 1, 128, dtype=torch.bfloat16)
    assert not is_known("decode", {**call, "q": wide[..., 64:]})
    assert not is_known("decode", {**call, "beta": call["beta"].float()})
    assert not is_known("decode", {**call, "A_log": call["A_log"].bfloat16()})
    assert not is_known("decode", {**call, "dt_bias": call["dt_bias"].flatten()})
    with pytest.raises(ValueError, match="k has shape"):
        is_known("decode", {**call, "q": call["q"][:1]})
    with pytest.raises(TypeError, match="k is <class 'list'>"):
        is_known("decode", {**call, "k": call["k"].tolist()})


def test_addresses_are_checked(learnt):
    call = learnt("decode")
    both = torch.zeros(5, 1, 64, 64)
    with pytest.raises(ValueError, match="overlaps"):
        is_known("decode", {**call, "v": call["out"]})
    with pytest.raises(ValueError, match=r"slots\[1\] and args.slots\[0\]|slots\[0\] and args.slots\[1\]"):
        for slots in ([0, 1], [2, 3], [4, 4]):
            is_known("decode", {**call, "state": both, "slots": torch.tensor(slots)})


def in_near_memory(x):
    """A copy of the tensor below 2^44: so low lie small tensors where Python is not position-independent, and torch's expandable segments."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    fixed_noreplace = 0x100000  # of Linux; the module mmap does not have it
    for place in range(1 << 40, 1 << 44, 1 << 36):
        at = libc.mmap(place, x.nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed_noreplace, -1, 0)
        if at == place:
            memory = (ctypes.c_uint8 * x.nbytes).from_address(at)
            return torch.frombuffer(memory, dtype=x.dtype).view(x.shape).copy_(x)
    pytest.skip("nothing can be mapped below 2^44")


@pytest.mark.parametrize("name", NAMES)
def test_near_memory(name, learnt):
    call, other = learnt(name), make(name)
    near = {key: in_near_memory(x) if key in ("g", "A_log", "out") else x for key, x in call.items()}
    assert all(0 < near[key].data_ptr() < 1 << 44 for key in ("g", "A_log", "out"))
    for _ in range(2):
        assert is_known(name, near)
        getattr(flash_kda, name)(**other)
        assert same_bits(written(near), written(other))


@pytest.mark.parametrize("offset", [0, 1 << 20])
def test_no_memory(offset, learnt):
    """The address of a view of freed storage is its offset, and no tensor lies at the address 0."""
    call = learnt("decode")
    whole = torch.zeros(offset + call["v"].numel(), dtype=call["v"].dtype)
    freed = whole[offset:].view(call["v"].shape)
    whole.untyped_storage().resize_(0)
    before = [x.clone() for x in written(call)]
    for _ in range(2):
        with pytest.raises(ValueError, match="v has no memory that flash_kda can read: its storage is empty"):
            is_known("decode", {**call, "v": freed})
    assert all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(written(call), before, strict=True))
    assert is_known("decode", make("decode"))


def test_threads(learnt):
    call, count = learnt("decode"), torch.get_num_threads()
    try:
        torch.set_num_threads(count + 1)
        assert not is_known("decode", call) and is_known("decode", call)
    finally:
        torch.set_num_threads(count)


def test_nothing_is_held(learnt):
    import gc
    import weakref

    call = learnt("fwd")
    held = [weakref.ref(x) for x in call.values() if isinstance(x, torch.Tensor)]
    flash_kda.fwd(**call)
    del call
    gc.collect()
    assert not any(ref() is not None for ref in held)
