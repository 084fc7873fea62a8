"""The operations as torch.library ops, for torch.compile, torch.export and FakeTensors: ``torch.ops.flashkda.fwd``, ``decode``, ``decode_fused``.

Importing this module registers them, and imports torch; ``import flash_kda`` does neither. From then on ``flash_kda.fwd``, ``decode`` and
``decode_fused`` may stand in a function that torch.compile traces, also with ``fullgraph=True``: a call becomes one node of the graph::

    import flash_kda.torch_ops

    @torch.compile(fullgraph=True)
    def layer(...):
        flash_kda.decode(q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, slots=slots)

The ops have the arguments of these functions, with two differences that schemas demand: a state that is initial and final at once is given
as ``final_state`` alone, with ``in_place=True``; weights and biases of the convolution are lists of three tensors. What is written is marked.
``docs/with-torch-compile.md`` says what works with them.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import torch

import flash_kda

from .engines import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

__all__: list[str] = []

_TOKENS = "Tensor k, Tensor v, Tensor g, Tensor beta, float scale"
_GATE = "Tensor? A_log, Tensor? dt_bias, float? lower_bound"
_WORDS = "str gate='logit', str beta_kind='logit', int beta_multiplier=1, str qk_norm='l2', str state_layout='nhvk'"
_SCHEMAS = {
    "fwd": f"Tensor q, {_TOKENS}, Tensor(a!) out, {_GATE}, Tensor? initial_state=None, Tensor(b!)? final_state=None, Tensor? cu_seqlens=None, *, "
    "Tensor? cu_seqlens_cpu=None, Tensor? initial_slots=None, Tensor? final_slots=None, Tensor? initial_mask=None, "
    "Tensor(c!)? checkpoint_state=None, Tensor? checkpoint_offsets=None, Tensor? checkpoint_slots=None, SymInt checkpoint_every=0, "
    f"str slot_null='negative', {_WORDS}, bool in_place=False",
    "decode": f"Tensor? q, {_TOKENS}, Tensor(a!)? out, {_GATE}, Tensor(b!) state, Tensor? cu_seqlens=None, *, Tensor? slots=None, "
    "Tensor? initial_mask=None, str slot_null='negative', str null_out='computed', SymInt max_tokens=8, str commit='last', "
    f"Tensor? num_accepted=None, Tensor(c!)? step_states=None, Tensor? parent=None, {_WORDS}",
    "decode_fused": f"Tensor q, {_TOKENS}, Tensor(a!) out, {_GATE}, Tensor(b!) state, *, Tensor[]? conv_weight=None, Tensor[]? conv_bias=None, "
    "Tensor(c!)? conv_state=None, Tensor? output_gate=None, Tensor? norm_weight=None, float norm_eps=1e-05, Tensor? slots=None, "
    f"Tensor? initial_mask=None, str slot_null='negative', {_WORDS}",
}
_FUNCTIONS = {name: getattr(flash_kda, name) for name in _SCHEMAS}
_PARAMETERS = {name: inspect.signature(function).parameters for name, function in _FUNCTIONS.items()}
_library = torch.library.Library("flashkda", "DEF")


# ---------------------------------------------------------------- shapes, of tensors without memory


def _require(name: str, tensor: torch.Tensor | None, rule: str, *shape: Any) -> None:
    """As the call itself would refuse it; sizes may be symbols."""
    if tensor is None:
        return
    text = lambda: f"{name} has shape {tuple(tensor.shape)}, but it must be {rule} = {tuple(shape)}"
    torch._check_value(tensor.dim() == len(shape), text)
    for have, want in zip(tensor.shape, shape, strict=True):
        torch._check_value(have == want, text)


def _check_tokens(q: Any, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, out: Any) -> None:
    for name, tensor, rule in (("k", k, "[B,T,H,K]"), ("v", v, "[B,T,HV,V]")):
        torch._check_value(tensor.dim() == 4, lambda: f"{name} has shape {tuple(tensor.shape)}, but it must be {rule}")  # noqa: B023
    (B, T, H, K), (HV, V) = k.shape, v.shape[2:]
    torch._check_value(HV % H == 0, lambda: f"v has {HV} heads, but their number must be a positive multiple of the {H} heads of k")
    _require("q", q, "[B,T,H,K]", B, T, H, K)
    _require("v", v, "[B,T,HV,V]", B, T, HV, V)
    _require("g", g, "[B,T,HV,K]", B, T, HV, K)
    _require("beta", beta, "[B,T,HV]", B, T, HV)
    _require("out", out, "[B,T,HV,V]", B, T, HV, V)


def _check_copy(cu_seqlens: torch.Tensor | None, on_host: torch.Tensor | None) -> None:
    """Of ``cu_seqlens_cpu``, which only the op of fwd has."""
    if on_host is None:
        return
    if cu_seqlens is None:
        raise ValueError("cu_seqlens_cpu is given, but cu_seqlens is not")
    if on_host.device.type != "cpu":
        raise ValueError(f"cu_seqlens_cpu is on device {on_host.device}, but it must be on cpu: the host reads it")
    if on_host.dtype != cu_seqlens.dtype:
        wanted = str(cu_seqlens.dtype).removeprefix("torch.")
        raise TypeError(f"cu_seqlens_cpu has dtype {on_host.dtype}, but it must be {wanted}, that of cu_seqlens")
    _require("cu_seqlens_cpu", on_host, "[N+1]", *cu_seqlens.shape)


def _check_state(call: dict[str, Any], name: str, slots: str) -> None:
    state, k, v, cu_seqlens = call[name], call["k"], call["v"], call.get("cu_seqlens")
    if state is None:
        return
    N = k.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    rows, count = (N, "N") if call[slots] is None else (state.shape[0], "slots")
    inner, layout = ((v.shape[3], k.shape[3]), "V,K") if call["state_layout"] == "nhvk" else ((k.shape[3], v.shape[3]), "K,V")
    _require(name, state, f"[{count},HV,{layout}]", rows, v.shape[2], *inner)


# ---------------------------------------------------------------- what an op does


def _bound(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument of the op by its name, defaults filled in."""
    arguments = getattr(torch.ops.flashkda, name).default._schema.arguments
    call = {argument.name: argument.default_value for argument in arguments}
    return {**call, **{argument.name: value for argument, value in zip(arguments, args, strict=False)}, **kwargs}


def _run(name: str, *args: Any, **kwargs: Any) -> None:
    """On tensors with memory: the function itself."""
    call = _bound(name, args, kwargs)
    if call.pop("in_place", False):
        call["initial_state"] = call["final_state"]
    _FUNCTIONS[name](**call)


def _fake(name: str, *args: Any, **kwargs: Any) -> None:
    call = _bound(name, args, kwargs)
    _check_tokens(call["q"], call["k"], call["v"], call["g"], call["beta"], call["out"])
    _check_copy(call.get("cu_seqlens"), call.get("cu_seqlens_cpu"))
    for state, slots in {"initial_state": "initial_slots", "final_state": "final_slots", "state": "slots"}.items():
        if state in call:
            _check_state(call, state, slots)


def _tensors(call: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for argument, value in call.items():
        for tensor in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(tensor, torch.Tensor):
                yield argument, tensor


def _without_derivatives(name: str, *args: Any, **kwargs: Any) -> None:
    """Where autograd would record the op: it has no derivative."""
    for argument, tensor in _tensors(_bound(name, args, kwargs)):
        if torch.is_grad_enabled() and tensor.requires_grad:
            raise RuntimeError(
                f"{argument} requires grad, but flash_kda has no backward: call {name} under torch.no_grad() or torch.inference_mode()"
            )
        if torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(
                f"{argument} has a forward-mode tangent, but flash_kda has no derivative: call {name} under torch.inference_mode(), "
                "or with the primal of the tensor"
            )
    with torch._C._AutoDispatchBelowAutograd():
        getattr(torch.ops.flashkda, name).default(*args, **kwargs)


def _under_vmap(name: str, *args: Any, **kwargs: Any) -> None:
    raise TypeError(f"flash_kda.{name} is inside torch.func.vmap, for which it has no rule: B, or cu_seqlens, is its batch")


for _name, _schema in _SCHEMAS.items():
    _library.define(f"{_name}({_schema}) -> ()", tags=(torch.Tag.pt2_compliant_tag,))
    for _key, _kernel in {"CompositeExplicitAutograd": _run, "Autograd": _without_derivatives, "FuncTorchBatched": _under_vmap}.items():
        _library.impl(_name, functools.partial(_kernel, _name), _key)
    torch.library.register_fake(f"flashkda::{_name}", functools.partial(_fake, _name), lib=_library)


# ---------------------------------------------------------------- the functions, where torch traces


def _three(tensors: torch.Tensor | Sequence[torch.Tensor] | None) -> list[torch.Tensor] | None:
    return None if tensors is None else [tensors[0], tensors[1], tensors[2]]


def _as_op(name: str, call: dict[str, Any]) -> None:
    """A call of the function, by the names of its arguments, as one of the op."""
    call = {**call, "scale": float(call["scale"]), "lower_bound": None if call["lower_bound"] is None else float(call["lower_bound"])}
    if name == "fwd" and call.get("final_state") is not None and call.get("initial_state") is call["final_state"]:
        call = {**call, "initial_state": None, "in_place": True}
    if name == "decode_fused":
        call = {**call, "conv_weight": _three(call.get("conv_weight")), "conv_bias": _three(call.get("conv_bias"))}
    getattr(torch.ops.flashkda, name)(**call)


def _traced(name: str) -> Callable[..., None]:
    names = tuple(_PARAMETERS[name])

    def traced(*args: Any, **kwargs: Any) -> None:
        _as_op(name, {**dict(zip(names, args, strict=False)), **kwargs})

    return traced


def _tell_dynamo(dynamo: ModuleType) -> None:
    """torch.compile traces a call of a function as one of its op."""
    if hasattr(torch.compiler, "substitute_in_graph"):  # torch 2.5
        for name, function in _FUNCTIONS.items():
            torch.compiler.substitute_in_graph(function, skip_signature_check=True)(_traced(name))


when_imported("torch._dynamo", _tell_dynamo)  # whose import takes seconds: not from here


def answer(name: str, scope: dict[str, Any]) -> bool:
    """The function was called with these values of its arguments and refused a class of tensors. Do they stand for others that torch knows
    (FakeTensors, those of torch.export)? Then the op answers, and they get shapes."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    call = {argument: scope[argument] for argument in _PARAMETERS[name]}
    tensors = [tensor for _, tensor in _tensors(call)]
    fake = [tensor for tensor in tensors if isinstance(tensor, (FakeTensor, FunctionalTensor))]
    is_alone = all(tensor.fake_mode.allow_non_fake_inputs for tensor in fake if isinstance(tensor, FakeTensor)) or len(fake) == len(tensors)
    if not fake or not is_alone:
        return False
    _as_op(name, call)
    return True
