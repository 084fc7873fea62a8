"""flash_kda.engines: what the integrations of engines share."""

import importlib
import inspect
import logging
import sys
import zipfile

import pytest
import torch

import flash_kda
from conftest import make_problem
from flash_kda import engines

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.mark.parametrize("slot_null,null", [("negative", -1), ("not_positive", 0)])
@pytest.mark.parametrize("HV", [2, 4])
def test_packed_step(slot_null, null, HV):
    """The bits of decode on the same rows, and 0 in those of padding; also with more value heads than query heads."""
    p = make_problem(B=3, T=1, H=2, HV=HV, state=False)
    pool, slots = torch.randn(4, HV, 128, 128), torch.tensor([3, null, 1], dtype=torch.int32)
    call = {name: p[name] for name in ("A_log", "dt_bias", "lower_bound", "scale")} | {"slots": slots, "slot_null": slot_null}
    rows = torch.cat([p[name].flatten(1) for name in ("q", "k", "v")], dim=1)
    mine = pool.clone()
    out = engines.packed_step(rows, p["g"].flatten(1), p["beta"][:, 0], **call, state=mine)
    flash_kda.decode(p["q"], p["k"], p["v"], p["g"], p["beta"], **call, out=p["out"], state=pool)
    assert out.shape == p["out"].shape and torch.equal(out[[0, 2]], p["out"][[0, 2]]) and not out[1].any()
    assert torch.equal(mine, pool)


@pytest.fixture(params=["file", "archive"])
def later(tmp_path, monkeypatch, request):
    """A module that can be imported, and another one beside it."""
    source = "def answer():\n    return 1\n"
    if request.param == "file":
        (tmp_path / "fkda_later.py").write_text(source)
        (tmp_path / "fkda_other.py").write_text(source)
    else:
        with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
            archive.writestr("fkda_later.py", source)
            archive.writestr("fkda_other.py", source)
    monkeypatch.syspath_prepend(tmp_path if request.param == "file" else tmp_path / "archive.zip")
    monkeypatch.setattr(engines._waiting, "patches", dict(engines._waiting.patches))
    yield "fkda_later"
    for name in ("fkda_later", "fkda_other"):
        sys.modules.pop(name, None)


def test_when_imported(later):
    seen = []
    for _ in range(2):
        engines.when_imported(later, seen.append)
    engines.when_imported("fkda_never", seen.append)
    assert not seen and later not in sys.modules
    module = importlib.import_module(later)
    assert seen == [module] and inspect.getsource(module.answer) == "def answer():\n    return 1\n"
    importlib.import_module("fkda_other")
    assert seen == [module]
    engines.when_imported(later, seen.append)
    assert seen == [module, module]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fkda_never")


def test_a_reason_is_said_once(caplog):
    refusals = engines.Refusals(logging.getLogger("fkda"))
    with caplog.at_level(logging.WARNING):
        for reason in ("a", "a", "b"):
            refusals.say("decode", ValueError(reason))
        refusals.say("extend", "a")
    assert [record.getMessage() for record in caplog.records] == [
        f"flashkda: {call} goes to the engine's own kernel: {reason}" for call, reason in (("decode", "a"), ("decode", "b"), ("extend", "a"))
    ]


class OnCuda(torch.Tensor):
    is_cuda = True


@pytest.mark.parametrize("pitch,is_copied", [(1, True), (2, True), (4, False), (8, False)])
def test_rows_at_odd_distances_are_copied(pitch, is_copied):
    rows = torch.arange(6.0 * (256 + pitch)).view(6, 256 + pitch)
    for x in (rows[:, :256], rows[None, :, :256].unflatten(-1, (2, 128)), rows[:, None, :128]):
        assert engines.readable(x) is x
        there = x.as_subclass(OnCuda)
        got = engines.readable(there)
        assert (got is not there) == is_copied and torch.equal(got.as_subclass(torch.Tensor), x) and (got.is_contiguous() or not is_copied)
    assert engines.readable(rows[:1, :256].as_subclass(OnCuda)).data_ptr() == rows.data_ptr()
    for n in range(1, 5):    # one row: at an address of four elements, or copied
        got = engines.readable(rows[n : n + 1, :256].as_subclass(OnCuda))
        assert (got.data_ptr() == rows[n].data_ptr()) == (n * pitch % 4 == 0) and got.data_ptr() % 16 == 0
        assert torch.equal(got.as_subclass(torch.Tensor), rows[n : n + 1, :256])
