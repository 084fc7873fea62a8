"""flashkda in vLLM: prefill, decode and speculative verify of Kimi Delta Attention where vLLM would run `_flashkda_C` and its Triton kernels.

Installed, it is on: vLLM calls ``register`` in each of its processes (entry point group ``vllm.general_plugins``). ``FLASHKDA_VLLM=0`` in the
environment switches it off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from flash_kda.engines import when_imported

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["register"]

_KIMI = "vllm.models.kimi_k3.nvidia"
_GLM = "vllm.models.glm5next"


def register() -> None:
    """Ours in place of vLLM's ops at once, in place of its functions as soon as it imports them. CUDA is not woken."""
    if os.environ.get("FLASHKDA_VLLM", "1") == "0":
        return
    from .ops import ops as mine

    torch.ops._flashkda_C.fwd = mine.fwd
    torch.ops._flashkda_C.get_workspace_size = mine.get_workspace_size
    torch.ops._C.fused_kda_decode = mine.fused_kda_decode
    when_imported(f"{_KIMI}.ops.third_party.kda", _use_kimi_functions)
    when_imported(f"{_KIMI}.kda", _take_any_number_of_heads)
    when_imported(f"{_GLM}.nvidia.ops.third_party.kda", _use_glm_function)
    when_imported(f"{_GLM}.common.kda", _use_glm_function)


def _use_kimi_functions(module: ModuleType) -> None:
    from . import functions

    for name, make in {
        "chunk_kda_with_fused_gate": functions.chunk_of_kimi,
        "fused_recurrent_kda": functions.recurrent_of_kimi,
        "fused_recurrent_kda_packed_decode": functions.packed_decode_of_kimi,
    }.items():
        _replace(module, name, make)


def _use_glm_function(module: ModuleType) -> None:
    from . import functions

    _replace(module, "fused_recurrent_kda", functions.recurrent_of_glm)


def _replace(module: ModuleType, name: str, make) -> None:  # type: ignore[no-untyped-def]
    its_own = getattr(module, name)
    if not getattr(its_own, "is_flashkda", False):
        mine = make(its_own)
        mine.is_flashkda = True
        setattr(module, name, mine)


def _take_any_number_of_heads(module: ModuleType) -> None:
    """The fused decode of vLLM is compiled for 12, 24, 48 and 96 heads; flash_kda's takes any number, where it runs on the GPU."""

    def make(its_own):  # type: ignore[no-untyped-def]
        def is_fused_kda_decode_supported(num_heads: int, *others) -> bool:  # type: ignore[no-untyped-def]
            import flash_kda

            return its_own(12 if flash_kda.backends()["cuda"].available else num_heads, *others)

        return is_fused_kda_decode_supported

    _replace(module, "is_fused_kda_decode_supported", make)
