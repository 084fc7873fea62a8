"""Kimi Linear and GLM-5.3 of transformers with `import flash_kda.fla`: the answers of transformers' own Python loop, on a CPU and on a GPU.

The models are those of examples/20_transformers.py: four layers with random weights.
"""

import copy
import importlib.util
import pathlib

import pytest
import torch

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

pytestmark = pytest.mark.usefixtures("fla_with_us")
HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
CLOSE = 2e-3  # of logits, whose largest is about 1.5
# Without experts and with all keys, nothing is chosen: where it is, the last bits of a number decide, and logits move by up to 0.5.
NO_CHOICES = {"kimi_linear": dict(mlp_layer_types=["dense"] * 4), "glm": dict(mlp_layer_types=["dense"] * 4, index_topk=1024)}
NEEDS_GPU = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of compute capability 9.0")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors are small: torch's threads would cost more than they do, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def example(fla_registries):
    path = pathlib.Path(__file__).parents[2] / "examples/20_transformers.py"
    spec = importlib.util.spec_from_file_location("example_20_transformers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["kimi_linear", "glm"])
def model(request, example):
    torch.manual_seed(7)
    return getattr(example, request.param)()


def prompt_of(length, B=1):
    return torch.randint(2, 512, (B, length), generator=torch.Generator().manual_seed(length))


def taken(device="cpu"):
    return {name: (calls.taken.get(device, 0), calls.passed_on) for name, calls in flash_kda.fla.status().items()}


def test_prompt_and_64_tokens(example, model):
    """Three KDA layers: chunk_kda for prompts, fused_recurrent_kda for every further token, none left to FLA."""
    prompt = prompt_of(100)
    ours = example.run(model, prompt, 64)
    assert taken() == {"chunk_kda": (6, 0), "fused_recurrent_kda": (3 * 63, 0)}
    theirs = example.run(model, prompt, 64, own_loop=True)
    assert taken() == {"chunk_kda": (6, 0), "fused_recurrent_kda": (3 * 63, 0)}, "the loop called flash_kda"
    assert (ours[0] - theirs[0]).abs().max() < CLOSE and ours[0].abs().max() > 0.3
    assert ours[1] == theirs[1] and len(ours[1][0]) == 40 + 64 and len(set(ours[1][0][40:])) > 3


@torch.no_grad()
def test_a_batch_with_padding(example, model):
    """Two prompts of unlike lengths, padded on the left, under inference mode too."""
    prompt, mask = prompt_of(30, B=2), torch.ones(2, 30, dtype=torch.long)
    mask[0, :11] = 0
    ours = model(prompt, attention_mask=mask).logits
    with torch.inference_mode():
        assert torch.equal(model(prompt, attention_mask=mask).logits, ours)
    with example.kda_layers(model, own_loop=True):
        theirs = model(prompt, attention_mask=mask).logits
    assert (ours - theirs)[mask.bool()].abs().max() < CLOSE and taken()["chunk_kda"] == (6, 0)


@torch.no_grad()
def test_a_prompt_in_pieces(model):
    """The second piece goes on from the states of the first."""
    prompt = prompt_of(50)
    whole = model(prompt).logits
    first = model(prompt[:, :33], use_cache=True)
    second = model(prompt[:, 33:], past_key_values=first.past_key_values, use_cache=True)
    assert (torch.cat([first.logits, second.logits], dim=1) - whole).abs().max() < CLOSE and taken()["chunk_kda"] == (9, 0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU, id="gpu")])
@torch.no_grad()
def test_a_model_in_bf16(example, device):
    torch.manual_seed(7)
    model = example.kimi_linear(**NO_CHOICES["kimi_linear"]).to(device, torch.bfloat16)
    prompt = prompt_of(60).to(device)
    ours = model(prompt).logits.float()
    assert taken(device)["chunk_kda"] == (3, 0)
    with example.kda_layers(model, own_loop=True):
        theirs = model(prompt).logits.float()
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()  # other roundings of one model in bf16
    assert model.generate(prompt, max_new_tokens=3, do_sample=False).shape == (1, 63) and taken(device)["fused_recurrent_kda"] == (6, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, FLA's kernels answer")
def test_without_us_it_ends_in_triton(example, monkeypatch):
    """What the one line is for."""
    monkeypatch.setenv("FLA_FLASH_KDA", "0")
    with torch.no_grad(), pytest.raises(RuntimeError, match="active drivers"):
        example.kimi_linear()(prompt_of(5))


@NEEDS_GPU
@torch.no_grad()
def test_rounded_prompts_on_a_gpu(example, monkeypatch):
    """With may_round prompts in float32 are ours: as a prefill in bf16 of the same q, k and v. What rounding them alone does to logits, and to
    the choices of routers, is in docs/with-transformers.md."""
    monkeypatch.setattr(flash_kda.fla, "may_round", True)
    fwd, checked = flash_kda.fwd, []

    def checked_fwd(**call):
        fwd(**call)
        assert flash_kda.last_plan().startswith("cuda: ") and call["q"].dtype == torch.float32
        given = {name: x for name, x in call.items() if name not in ("out", "final_state")}
        out, state = recurrence(**given | {name: call[name].bfloat16() for name in "qkv"})
        checked.append((relative_rms(call["out"], out), relative_rms(call["final_state"], state)))

    monkeypatch.setattr(flash_kda, "fwd", checked_fwd)
    for make in (example.kimi_linear, example.glm):
        torch.manual_seed(7)
        make().cuda()(prompt_of(300).cuda(), use_cache=True)
    limit = bar("bf16", "any")
    assert len(checked) == 6 and all(out <= limit.out and state <= limit.state for out, state in checked), checked


@NEEDS_GPU
def test_on_a_gpu(example, model):
    """In float32 prompts are FLA's, as our kernels would round them, and decode is ours."""
    model, prompt = copy.deepcopy(model).cuda(), prompt_of(300)[:, :40].cuda()
    theirs = example.run(model, prompt, 64, own_loop=True)
    ours = example.run(model, prompt, 64)
    assert taken("cuda")["chunk_kda"] == (0, 6) and taken("cuda")["fused_recurrent_kda"] == (3 * 63, 0)
    assert ours[1] == theirs[1]


@NEEDS_GPU
@pytest.mark.parametrize("name", NO_CHOICES)
def test_logits_on_a_gpu(example, name):
    """FLA's prompt, whose products are of tf32, and then two tokens of ours, against the loop."""
    torch.manual_seed(7)
    model, prompt = getattr(example, name)(**NO_CHOICES[name]).cuda(), prompt_of(300).cuda()
    with torch.no_grad():
        begin = model(prompt[:, :298], use_cache=True)
        ours = [begin.logits]
        for t in (298, 299):
            ours.append(model(prompt[:, t : t + 1], past_key_values=begin.past_key_values, use_cache=True).logits)
    assert taken("cuda")["fused_recurrent_kda"] == (6, 0)
    theirs = example.run(model, prompt, 1, own_loop=True)[0]
    assert (torch.cat(ours, dim=1).cpu() - theirs).abs().max() < CLOSE
