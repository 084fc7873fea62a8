"""Kimi K3's decode step in one kernel, convolution to norm: ``kda_fused_decode`` of SGLang, over flash_kda.decode_fused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from flash_kda.engines import REFUSALS, Refusals, fused_step

if TYPE_CHECKING:
    from types import ModuleType

_refusals = Refusals(logging.getLogger(__name__))


def replace(module: ModuleType) -> None:
    """``kda_fused_decode`` of the module asks flash_kda first; ``covered`` stays SGLang's own, so that what is refused can go back to it."""
    its_own = module.kda_fused_decode
    if getattr(its_own, "is_flashkda", False):
        return

    def kda_fused_decode(
        mixed_qkv, a, b, conv_states, w_q_t, w_k_t, w_v_t, conv_bias, A_log, dt_bias, onorm_g, onorm_weight, ssm_states, cache_indices, scale,
        onorm_eps, lower_bound=None,
    ):  # type: ignore[no-untyped-def]  # fmt: skip
        B, H = mixed_qkv.shape[0], ssm_states.shape[1]
        out = torch.empty(B, H * ssm_states.shape[2], dtype=mixed_qkv.dtype, device=mixed_qkv.device)
        try:
            fused_step(
                mixed_qkv, a, b, A_log, dt_bias, lower_bound, scale, ssm_states, cache_indices, "negative", out, (w_q_t, w_k_t, w_v_t), conv_bias,
                conv_states, onorm_g, onorm_weight, onorm_eps,
            )  # fmt: skip
        except REFUSALS as reason:
            _refusals.say("kda_fused_decode", reason)
            return its_own(
                mixed_qkv, a, b, conv_states, w_q_t, w_k_t, w_v_t, conv_bias, A_log, dt_bias, onorm_g, onorm_weight, ssm_states, cache_indices,
                scale, onorm_eps, lower_bound,
            )  # fmt: skip
        return out.view(1, B, H, -1)

    kda_fused_decode.is_flashkda = True  # type: ignore[attr-defined]
    vars(module)["kda_fused_decode"] = kda_fused_decode
