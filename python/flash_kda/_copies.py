"""The slow road of ``fwd``: tensors that cannot be taken as they lie go through contiguous copies.

On the CPU a copy is in float32 where the dtype is not taken, which holds what the other floating point dtypes hold, but for float64. The
CUDA kernels read and write q, k, v, g, beta and out in bfloat16, so there a copy of these is in bfloat16, and q and k are repeated
where v has more heads.
"""

from __future__ import annotations

import torch

from . import _core

_Q, _K, _V, _OUT, _FINAL_STATE = 0, 1, 2, 6, 11  # positions in fwd
_TOKENS = (0, 1, 2, 3, 4, 6)  # q, k, v, g, beta, out
_PLAIN_DTYPES = (torch.bfloat16, torch.float32, torch.int32, torch.int64)


def _dtype_of_copy(position: int, tensor: torch.Tensor) -> torch.dtype:
    if tensor.is_cuda and position in _TOKENS:
        return torch.bfloat16
    return tensor.dtype if tensor.dtype in _PLAIN_DTYPES else torch.float32


def _stand_in(position: int, arguments: tuple) -> torch.Tensor:
    tensor = arguments[position]
    shape = list(tensor.shape)
    if tensor.is_cuda and position in (_Q, _K):
        heads, repeats = shape[2], arguments[_V].shape[2] // shape[2]
        shape[2:3] = [heads, repeats]
        tensor = tensor.unsqueeze(3).expand(shape)
    copy = torch.empty(shape, dtype=_dtype_of_copy(position, tensor), device=tensor.device)
    if position not in (_OUT, _FINAL_STATE):
        copy.copy_(tensor)
    return copy.flatten(2, 3) if copy.dim() == 5 else copy


def fwd_on_copies(copies: int, arguments: tuple) -> None:
    """Bit i of ``copies``: argument i needs a copy. Outputs are copied back after the last step that can fail."""
    wanted = [i for i in range(len(arguments)) if copies >> i & 1]
    stand_ins = list(arguments)
    with torch.inference_mode():
        for i in wanted:
            stand_ins[i] = _stand_in(i, arguments)
        if _core.fwd(*stand_ins):
            raise RuntimeError("flash_kda: a contiguous copy was not accepted; this is a defect of flash_kda")
        for i in wanted:
            if i in (_OUT, _FINAL_STATE):
                arguments[i].copy_(stand_ins[i])
