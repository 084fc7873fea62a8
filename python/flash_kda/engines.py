"""What the integrations of inference engines share (``integrations/``): the calls of a KDA layer as engines put them, and the way in.

Tensors here are as SGLang and vLLM have them: one packed row q|k|v for each sequence, gates ``[B,HV*K]`` or ``[B,HV,K]``, pools of states.
"""

from __future__ import annotations

import importlib.abc
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

import torch

from . import decode, decode_fused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["REFUSALS", "Refusals", "fused_step", "packed_step", "readable", "when_imported"]

REFUSALS = (TypeError, ValueError, RuntimeError)  # what flash_kda raises before it has written anything
SlotNull = Literal["negative", "not_positive"]


def _heads(rows: torch.Tensor, width: int) -> torch.Tensor:
    """[B,heads*width] as [B,1,heads,width], where it lies."""
    return rows.unflatten(-1, (rows.shape[-1] // width, width)).unsqueeze(1)


def readable(x: torch.Tensor) -> torch.Tensor:
    """As the CUDA kernels of decode read it, four elements at once: a tensor whose rows lie at odd distances is copied, so is one of them."""
    odd = [size for size, step in zip(x.shape[:-1], x.stride(), strict=False) if step % 4 != 0] if x.is_cuda else ()
    if any(size > 1 for size in odd):
        return x.contiguous()
    if odd and (torch.compiler.is_compiling() or x.data_ptr() % (4 * x.element_size()) != 0):
        return x.clone(memory_format=torch.contiguous_format)
    return x


def _split(mixed_qkv: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q and k [B,1,H,K], v [B,1,HV,V] of the packed rows."""
    mixed_qkv = readable(mixed_qkv)
    HV, V, K = state.shape[1:]
    keys = (mixed_qkv.shape[-1] - HV * V) // 2
    if K == V:    # heads of one width: two views, each of which costs a microsecond
        q, k, v = mixed_qkv.view(-1, 1, mixed_qkv.shape[-1] // K, K).split([keys // K, keys // K, HV], dim=2)
        return q, k, v
    q, k, v = mixed_qkv.split([keys, keys, HV * V], dim=-1)
    return _heads(q, K), _heads(k, K), _heads(v, V)


def packed_step(
    mixed_qkv: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    A_log: torch.Tensor,
    dt_bias: torch.Tensor | None,
    lower_bound: float | None,
    scale: float,
    state: torch.Tensor,
    slots: torch.Tensor,
    slot_null: SlotNull,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """One token for each row of ``mixed_qkv`` [B,2*H*K+HV*V], as it comes from the convolution. Returns out [B,1,HV,V].

    ``state`` is a pool, changed in place; a null slot leaves it alone, and its row of out is 0.
    """
    B, (HV, V, K) = mixed_qkv.shape[0], state.shape[1:]
    q, k, v = _split(mixed_qkv, state)
    out = mixed_qkv.new_empty(B, 1, HV, V) if out is None else out
    g, beta = readable(g.reshape(B, 1, HV, K)), beta.reshape(B, 1, HV)
    decode(q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, slots=slots, slot_null=slot_null, null_out="zero")
    return out


def fused_step(
    mixed_qkv: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    A_log: torch.Tensor,
    dt_bias: torch.Tensor,
    lower_bound: float | None,
    scale: float,
    state: torch.Tensor,
    slots: torch.Tensor,
    slot_null: SlotNull,
    out: torch.Tensor,
    conv_weight: torch.Tensor | Sequence[torch.Tensor],
    conv_bias: torch.Tensor | None,
    conv_state: torch.Tensor,
    output_gate: torch.Tensor | None,
    norm_weight: torch.Tensor | None,
    norm_eps: float,
) -> torch.Tensor:
    """As ``packed_step``, for rows before the convolution (``conv_state`` [slots,3,3*H*K]), with the gated norm behind it."""
    B, (H, V, K) = mixed_qkv.shape[0], state.shape[1:]
    q, k, v = _split(mixed_qkv, state)
    decode_fused(
        q, k, v, readable(g.reshape(B, 1, H, K)), beta.reshape(B, 1, H), scale, out.view(B, 1, H, V), A_log, dt_bias, lower_bound, state,
        conv_weight=conv_weight, conv_bias=None if conv_bias is None else conv_bias.view(3, H * K), conv_state=conv_state,
        output_gate=None if output_gate is None else readable(output_gate.reshape(B, 1, H, V)), norm_weight=norm_weight, norm_eps=norm_eps,
        slots=slots, slot_null=slot_null,
    )  # fmt: skip
    return out


class Refusals:
    """Says once why a kind of call goes to the engine's own kernel."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said: set[tuple[str, str]] = set()

    def say(self, call: str, reason: object) -> None:
        if (call, str(reason)) not in self._said:
            self._said.add((call, str(reason)))
            self._logger.warning("flashkda: %s goes to the engine's own kernel: %s", call, reason)


# ---------------------------------------------------------------- a module of the engine, once somebody imports it


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it lets the others find a module, and looks at it when it has been executed."""

    def __init__(self) -> None:
        self.patches: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.patches:
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._follow(spec.loader, name)
                return spec
        return None

    def _follow(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == name:  # the loader may be that of a whole archive
                for patch in self.patches.get(name, ()):
                    patch(module)

        loader.exec_module = exec_module  # nothing else of it: sources and resources are asked of the loader itself


_waiting = _Waiting()


def when_imported(name: str, patch: Callable[[ModuleType], None]) -> None:
    """Calls ``patch`` with the module of this name: now if it is there, else when it has been imported; never imports it."""
    if name in sys.modules:
        patch(sys.modules[name])
    elif patch not in _waiting.patches.setdefault(name, []):
        _waiting.patches[name].append(patch)
        if _waiting not in sys.meta_path:
            sys.meta_path.insert(0, _waiting)
