"""flash_kda.fwd and bad input: one sentence that names argument, value and rule, and nothing is written."""

import pytest
import torch

import flash_kda
from flash_kda import _core

pytestmark = pytest.mark.usefixtures("road")


def bytes_of(tensor):
    return tensor.resolve_neg().contiguous().flatten().view(torch.uint8).clone()


def refused(p, exception, *words):
    outputs = {name: p[name] for name in ("out", "final_state") if isinstance(p.get(name), torch.Tensor) and not p[name].is_meta}
    written = {name: bytes_of(x) for name, x in outputs.items()}
    with torch.no_grad(), pytest.raises(exception) as caught:
        flash_kda.fwd(**p)
    assert caught.type is exception
    for word in words:
        assert word in str(caught.value), str(caught.value)
    for name, before in written.items():
        assert torch.equal(before, bytes_of(p[name]))


TENSORS = ["q", "k", "v", "g", "beta", "out", "A_log", "dt_bias", "initial_state", "final_state", "cu_seqlens"]


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("value", [[1.0], 3, "x", torch.float32], ids=str)
def test_not_a_tensor(problem, name, value):
    refused(problem(lens=[2, 3], **{name: value}), TypeError, name, "torch.Tensor")


@pytest.mark.parametrize("name", ["q", "k", "v", "g", "beta", "out"])
def test_none(problem, name):
    refused(problem(**{name: None}), TypeError, name, "NoneType")


@pytest.mark.parametrize("name", TENSORS)
def test_meta_tensor(problem, name):
    p = problem(lens=[2, 3])
    p[name] = p[name].to("meta")
    refused(p, ValueError, name, "meta")


@pytest.mark.parametrize("dtype", [torch.int16, torch.bool, torch.complex64, torch.float4_e2m1fn_x2], ids=str)
@pytest.mark.parametrize("name", TENSORS)
def test_dtype_that_is_not_taken(problem, name, dtype):
    p = problem(lens=[2, 3])
    is_packed = dtype == torch.float4_e2m1fn_x2  # torch converts nothing to or from it
    p[name] = torch.zeros(p[name].shape, dtype=torch.uint8).view(dtype) if is_packed else p[name].nan_to_num().to(dtype)
    refused(p, TypeError, name, str(dtype), "int32 or int64" if name == "cu_seqlens" else "floating point")


@pytest.mark.parametrize("name", TENSORS[:-1])
@pytest.mark.parametrize("change", [
    lambda x: x[0], lambda x: x[None], lambda x: torch.cat([x, x[..., :1]], -1), lambda x: torch.cat([x, x], 0),
], ids=["axis less", "axis more", "last axis longer", "first axis doubled"])  # fmt: skip
def test_shape(problem, name, change):
    p = problem(B=2, T=5, H=2)
    p[name] = change(p[name])
    if name in ("A_log", "dt_bias") and p[name].ndim > 0 and p[name].shape[0] == 1:
        with torch.no_grad():
            p.check()  # an axis of size 1 in front of a parameter is taken
    else:
        refused(p, ValueError, "shape" if name in ("q", "v") else f"{name} has shape")  # q and v set the sizes


def test_message_names_argument_value_and_rule(problem):
    refused(problem(g=torch.zeros(1, 5, 2, 64)), ValueError, "g has shape (1, 5, 2, 64), but it must be [B,T,HV,K] = (1, 5, 2, 128)")


@pytest.mark.parametrize("heads", [0, 1, 5])
def test_value_heads(problem, heads):
    p = problem(H=2)
    p["v"] = torch.zeros(1, 5, heads, 128)
    refused(p, ValueError, f"v has {heads} heads", "2 heads of q")


def test_more_than_eight_axes(problem):
    refused(problem(A_log=torch.zeros((1,) * 8 + (2,))), ValueError, "A_log has 9 dimensions")


@pytest.mark.parametrize("value", [0.0, 0.5, -5.001, float("nan"), float("-inf"), torch.tensor(1.0)], ids=str)
def test_lower_bound(problem, value):
    refused(problem(lower_bound=value), ValueError, "lower_bound", "[-5, 0)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39], ids=str)
def test_scale(problem, value):
    refused(problem(scale=value), ValueError, "scale", "finite")


@pytest.mark.parametrize("name", ["scale", "lower_bound"])
def test_numbers_without_a_value(problem, name):
    refused(problem(**{name: torch.tensor(-1.0, device="meta")}), ValueError, name, "meta")
    refused(problem(**{name: torch.zeros(2)}), TypeError, name)


@pytest.mark.parametrize("name", ["scale", "lower_bound"])
def test_not_a_number(problem, name):
    refused(problem(**{name: "x"}), TypeError, name, "'x'")


def test_scale_none(problem):
    refused(problem(scale=None), TypeError, "scale is None")


@pytest.mark.parametrize("bounds,words", [
    ([1, 5], "cu_seqlens[0] = 1"), ([0, 6], "beyond T = 5"), ([0, 3, 2, 5], "below the entry before it"),
    ([0, -1, 5], "cu_seqlens[1] = -1"), ([0, 2**62, 5], "beyond T = 5"), ([5], "cu_seqlens[0] = 5"), ([], "entries"),
], ids=str)  # fmt: skip
def test_cu_seqlens(problem, bounds, words):
    p = problem(state=False, cu_seqlens=torch.tensor(bounds, dtype=torch.int64))
    refused(p, ValueError, words)


@pytest.mark.parametrize("shape", [(), (1, 2)], ids=str)
def test_axes_of_cu_seqlens(problem, shape):
    refused(problem(cu_seqlens=torch.zeros(shape, dtype=torch.int64)), ValueError, "cu_seqlens has shape", "[N+1]")


def test_cu_seqlens_with_a_batch(problem):
    refused(problem(B=2, state=False, cu_seqlens=torch.tensor([0, 5])), ValueError, "B = 2")


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("name,axis", [("out", 0), ("out", 1), ("out", 3), ("final_state", 0), ("final_state", 2)])
def test_expanded_outputs(problem, name, axis):
    p = problem(B=2)
    p[name] = p[name].narrow(axis, 0, 1).expand(p[name].shape)
    refused(p, ValueError, name, "share memory")


@pytest.mark.parametrize("name", ["v", "g", "initial_state"])
def test_out_that_is_an_input(problem, name):
    p = problem(B=128, T=2, V=128)
    p["out"] = p[name] if name != "initial_state" else p[name].flatten()[: p["out"].numel()].view(p["out"].shape)
    refused(p, ValueError, "out", name, "overlaps")


@pytest.mark.parametrize("copied", ["q", "k", "out"])
def test_overlap_is_seen_beside_a_copy(problem, copied):
    p = problem()
    p["out"] = p["v"]
    p[copied] = p[copied].repeat_interleave(2, dim=-1)[..., ::2] if copied != "out" else p["v"].transpose(2, 3).reshape(1, 5, 2, 128)
    if copied == "out":
        p["v"] = storage = torch.randn(1, 5, 2, 256)[..., ::2]
        p["out"] = storage
    refused(p, ValueError, "out", "v", "overlaps")


def test_states_that_overlap_in_part(problem):
    p = problem(B=2)
    rows = torch.zeros(3, 2, 128, 128)
    p["initial_state"], p["final_state"] = rows[:2], rows[1:]
    refused(p, ValueError, "final_state", "initial_state", "overlaps")
    p["initial_state"], p["final_state"] = rows.half()[:2], rows[1:]
    p["initial_state"] = p["final_state"].view(torch.float16).view(2, 2, 128, 256)[..., :128]
    refused(p, ValueError, "final_state", "initial_state", "overlaps")


def without_device_1():
    """What a call on tensors of cuda:1 hears before anything else: no CUDA in this build, no GPU in this machine, or only one."""
    if "CUDA off" in flash_kda.build_info():
        return "this library was built without CUDA", "FKDA_ERR_UNSUPPORTED"
    return "but there are 1 devices" if flash_kda.backends()["cuda"].available else "no usable GPU", "FKDA_ERR_NO_DEVICE"


class OnCuda(torch.Tensor):
    """A host tensor that says it is on a GPU: what the attribute road sees of a CUDA tensor."""

    @property
    def device(self):
        return torch.device("cuda:1")


def test_device_memory(problem, road):
    p = problem(lens=[2, 3])
    mixed = type(p)(p, k=p["k"].as_subclass(OnCuda))
    everywhere = type(p)(p, **{name: x.as_subclass(OnCuda) for name, x in p.items() if isinstance(x, torch.Tensor)})
    if road == "attributes":
        refused(mixed, ValueError, "k is on device cuda:1", "q is on cpu")
        refused(everywhere, RuntimeError, "q is on cuda:1", *without_device_1())
    else:  # the table tells where the memory really is
        with torch.no_grad():
            mixed.check()


@pytest.mark.parametrize("change", [
    dict(lower_bound=None), dict(scale=None), dict(q=torch.zeros(3)), dict(v=torch.zeros(1, 5, 2, 128, dtype=torch.int16)),
    dict(cu_seqlens=torch.tensor([7])), dict(k=torch.zeros(1)),
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_no_device_is_said_before_anything_else(problem, road, change):
    if road == "attributes":
        p = problem(**change)
        p.update({name: x.as_subclass(OnCuda) for name, x in p.items() if isinstance(x, torch.Tensor) and name != "k"})
        refused(p, RuntimeError, *without_device_1())


def test_width_beyond_every_backend(problem):
    refused(problem(K=300, V=8), RuntimeError, "K = 300", "FKDA_ERR_UNSUPPORTED")


# ---------------------------------------------------------------- the extension itself


def test_wrong_number_of_arguments():
    for call in (lambda: _core.fwd(1, 2), lambda: _core.workspace_size(1), lambda: flash_kda.fwd()):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (1, 0, 1), (1, 1, -1), (1, 2**62, 1)], ids=str)
def test_workspace_size_of_nonsense(sizes):
    with pytest.raises(ValueError):
        flash_kda.get_workspace_size(*sizes)
