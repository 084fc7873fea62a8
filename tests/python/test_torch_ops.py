"""flash_kda.torch_ops: the ops under torch.compile, torch.export, opcheck, FakeTensors and torch.func, with the bits of the functions."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flash_kda
import flash_kda.torch_ops
from conftest import LONG, make_problem

OPS = torch.ops.flashkda
OUTPUTS = {
    "fwd": ("out", "final_state", "checkpoint_state"), "decode": ("out", "state", "step_states"),
    "decode_fused": ("out", "state", "conv_state"),
}  # fmt: skip


def fwd_call():
    p = make_problem(lens=[7, 0, 20], H=1, HV=2)
    pool = torch.randn(5, 2, 128, 128)
    checkpoints = torch.full((3, 2, 128, 128), float("nan"))
    slots = torch.tensor([4, 1, 2])
    return {**p, "cu_seqlens_cpu": p["cu_seqlens"].clone(), "initial_state": pool, "final_state": pool, "initial_slots": slots,
            "final_slots": slots, "checkpoint_state": checkpoints, "checkpoint_offsets": torch.tensor([0, 0, 16]),
            "initial_mask": torch.tensor([True, True, False])}  # fmt: skip


def decode_call():
    p = make_problem(B=2, T=3, H=2, state=False)
    return {**p, "state": torch.randn(6, 2, 128, 128), "slots": torch.tensor([3, 5]), "commit": "none",
            "step_states": torch.full((2, 3, 2, 128, 128), float("nan")), "parent": torch.tensor([[-1, 0, 0], [-1, 0, 1]])}  # fmt: skip


def decode_fused_call():
    p = make_problem(B=3, T=1, H=2, state=False)
    normal = lambda *shape: torch.randn(*shape)
    return {**p, "state": normal(4, 2, 128, 128), "slots": torch.tensor([3, -1, 0]), "conv_weight": normal(3, 4, 256), "conv_bias": normal(3, 256),
            "conv_state": normal(4, 3, 768).to(torch.bfloat16), "output_gate": normal(3, 1, 2, 128).to(torch.bfloat16),
            "norm_weight": normal(128)}  # fmt: skip


CALLS = {"fwd": fwd_call, "decode": decode_call, "decode_fused": decode_fused_call}


@pytest.fixture(params=CALLS)
def name(request):
    return request.param


def copied(call):
    """Tensors anew, but one that is two arguments stays one."""
    known = {}
    return {key: known.setdefault(id(x), x.clone()) if isinstance(x, torch.Tensor) else x for key, x in call.items()}


def results(name, call):
    return {key: call[key].nan_to_num(7.0) for key in OUTPUTS[name] if call.get(key) is not None}


def op_call(name, call):
    """The arguments of the op."""
    call = dict(call)
    if name == "fwd" and call["initial_state"] is call["final_state"]:
        call.update(initial_state=None, in_place=True)
    if name == "decode_fused":
        call.update(conv_weight=list(call["conv_weight"]), conv_bias=list(call["conv_bias"]))
    return call


def want(name, call):
    call = copied(call)
    with torch.no_grad():
        getattr(flash_kda, name)(**call)
    return results(name, call)


def same(have, expected):
    assert have.keys() == expected.keys() and all(torch.equal(have[key], expected[key]) for key in expected)


def test_schemas_follow_the_functions(name):
    """Names, order and defaults; what is written is marked, and nothing else."""
    arguments = getattr(OPS, name).default._schema.arguments
    parameters = inspect.signature(getattr(flash_kda, name)).parameters
    assert [argument.name for argument in arguments if argument.name != "in_place"] == list(parameters)
    for argument in arguments:
        if argument.name != "in_place" and parameters[argument.name].default is not inspect.Parameter.empty:
            assert argument.default_value == parameters[argument.name].default
    assert [argument.name for argument in arguments if argument.is_write] == list(OUTPUTS[name])


@torch.no_grad()
def test_op(name):
    call = CALLS[name]()
    expected, mine = want(name, call), copied(call)
    getattr(OPS, name)(**op_call(name, mine))
    same(results(name, mine), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", [pytest.param("fwd", marks=LONG), "decode", pytest.param("decode_fused", marks=LONG)], indirect=True)
def test_opcheck(name):
    torch.library.opcheck(getattr(OPS, name).default, (), op_call(name, CALLS[name]()))


def compiled(name, **options):
    function = getattr(flash_kda, name)

    @torch.compile(fullgraph=True, **options)
    def run(call):
        function(**{**call, "q": call["q"] * 1})
        return call["out"] * 2

    return run


@torch.no_grad()
@pytest.mark.parametrize("backend,dynamic", [
    ("aot_eager", False), pytest.param("aot_eager", True, marks=LONG), pytest.param("inductor", False, marks=LONG),
    pytest.param("inductor", True, marks=LONG),
])  # fmt: skip
def test_compile(name, backend, dynamic):
    """One graph, also with a state that is initial and final at once; then the same for another size."""
    torch._dynamo.reset()
    run = compiled(name, backend=backend, dynamic=dynamic)
    for _ in range(2):
        call = CALLS[name]()
        expected, mine = want(name, call), copied(call)
        assert torch.equal(run(mine).nan_to_num(14.0), 2 * expected["out"])
        same(results(name, mine), expected)


@torch.no_grad()
def test_positional_arguments_are_traced():
    p = make_problem()
    expected = want("fwd", p)
    torch.compile(lambda *arguments: flash_kda.fwd(*arguments), fullgraph=True, backend="aot_eager")(*p.values())
    same(results("fwd", p), expected)


@LONG
@torch.no_grad()
def test_what_is_written_is_not_copied_by_inductor(name, monkeypatch):
    """The op gets the tensors of the caller themselves: pools above all. (The backend aot_eager gives it copies.)"""
    torch._dynamo.reset()
    seen, function = [], flash_kda.torch_ops._FUNCTIONS[name]
    monkeypatch.setitem(flash_kda.torch_ops._FUNCTIONS, name, lambda **call: (seen.append(call), function(**call)))
    call = CALLS[name]()
    compiled(name, backend="inductor")(call)
    assert len(seen) == 1 and [seen[0][key].data_ptr() for key in OUTPUTS[name]] == [call[key].data_ptr() for key in OUTPUTS[name]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@torch.no_grad()
def test_cuda_graphs(name):
    """mode="reduce-overhead": states at an address that stays are written in place by a graph that is replayed, out is new every time."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters["inductor"]
    before, function = counters["cudagraph_skips"], getattr(flash_kda, name)

    @torch.compile(fullgraph=True, mode="reduce-overhead")
    def run(call):
        out = torch.empty_like(call["v"])
        function(**{**call, "q": call["q"] * 1, "out": out})
        return out

    on_gpu = lambda call: {key: x.cuda() if isinstance(x, torch.Tensor) else x for key, x in copied(call).items()}
    one = CALLS[name]()
    one.pop("cu_seqlens_cpu", None)  # the host's: not on the GPU
    mine = on_gpu(one)
    if mine.get("initial_state") is not None:
        mine["initial_state"] = mine["final_state"]
    for key in OUTPUTS[name]:
        if key != "out" and mine.get(key) is not None:
            torch._dynamo.mark_static_address(mine[key])
    expected = {key: x.clone() if isinstance(x, torch.Tensor) else x for key, x in mine.items()}
    if "initial_state" in mine:
        expected["initial_state"] = expected["final_state"]
    for _ in range(5):
        fresh = torch.randn_like(mine["q"])
        mine["q"], expected["q"] = fresh.clone(), fresh
        out = run({key: x for key, x in mine.items() if key != "out"}).clone()
        function(**expected)
        assert torch.equal(out.nan_to_num(7.0), expected["out"].nan_to_num(7.0))
        same(results(name, {**mine, "out": out}), results(name, {**expected, "out": out}))
    assert counters["cudagraph_skips"] == before


@torch.no_grad()
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=LONG)], ids=["default", "strict"])
def test_export(name, strict):
    call = CALLS[name]()
    tensors = {key: x for key, x in call.items() if isinstance(x, torch.Tensor)}
    options = {key: x for key, x in call.items() if key not in tensors}

    class Layer(torch.nn.Module):
        def forward(self, tensors):
            getattr(flash_kda, name)(**tensors, **options)
            return tensors["out"] + 0

    program = torch.export.export(Layer(), (copied(tensors),), strict=strict)
    assert any(f"flashkda.{name}" in f"{node.target} {node.args}" for node in program.graph.nodes)
    expected, mine = want(name, call), copied(tensors)
    program.module()(mine)
    same(results(name, mine), expected)


def test_fake_tensors_get_a_shape_answer(name):
    call = CALLS[name]()
    with FakeTensorMode() as mode:
        fake = {key: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for key, x in call.items()}
        with torch.no_grad():
            getattr(flash_kda, name)(**fake)
        with pytest.raises(ValueError, match=r"g has shape .*, but it must be \[B,T,HV,K\] = "):
            getattr(flash_kda, name)(**{**fake, "g": fake["g"][..., :64]})
        state = "initial_state" if name == "fwd" else "state"
        with pytest.raises(ValueError, match=rf"{state} has shape .*, but it must be \[slots,HV,V,K\] = "):
            getattr(flash_kda, name)(**{**fake, state: fake[state][:, :1]})


def test_fake_tensors_beside_true_ones_are_refused(name):
    call = CALLS[name]()
    fake = FakeTensorMode().from_tensor(call["k"])
    with pytest.raises(TypeError, match=r"^k is .*FakeTensor.*__torch_dispatch__"):
        getattr(flash_kda, name)(**{**call, "k": fake})




def test_transforms_are_refused(name):
    """By the ops; the functions refuse tensors of torch.func themselves."""
    call = CALLS[name]()
    k = call["k"].float()

    def of_k(k):
        getattr(OPS, name)(**{**op_call(name, call), "k": k})
        return call["out"].float().nansum()

    for transform in (lambda: torch.func.grad(of_k)(k), lambda: torch.func.vjp(of_k, k), lambda: of_k(k.clone().requires_grad_())):
        with pytest.raises(RuntimeError, match="k requires grad, but flash_kda has no backward"):
            transform()
    with pytest.raises(RuntimeError, match="k has a forward-mode tangent, but flash_kda has no derivative"):
        torch.func.jvp(of_k, (k,), (k,))
    with pytest.raises(TypeError, match=rf"flash_kda\.{name} is inside torch.func.vmap"):
        torch.func.vmap(of_k)(torch.stack([k, k]))
    with pytest.raises(TypeError, match=r"inside a transform of torch\.func"):
        torch.func.vmap(lambda k: getattr(flash_kda, name)(**{**call, "k": k}))(torch.stack([k, k]))


def test_compile_refuses_derivatives(name):
    torch._dynamo.reset()
    call = CALLS[name]()
    call["k"] = call["k"].float().requires_grad_()
    with pytest.raises(RuntimeError, match="k requires grad, but flash_kda has no backward"):
        compiled(name, backend="aot_eager")(call)


def test_the_package_does_not_import_torch():
    program = "import sys; sys.modules['torch'] = None; import flash_kda"
    subprocess.run([sys.executable, "-c", program], check=True)
