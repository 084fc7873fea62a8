"""SGLang's kernel class for KDA, over flash_kda. What flash_kda does not take goes to the Triton kernel that it inherits from."""

from __future__ import annotations

import logging
from typing import Any

import torch
from sglang.srt.layers.attention.linear.kernels.kda_triton import TritonKDAKernel
from sglang.srt.layers.attention.linear.utils import pp_spec_stable_rows_enabled

import flash_kda
from flash_kda.engines import REFUSALS, Refusals, packed_step, readable

CHUNK = 64  # tokens between the states that SGLang's prefix cache may track
MAX_TOKENS = 8  # of one sequence in flash_kda.decode
_refusals = Refusals(logging.getLogger(__name__))


class FlashKDAKernel(TritonKDAKernel):
    """Interface of ``LinearAttnKernelBase``. States are read and written in SGLang's pool, where they lie."""

    supports_packed_decode: bool = True
    supports_packed_decode_safe_gate: bool = True
    supports_safe_gate_verify: bool = True
    supports_track_state_snapshot: bool = True
    supports_fused_chain_verify: bool = False  # verify comes here, not to the fused Triton kernel

    def extend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, *, ssm_states: torch.Tensor,
        cache_indices: torch.Tensor, query_start_loc: torch.Tensor, A_log: torch.Tensor | None = None, dt_bias: torch.Tensor | None = None,
        lower_bound: float | None = None, beta_is_raw: bool = False, return_intermediate_states: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Prefill. With ``track_state`` the state after ``64 * track_chunk_idx`` tokens of each tracked sequence goes there."""
        triton = lambda: super(FlashKDAKernel, self).extend(
            q, k, v, g, beta, ssm_states=ssm_states, cache_indices=cache_indices, query_start_loc=query_start_loc, A_log=A_log, dt_bias=dt_bias,
            lower_bound=lower_bound, beta_is_raw=beta_is_raw, return_intermediate_states=return_intermediate_states, **kwargs,
        )  # fmt: skip
        track_state, chunks = kwargs.get("track_state"), kwargs.get("track_chunk_idx")
        offsets = None if track_state is None or chunks is None else chunks * CHUNK
        if A_log is None or not beta_is_raw or (return_intermediate_states and track_state is None and _reads_chunks(kwargs)):
            return triton()
        out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        try:
            if track_state is not None:
                _keep_initial_states(track_state, ssm_states, cache_indices)
            flash_kda.fwd(
                q, k, v, g, beta, q.shape[-1] ** -0.5, out, A_log, dt_bias, lower_bound, initial_state=ssm_states, final_state=ssm_states,
                cu_seqlens=query_start_loc, initial_slots=cache_indices, final_slots=cache_indices, checkpoint_state=track_state,
                checkpoint_offsets=offsets,
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("extend", reason)
            return triton()
        return (out, None) if return_intermediate_states else out

    def packed_decode(
        self, mixed_qkv: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, A_log: torch.Tensor, dt_bias: torch.Tensor, scale: float,
        ssm_states: torch.Tensor, cache_indices: torch.Tensor, num_v_heads: int, head_v_dim: int, lower_bound: float | None = None, **kwargs: Any,
    ) -> torch.Tensor:  # fmt: skip
        """One token for each sequence, from the rows of the convolution; returns [1,B,HV,V]."""
        triton = lambda: super(FlashKDAKernel, self).packed_decode(
            mixed_qkv, a, b, A_log=A_log, dt_bias=dt_bias, scale=scale, ssm_states=ssm_states, cache_indices=cache_indices,
            num_v_heads=num_v_heads, head_v_dim=head_v_dim, lower_bound=lower_bound, **kwargs,
        )  # fmt: skip
        if kwargs.get("replayssm_d") is not None:
            return triton()
        try:
            return packed_step(mixed_qkv, a, b, A_log, dt_bias, lower_bound, scale, ssm_states, cache_indices, "negative").transpose(0, 1)
        except REFUSALS as reason:
            _refusals.say("packed_decode", reason)
            return triton()

    def decode(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, A_log: torch.Tensor, dt_bias: torch.Tensor,
        ssm_states: torch.Tensor, cache_indices: torch.Tensor, query_start_loc: torch.Tensor, lower_bound: float | None = None, **kwargs: Any,
    ) -> torch.Tensor:  # fmt: skip
        """One token for each sequence, q, k, v [1,B,heads,width]."""
        triton = lambda: super(FlashKDAKernel, self).decode(
            q, k, v, a, b, A_log=A_log, dt_bias=dt_bias, ssm_states=ssm_states, cache_indices=cache_indices, query_start_loc=query_start_loc,
            lower_bound=lower_bound, **kwargs,
        )  # fmt: skip
        out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        try:
            flash_kda.decode(
                readable(q), readable(k), readable(v), readable(a.reshape(*v.shape[:3], -1)), b.reshape(v.shape[:3]), q.shape[-1] ** -0.5,
                out, A_log, dt_bias, lower_bound, ssm_states, query_start_loc, slots=cache_indices, max_tokens=1,
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("decode", reason)
            return triton()
        return out

    def target_verify(
        self, A_log: torch.Tensor, dt_bias: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *,
        ssm_states: torch.Tensor, cache_indices: torch.Tensor, query_start_loc: torch.Tensor, intermediate_states_buffer: torch.Tensor,
        intermediate_state_indices: torch.Tensor, cache_steps: int, retrieve_parent_token: torch.Tensor | None, lower_bound: float | None = None,
        cache_ring: bool = False, **kwargs: Any,
    ) -> torch.Tensor:  # fmt: skip
        """Outputs of all draft tokens, a chain or a tree. The pool stays; the state after every token goes to the buffer."""
        triton = lambda: super(FlashKDAKernel, self).target_verify(
            A_log, dt_bias, q, k, v, a, b, ssm_states=ssm_states, cache_indices=cache_indices, query_start_loc=query_start_loc,
            intermediate_states_buffer=intermediate_states_buffer, intermediate_state_indices=intermediate_state_indices, cache_steps=cache_steps,
            retrieve_parent_token=retrieve_parent_token, lower_bound=lower_bound, cache_ring=cache_ring, **kwargs,
        )  # fmt: skip
        N, buffer = query_start_loc.shape[0] - 1, intermediate_states_buffer
        # Rows of the buffer are the sequences in order, unless SGLang's pipeline-parallel speculation gives them stable rows.
        is_in_order = not pp_spec_stable_rows_enabled() and buffer is not None and buffer.shape[0] >= N and buffer.shape[1] == cache_steps
        if cache_ring or cache_steps > MAX_TOKENS or not is_in_order:
            return triton()
        out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        try:
            flash_kda.decode(
                readable(q), readable(k), readable(v), readable(a.reshape(*v.shape[:3], -1)), b.reshape(v.shape[:3]), q.shape[-1] ** -0.5,
                out, A_log, dt_bias, lower_bound, ssm_states, query_start_loc, slots=cache_indices[:N], max_tokens=cache_steps, commit="none",
                step_states=buffer[:N], parent=_parents(retrieve_parent_token, N),
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("target_verify", reason)
            return triton()
        return out


def _reads_chunks(kwargs: dict[str, Any]) -> bool:
    """Will the caller read the states of all chunks? Not where what it tracks are final states."""
    rows = kwargs.get("track_ssm_h_src")
    return rows is None or rows.numel() > 0


def _keep_initial_states(track_state: torch.Tensor, ssm_states: torch.Tensor, cache_indices: torch.Tensor) -> None:
    """The state before chunk 0 is the initial one, which is no checkpoint; the others are written over."""
    track_state.copy_(ssm_states.index_select(0, cache_indices.clamp(min=0)))


def _parents(retrieve_parent_token: torch.Tensor | None, N: int) -> torch.Tensor | None:
    """The first token goes on from the initial state, whatever SGLang says of it."""
    if retrieve_parent_token is None:
        return None
    parent = retrieve_parent_token[:N].clone()
    parent[:, 0] = -1
    return parent
