"""``chunk_kimi_delta_attention`` and ``recurrent_kimi_delta_attention`` of transformers 5.24, over flash_kda.

They get what these functions get: g is a log-decay, beta is activated, states are [B,H,K,V] in fp32. There is no backward.
"""

from __future__ import annotations

from typing import Any

import torch

try:
    import flash_kda
    import flash_kda.torch_ops  # torch.compile traces the calls
    from flash_kda.engines import readable
except ImportError as error:
    raise ImportError("this kernel needs the package flashkda, which has the compiled code: pip install flashkda") from error

MAX_TOKENS = 8  # of one sequence in flash_kda.decode


def _words(use_qk_l2norm_in_kernel: bool) -> dict[str, Any]:
    return {"gate": "precomputed", "beta_kind": "activated", "state_layout": "nhkv", "qk_norm": "l2" if use_qk_l2norm_in_kernel else "none"}


def _new_state(key: torch.Tensor, value: torch.Tensor, N: int) -> torch.Tensor:
    return torch.empty(N, value.shape[2], key.shape[3], value.shape[3], dtype=torch.float32, device=key.device)


def _prefill(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, initial_state: torch.Tensor | None,
    output_final_state: bool, use_qk_l2norm_in_kernel: bool, cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    out = torch.empty(value.shape, dtype=query.dtype, device=value.device)
    N = key.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    final_state = _new_state(key, value, N) if output_final_state else None
    flash_kda.fwd(
        query, key, value, g, beta, key.shape[3] ** -0.5, out, None, None, None, initial_state, final_state, cu_seqlens,
        **_words(use_qk_l2norm_in_kernel),
    )  # fmt: skip
    return out, final_state


def _check_packing(options: dict[str, Any]) -> Any:
    if options.get("seq_idx") is not None and options.get("cu_seqlens") is None:
        raise ValueError("seq_idx is given without cu_seqlens, but packed sequences are told apart by cu_seqlens")
    return options.get("cu_seqlens")


class chunk_kimi_delta_attention(torch.nn.Module):
    """Prefill, of any number of tokens."""

    can_torch_compile = True
    has_backward = False

    def forward(  # type: ignore[no-untyped-def]
        self, query, key, value, g, beta, chunk_size=64, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False, **kwargs
    ):
        return _prefill(query, key, value, g, beta, initial_state, output_final_state, use_qk_l2norm_in_kernel, _check_packing(kwargs))


class recurrent_kimi_delta_attention(torch.nn.Module):
    """Decode. The state that comes in is left as it is: the one that goes out is another tensor."""

    can_torch_compile = True
    has_backward = False

    def forward(  # type: ignore[no-untyped-def]
        self, query, key, value, g, beta, initial_state, output_final_state, use_qk_l2norm_in_kernel=False, **kwargs
    ):
        cu_seqlens = _check_packing(kwargs)
        if key.shape[1] > MAX_TOKENS or cu_seqlens is not None or torch.float16 in (query.dtype, g.dtype, beta.dtype):  # decode copies nothing
            return _prefill(query, key, value, g, beta, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens)
        out = torch.empty(value.shape, dtype=query.dtype, device=value.device)
        state = _new_state(key, value, key.shape[0])
        state.zero_() if initial_state is None else state.copy_(initial_state)
        query, key, g = readable(query), readable(key), readable(g)
        flash_kda.decode(query, key, value, g, beta, key.shape[3] ** -0.5, out, None, None, None, state, **_words(use_qk_l2norm_in_kernel))
        return out, state if output_final_state else None
