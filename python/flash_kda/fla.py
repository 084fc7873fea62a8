"""``import flash_kda.fla``: from then on flash-linear-attention (FLA) calls this module for every KDA prefill and decode step it can compute.

Two functions of FLA are served, for CPU and CUDA tensors: ``chunk_kda``, and what ``fused_recurrent_kda`` calls, ``fused_recurrent_kda_fwd``
(dispatched from FLA 0.6 on). FLA asks before each call; what is not taken goes on to FLA's own kernels, and FLA's log (level INFO) says why, once.
``status()`` counts. ``FLA_FLASH_KDA=0`` in the environment turns all of it off, as it does for FLA's own way to this module.

Nothing is taken that would lose accuracy against the dtype of q: on GPUs, whose prefill kernels read bfloat16, q in float32 or float16 is left
to FLA, unless ``flash_kda.fla.may_round`` is set to True; float64 is left to it everywhere. There is no backward: under grad mode
``chunk_kda`` is left to FLA if an argument requires grad.
``fused_recurrent_kda`` has no backward in FLA either, and is taken in any mode.

One file, though long: what is asked of a call, and what is done with it, are read side by side.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

import flash_kda

from . import _core

__all__ = ["Calls", "explain", "may_round", "status"]

may_round = False  # True: q, k and v in float32 or float16 are taken also where kernels read them in bfloat16

_DECODE_TOKENS = 8  # the most that flash_kda.decode takes of one sequence
_KEPT_REASONS = 16


# ---------------------------------------------------------------- what went where


@dataclasses.dataclass
class Calls:
    """What became of the calls of one function of FLA."""

    taken: dict[str, int] = dataclasses.field(default_factory=dict)  # device type -> calls
    passed_on: int = 0  # calls that were left to FLA
    last_reason: str | None = None  # why the last of them was
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)  # the first 16 different ones -> calls

    def _take(self, device: str) -> None:
        self.taken[device] = self.taken.get(device, 0) + 1

    def _pass_on(self, reason: str) -> None:
        self.passed_on += 1
        self.last_reason = reason
        if reason in self.reasons or len(self.reasons) < _KEPT_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


_calls = {"chunk_kda": Calls(), "fused_recurrent_kda": Calls()}


def status() -> dict[str, Calls]:
    """For ``chunk_kda`` and ``fused_recurrent_kda``: how many calls were taken, on which device, how many went on to FLA, and why. A copy."""
    return {name: dataclasses.replace(calls, taken=dict(calls.taken), reasons=dict(calls.reasons)) for name, calls in _calls.items()}


# ---------------------------------------------------------------- what a call means

Call = dict[str, Any]  # the arguments of a call of FLA by their names


def _is_v_first(call: Call) -> bool:
    return bool(call.get("state_v_first") or call.get("transpose_state_layout"))  # the second is the older name of the first


def _meaning(call: Call) -> dict[str, Any]:
    """The arguments of ``fwd`` and ``decode`` that say what a token means."""
    has_gate = bool(call.get("use_gate_in_kernel"))
    scale = call.get("scale")
    return {
        "scale": call["k"].shape[-1] ** -0.5 if scale is None else scale,
        "A_log": call.get("A_log") if has_gate else None,
        "dt_bias": call.get("dt_bias") if has_gate else None,
        "lower_bound": call.get("lower_bound") if has_gate else None,
        "gate": "logit" if has_gate else "precomputed",
        "beta_kind": "logit" if call.get("use_beta_sigmoid_in_kernel") else "activated",
        "beta_multiplier": 2 if call.get("allow_neg_eigval") else 1,
        "qk_norm": "l2" if call.get("use_qk_l2norm_in_kernel") else "none",
        "state_layout": "nhvk" if _is_v_first(call) else "nhkv",
    }


def _tensors(call: Call) -> dict[str, Any]:
    return {name: call[name] for name in ("q", "k", "v", "g", "beta")}


def _lengths_on_host(call: Call) -> torch.Tensor | None:
    """FLA's ``cu_seqlens_cpu`` as ``fwd`` takes it. One that is not on the host, or has no ``cu_seqlens``, is left out: FLA takes such calls."""
    cu_seqlens, on_host = call.get("cu_seqlens"), call.get("cu_seqlens_cpu")
    return None if cu_seqlens is None or on_host is None or on_host.device.type != "cpu" else on_host.to(cu_seqlens.dtype)


def _sequences(call: Call) -> dict[str, Any]:
    """Where they begin, and from what."""
    return {"initial_state": call.get("initial_state"), "cu_seqlens": call.get("cu_seqlens"), "cu_seqlens_cpu": _lengths_on_host(call)}


def _new_state(call: Call) -> torch.Tensor:
    q, v, cu_seqlens = call["q"], call["v"], call.get("cu_seqlens")
    N = q.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    K, V = q.shape[-1], v.shape[-1]
    return torch.empty(N, v.shape[2], *((V, K) if _is_v_first(call) else (K, V)), dtype=torch.float32, device=q.device)


# ---------------------------------------------------------------- what is not taken

_FWD = tuple(inspect.signature(flash_kda.fwd).parameters)
_DECODE = inspect.signature(flash_kda.decode).parameters


def _lossy_copies(call: Call, copies: dict[int, torch.dtype | None]) -> Iterator[str]:
    """bfloat16 callers have chosen their accuracy; others shall not get less than they ask for, unless they say so."""
    q = call["q"]
    is_content = q.dtype == torch.bfloat16 or (may_round and q.dtype != torch.float64)
    for name in ("q", "k", "v"):
        to = copies.get(_FWD.index(name))
        if to is not None and not is_content and torch.promote_types(call[name].dtype, to) != to:
            yield f"{name} is {call[name].dtype}, and would be rounded to {to}, which is what this backend takes on {q.device.type}"


def _ask_fwd(call: Call, out: torch.Tensor | None = None) -> Iterator[str]:
    """What ``flash_kda.fwd`` would say of the call."""
    v = call["v"]
    if out is None:
        out = v if v.dtype == call["q"].dtype and v.is_contiguous() else torch.empty_like(v, dtype=call["q"].dtype)
    given = {**_tensors(call), **_meaning(call), **_sequences(call), "out": out}
    try:
        yield from _lossy_copies(call, _core.query(*(given.get(name) for name in _FWD)))
    except Exception as error:
        yield str(error)


def _gate_reasons(call: Call) -> Iterator[str]:
    """What FLA itself refuses: its exception is better than our answer."""
    if call.get("allow_neg_eigval") and not call.get("use_beta_sigmoid_in_kernel"):
        yield "allow_neg_eigval needs use_beta_sigmoid_in_kernel"
    if call.get("use_gate_in_kernel") and call.get("A_log") is None and call.get("lower_bound") is None:
        yield "use_gate_in_kernel needs A_log or lower_bound"


def _chunk_reasons(call: Call) -> Iterator[str]:
    """Why a call of ``chunk_kda`` is not taken: the first is told to FLA."""
    yield from _gate_reasons(call)
    if call.get("cp_context") is not None:
        yield "cp_context (context parallel) is not taken"
    if call.get("chunk_size", 64) not in (32, 64):
        yield f"chunk_size is {call['chunk_size']}, but FLA has 32 and 64"
    if call.get("state_v_first") and "transpose_state_layout" in call:
        yield "state_v_first and transpose_state_layout are one option"
    if call.get("safe_gate") and call.get("use_gate_in_kernel") and call.get("lower_bound") is None:
        yield "safe_gate needs lower_bound"
    if call.get("return_intermediate_states"):
        if not torch.is_inference_mode_enabled() or call.get("disable_recompute"):
            yield "return_intermediate_states needs torch.inference_mode(), and not disable_recompute"
        if call.get("use_graph") and call.get("cu_seqlens") is not None:
            yield "return_intermediate_states with use_graph: how many states there are is not known on the host"
    yield from _ask_fwd(call)


def _recurrent_reasons(call: Call) -> Iterator[str]:
    """The same of ``fused_recurrent_kda_fwd``."""
    yield from _gate_reasons(call)
    if _is_in_place(call) and call.get("initial_state") is None:
        yield "inplace_final_state needs initial_state"
    elif call.get("ssm_state_indices") is not None:
        yield from _pool_reasons(call)
    else:
        reasons = list(_ask_fwd(call, call.get("out")))
        if reasons and not _decode_takes(call):
            yield from reasons


def _ask_decode(given: Call) -> Iterator[str]:
    """What ``flash_kda.decode`` would say of these arguments."""
    try:
        _core.query_decode(*(given.get(name, parameter.default) for name, parameter in _DECODE.items()))
    except Exception as error:
        yield str(error)


def _decode_takes(call: Call) -> bool:
    """A few tokens in dtypes that ``fwd`` would round."""
    initial_state, T = call.get("initial_state"), call["q"].shape[1]
    given = {**_tensors(call), **_meaning(call), "out": call["v"], "cu_seqlens": call.get("cu_seqlens"), "max_tokens": T}
    given["state"] = _new_state(call) if initial_state is None else initial_state
    return 0 < T <= _DECODE_TOKENS and not any(_ask_decode(given))


def _pool_reasons(call: Call) -> Iterator[str]:
    indices, cu_seqlens = call["ssm_state_indices"], call.get("cu_seqlens")
    if not _is_in_place(call):
        yield "ssm_state_indices without inplace_final_state is not taken"
    elif indices.ndim == 1 and call.get("num_accepted_tokens") is not None:
        yield "num_accepted_tokens needs ssm_state_indices [N,C]"
    elif cu_seqlens is not None and cu_seqlens.device.type == "cpu" and (cu_seqlens.diff() > _pool_tokens(call)).any():
        yield f"a sequence has more than {_pool_tokens(call)} tokens"
    else:
        yield from _ask_decode({**_pool_arguments(call), "out": call["v"] if call.get("out") is None else call["out"]})


# ---------------------------------------------------------------- chunk_kda


def _chunk_kda(call: Call) -> tuple:
    q, v = call["q"], call["v"]
    out = torch.empty_like(v, dtype=q.dtype)
    final_state = _new_state(call) if call.get("output_final_state") else None
    given: Call = {**_sequences(call), "final_state": final_state}
    if not call.get("return_intermediate_states"):
        flash_kda.fwd(**_tensors(call), **_meaning(call), out=out, **given)
        return out, final_state
    states, checkpoints = _intermediate_states(call)
    flash_kda.fwd(**_tensors(call), **_meaning(call), out=out, **given, **checkpoints)
    return out, final_state, states


def _lengths(call: Call) -> torch.Tensor:
    """Of the sequences [N], on the host."""
    q, cu_seqlens, on_host = call["q"], call.get("cu_seqlens"), call.get("cu_seqlens_cpu")
    if cu_seqlens is None:
        return torch.full((q.shape[0],), q.shape[1])
    return (cu_seqlens.cpu() if on_host is None else on_host).diff()


def _intermediate_states(call: Call) -> tuple[torch.Tensor, dict[str, Any]]:
    """The state before every chunk, [B,NT,HV,K,V] in the dtype of k, with the first ones filled in; and what ``fwd`` needs for the others."""
    k, initial_state, size, lengths = call["k"], call.get("initial_state"), call.get("chunk_size", 64), _lengths(call)
    counts = (lengths + (size - 1)) // size
    first, has_any = counts.cumsum(0) - counts, (counts > 0).to(k.device)
    states = torch.empty(int(counts.sum()), *_new_state(call).shape[1:], dtype=k.dtype, device=k.device)
    states[first.to(k.device)[has_any]] = 0 if initial_state is None else initial_state[has_any].to(k.dtype)
    shaped = states.view(k.shape[0], -1, *states.shape[1:]) if k.shape[0] else states[None][:0]
    rows = zip(first.tolist(), counts.tolist(), (lengths // size).tolist(), strict=True)
    slots = [slot for row in rows for slot in _slots_of(*row)]
    if not slots:
        return shaped, {}
    return shaped, {"checkpoint_state": states, "checkpoint_every": size, "checkpoint_slots": torch.tensor(slots, device=k.device)}


def _slots_of(first: int, chunks: int, checkpoints: int) -> list[int]:
    """Checkpoint j, after (j + 1) * size tokens, is the state before chunk j + 1; behind a last chunk that is whole there is none."""
    return [first + j + 1 if j + 1 < chunks else -1 for j in range(checkpoints)]


# ---------------------------------------------------------------- fused_recurrent_kda


def _is_in_place(call: Call) -> bool:
    return bool(call.get("inplace_final_state", True))


def _recurrent_kda(call: Call) -> tuple:
    initial_state, out = call.get("initial_state"), call.get("out")
    if out is None:
        out = torch.zeros_like(call["v"]) if call.get("cu_seqlens") is not None else torch.empty_like(call["v"])
    if call.get("ssm_state_indices") is not None:
        flash_kda.decode(**_pool_arguments(call), out=out)
        return out, initial_state
    final_state = initial_state if _is_in_place(call) else _new_state(call) if call.get("output_final_state") else None
    if call["q"].shape[1] > _DECODE_TOKENS or not _decode(call, out, final_state):
        flash_kda.fwd(**_tensors(call), **_meaning(call), **_sequences(call), out=out, final_state=final_state)
    return out, final_state


def _decode(call: Call, out: torch.Tensor, final_state: torch.Tensor | None) -> bool:
    """A few tokens; False: they are not taken as they lie, and nothing has been written but final_state."""
    initial_state, cu_seqlens, T = call.get("initial_state"), call.get("cu_seqlens"), call["q"].shape[1]
    if T == 0:
        return False
    given = {**_tensors(call), **_meaning(call), "out": out, "cu_seqlens": cu_seqlens, "max_tokens": T, "commit": "last"}
    if initial_state is None:
        given["state"] = torch.zeros_like(_new_state(call)) if final_state is None else final_state.zero_()
    elif final_state is None:
        given.update(state=initial_state, commit="none")
    elif final_state is initial_state:
        given["state"] = initial_state
    elif cu_seqlens is None and T == 1 and out.is_cuda:  # on a CPU the copy costs less
        given.update(state=initial_state, commit="none", step_states=final_state[:, None])
    else:
        given["state"] = final_state.copy_(initial_state)
    try:
        flash_kda.decode(**given)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _pool_tokens(call: Call) -> int:
    """The most tokens of one sequence: as many as it has slots."""
    indices = call["ssm_state_indices"]
    return 1 if indices.ndim == 1 else min(indices.shape[1], _DECODE_TOKENS)


def _pool_arguments(call: Call) -> dict[str, Any]:
    """Continuous batching: the states are slots of a pool, written where they lie. Every index counts as one; FLA has none that means none."""
    indices = call["ssm_state_indices"]
    given = {**_tensors(call), **_meaning(call), "state": call["initial_state"], "cu_seqlens": call.get("cu_seqlens"), "slots": indices}
    given.update(slot_null="none", max_tokens=_pool_tokens(call))
    if indices.ndim == 2:
        given.update(commit="each", num_accepted=call.get("num_accepted_tokens"))
    return given


# ---------------------------------------------------------------- FLA's side

_FUNCTIONS: dict[str, tuple[str, Callable[[Call], Iterator[str]], Callable[[Call], tuple], bool]] = {
    "chunk_kda": ("chunk_kda", _chunk_reasons, _chunk_kda, True),
    "fused_recurrent_kda_fwd": ("fused_recurrent_kda", _recurrent_reasons, _recurrent_kda, False),
}  # of FLA: its name here, why not, what it does, and whether FLA's own has derivatives
_parameters: dict[str, tuple[str, ...]] = {}  # of these functions, in the FLA that is installed


def _call_of(function: str, args: tuple, kwargs: dict[str, Any]) -> Call:
    return {**dict(zip(_parameters[function], args, strict=False)), **kwargs}


def _in_mode(has_derivatives: bool, act: Callable[[Call], Any], call: Call) -> Any:
    if has_derivatives or not torch.is_grad_enabled():
        return act(call)
    with torch.no_grad():
        return act(call)


def explain(function: str, *args: Any, **kwargs: Any) -> list[str]:
    """Why a call of FLA's ``chunk_kda`` or ``fused_recurrent_kda_fwd`` with these arguments would be left to FLA; empty: it would be taken."""
    _, reasons, _, has_derivatives = _FUNCTIONS[function]
    return _in_mode(has_derivatives, lambda call: list(reasons(call)), _call_of(function, args, kwargs))


def _verify(function: str, args: tuple, kwargs: dict[str, Any]) -> tuple[bool, str | None]:
    name, reasons, _, has_derivatives = _FUNCTIONS[function]
    try:
        reason = _in_mode(has_derivatives, lambda call: next(reasons(call), None), _call_of(function, args, kwargs))
    except Exception as error:  # arguments that make no sense: FLA says so better
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        _calls[name]._pass_on(reason)
    return reason is None, reason


def _run(function: str, args: tuple, kwargs: dict[str, Any]) -> tuple:
    name, _, run, has_derivatives = _FUNCTIONS[function]
    call = _call_of(function, args, kwargs)
    result = _in_mode(has_derivatives, run, call)
    _calls[name]._take(call["q"].device.type)
    return result


def _make_backend(base: type, replaced: str) -> type:
    class FlashKDA(base):  # type: ignore[misc]
        """flash_kda for all that it computes. It stands in the place of FLA's own backend of this package."""

        backend_type = replaced
        package_name = None
        env_var = "FLA_FLASH_KDA"
        default_enable = True
        priority = 1

        def chunk_kda_verifier(self, *args: Any, **kwargs: Any) -> tuple[bool, str | None]:
            return _verify("chunk_kda", args, kwargs)

        def chunk_kda(self, *args: Any, **kwargs: Any) -> tuple:
            return _run("chunk_kda", args, kwargs)

        def fused_recurrent_kda_fwd_verifier(self, *args: Any, **kwargs: Any) -> tuple[bool, str | None]:
            return _verify("fused_recurrent_kda_fwd", args, kwargs)

        def fused_recurrent_kda_fwd(self, *args: Any, **kwargs: Any) -> tuple:
            return _run("fused_recurrent_kda_fwd", args, kwargs)

    return FlashKDA


def _own_backend_type() -> str:
    """What FLA calls its own backend of this package: flash_kda, or flashkda in 0.5.1."""
    for module in ("flash_kda", "flashkda"):
        try:
            return importlib.import_module(f"fla.ops.kda.backends.{module}").FlashKDABackend.backend_type
        except ImportError:
            continue
    return "flash_kda"


def _register() -> None:
    try:
        chunk = importlib.import_module("fla.ops.kda").chunk_kda
        recurrent = importlib.import_module("fla.ops.kda.fused_recurrent").fused_recurrent_kda_fwd
    except ImportError as error:
        raise ImportError("flash_kda.fla needs flash-linear-attention 0.5.1 or later: pip install flash-linear-attention") from error
    for function in (chunk, recurrent):
        plain = inspect.unwrap(function)
        _parameters[plain.__name__] = tuple(inspect.signature(plain).parameters)
    try:
        backends = importlib.import_module("fla.backends")  # 0.6 and later: open to all
        backend = _make_backend(backends.BaseBackend, _own_backend_type())
        backends.register(chunk)(backend)
        backends.register("kda")(backend)
    except ImportError:
        try:
            registry = importlib.import_module("fla.ops.kda.backends").kda_registry
            base = importlib.import_module("fla.ops.backends").BaseBackend
        except ImportError as error:
            raise ImportError("flash_kda.fla needs flash-linear-attention 0.5.1 or later; this one asks no backends") from error
        registry.register(_make_backend(base, _own_backend_type())())
    flash_kda._fla_is_checked = True
    if os.environ.get("FLA_DISABLE_BACKEND_DISPATCH") == "1":
        warnings.warn("FLA_DISABLE_BACKEND_DISPATCH=1: FLA will ask no backend, so flash_kda is not called", RuntimeWarning, stacklevel=2)


_register()
