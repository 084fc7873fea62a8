"""The slow road of ``fwd``: tensors that cannot be taken as they lie go through contiguous copies.

Which ones, and in which dtype, is what the library answers (``fkda_fwd_advise``).
The negative bit is resolved beside the conversion: ``copy_`` between float16 and float32 does not see it on the CPU (torch 2.13).
"""

from __future__ import annotations

import torch

_OUT, _FINAL_STATE, _CU_SEQLENS = 6, 11, 12  # positions in fwd
_OUTPUTS = (_OUT, _FINAL_STATE)


def _stand_in(position: int, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if position in _OUTPUTS:
        return torch.zeros(tensor.shape, dtype=dtype, device=tensor.device)  # rows that no sequence has must not look like NaN, see below
    return torch.empty(tensor.shape, dtype=dtype, device=tensor.device).copy_(tensor.resolve_neg())


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


@torch.inference_mode()
def copy_back(copies: dict, arguments: tuple, stand_ins: tuple) -> None:
    """What ``fwd`` has written into stand-ins goes into the outputs themselves: all checks are behind us."""
    if _OUT in copies:
        _copy_back_out(arguments[_OUT], stand_ins[_OUT], arguments[_CU_SEQLENS])
    if _FINAL_STATE in copies:
        _write(arguments[_FINAL_STATE], stand_ins[_FINAL_STATE])
