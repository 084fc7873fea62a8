"""Kimi Delta Attention (KDA), forward pass and decode, on torch tensors: the module that flash-linear-attention and SGLang call.

torch is not imported from here. Tensors are read through torch's C exchange table (torch 2.11 and later) or attribute by attribute.

``import flash_kda.fla`` lets flash-linear-attention, and with it transformers, call this module for all that it computes. Without that line FLA
calls ``fwd`` for one kind of call alone, and 0.5.1 and 0.5.2 drop ``allow_neg_eigval=True`` (b = 2 sigmoid(beta)) silently before they do: with
those two import flash_kda.fla, or set ``FLA_FLASH_KDA=0``, if a model uses the option. A warning says so once.
"""

from __future__ import annotations

import sys as _sys
from typing import TYPE_CHECKING, Literal, NamedTuple, SupportsFloat

from . import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import ParamSpec

    import torch

    P = ParamSpec("P")

__all__ = ["Backend", "__version__", "backends", "bind", "build_info", "decode", "decode_fused", "fwd", "get_workspace_size", "last_plan"]
__version__ = _core.version


class Backend(NamedTuple):
    """What ``backends`` says of one backend."""

    available: bool
    text: str  # what it runs on, or why it is off


_fla_is_checked = False


def fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: SupportsFloat,
    out: torch.Tensor,
    A_log: torch.Tensor | None,
    dt_bias: torch.Tensor | None,
    lower_bound: SupportsFloat | None,
    initial_state: torch.Tensor | None = None,
    final_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    *,
    cu_seqlens_cpu: torch.Tensor | None = None,
    initial_slots: torch.Tensor | None = None,
    final_slots: torch.Tensor | None = None,
    initial_mask: torch.Tensor | None = None,
    checkpoint_state: torch.Tensor | None = None,
    checkpoint_offsets: torch.Tensor | None = None,
    checkpoint_slots: torch.Tensor | None = None,
    checkpoint_every: int = 0,
    slot_null: Literal["negative", "not_positive"] = "negative",
    gate: Literal["logit", "precomputed"] = "logit",
    beta_kind: Literal["logit", "activated"] = "logit",
    beta_multiplier: Literal[1, 2] = 1,
    qk_norm: Literal["l2", "none"] = "l2",
    state_layout: Literal["nhvk", "nhkv"] = "nhvk",
) -> None:
    """Kimi Delta Attention, forward. Results are written into ``out``, ``final_state`` and ``checkpoint_state``; returns None.

    For one sequence and one value head, token by token, with a state S [K,V]::

        q^ = q / sqrt(|q|^2 + 1e-6)          k^ = k / sqrt(|k|^2 + 1e-6)          b = sigmoid(beta)
        log a = lower_bound * sigmoid(exp(A_log) * (g + dt_bias))
        S <- Diag(a) S;     u = b (v - S^T k^);     S <- S + k^ u^T;     out = scale * S^T q^

    B batch, T tokens, N sequences, H query/key heads, HV value heads (a multiple of H), K key width, V value width. Tensors are in
    any floating point dtype; bfloat16 and float32 with a contiguous last axis are read and written where they lie, others by a copy.

    CUDA tensors: the work goes into torch's current stream of q's device, and the workspace comes from torch's allocator, so that the call can be
    captured in a CUDA graph. The kernels take K and V of 64 and 128, q, k, v, g and out in bfloat16 (a precomputed g in float32 too), beta and
    states in bfloat16 or float32; other dtypes go through copies. Strides may be any: where those of q, k, v, g or out are no multiples of 16
    bytes, or states lie at odd multiples of their element, the workspace grows by packed copies, made in the same stream.

    Args:
        q, k: ``[B,T,H,K]``, before normalisation.
        v: ``[B,T,HV,V]``.
        g: ``[B,T,HV,K]``, before the gate's activation.
        beta: ``[B,T,HV]``, logits.
        scale: factor of the output, usually ``K ** -0.5``.
        out: ``[B,T,HV,V]``, written; any strides, but no two elements in one place, and apart from every other argument.
        A_log: ``[HV]``, axes of size 1 do not count. None: exp(A_log) = 1.
        dt_bias: ``[HV,K]`` or ``[HV*K]``. None: 0.
        lower_bound: in ``[-5, 0)``. None: the softplus gate, log a = -exp(A_log) * softplus(g + dt_bias).
        initial_state: ``[N,HV,V,K]``. None: 0.
        final_state: ``[N,HV,V,K]``, written for every sequence, also for an empty one. May be ``initial_state`` itself.
        cu_seqlens: ``[N+1]``, int32 or int64, 0 = c[0] <= ... <= c[N] <= T; then B = 1. Rows of out behind c[N] are left untouched.
            None: N = B sequences of T tokens.
        cu_seqlens_cpu: the same values in cpu memory, in the dtype of ``cu_seqlens``, where the host has them: a CUDA call chooses the faster launch
            for these lengths, and refuses values that break the rule above. It reads them at once: a copy to the host must have ended. That
            they are those of ``cu_seqlens`` is not checked. In a CUDA graph the launch stays as it was captured: leave them out where a
            graph is replayed for other lengths.
        initial_slots, final_slots: ``[N]``, int32 or int64: the state is a pool ``[slots,HV,V,K]``, slots any distance apart, and
            sequence n has slot ``initial_slots[n]``, ``final_slots[n]``. A null slot reads 0 and writes nothing.
        slot_null: which indices are null: "negative", or "not_positive" (0 too).
        initial_mask: ``[N]``, bool or uint8; 0: the sequence starts from 0, and its initial state is not read.
        checkpoint_state: ``[rows,HV,V,K]``, written: states inside the sequences, for prefix caches. Rows without a checkpoint are left
            untouched.
        checkpoint_offsets: ``[N]`` or ``[N,C]``, int32 or int64: row n*C + j is the state of sequence n after ``checkpoint_offsets[n,j]`` of
            its tokens in this call. 0 or less: that row is skipped.
        checkpoint_every: instead of offsets: the states after every so many tokens of each sequence, floor(length / checkpoint_every) rows
            for a sequence, behind those of the sequences before it.
        checkpoint_slots: ``[rows]``, int32 or int64: checkpoint_state is a pool ``[slots,HV,V,K]``, and a row has this slot.
        gate: "precomputed": g is log a itself, in natural logarithms; above 0 counts as 0. A_log, dt_bias and lower_bound must be None.
        beta_kind: "activated": beta is b itself, not a logit.
        beta_multiplier: b is this times as large; 2 allows negative eigenvalues.
        qk_norm: "none": q^ = q and k^ = k, as they come.
        state_layout: "nhkv": states are ``[N,HV,K,V]``, those in pools and checkpoints too.

    A checkpoint has the bits of the final state of a call that ends there; ``out`` and ``final_state`` do not depend on it. A pool may be
    initial and final state at once: every sequence reads its state before the call writes over it, as long as no sequence writes a slot
    that another reads. No two sequences, and no two checkpoints, may write one slot. In cpu memory the rules on slots and offsets
    are checked. On CUDA a slot that does not exist reads 0 and writes nothing, and a checkpoint beyond its sequence is not written.

    B = 0, T = 0 and N = 0 (cu_seqlens = [0]) are taken and give empty results.

    A tensor means here what it means in torch: views with the negative bit are resolved, and writing ``out``, ``final_state`` and
    ``checkpoint_state`` counts in their ``_version``. A pool whose dtype is only taken as a copy is copied as a whole. Tensors whose
    values are not in plain memory are refused: meta, sparse, nested and quantized ones, those inside torch.func, and subclasses with a
    ``__torch_dispatch__``. FakeTensors, and those of torch.export, get an answer about shapes: see ``flash_kda.torch_ops``, which is also what
    torch.compile needs.

    Warns:
        RuntimeWarning, once each: the K and V of the call are only taken by the reference backend, which is slow; tensors on CUDA are copied
            in each call, because of their strides.

    Raises:
        TypeError: not a plain tensor, or a dtype that is not taken.
        ValueError: a shape, value, layout or device that breaks the rules above.
        RuntimeError: torch would want a derivative (an argument requires grad and grad mode is on, or it has a forward-mode tangent outside
            of inference mode), or no backend takes the problem on this device.
        MemoryError: no memory for the workspace.
    After an error nothing has been written.
    """
    if not _fla_is_checked and "fla" in _sys.modules:
        _check_fla(_sys.modules["fla"])
    arguments = (
        q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, initial_state, final_state, cu_seqlens, cu_seqlens_cpu, initial_slots,
        final_slots, initial_mask, checkpoint_state, checkpoint_offsets, checkpoint_slots, checkpoint_every, slot_null, gate, beta_kind,
        beta_multiplier, qk_norm, state_layout,
    )  # fmt: skip
    try:
        copies = _core.fwd(*arguments)
    except TypeError:
        if _is_traced("fwd", locals()):
            return
        raise
    if copies:
        from . import _copies

        stand_ins = _copies.make(copies, arguments)
        if _core.fwd(*stand_ins):
            raise RuntimeError("flash_kda: a contiguous copy was not accepted; this is a defect of flash_kda")
        _copies.copy_back(copies, arguments, stand_ins)


def decode(
    q: torch.Tensor | None,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: SupportsFloat,
    out: torch.Tensor | None,
    A_log: torch.Tensor | None,
    dt_bias: torch.Tensor | None,
    lower_bound: SupportsFloat | None,
    state: torch.Tensor,
    cu_seqlens: torch.Tensor | None = None,
    *,
    slots: torch.Tensor | None = None,
    initial_mask: torch.Tensor | None = None,
    slot_null: Literal["negative", "not_positive", "none"] = "negative",
    null_out: Literal["computed", "zero"] = "computed",
    max_tokens: int = 8,
    commit: Literal["last", "none", "accepted", "each"] = "last",
    num_accepted: torch.Tensor | None = None,
    step_states: torch.Tensor | None = None,
    parent: torch.Tensor | None = None,
    gate: Literal["logit", "precomputed"] = "logit",
    beta_kind: Literal["logit", "activated"] = "logit",
    beta_multiplier: Literal[1, 2] = 1,
    qk_norm: Literal["l2", "none"] = "l2",
    state_layout: Literal["nhvk", "nhkv"] = "nhvk",
) -> None:
    """A few new tokens for each of many sequences: ``out``, and ``state`` written back as ``commit`` says. Returns None.

    What a token means is as in ``fwd``. S tokens in one call give the bits of S calls where ``state`` is fp32, and no bit depends on ``commit``
    or ``step_states``, but on CUDA without ``step_states`` for 4 and more tokens with ``commit`` "none" and 6 and more with "last". For draft
    tokens of which only some will count::

        decode(q, ..., out, ..., commit="none")                                        # verify; the states stay
        decode(None, k, v, g, beta, scale, None, ..., commit="accepted", num_accepted=n)    # keep the accepted ones

    Args:
        q, k: ``[N,S,H,K]``, S from 1 to 8; with ``cu_seqlens`` ``[1,T,H,K]``.
        v, out: ``[N,S,HV,V]``; likewise. q and out may both be None: only states are computed.
        g: ``[N,S,HV,K]``, before the gate's activation.
        beta: ``[N,S,HV]``, logits.
        scale, A_log, dt_bias, lower_bound, gate, beta_kind, beta_multiplier, qk_norm, state_layout: as in ``fwd``.
        state: ``[N,HV,V,K]``, or with ``slots`` a pool ``[slots,HV,V,K]``, slots any distance apart; fp32 or bf16.
        cu_seqlens: ``[N+1]``, int32 or int64: sequence n has the tokens c[n] ... c[n+1], 0 to ``max_tokens`` of them. One without tokens is
            not touched.
        slots: ``[N]``, int32 or int64: the slot of each sequence, no two alike, unless ``commit`` is "none". A null slot reads 0 and is not
            written; its ``out`` is. With ``commit="each"`` ``[N,C]``, C at least S, rows any distance apart.
        initial_mask: ``[N]``, bool or uint8; 0: the sequence starts from 0, whatever its slot holds.
        slot_null: which slots are null: "negative", "not_positive" (0 too), or "none" of them.
        null_out: "zero": a sequence that begins with a null slot is a row of padding: its ``out`` becomes 0, whatever its inputs, and nothing
            else of it is read or written.
        max_tokens: with ``cu_seqlens``: the most tokens of a sequence, 1 to 8. The fewer, the better the kernel fits.
        commit: which state is written: "last", that after the last token, over the one before the first; "none"; "accepted", that after
            ``num_accepted[n]`` tokens, likewise; "each", that after token t to slot ``slots[n,t]``.
        num_accepted: ``[N]``, int32 or int64. With "accepted" 0 to the tokens of the sequence: with 0 nothing is written. With "each" 1 to C: the
            sequence begins with slot ``slots[n,num_accepted[n]-1]``; None: 1 for all.
        step_states: ``[N,P,HV,V,K]``, P at least S, fp32 or bf16: gets the state after every token.
        parent: ``[N,S]``, int32 or int64: tokens are a tree. Token t goes on from ``step_states[n,parent[n,t]]``, ``parent[n,t] < t``, or with -1
            from the state before the first. Needs ``step_states`` and ``commit="none"``; with ``cu_seqlens`` S is ``max_tokens``.

    Nothing is copied: a tensor that is not taken as it lies is refused. On CUDA a slot that does not exist counts as null, and a sequence whose
    ``cu_seqlens`` are broken is not touched; of a number of accepted tokens out of range the nearest in range is taken, of a parent -1.

    Raises:
        As ``fwd``. After an error nothing has been written.
    """
    try:
        _core.decode(
            q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, cu_seqlens, slots, initial_mask, slot_null, null_out,
            max_tokens, commit, num_accepted, step_states, parent, gate, beta_kind, beta_multiplier, qk_norm, state_layout,
        )  # fmt: skip
    except TypeError:
        if not _is_traced("decode", locals()):
            raise


def decode_fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: SupportsFloat,
    out: torch.Tensor,
    A_log: torch.Tensor | None,
    dt_bias: torch.Tensor | None,
    lower_bound: SupportsFloat | None,
    state: torch.Tensor,
    *,
    conv_weight: torch.Tensor | Sequence[torch.Tensor] | None = None,
    conv_bias: torch.Tensor | Sequence[torch.Tensor] | None = None,
    conv_state: torch.Tensor | None = None,
    output_gate: torch.Tensor | None = None,
    norm_weight: torch.Tensor | None = None,
    norm_eps: float = 1e-5,
    slots: torch.Tensor | None = None,
    initial_mask: torch.Tensor | None = None,
    slot_null: Literal["negative", "not_positive"] = "negative",
    gate: Literal["logit", "precomputed"] = "logit",
    beta_kind: Literal["logit", "activated"] = "logit",
    beta_multiplier: Literal[1, 2] = 1,
    qk_norm: Literal["l2", "none"] = "l2",
    state_layout: Literal["nhvk", "nhkv"] = "nhvk",
) -> None:
    """One new token for each of many sequences, with the convolution before the step and the gated norm behind it. Returns None.

    For every channel of q, k and v, with t the last three inputs of the sequence and x what ``q``, ``k``, ``v`` hold::

        y = bias + w[0] t[0] + w[1] t[1] + w[2] t[2] + w[3] x        t <- t[1], t[2], x        q, k, v = y sigmoid(y)

    then the step of ``decode``, and for every head::

        out = o / sqrt(mean(o^2) + norm_eps) * norm_weight * sigmoid(output_gate)

    Both parts may be left out. ``state`` and ``conv_state`` are changed in place, ``out`` is written. Nothing is rounded to bf16 in between.

    Args:
        q, k, v: ``[N,1,H,K]``; slices of one row q|k|v, say. With a convolution V = K, and all three and ``conv_state`` have one dtype.
        g: ``[N,1,H,K]``, before the gate's activation.
        beta: ``[N,1,H]``, logits.
        out: ``[N,1,H,V]``.
        scale, A_log, dt_bias, lower_bound, gate, beta_kind, beta_multiplier, qk_norm, state_layout: as in ``fwd``.
        state: ``[N,H,V,K]``, or with ``slots`` a pool ``[slots,H,V,K]``, slots any distance apart; fp32 or bf16.
        conv_weight: those of q, k and v, ``[4,H*K]`` each, the newest tap last: three tensors, or one ``[3,4,H*K]``. None: no
            convolution.
        conv_bias: ``[H*K]`` each, likewise. None: 0.
        conv_state: ``[N or slots,3,3*H*K]``, any strides; channels of q, k, v, oldest input first. One that lies
            as ``[slots,3*H*K,3]`` is given as its ``transpose(1, 2)``.
        output_gate: ``[N,1,H,V]``, logits. norm_weight: ``[V]``. Both or none: then out = o.
        slots: ``[N]``, int32 or int64: the slot of each sequence in ``state`` and ``conv_state``, no two alike. A null slot touches neither, and its
            ``out`` becomes 0.
        initial_mask: ``[N]``, bool or uint8; 0: the sequence starts from 0, whatever its slot holds.
        slot_null: which slots are null: "negative", or "not_positive" (0 too).

    Nothing is copied: a tensor that is not taken as it lies is refused. On CUDA a slot that does not exist counts as null. The call
    can be captured in a CUDA graph.

    Raises:
        As ``fwd``. After an error nothing has been written.
    """
    weight_q, weight_k, weight_v = conv_weight if type(conv_weight) is tuple else _three(conv_weight)
    bias_q, bias_k, bias_v = conv_bias if type(conv_bias) is tuple else _three(conv_bias)
    try:
        _core.decode_fused(
            q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, slots, initial_mask, slot_null, norm_eps,
            weight_q, weight_k, weight_v, bias_q, bias_k, bias_v, conv_state, output_gate, norm_weight,
            gate, beta_kind, beta_multiplier, qk_norm, state_layout,
        )  # fmt: skip
    except TypeError:
        if not _is_traced("decode_fused", locals()):
            raise


def _three(tensors: torch.Tensor | Sequence[torch.Tensor] | None) -> tuple[object, object, object]:
    """As the extension takes them: one tensor for all three stands alone."""
    if tensors is None or hasattr(tensors, "data_ptr"):
        return tensors, None, None
    of_q, of_k, of_v = tensors
    return of_q, of_k, of_v


def bind(function: Callable[P, None], given: Sequence[str], /, *args: P.args, **kwargs: P.kwargs) -> _core.Bound:
    """The call ``function(*args, **kwargs)``, to be made again and again with less host time; function is ``fwd``, ``decode`` or ``decode_fused``.

    It holds its arguments, all but the tensors named in ``given``: those are brought by each call, in that order. For a layer that decodes::

        step = flash_kda.bind(
            flash_kda.decode, ("q", "k", "v", "g", "beta", "out"), q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, slots=slots)
        step(q, k, v, g, beta, out)      # of this token
        step(q2, k2, v2, g2, beta2, out2)    # of the next one

    Each call means what ``function`` means, checks included, and raises as it does. It costs less where the tensors that it brings have the
    dtypes, sizes and strides of the call before, with torch 2.11 and later. Other calls cost what ``function`` costs, or a little more.
    ``bind`` itself runs nothing.

    A tensor that is held may change its values, or be given other memory (``x.data = y``). Its negative bit is not asked for again. ``conv_weight``
    and ``conv_bias`` cannot be in ``given``. torch.compile traces ``function``, not what ``bind`` returns.

    Raises:
        TypeError: arguments that function does not have, or a function that is none of the three.
        ValueError: a name in ``given`` that is none of its tensors, or is there twice.
    """
    from ._bind import make

    return make(function, given, args, kwargs)


def get_workspace_size(T_total: int, H: int, N: int = 1) -> int:
    """Bytes of scratch for N sequences of T_total tokens together, H heads, K = V = 128. ``fwd`` brings its own."""
    return _core.workspace_size(T_total, H, N)


def last_plan() -> str:
    """How this thread's last successful call was run: backend, choices and scratch in one line. Empty before the first."""
    return _core.last_plan()


def backends() -> dict[str, Backend]:
    """Who could compute on this machine, best first: cuda, cpu, ref. Asking for the GPU wakes its driver."""
    return {name: Backend(available, text) for name, available, text in _core.backends()}


def build_info() -> str:
    """How the library in this module was built: compiler, threads, CUDA. ``python -m flash_kda`` prints it with all else."""
    return _core.build_info


def _is_traced(name: str, scope: dict[str, object]) -> bool:
    """A class of tensors was refused. True: they stand for others, and torch has been told what the call would do (torch_ops.py)."""
    kinds = {"fake_tensor": "FakeTensor", "functional_tensor": "FunctionalTensor"}
    classes = tuple(getattr(_sys.modules.get(f"torch._subclasses.{file}"), kind, ()) for file, kind in kinds.items())
    if not any(isinstance(value, classes) for value in scope.values()):
        return False
    from . import torch_ops

    return torch_ops.answer(name, scope)


def _check_fla(fla: object) -> None:
    global _fla_is_checked
    _fla_is_checked = True
    version = getattr(fla, "__version__", "")
    if version in ("0.5.1", "0.5.2"):
        import warnings

        warnings.warn(
            f"flash-linear-attention {version} ignores allow_neg_eigval=True when it calls flash_kda: "
            "use a later version, or set FLA_FLASH_KDA=0 for models with that option",
            RuntimeWarning,
            stacklevel=3,
        )
