"""What the loops of test_sglang.py and test_vllm.py share: a KDA layer's inputs as rows of tokens, and what float64 makes of them."""

import inspect

import pytest
import torch

from bars import bar
from recurrence import recurrence, relative_rms

BF16 = torch.bfloat16
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
# The prefill kernel of a GPU computes in bf16, and states come from it.
OUT = {"cpu": bar("stored", "bf16").out, "cuda": bar("bf16", "few").out}
STATE = {"cpu": bar("f32", "any").state, "cuda": bar("bf16", "few").state}


class Layer:
    """One layer: what belongs to it, tokens for it, and the truth about them. K = V = 128."""

    def __init__(self, H, lower_bound, device="cpu", seed=0):
        self.H, self.lower_bound, self.device = H, lower_bound, device
        self.random = torch.Generator().manual_seed(seed)
        self.A_log, self.dt_bias = self.normal(H) * 0.5, self.normal(H * 128) - 2.0
        self.scale = 128**-0.5

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.random).to(self.device)

    def tokens(self, count):
        """[count] rows q|k|v, gate and beta, side by side as one projection leaves them: rows are 16 elements longer than what is used."""
        wide = self.normal(count, 4 * self.H * 128 + self.H + 16).to(BF16)
        return wide[:, : -16]

    def parts(self, rows):
        """qkv [T,3*H*128], g [T,H*128], beta [T,H] of rows, as views."""
        return rows.split([3 * self.H * 128, self.H * 128, self.H], dim=-1)

    @torch.no_grad()
    def truth(self, rows, state=None):
        """out [T,H,V] and final state [H,V,K] in float64 of one sequence with these rows, in host memory."""
        qkv, g, beta = self.parts(rows.cpu())
        q, k, v = (x.unflatten(-1, (self.H, 128))[None] for x in qkv.split(self.H * 128, dim=-1))
        out, final = recurrence(q, k, v, g.unflatten(-1, (self.H, 128))[None], beta[None], self.scale, self.A_log.cpu(), self.dt_bias.cpu(),
                                self.lower_bound, None if state is None else state[None])  # fmt: skip
        return out[0], final[0]

    def check(self, out, want, state=None, want_state=None):
        assert relative_rms(out.cpu(), want) <= OUT[self.device]
        assert state is None or relative_rms(state.cpu(), want_state) <= STATE[self.device]

    def indices(self, values, dtype=torch.int32):
        return torch.tensor(values, dtype=dtype, device=self.device)

    def starts(self, *lengths):
        return self.indices([0, *lengths]).cumsum(0).int()

    def pool(self, slots, pitch=0):
        """States of NaN, in slots that lie `pitch` elements further apart than they are long."""
        size = self.H * 128 * 128
        return torch.full((slots, size + pitch), float("nan"), device=self.device)[:, :size].unflatten(1, (self.H, 128, 128))


class Sequence:
    """A request: the rows that count so far, and the true state after them."""

    def __init__(self, layer, slot):
        self.layer, self.slot, self.state = layer, slot, None

    def check(self, rows, out, pool=None):
        """out [T,H,V] is right for these rows, which come next; with a pool, so is the state there. They count from now on."""
        want, self.state = self.layer.truth(rows, self.state)
        self.layer.check(out, want, None if pool is None else pool[self.slot], self.state)

    def check_draft(self, rows, out, states=None):
        """The same for rows that do not count, and perhaps for the state after each of them."""
        self.layer.check(out, self.layer.truth(rows, self.state)[0])
        for t in range(len(rows) if states is not None else 0):
            want, state = self.layer.truth(rows[: t + 1], self.state)
            self.layer.check(out[t], want[t], states[t], state)


def takes_the_same(mine, theirs, passed_on=None):
    """A call that `theirs` takes is one of `mine`: each parameter by its name, kind and default, positional ones in their order. passed_on: how
    names begin that go into the **kwargs of mine."""
    have, want = inspect.signature(mine).parameters, inspect.signature(theirs).parameters
    positional = lambda parameters: [name for name, x in parameters.items() if x.kind == x.POSITIONAL_OR_KEYWORD]
    assert positional(have)[: len(positional(want))] == positional(want)
    for name, parameter in want.items():
        if parameter.kind == parameter.VAR_KEYWORD or (passed_on and name.startswith(passed_on)):
            assert any(x.kind == x.VAR_KEYWORD for x in have.values()), name
        else:
            assert (have[name].kind, have[name].default) == (parameter.kind, parameter.default), name
