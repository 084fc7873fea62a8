"""The slow road of ``fwd``: tensors that cannot be taken as they lie go through contiguous copies.

On the CPU a copy is in float32 where the dtype is not taken, which holds what the other floating point dtypes hold, but for float64. The
CUDA kernels read and write q, k, v, g, beta and out in bfloat16, so there a copy of these is in bfloat16, and q and k are repeated
where v has more heads. ``copy_`` of torch resolves the negative bit in both directions.
"""

from __future__ import annotations

import torch

_Q, _K, _V, _OUT, _FINAL_STATE, _CU_SEQLENS = 0, 1, 2, 6, 11, 12  # positions in fwd
_OUTPUTS = (_OUT, _FINAL_STATE)
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
    dtype = _dtype_of_copy(position, tensor)
    if position in _OUTPUTS:
        return torch.zeros(shape, dtype=dtype, device=tensor.device)  # rows that no sequence has must not look like NaN, see below
    copy = torch.empty(shape, dtype=dtype, device=tensor.device).copy_(tensor)
    return copy.flatten(2, 3) if copy.dim() == 5 else copy


@torch.inference_mode()
def make(copies: int, arguments: tuple) -> tuple:
    """The arguments, with a stand-in where bit i of ``copies`` says that argument i needs one."""
    return tuple(_stand_in(i, arguments) if copies >> i & 1 else argument for i, argument in enumerate(arguments))


def _with_untouched_rows(out: torch.Tensor, stand_in: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """``stand_in``, but ``out`` in the rows behind the last sequence; without a copy of cu_seqlens to the host.

    On CUDA a broken cu_seqlens has filled all rows with NaN. Then they are all taken, wherever it seems to end.
    """
    is_written = torch.arange(out.shape[1], device=out.device) < cu_seqlens[-1]
    return torch.where(is_written[:, None, None] | stand_in.isnan(), stand_in.to(out.dtype), out)


@torch.inference_mode()
def copy_back(copies: int, arguments: tuple, stand_ins: tuple) -> None:
    """What ``fwd`` has written into stand-ins goes into the outputs themselves. The last step that could fail is behind us."""
    for i in _OUTPUTS:
        if copies >> i & 1:
            is_packed_out = i == _OUT and arguments[_CU_SEQLENS] is not None
            answer = _with_untouched_rows(arguments[i], stand_ins[i], arguments[_CU_SEQLENS]) if is_packed_out else stand_ins[i]
            arguments[i].copy_(answer)
