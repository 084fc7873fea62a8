"""vLLM's functions over flash_kda: prefill (where `_flashkda_C` is not asked), decode and speculative verify of Kimi K3 and Kimi Linear; the
decode and verify of GLM-5.3.

Each is made from vLLM's own, which gets what flash_kda does not take. States lie in vLLM's blocks; block 0 is null.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

import flash_kda
from flash_kda.engines import REFUSALS, Refusals, packed_step, readable

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[torch.Tensor, torch.Tensor]
_refusals = Refusals(logging.getLogger(__name__))


def _recurrent(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor | None,
    lower_bound: float | None, scale: float, state: torch.Tensor, cu_seqlens: torch.Tensor, slots: torch.Tensor,
    num_accepted: torch.Tensor | None, out: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """slots [N]: one token for each sequence. [N,1+S]: the state after token t goes to slots[n,t]; the first one is that of the last token
    that was accepted before."""
    N = cu_seqlens.shape[0] - 1
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device) if out is None else out
    how: dict[str, Any] = {"max_tokens": 1}
    if slots.dim() == 2:
        how = {"max_tokens": slots.shape[1], "commit": "each", "num_accepted": None if num_accepted is None else num_accepted[:N]}
    q, k, v, g = readable(q), readable(k), readable(v), readable(g)
    flash_kda.decode(
        q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, cu_seqlens, slots=slots[:N], slot_null="not_positive", **how
    )
    return out


def recurrent_of_kimi(its_own: Callable[..., Answer]) -> Callable[..., Answer]:
    def fused_recurrent_kda(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, raw_g: torch.Tensor, raw_beta: torch.Tensor, A_log: torch.Tensor,
        dt_bias: torch.Tensor | None, lower_bound: float | None, initial_state: torch.Tensor, cu_seqlens: torch.Tensor,
        ssm_state_indices: torch.Tensor, num_accepted_tokens: torch.Tensor | None = None, out: torch.Tensor | None = None,
        fuse_gate: bool | None = None,
    ) -> Answer:  # fmt: skip
        call = (q, k, v, raw_g, raw_beta, A_log, dt_bias, lower_bound)
        try:
            answer = _recurrent(*call, q.shape[-1] ** -0.5, initial_state, cu_seqlens, ssm_state_indices, num_accepted_tokens, out)
        except REFUSALS as reason:
            _refusals.say("fused_recurrent_kda", reason)
            return its_own(*call, initial_state, cu_seqlens, ssm_state_indices, num_accepted_tokens, out, fuse_gate)
        return answer, initial_state

    return fused_recurrent_kda


def chunk_of_kimi(its_own: Callable[..., Answer]) -> Callable[..., Answer]:
    """Prefill of Kimi Linear, whose gate has no bound, and wherever vLLM does not take `_flashkda_C`."""

    def chunk_kda_with_fused_gate(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, raw_g: torch.Tensor, raw_beta: torch.Tensor, A_log: torch.Tensor,
        g_bias: torch.Tensor | None, scale: float | None = None, initial_state: torch.Tensor | None = None, output_final_state: bool = False,
        lower_bound: float | None = None, use_qk_l2norm_in_kernel: bool = False, cu_seqlens: torch.Tensor | None = None,
        out: torch.Tensor | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        N = q.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        answer = torch.empty(v.shape, dtype=v.dtype, device=v.device) if out is None else out
        final = torch.empty(N, v.shape[2], v.shape[3], k.shape[3], device=v.device) if output_final_state else None
        try:
            flash_kda.fwd(
                q, k, v, raw_g, raw_beta, k.shape[-1] ** -0.5 if scale is None else scale, answer, A_log, g_bias, lower_bound, initial_state, final,
                cu_seqlens, qk_norm="l2" if use_qk_l2norm_in_kernel else "none",
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("chunk_kda_with_fused_gate", reason)
            return its_own(
                q, k, v, raw_g, raw_beta, A_log, g_bias, scale, initial_state, output_final_state, lower_bound, use_qk_l2norm_in_kernel, cu_seqlens,
                out, **kwargs,
            )  # fmt: skip
        return answer, final

    return chunk_kda_with_fused_gate


def packed_decode_of_kimi(its_own: Callable[..., Answer]) -> Callable[..., Answer]:
    def fused_recurrent_kda_packed_decode(
        mixed_qkv: torch.Tensor, raw_g: torch.Tensor, raw_beta: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor, lower_bound: float | None,
        initial_state: torch.Tensor, state_indices: torch.Tensor, scale: float | None = None, out: torch.Tensor | None = None,
    ) -> Answer:  # fmt: skip
        rows = None if out is None else out.transpose(0, 1)
        try:
            answer = packed_step(
                mixed_qkv, raw_g, raw_beta, A_log, dt_bias, lower_bound, initial_state.shape[-1] ** -0.5 if scale is None else scale,
                initial_state, state_indices, "not_positive", rows,
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("fused_recurrent_kda_packed_decode", reason)
            return its_own(mixed_qkv, raw_g, raw_beta, A_log, dt_bias, lower_bound, initial_state, state_indices, scale, out)
        return answer.transpose(0, 1), initial_state

    return fused_recurrent_kda_packed_decode


def recurrent_of_glm(its_own: Callable[..., Answer]) -> Callable[..., Answer]:
    def fused_recurrent_kda(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor | None = None, scale: float | None = None,
        initial_state: torch.Tensor | None = None, inplace_final_state: bool = True, use_qk_l2norm_in_kernel: bool = True,
        cu_seqlens: torch.Tensor | None = None, ssm_state_indices: torch.Tensor | None = None, num_accepted_tokens: torch.Tensor | None = None,
        out: torch.Tensor | None = None, sigmoid_beta: bool = False, a_log: torch.Tensor | None = None, g_bias: torch.Tensor | None = None,
        compute_gate: bool = False, lower_bound: float | None = -5.0, **kwargs: Any,
    ) -> Answer:  # fmt: skip
        is_raw = compute_gate and sigmoid_beta and a_log is not None and lower_bound is not None
        if is_raw and inplace_final_state and use_qk_l2norm_in_kernel and cu_seqlens is not None and ssm_state_indices is not None:
            scale_of_q = k.shape[-1] ** -0.5 if scale is None else scale
            gate = (a_log, g_bias, lower_bound, scale_of_q)
            try:
                answer = _recurrent(q, k, v, g, beta, *gate, initial_state, cu_seqlens, ssm_state_indices, num_accepted_tokens, out)  # type: ignore[arg-type]
                return answer, initial_state
            except REFUSALS as reason:
                _refusals.say("fused_recurrent_kda", reason)
        return its_own(
            q, k, v, g, beta, scale, initial_state, inplace_final_state, use_qk_l2norm_in_kernel, cu_seqlens, ssm_state_indices,
            num_accepted_tokens, out, sigmoid_beta, a_log, g_bias, compute_gate, lower_bound, **kwargs,
        )  # fmt: skip

    return fused_recurrent_kda
