"""``flash_kda.bind``: from the arguments of a public function to those of the extension, by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import flash_kda

from . import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FUSED = (
    "q k v g beta scale out A_log dt_bias lower_bound state slots initial_mask slot_null norm_eps conv_weight.0 conv_weight.1 conv_weight.2 "
    "conv_bias.0 conv_bias.1 conv_bias.2 conv_state output_gate norm_weight gate beta_kind beta_multiplier qk_norm state_layout"
).split()
_OPERATIONS = ("fwd", "decode", "decode_fused")
_NO_TENSORS = (
    "scale lower_bound norm_eps max_tokens commit checkpoint_every null_out slot_null gate beta_kind beta_multiplier qk_norm state_layout"
).split()


def _order(name: str) -> list[str]:
    """Names of the arguments of ``_core``'s function: those of the public one, in its order, but for convolutions, which are taken apart."""
    return _FUSED if name == "decode_fused" else list(inspect.signature(getattr(flash_kda, name)).parameters)


def _value(call: dict[str, Any], name: str) -> object:
    whole, _, part = name.partition(".")
    return call[whole] if part == "" else flash_kda._three(call[whole])[int(part)]


def make(function: Callable[..., None], given: Sequence[str], args: tuple[object, ...], kwargs: dict[str, Any]) -> _core.Bound:
    name = next((name for name in _OPERATIONS if getattr(flash_kda, name) is function), None)
    if name is None:
        raise TypeError(f"bind takes flash_kda.fwd, decode or decode_fused, not {function!r}")
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    call, order = dict(bound.arguments), _order(name)
    if isinstance(given, str):
        raise TypeError(f"given is {given!r}, but it must be a sequence of names")
    tensors = [argument for argument in order if argument not in _NO_TENSORS]
    for position, argument in enumerate(given):
        if argument not in tensors or argument in given[:position]:
            why = "is there twice" if argument in tensors else f"is no tensor of {name} that a call can bring"
            raise ValueError(f"given: {argument!r} {why}")
        call[argument] = None    # not held

    def otherwise(*tensors: object) -> None:
        function(**{**call, **dict(zip(given, tensors, strict=True))})

    return _core.bind(name, tuple(_value(call, argument) for argument in order), tuple(order.index(argument) for argument in given), otherwise)
