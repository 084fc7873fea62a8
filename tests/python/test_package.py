"""The package: what it contains and needs, what a call costs, threads, and that nothing leaks."""

import inspect
import pathlib
import re
import resource
import runpy
import subprocess
import sys
import threading
import time
import timeit
import types
import warnings

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

import flash_kda
from conftest import FEW, make_problem
from flash_kda import _core

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = pathlib.Path(flash_kda.__file__).parent
OVERHEAD_BOUND_US = 25.0  # 5 us are promised and about 4.2 us measured; the rest is for busy machines


def run_python(code, *options):
    return subprocess.run([sys.executable, *options, "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout


# ---------------------------------------------------------------- what it contains


def test_imports_without_torch():
    code = """
import sys
sys.modules["torch"] = None  # import torch fails from here on
import flash_kda
assert flash_kda.__version__ and flash_kda.get_workspace_size(100, 2, 1) > 0 and flash_kda.last_plan() == ""
try:
    flash_kda.fwd(*[[1.0]] * 10)
except TypeError as error:
    print(error)
"""
    assert "must be a torch.Tensor" in run_python(code)


def test_import_does_not_import_torch():
    assert run_python("import flash_kda, sys; print('torch' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("order", ["import flash_kda, torch", "import torch, flash_kda"])
def test_either_import_order(order):
    code = order + """
x = lambda *shape: torch.zeros(shape)
with torch.no_grad():
    flash_kda.fwd(x(1, 70, 2, 128), x(1, 70, 2, 128), x(1, 70, 2, 128), x(1, 70, 2, 128), x(1, 70, 2), 1.0, x(1, 70, 2, 128), None, None, -5.0)
print((torch.randn(300, 300) @ torch.randn(300, 300)).shape, flash_kda.last_plan())
"""
    assert "workspace" in run_python(code)


def test_version_is_that_of_the_header():
    numbers = re.findall(r"#define FKDA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", (ROOT / "include/flashkda.h").read_text())
    assert flash_kda.__version__ == ".".join(numbers)


def test_signature():
    order = "q k v g beta scale out A_log dt_bias lower_bound initial_state final_state cu_seqlens".split()
    by_name = "cu_seqlens_cpu initial_slots final_slots initial_mask checkpoint_state checkpoint_offsets checkpoint_slots checkpoint_every".split()
    by_name += "slot_null gate beta_kind beta_multiplier qk_norm state_layout".split()
    parameters = inspect.signature(flash_kda.fwd).parameters
    assert list(parameters) == order + by_name
    assert all(parameters[name].kind == inspect.Parameter.KEYWORD_ONLY for name in by_name)
    assert [name for name in order if parameters[name].default is None] == order[-3:]
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_core.pyi").exists()


def test_extension_serves_every_python():
    assert pathlib.Path(_core.__file__).name == "_core.abi3.so"


def test_needs_no_library_that_may_be_missing():
    dynamic = subprocess.run(["readelf", "-dW", _core.__file__], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", dynamic))
    system = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    system |= {"libpthread.so.0", "libdl.so.2", "librt.so.1"}  # of the C library too; the published wheel names them
    assert needed <= system
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    assert [file.name for file in PACKAGE.rglob("*.so*")] == ["_core.abi3.so"]


def test_exports_nothing_but_its_init_function():
    symbols = subprocess.run(["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["PyInit__core"]


def test_torch_has_the_exchange_table():
    assert _core._use_exchange_table(True), "the tests need torch 2.11 or later"


# A table as a torch with another DLPack might show it.
OTHER_TABLE = """
import ctypes, torch, flash_kda
from flash_kda import _core
new, get = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetPointer
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
class Header(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("previous", ctypes.c_void_p), ("functions", ctypes.c_void_p * 5)]
name = ctypes.create_string_buffer(b"dlpack_exchange_api")
true_table = get(torch.Tensor.__dlpack_c_exchange_api__, name)
header = Header({major}, 0, {previous})
torch.Tensor.__dlpack_c_exchange_api__ = {attribute}
x = lambda *shape: torch.ones(shape)
with torch.no_grad():
    out = x(1, 3, 2, 128) * float("nan")
    flash_kda.fwd(x(1, 3, 2, 128), x(1, 3, 2, 128), x(1, 3, 2, 128), x(1, 3, 2, 128), x(1, 3, 2), 1.0, out, None, None, -5.0)
print(_core._use_exchange_table(True), bool(out.isfinite().all()))
"""


@pytest.mark.parametrize("major,previous,attribute,used", [
    (2, "None", "new(ctypes.addressof(header), name, None)", False),
    (2, "true_table", "new(ctypes.addressof(header), name, None)", True),
    (1, "None", "new(ctypes.addressof(header), name, None)", False),
    (1, "None", "true_table", False),
    (1, "None", "new(true_table, None, None)", False),
], ids=["newer", "newer, with this one behind", "without borrow", "an int", "another capsule"])  # fmt: skip
def test_exchange_tables_of_other_versions(torch_alone, major, previous, attribute, used):
    assert torch_alone(OTHER_TABLE.format(major=major, previous=previous, attribute=attribute)).strip() == f"{used} True"


def test_example(capsys):
    """In this process, where the other tests have imported FLA already."""
    runpy.run_path(str(ROOT / "examples/10_torch.py"), run_name="__main__")
    first, _, second = capsys.readouterr().out.partition("\n")
    assert first == "out (1, 512, 4, 128), final state (1, 4, 128, 128)"
    assert second.startswith("answered by flash_kda, cpu: ")


# ---------------------------------------------------------------- the slow backend


WIDTHS_OF_THE_REFERENCE = """
import sys, torch, warnings
sys.path.insert(0, {tests!r})
from conftest import make_problem
problems = [make_problem(K=96, V=96), make_problem(K=100, V=100), make_problem(K=64, V=100, A_log=None)]
problems[2].update(q=problems[2]["q"].half(), out=problems[2]["out"].double())  # through copies
first = problems.pop({first})
problems.insert(0, first)
with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("error")
    versions = first["out"]._version, first["final_state"]._version
    for _ in range(2):
        try:
            first.run()
        except RuntimeWarning:
            assert first["out"].isnan().all() and first["final_state"].isnan().all()
            assert versions == (first["out"]._version, first["final_state"]._version)
        else:
            raise AssertionError("no warning")
    warnings.simplefilter("always")
    make_problem(K=64, V=64).run()
    assert not caught
    for p in problems * 2:
        p.check()
print(len(caught), caught[0].category.__name__, caught[0].filename, caught[0].message)
"""


@pytest.mark.parametrize("first,words", [(0, "K = 96"), (1, "K = 100"), (2, "V = 100")])
def test_the_reference_is_warned_about_once(torch_alone, first, words):
    here = pathlib.Path(__file__).parent
    count, category, file, message = torch_alone(WIDTHS_OF_THE_REFERENCE.format(tests=str(here), first=first)).split(" ", 3)
    assert (count, category, file) == ("1", "RuntimeWarning", str(here / "conftest.py"))
    assert "slow reference" in message and "ref: float64" in message and "cpu: " in message and words in message


# ---------------------------------------------------------------- what a call costs


def test_overhead(record_property):
    p = make_problem(T=1, H=1, K=1, V=1)
    with torch.no_grad():
        microseconds = min(timeit.repeat(lambda: flash_kda.fwd(**p), number=200, repeat=100)) / 200 * 1e6  # short: between two time slices
    record_property("overhead_us", microseconds)
    print(f"flash_kda.fwd, one token, K = V = 1: {microseconds:.2f} us a call")
    assert microseconds < OVERHEAD_BOUND_US


class WithDispatch(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError("called")


def test_nothing_leaks():
    p = make_problem(T=2, H=1, K=16, V=16)
    copied = make_problem(T=2, H=1, K=16, V=16)
    copied.update(q=copied["q"].half(), out=copied["out"].double(), A_log=torch._neg_view(copied["A_log"]))
    wrong = make_problem(T=2, H=1, K=16, V=16, scale=float("nan"))
    refused = [
        dict(p, q=p["q"].to("meta")), dict(p, q=p["q"].to_sparse()), dict(p, k=torch._efficientzerotensor(p["k"].shape)),
        dict(p, v=torch.nn.UninitializedParameter()), dict(p, scale=torch.tensor(1.0, device="meta")), dict(p, out=[1.0]),
        dict(p, g=torch.Tensor._make_subclass(WithDispatch, p["g"])),
    ]  # fmt: skip
    parameter = torch.nn.Parameter(p["A_log"])

    def calls(count):
        with torch.no_grad():
            for _ in range(count):
                p.run()
                copied.run()
                for arguments in (wrong, *refused):
                    with pytest.raises((TypeError, ValueError)):
                        flash_kda.fwd(**arguments)
        for _ in range(count):
            with pytest.raises(RuntimeError, match="requires grad"):
                flash_kda.fwd(**dict(p, A_log=parameter))
            with forward_ad.dual_level(), pytest.raises(RuntimeError, match="tangent"):
                flash_kda.fwd(**dict(p, beta=forward_ad.make_dual(p["beta"], p["beta"])))

    def references():
        objects = (*(x for x in p.values() if isinstance(x, torch.Tensor)), copied["q"], copied["A_log"], wrong["q"], parameter, torch.Tensor,
                   torch.nn.Parameter, torch.float16, forward_ad.unpack_dual, None, True, False)  # fmt: skip
        # What is immortal, True from Python 3.12 on, is counted by nobody but modules that were compiled for all versions with older headers.
        return [count for count in map(sys.getrefcount, objects) if count < 2**30]

    calls(100)
    references_before = references()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(500 if FEW else 2000)
    after = references()
    assert all(abs(a - b) < 100 for a, b in zip(after, references_before, strict=True))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (1024 if FEW else 4096)  # KiB


def test_workspace_sizes():
    assert all(flash_kda.get_workspace_size(T, 4, 2) > 0 for T in (1, 1000, 100000))
    assert flash_kda.get_workspace_size(1000, 4) == flash_kda.get_workspace_size(T_total=1000, H=4, N=1)


# ---------------------------------------------------------------- threads


def test_the_gil_is_released():
    """Python takes steps within single calls; how many in a time would depend on what else the machine does."""
    p = make_problem(T=3000, H=8)
    done = threading.Event()
    begun, ended = [0], [0]

    def work():
        with torch.no_grad():
            while not done.is_set():
                begun[0] += 1
                p.run()
                ended[0] += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        limit, steps, call = time.perf_counter() + 60, 0, 0
        while steps < 20 and time.perf_counter() < limit:
            time.sleep(0.001)
            steps += call == begun[0] > ended[0]  # in the call of the step before
            call = begun[0]
    finally:
        done.set()
        worker.join()
    assert steps >= 20, "Python stood still while fwd ran"


@pytest.mark.parametrize("count", [1, 2])
def test_uses_as_many_threads_as_torch(count):
    before = torch.get_num_threads()
    p = make_problem(T=64, H=4)
    try:
        torch.set_num_threads(count)
        with torch.no_grad():
            p.run()
    finally:
        torch.set_num_threads(before)
    assert re.match(rf"cpu: .* on {count} thread", flash_kda.last_plan()), flash_kda.last_plan()


def test_threads_get_the_same_bits_and_their_own_last_plan():
    expected = make_problem(T=40, H=3)
    with torch.no_grad():
        expected.run()
    failures, before = [], []

    def work():
        before.append(flash_kda.last_plan())
        for _ in range(20):
            p = make_problem(T=40, H=3)
            with torch.no_grad():
                p.run()
            if not torch.equal(p["out"], expected["out"]) or not torch.equal(p["final_state"], expected["final_state"]):
                failures.append(p)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures and before == [""] * 4 and flash_kda.last_plan() != ""


BUSY_AT_EXIT = """
import sys, threading, time
sys.path.insert(0, {tests!r})
import torch
from conftest import make_problem
torch.set_grad_enabled(False)
def work():
    torch.set_grad_enabled(False)
    p = make_problem(T=1, H=1, K=1, V=1)
    while True:
        p.run()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
print("leaving")
"""


def test_process_ends_while_threads_are_in_a_call():
    for _ in range(1 if FEW else 3):
        assert run_python(BUSY_AT_EXIT.format(tests=str(pathlib.Path(__file__).parent))) == "leaving\n"


# ---------------------------------------------------------------- flash-linear-attention's versions


@pytest.mark.parametrize("version,warns", [("0.5.0", False), ("0.5.1", True), ("0.5.2", True), ("0.6.0", False)])
def test_warns_once_about_versions_that_drop_allow_neg_eigval(monkeypatch, version, warns):
    monkeypatch.setitem(sys.modules, "fla", types.SimpleNamespace(__version__=version))
    monkeypatch.setattr(flash_kda, "_fla_is_checked", False)
    p = make_problem()
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        p.run()
        p.run()
    assert [w.category for w in caught] == [RuntimeWarning] * warns
    assert all("allow_neg_eigval" in str(w.message) and version in str(w.message) for w in caught)
