"""Fixtures: both roads from a torch tensor into the extension, and inputs for flash_kda.fwd."""

import inspect
import os

import pytest
import torch

import flash_kda
from bars import bar
from flash_kda import _core
from forks import Torch
from recurrence import recurrence, relative_rms

BF16 = torch.bfloat16
FEW = os.environ.get("FKDA_TEST_DRAWS", "all").startswith("few")  # repetitions; tests/support/counter_rng.h
LONG = pytest.mark.skipif(FEW, reason="make check-long runs it, and pytest alone")
STORED = {BF16: bar("stored", "bf16"), torch.float16: bar("stored", "f16")}


@pytest.fixture(params=["exchange_table", "attributes"])
def road(request):
    """Runs a test twice: through torch's exchange table, and as with an older torch that has none."""
    wants_table = request.param == "exchange_table"
    assert _core._use_exchange_table(wants_table) == wants_table, "this torch has no exchange table; the tests need 2.11 or later"
    yield request.param
    _core._use_exchange_table(True)


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def torch_alone(tmp_path_factory):
    """Runs code in a process that has imported torch and nothing else."""
    server = Torch(tmp_path_factory.mktemp("fork"))
    yield server.run
    server.close()


class Problem(dict):
    """The keyword arguments of one call of flash_kda.fwd."""

    def run(self):
        assert flash_kda.fwd(**self) is None
        return self["out"], self.get("final_state")

    def truth(self):
        inputs = {name: value for name, value in self.items() if name not in ("out", "final_state")}
        return recurrence(**inputs)

    def check(self, out_bound=None, state_bound=None):
        """Runs, and compares output and final state with the float64 recurrence. The bounds, if not given, are those of the CPU backend."""
        inputs = Problem({name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in self.items()})
        want_out, want_state = inputs.truth()
        out, state = self.run()
        if out_bound is None:
            out_bound = STORED.get(out.dtype, bar("f32", "any")).out
        assert relative_rms(out, want_out) <= out_bound
        if state is not None:
            assert relative_rms(state, want_state) <= (state_bound or STORED.get(state.dtype, bar("f32", "any")).state)
        return out, state


def make_problem(B=1, T=5, H=2, HV=None, K=128, V=128, lens=None, state=True, seed=0, **changes):
    """Outputs are filled with NaN. lens: packed sequences of these lengths."""
    HV = HV or H
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    if lens is not None:
        B, T = 1, sum(lens)
    N = B if lens is None else len(lens)
    problem = Problem(
        q=normal(B, T, H, K).to(BF16), k=normal(B, T, H, K).to(BF16), v=normal(B, T, HV, V).to(BF16),
        g=normal(B, T, HV, K).to(BF16), beta=normal(B, T, HV).to(BF16), scale=K**-0.5,
        out=torch.full((B, T, HV, V), float("nan"), dtype=BF16), A_log=normal(HV) * 0.5, dt_bias=normal(HV, K) - 2.0, lower_bound=-5.0,
    )  # fmt: skip
    if state:
        problem["initial_state"] = normal(N, HV, V, K)
        problem["final_state"] = torch.full((N, HV, V, K), float("nan"))
    if lens is not None:
        problem["cu_seqlens"] = torch.tensor([0, *lens]).cumsum(0)
    problem.update(changes)
    return problem


@pytest.fixture
def problem():
    return make_problem


@pytest.fixture(scope="module")
def fla_registries():
    """Where FLA keeps its backends: with ours, for the tests of one file alone."""
    from fla import backends
    from fla.ops.kda import chunk_kda

    registries = [backends._function_registries[inspect.unwrap(chunk_kda)], backends._operation_registries["kda"]]
    before = [dict(registry._backends) for registry in registries]
    import flash_kda.fla

    flash_kda.fla._register()
    yield registries
    for registry, own in zip(registries, before, strict=True):
        registry._backends = own


@pytest.fixture
def fla_with_us(monkeypatch, fla_registries):
    """FLA as after `import flash_kda.fla` in a new process: nothing is counted, nothing logged."""
    monkeypatch.delenv("FLA_FLASH_KDA", raising=False)
    monkeypatch.setattr(flash_kda.fla, "_calls", {name: flash_kda.fla.Calls() for name in flash_kda.fla.status()})
    for registry in fla_registries:
        registry._logged.clear()
