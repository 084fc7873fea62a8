"""The slow road of ``fwd``: tensors that cannot be taken as they lie go through contiguous copies.

Which ones, and in which dtype, is what the library answers (``fkda_fwd_advise``).
The negative bit is resolved beside the conversion: ``copy_`` between float16 and float32 does not see it on the CPU (torch 2.13).
"""

from __future__ import annotations

import torch

_OUT, _FINAL_STATE, _CU_SEQLENS, _CHECKPOINT_STATE = 6, 11, 12, 17  # positions in fwd
_UNWRITTEN = {torch.float32: (torch.int32, 0x7FC0DEAD), torch.bfloat16: (torch.int16, 0x7FDE)}  # a NaN that no arithmetic makes


def _unwritten(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    bits, pattern = _UNWRITTEN[dtype]
    return torch.empty(shape, dtype=bits, device=device).fill_(pattern).view(dtype)


def _stand_in(position: int, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    if position in (_FINAL_STATE, _CHECKPOINT_STATE):
        return _unwritten(tensor.shape, dtype, tensor.device)
    if position == _OUT:
        return torch.zeros(tensor.shape, dtype=dtype, device=tensor.device)  # rows that no sequence has must not look like NaN, see below
    return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=tensor.device).copy_(tensor.resolve_neg())


@torch.inference_mode()
def make(copies: dict, arguments: tuple) -> tuple:
    """The arguments, with a stand-in for argument i where ``copies`` has i: its dtype."""
    return tuple(_stand_in(i, argument, copies[i]) if i in copies else argument for i, argument in enumerate(arguments))


def _with_untouched_rows(out: torch.Tensor, stand_in: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """On CUDA: ``stand_in``, but ``out`` in the rows behind the last sequence; without a copy of cu_seqlens to the host.

    A broken cu_seqlens has filled all rows with NaN. Then they are all taken, wherever it seems to end.
    """
    is_written = torch.arange(out.shape[1], device=out.device) < cu_seqlens[-1]
    dtype = out.dtype if out.dtype.itemsize > 1 else torch.float32  # float8: where came late to torch
    return torch.where(is_written[:, None, None] | stand_in.isnan(), stand_in.to(dtype), out.to(dtype))


def _write(to: torch.Tensor, values: torch.Tensor) -> None:
    to.copy_(values.to(to.dtype) if to.is_neg() else values)


def _copy_back_out(out: torch.Tensor, stand_in: torch.Tensor, cu_seqlens: torch.Tensor | None) -> None:
    if cu_seqlens is None:
        _write(out, stand_in)
    elif out.is_cuda:
        _write(out, _with_untouched_rows(out, stand_in, cu_seqlens))
    else:
        end = int(cu_seqlens[-1])
        _write(out[:, :end], stand_in[:, :end])


def _copy_back_rows(states: torch.Tensor, stand_in: torch.Tensor) -> None:
    """Rows and slots that the call has not written keep their bits; which these are, the stand-in shows, without a copy to the host."""
    bits, pattern = _UNWRITTEN[stand_in.dtype]
    is_written = (stand_in.view(bits) != pattern).flatten(1).any(1)[:, None, None, None]
    dtype = states.dtype if states.dtype.itemsize > 1 else torch.float32  # float8: where came late to torch
    _write(states, torch.where(is_written, stand_in.to(dtype), states.resolve_neg().to(dtype)))


@torch.inference_mode()
def copy_back(copies: dict, arguments: tuple, stand_ins: tuple) -> None:
    """What ``fwd`` has written into stand-ins goes into the outputs themselves: all checks are behind us."""
    if _OUT in copies:
        _copy_back_out(arguments[_OUT], stand_ins[_OUT], arguments[_CU_SEQLENS])
    for state in (_FINAL_STATE, _CHECKPOINT_STATE):
        if state in copies:
            _copy_back_rows(arguments[state], stand_ins[state])
