"""Which arguments of a CUDA call are copied, by Python into which dtype or by the library, and that the results come back: without a GPU.

The package is built once more, with the CUDA kernels' own rules, plain loops as the copies of the library, and the reference in the place of the
kernel (cuda_in_host_memory.c). Its CUDA tensors are host tensors that say they are on a GPU.
"""

import ctypes
import importlib
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import types
import warnings

import pytest
import torch

from conftest import Problem, make_problem
from recurrence import recurrence, relative_rms

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ["python/ext/*.c", "src/core/*.c", "src/ref/*.c", "src/cuda/backend/cuda_plan.c", "src/cuda/backend/cuda_kernels.c",
           "src/cuda/backend/cuda_copies.c", "src/cuda/backend/cuda_forward.c", "src/cuda/backend/cuda_spans.c", "src/cuda/spans/*.c",
           "src/cuda/prefill_sm90/*.c", "src/cuda/prefill_mma/*.c", "src/cuda/decode/*.c", "src/cuda/decode_fused/*.c",
           "tests/support/cuda_in_host_memory.c", "tests/support/no_spans.c", "tests/support/decode_in_host_memory.c",
           "tests/support/decode_fused_in_host_memory.c", "tests/support/plain_copies.c"]  # fmt: skip
INCLUDES = ["include", "src/core", "src/ref", "src/cuda", "src/cuda/backend", sysconfig.get_paths()["include"]]
ORDER = "q k v g beta scale out A_log dt_bias lower_bound initial_state final_state cu_seqlens".split()
BF16, F32, F16, F64 = torch.bfloat16, torch.float32, torch.float16, torch.float64
BOUND = 2.2e-3  # rounding to bf16

pytestmark = pytest.mark.usefixtures("no_grad")


class OnCuda(torch.Tensor):
    """A host tensor that says it is on a GPU."""

    device = property(lambda self: torch.device("cuda:0"))
    is_cuda = property(lambda self: True)


def on_cuda(make):
    """torch's function, for "CUDA" memory too. Blocks of bytes are aligned as torch's CUDA allocator aligns them."""

    def made(*sizes, device=None, **options):
        if device is None or torch.device(device).type == "cpu":
            return make(*sizes, **options)
        if options.get("dtype") != torch.uint8:
            return make(*sizes, **options).as_subclass(OnCuda)
        block = make(sizes[0] + 512, **options)
        return block[-block.data_ptr() % 512 :].as_subclass(OnCuda)

    return made


def what_two_calls_say(module):
    p = problem_on_cuda(T=7)
    p["q"] = widened(p["q"], 1)
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        module.fwd(**p)
        module.fwd(**p)
    return [str(warning.message) for warning in said]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """flash_kda over cuda_in_host_memory.c, under another name."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "python/flash_kda", folder / "flash_kda_in_host_memory", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    sources = [path for pattern in SOURCES for path in sorted(ROOT.glob(pattern)) if path.name != "registry.c"]
    subprocess.run(["cc", "-std=c11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-D_DEFAULT_SOURCE", "-DPy_LIMITED_API=0x030A0000",
                    "-DFKDA_WITH_CUDA=1", "-DFKDA_PLAIN_COPIES",
                    '-DFKDA_BUILD_INFO="a test"', *(f"-I{ROOT / name}" for name in INCLUDES), *sources, "-lm",
                    "-o", folder / "flash_kda_in_host_memory/_core.abi3.so"], check=True)  # fmt: skip
    sys.path.insert(0, str(folder))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "zeros", "arange"):
            patch.setattr(torch, name, on_cuda(getattr(torch, name)))
        patch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=0))
        module = importlib.import_module("flash_kda_in_host_memory")
        module._core._use_exchange_table(False)  # the table would tell where the memory is
        made = ctypes.c_int.in_dll(ctypes.CDLL(module._core.__file__), "plain_copies_made")
        module.copies_made = lambda: made.value
        module.said = what_two_calls_say(module)
        yield module
    sys.path.remove(str(folder))


def problem_on_cuda(**options):
    p = make_problem(**options)
    return Problem({name: x.as_subclass(OnCuda) if isinstance(x, torch.Tensor) else x for name, x in p.items()})


def copies_of(package, p):
    """{name: dtype}; None: it ran."""
    copies = package._core.fwd(*(p.get(name) for name in ORDER))
    return None if copies is None else {ORDER[position]: copy for position, copy in copies.items()}


def check(package, p, expected, by_library=()):
    """Python copies ``expected``, the library ``by_library`` because of its strides."""
    plain = {name: x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else x for name, x in p.items()}
    copy = {name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in plain.items() if name not in ("out", "final_state")}
    want, want_state = recurrence(**copy)
    assert copies_of(package, p) == (expected or None)
    package.fwd(**p)
    assert package.last_plan().startswith("cuda: ")
    assert (f", copies {', '.join(by_library)}: strides;" in package.last_plan()) == bool(by_library), package.last_plan()
    assert ("copies" in package.last_plan()) == bool(by_library)
    assert relative_rms(plain["out"], want) <= 2 * BOUND
    if plain.get("final_state") is not None:
        assert relative_rms(plain["final_state"], want_state) <= 2 * BOUND


def widened(x, extra):
    """The same values in rows that are longer by so many elements."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + extra), float("nan"), dtype=x.dtype).as_subclass(type(x))
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


def shifted(x, elements):
    """The same values, so many elements behind an address of 64 bytes."""
    flat = torch.full((x.numel() + 128,), float("nan"), dtype=x.dtype)
    begin = -(flat.data_ptr() // x.element_size()) % (64 // x.element_size()) + elements
    moved = flat[begin : begin + x.numel()].view(x.shape)
    moved.copy_(x.as_subclass(torch.Tensor))
    return moved.as_subclass(type(x))


def test_nothing_to_copy(package):
    check(package, problem_on_cuda(T=7), {})
    check(package, problem_on_cuda(lens=[3, 0, 4]), {})


@pytest.mark.parametrize("dtype", [F32, F16, F64], ids=str)
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out"])
def test_dtypes(package, name, dtype):
    p = problem_on_cuda(T=7)
    if name == "beta":
        return check(package, Problem(p, beta=p["beta"].to(dtype)), {} if dtype == F32 else {"beta": F32})
    check(package, Problem(p, **{name: p[name].to(dtype)}), {name: BF16})


@pytest.mark.parametrize("name,dtype,copy", [
    ("initial_state", BF16, None), ("initial_state", F16, F32), ("final_state", F64, F32), ("final_state", BF16, None),
    ("A_log", BF16, None), ("A_log", F16, F32), ("dt_bias", F64, F32),
])  # fmt: skip
def test_dtypes_that_kernels_convert(package, name, dtype, copy):
    p = problem_on_cuda(T=7)
    check(package, Problem(p, **{name: p[name].to(dtype)}), {name: copy} if copy else {})


@pytest.mark.parametrize("extra", [8, 4, 1])
@pytest.mark.parametrize("name", ["q", "k", "v", "g", "out"])
def test_pitches_of_16_bytes(package, name, extra):
    p = problem_on_cuda(T=7)
    check(package, Problem(p, **{name: widened(p[name], extra)}), {}, [name] if extra % 8 else [])


def test_slices_of_a_fused_projection(package):
    p = problem_on_cuda(lens=[3, 0, 6], H=12)
    T, columns = p["q"].shape[1], 12 * 128
    row = torch.full((1, T, 3 * columns + 12), float("nan"), dtype=BF16).as_subclass(OnCuda)
    for i, name in enumerate("qkv"):
        part = row[..., i * columns : (i + 1) * columns].unflatten(-1, (12, 128))
        part.copy_(p[name])
        p[name] = part
    check(package, p, {}, ["q", "k", "v"])


def test_says_once_that_it_copies(package):
    assert len(package.said) == 1
    assert re.match(r"flash_kda copies tensors in each such call, .* \(said once\): cuda: .*, copies q: strides; .*, workspace", package.said[0])


def test_any_pitch_of_beta(package):
    p = problem_on_cuda(T=7)
    check(package, Problem(p, beta=shifted(widened(p["beta"], 3), 1)), {})
    check(package, Problem(p, beta=widened(p["beta"], 3)), {})


@pytest.mark.parametrize("name,dtype,elements,is_copied", [
    *((name, BF16, elements, elements < 8) for name in ("q", "k", "v", "g", "out") for elements in (1, 4, 8)),
    *((name, F32, elements, elements < 2) for name in ("initial_state", "final_state") for elements in (1, 2)),
    *((name, BF16, elements, elements < 2) for name in ("initial_state", "final_state") for elements in (1, 2)),
    ("A_log", F32, 1, False), ("dt_bias", F32, 1, False), ("beta", BF16, 1, False),
], ids=str)  # fmt: skip
def test_addresses(package, name, dtype, elements, is_copied):
    """The library copies what its kernel does not take, and Python nothing."""
    p = problem_on_cuda(T=7)
    made = package.copies_made()
    check(package, Problem(p, **{name: shifted(p[name].to(dtype), elements)}), {})
    assert package.copies_made() - made == 2 * is_copied  # check makes two calls


def test_rows_of_states_in_pairs(package):
    p = problem_on_cuda(B=2)
    row = p["initial_state"][0].numel()
    for extra, copied in ((2, []), (1, ["final_state"])):
        rows = torch.zeros(2, row + extra).as_subclass(OnCuda)[:, :row].view(p["final_state"].shape)
        check(package, Problem(p, final_state=rows), {}, copied)


@pytest.mark.parametrize("H,HV", [(1, 2), (2, 6)])
def test_fewer_query_heads(package, H, HV):
    p = problem_on_cuda(T=7, H=H, HV=HV)
    check(package, p, {})
    check(package, Problem(p, k=p["k"].half(), v=p["v"].float()), {"k": BF16, "v": BF16})


def test_without_words(package):
    """Forms that flashkda.h has no words for, beside others: all are named in one answer."""
    p = problem_on_cuda(T=7, H=4)
    check(package, Problem(p, k=p["k"][:, :, :1].expand(-1, -1, 4, -1)), {"k": BF16})
    check(package, Problem(p, v=torch._neg_view(-p["v"]), g=p["g"].transpose(1, 3).contiguous().transpose(1, 3)), {"v": BF16, "g": BF16})
    check(package, Problem(p, q=p["q"].double(), out=shifted(p["out"], 1), A_log=torch._neg_view(-p["A_log"].half())),
          {"q": BF16, "A_log": F32})  # fmt: skip


def test_state_in_place_through_a_copy(package):
    p = problem_on_cuda(T=7)
    p["initial_state"] = shifted(p["initial_state"], 1)
    p["final_state"] = p["initial_state"]
    plain = {name: x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else x for name, x in p.items()}
    want, want_state = recurrence(**{name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in plain.items() if name[-3:] != "out"
                                     and name != "final_state"})  # fmt: skip
    made = package.copies_made()
    package.fwd(**p)
    assert package.copies_made() - made == 2
    assert relative_rms(plain["out"], want) <= 2 * BOUND and relative_rms(plain["final_state"], want_state) <= 2 * BOUND


def test_rows_behind_the_last_sequence_stay(package):
    p = problem_on_cuda(lens=[3, 4], out=torch.full((1, 9, 2, 128), 7.0).as_subclass(OnCuda))
    for name in ("q", "k", "v", "g", "beta"):
        p[name] = torch.cat([p[name], p[name][:, :2] * float("nan")], 1)
    package.fwd(**p)
    assert (p["out"][:, 7:] == 7).all() and not p["out"].isnan().any()


def refused(package, p, error, *words):
    before = {name: x.clone() for name, x in p.items() if name in ("out", "final_state")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", None)  # nothing is copied before it is known that copies help
        patch.setattr(torch, "zeros", None)
        with pytest.raises(error) as caught:
            package.fwd(**p)
    assert all(word in str(caught.value) for word in words), caught.value
    assert all(torch.equal(p[name].nan_to_num(), x.nan_to_num()) for name, x in before.items())


def test_softplus_gate(package):
    check(package, problem_on_cuda(T=7, lower_bound=None), {})
    p = problem_on_cuda(T=7, lower_bound=None)
    check(package, Problem(p, q=p["q"].half()), {"q": BF16})


@pytest.mark.parametrize("HV", [2, 6])
@pytest.mark.parametrize("sizes", [dict(B=3, T=2), dict(lens=[1, 0, 8])], ids=str)
def test_decode_takes_what_lies_on_a_gpu(package, HV, sizes):
    """Its kernel takes any pitch of whole fours as it lies; what it does not take is refused, as nothing is copied for decode."""
    p = problem_on_cuda(H=2, HV=HV, **sizes)
    state = p.pop("initial_state")
    p.pop("final_state")
    plain = {name: x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else x for name, x in p.items() if name != "out"}
    want, want_state = recurrence(**plain, initial_state=state.as_subclass(torch.Tensor).clone())
    made = package.copies_made()
    before = state.clone()
    for q in (widened(p["q"], 1), shifted(p["q"], 1)):
        with pytest.raises((RuntimeError, ValueError), match="q"):
            package.decode(**{**p, "q": q}, state=state)
    assert torch.equal(state, before) and p["out"].isnan().all()
    package.decode(**{**p, "q": widened(p["q"], 4)}, state=state)
    assert package.last_plan().startswith("cuda: decode") and package.copies_made() == made
    assert relative_rms(p["out"].as_subclass(torch.Tensor), want) <= 2 * BOUND
    assert relative_rms(state.as_subclass(torch.Tensor), want_state) <= 2 * BOUND


def test_lengths_on_the_host(package):
    """cu_seqlens_cpu of a call on a GPU: read by the host, whose copy of it stays there; cu_seqlens itself is not looked at."""
    lengths = lambda **changes: Problem(problem_on_cuda(lens=[3, 0, 4]), **changes)
    bounds, broken = torch.tensor([0, 3, 3, 7]), torch.tensor([0, 3, 3, 8])
    strided = lambda x: x.repeat_interleave(2)[::2]
    want = lengths()
    package.fwd(**want)
    for copy, q in ((bounds, want["q"]), (strided(bounds), want["q"]), (strided(bounds), want["q"].half())):
        p = lengths(cu_seqlens_cpu=copy, q=q)
        package.fwd(**p)
        assert package.last_plan().startswith("cuda: ") and (q.dtype == F16 or torch.equal(p["out"], want["out"])) and not p["out"].isnan().any()
    refused(package, lengths(cu_seqlens_cpu=broken), ValueError, "cu_seqlens[3] = 8 is beyond T = 7 (read from args.cu_seqlens_host)")
    with pytest.raises(ValueError, match=r"read from args\.cu_seqlens_host"):
        package.fwd(**lengths(cu_seqlens_cpu=strided(broken)))
    on_gpu = lengths()["cu_seqlens"]
    refused(package, lengths(cu_seqlens_cpu=on_gpu), ValueError, "cu_seqlens_cpu is on device cuda:0, but it must be on cpu: the host reads it")


def test_refusals_beside_copies(package):
    importlib.import_module("flash_kda_in_host_memory._copies")
    half = lambda p: Problem(p, q=p["q"].half())
    refused(package, half(problem_on_cuda(K=96)), RuntimeError, "K = 96, kernels exist for K = 128")
    refused(package, problem_on_cuda(lower_bound=None, K=96), RuntimeError, "K = 96, kernels exist for K = 128")
    p = problem_on_cuda(T=7)
    storage = torch.zeros(p["out"].numel() + 1, dtype=BF16).as_subclass(OnCuda)
    overlapping = Problem(p, out=storage[:-1].view(p["out"].shape), v=storage[1:].view(p["out"].shape))
    refused(package, overlapping, ValueError, "args.out", "overlaps args.v")
    refused(package, half(overlapping), ValueError, "out overlaps v in memory")
