"""The slow road of ``fwd``: tensors that cannot be taken as they lie go through contiguous copies.

On the CPU a copy is in float32 where the dtype is not taken, which holds what the other floating point dtypes hold, but for float64. The
CUDA kernels read and write q, k, v, g, beta and out in bfloat16, so there a copy of these is in bfloat16, and q and k are repeated
where v has more heads. ``copy_`` of torch resolves the negative bit in both directions.
"""

from __future__ import annotations

from typing import Optional

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
    """On CUDA: ``stand_in``, but ``out`` in the rows behind the last sequence; without a copy of cu_seqlens to the host.

    A broken cu_seqlens has filled all rows with NaN. Then they are all taken, wherever it seems to end.
    """
    is_written = torch.arange(out.shape[1], device=out.device) < cu_seqlens[-1]
    dtype = out.dtype if out.dtype.itemsize > 1 else torch.float32  # float8: where came late to torch
    return torch.where(is_written[:, None, None] | stand_in.isnan(), stand_in.to(dtype), out.to(dtype))


def _copy_back_out(out: torch.Tensor, stand_in: torch.Tensor, cu_seqlens: Optional[torch.Tensor]) -> None:
    if cu_seqlens is None:
        out.copy_(stand_in)
    elif out.is_cuda:
        out.copy_(_with_untouched_rows(out, stand_in, cu_seqlens))
    else:
        end = int(cu_seqlens[-1])
        out[:, :end].copy_(stand_in[:, :end])


@torch.inference_mode()
def copy_back(copies: int, arguments: tuple, stand_ins: tuple) -> None:
    """What ``fwd`` has written into stand-ins goes into the outputs themselves: all checks are behind us."""
    if copies >> _OUT & 1:
        _copy_back_out(arguments[_OUT], stand_ins[_OUT], arguments[_CU_SEQLENS])
    if copies >> _FINAL_STATE & 1:
        arguments[_FINAL_STATE].copy_(stand_ins[_FINAL_STATE])
