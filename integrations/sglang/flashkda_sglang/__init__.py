"""flashkda in SGLang: prefill, decode and verify of Kimi Delta Attention where SGLang would run its Triton kernels.

Installed, it is on: SGLang calls ``register`` in each of its processes (entry point group ``sglang.srt.plugins``). ``FLASHKDA_SGLANG=0`` in the
environment switches it off. Kernels that were chosen by name (``--linear-attn-decode-backend cutedsl``, say) stay.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flash_kda.engines import when_imported

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["register"]

_BACKEND = "sglang.srt.layers.attention.linear.kda_backend"
_FUSED_DECODE = "sglang.kernels.ops.attention.kda_fused_decode"


def register() -> None:
    """Puts the kernels in place as soon as SGLang imports its KDA backend; nothing of it is imported before."""
    if os.environ.get("FLASHKDA_SGLANG", "1") != "0":
        when_imported(_BACKEND, _use_kernel)
        when_imported(_FUSED_DECODE, _use_fused_decode)


def _use_kernel(backend: ModuleType) -> None:
    from .kernel import FlashKDAKernel

    dispatcher = backend.KDAKernelDispatcher
    its_own = dispatcher.__init__
    if getattr(its_own, "is_flashkda", False):
        return

    def __init__(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        its_own(self, *args, **kwargs)
        kernel = FlashKDAKernel()
        for name in ("decode_kernel", "verify_kernel", "extend_kernel"):
            if getattr(self, name) is self.triton_kernel or type(getattr(self, name)).__name__ == "FlashKDAKernel":
                setattr(self, name, kernel)
        self.supports_packed_decode = getattr(self.decode_kernel, "supports_packed_decode", False)
        self.supports_packed_decode_safe_gate = getattr(self.decode_kernel, "supports_packed_decode_safe_gate", False)
        names = {name: type(getattr(self, name)).__name__ for name in ("decode_kernel", "verify_kernel", "extend_kernel")}
        backend.rank0_log(f"flashkda: {', '.join(f'{name} {kind}' for name, kind in names.items())}")

    __init__.is_flashkda = True  # type: ignore[attr-defined]
    dispatcher.__init__ = __init__


def _use_fused_decode(module: ModuleType) -> None:
    from .fused import replace

    replace(module)
