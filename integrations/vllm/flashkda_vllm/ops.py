"""``torch.ops.flashkda_vllm``: vLLM's ops ``_flashkda_C::fwd``, ``_flashkda_C::get_workspace_size`` and ``_C::fused_kda_decode``, over flash_kda.

The schemas are vLLM's. A call that flash_kda refuses, before it has written anything, goes to vLLM's own op, if that is there.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

import flash_kda
from flash_kda.engines import REFUSALS, Refusals, fused_step

SCHEMAS = {
    "fwd": "(Tensor q, Tensor k, Tensor v, Tensor g, Tensor beta, float scale, Tensor(a!) out, Tensor(c!) workspace, Tensor A_log, Tensor dt_bias, "
    "float lower_bound, Tensor? initial_state=None, Tensor(b!)? final_state=None, Tensor? cu_seqlens=None, Tensor(d!)? checkpoint_state=None, "
    "Tensor? checkpoint_offsets=None) -> ()",
    "get_workspace_size": "(int T_total, int H, int N=1) -> int",
    "fused_kda_decode": "(Tensor x, Tensor weight, Tensor? bias, Tensor(a!) conv_state, Tensor raw_g, Tensor raw_beta, Tensor A_log, Tensor dt_bias, "
    "Tensor state_indices, Tensor(b!) state, Tensor(c!) out, float? lower_bound=None, Tensor? output_gate=None, Tensor? norm_weight=None, "
    "float norm_eps=1e-05) -> ()",
}
_refusals = Refusals(logging.getLogger(__name__))


def _its_own(namespace: str, name: str) -> Any:
    """vLLM's op, past what `register` has put in its place; AttributeError without one."""
    return getattr(torch._ops._OpNamespace(namespace), name)


def _fwd(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, scale: float, out: torch.Tensor, workspace: torch.Tensor,
    A_log: torch.Tensor, dt_bias: torch.Tensor, lower_bound: float, initial_state: torch.Tensor | None = None,
    final_state: torch.Tensor | None = None, cu_seqlens: torch.Tensor | None = None, checkpoint_state: torch.Tensor | None = None,
    checkpoint_offsets: torch.Tensor | None = None,
) -> None:  # fmt: skip
    call = (q, k, v, g, beta, scale, out)
    rest = (A_log, dt_bias, lower_bound, initial_state, final_state, cu_seqlens)
    try:
        flash_kda.fwd(*call, *rest, checkpoint_state=checkpoint_state, checkpoint_offsets=checkpoint_offsets)
    except REFUSALS as reason:
        try:
            theirs, size = _its_own("_flashkda_C", "fwd"), _its_own("_flashkda_C", "get_workspace_size")
        except AttributeError:
            raise reason from None
        _refusals.say("_flashkda_C::fwd", reason)
        sequences = q.shape[0] if cu_seqlens is None else cu_seqlens.numel() - 1
        bytes_wanted = size(q.shape[0] * q.shape[1], q.shape[2], sequences)
        theirs(*call, torch.empty(bytes_wanted, dtype=torch.uint8, device=q.device), *rest, checkpoint_state, checkpoint_offsets)


def _get_workspace_size(T_total: int, H: int, N: int = 1) -> int:
    """What the engine must bring: flash_kda takes its scratch, less than 1 MB, from torch's allocator."""
    return 16


def _fused_kda_decode(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, conv_state: torch.Tensor, raw_g: torch.Tensor, raw_beta: torch.Tensor,
    A_log: torch.Tensor, dt_bias: torch.Tensor, state_indices: torch.Tensor, state: torch.Tensor, out: torch.Tensor,
    lower_bound: float | None = None, output_gate: torch.Tensor | None = None, norm_weight: torch.Tensor | None = None, norm_eps: float = 1e-5,
) -> None:  # fmt: skip
    try:
        fused_step(
            x, raw_g, raw_beta, A_log, dt_bias, lower_bound, state.shape[-1] ** -0.5, state, state_indices, "not_positive", out, weight, bias,
            conv_state.transpose(1, 2), output_gate, norm_weight if output_gate is not None else None, norm_eps,
        )  # fmt: skip
    except REFUSALS as reason:
        try:
            theirs = _its_own("_C", "fused_kda_decode")
        except AttributeError:
            raise reason from None
        _refusals.say("_C::fused_kda_decode", reason)
        theirs(
            x, weight, bias, conv_state, raw_g, raw_beta, A_log, dt_bias, state_indices, state, out, lower_bound, output_gate, norm_weight, norm_eps
        )


_library = torch.library.Library("flashkda_vllm", "DEF")
for _name, _kernel in {"fwd": _fwd, "get_workspace_size": _get_workspace_size, "fused_kda_decode": _fused_kda_decode}.items():
    _library.define(_name + SCHEMAS[_name], tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    if _name != "get_workspace_size":
        torch.library.register_fake(f"flashkda_vllm::{_name}", lambda *args, **kwargs: None, lib=_library)
ops = torch.ops.flashkda_vllm
