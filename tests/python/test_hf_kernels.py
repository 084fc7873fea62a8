"""integrations/hf-kernels: the layers against float64; laid out in a folder, loaded by `kernels`, and in transformers' Kimi Linear on the CPU.

The parts with `kernels` skip where it is not installed (0.17 and later). transformers 5.23 and 5.24 ask for 0.18.2: with an older one they are
told that it will do.
"""

import importlib.util
import json
import pathlib
import runpy
import subprocess
import sys

import pytest
import torch

import flash_kda
from bars import bar
from conftest import LONG
from recurrence import recurrence, relative_rms
from serving import DEVICES, OUT, STATE

pytestmark = pytest.mark.usefixtures("no_grad")

HERE = pathlib.Path(__file__).parents[2] / "integrations/hf-kernels"
BARS = {torch.bfloat16: bar("stored", "bf16"), torch.float16: bar("stored", "f16"), torch.float32: bar("f32", "any")}
MAPPING = {"chunk_kda": "chunk_kimi_delta_attention", "fused_recurrent_kda": "recurrent_kimi_delta_attention"}


@pytest.fixture
def layers(monkeypatch):
    """The module, imported as `kernels` does: from its file."""
    file = HERE / "torch-ext/flashkda/__init__.py"
    spec = importlib.util.spec_from_file_location("_flashkda_of_a_test", file, submodule_search_locations=[str(file.parent)])
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module.layers
    del sys.modules[f"{spec.name}.layers"]


@pytest.fixture
def folder(tmp_path):
    runpy.run_path(str(HERE / "lay_out.py"))["lay_out"](tmp_path)
    return tmp_path


def inputs(B, T, dtype, seed=0):
    """As transformers calls: a log-decay, an activated beta, a state [B,H,K,V]."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    q, k, v = (normal(B, T, 2, 128).to(dtype) for _ in range(3))
    return dict(query=q, key=k, value=v, g=-torch.nn.functional.softplus(normal(B, T, 2, 128)), beta=torch.rand(B, T, 2, generator=random).to(dtype),
                initial_state=normal(B, 2, 128, 128))  # fmt: skip


def truth(query, key, value, g, beta, initial_state, normalised, cu_seqlens=None):
    """In float64, in host memory."""
    tensors = (x.cpu() for x in (query, key, value, g, beta))
    return recurrence(
        *tensors, 128**-0.5, None, None, None, initial_state.cpu(), cu_seqlens, gate="precomputed", beta_kind="activated",
        qk_norm="l2" if normalised else "none", state_layout="nhkv",
    )  # fmt: skip


@pytest.mark.parametrize("name,T", [(MAPPING["chunk_kda"], 37), (MAPPING["fused_recurrent_kda"], 1), (MAPPING["fused_recurrent_kda"], 9)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_layers(layers, name, T, dtype, device):
    """9 tokens are more than decode takes: they go through fwd. The state that came in is as it was."""
    call = {key: x.to(device) for key, x in inputs(2, T, dtype).items()}
    before = call["initial_state"].clone()
    layer = getattr(layers, name)()
    out_bar, state_bar = BARS[dtype].out, bar("f32", "any").state
    if device == "cuda":
        out_bar, state_bar = OUT[device], STATE[device]
    for normalised in (True, False):
        if not normalised:
            call["key"] = call["key"] / 12  # |k| = 1, as the rule asks for
        want_out, want_state = truth(**call, normalised=normalised)
        out, state = layer(**call, output_final_state=True, use_qk_l2norm_in_kernel=normalised)
        assert out.dtype == dtype and relative_rms(out.cpu(), want_out) <= out_bar
        assert state.dtype == torch.float32 and relative_rms(state.cpu(), want_state) <= state_bar and torch.equal(call["initial_state"], before)
    assert layer(**call, output_final_state=False)[1] is None
    from_zero = layer(**{**call, "initial_state": None}, output_final_state=True)
    zero = layer(**{**call, "initial_state": torch.zeros_like(before)}, output_final_state=True)
    assert all(torch.equal(x, y) for x, y in zip(from_zero, zero, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_rows_at_odd_distances(layers, device, monkeypatch):
    """The kernel of decode reads q, k and g four elements at once. Without a GPU, tensors that say that they are on one, and what decode gets."""
    call = {key: x.to(device) for key, x in inputs(2, 1, torch.bfloat16).items()}
    want_out, want_state = truth(**call, normalised=True)
    for name in ("query", "key", "value", "g"):
        wide = torch.zeros(2, 1, 2, 129, dtype=call[name].dtype, device=device)
        wide[..., :128] = call[name]
        call[name] = wide[..., :128]
    strides = []
    decode = flash_kda.decode
    monkeypatch.setattr(flash_kda, "decode", lambda q, k, v, g, *rest, **words: (strides.append((q.stride(), k.stride(), g.stride())),
                                                                                  decode(q, k, v, g, *rest, **words)))  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    out, state = getattr(layers, MAPPING["fused_recurrent_kda"])()(**call, output_final_state=True, use_qk_l2norm_in_kernel=True)
    monkeypatch.undo()
    assert strides == [((256, 256, 128, 1),) * 3]
    assert relative_rms(out.cpu(), want_out) <= OUT[device] and relative_rms(state.cpu(), want_state) <= STATE[device]


def test_packed_sequences(layers):
    call = inputs(1, 12, torch.float32)
    call["initial_state"] = torch.cat([call["initial_state"], call["initial_state"] * 0.5])
    starts = torch.tensor([0, 5, 12])
    for layer in (layers.chunk_kimi_delta_attention(), layers.recurrent_kimi_delta_attention()):
        out, state = layer(**call, output_final_state=True, cu_seqlens=starts)
        want_out, want_state = truth(**call, normalised=False, cu_seqlens=starts)
        assert relative_rms(out, want_out) <= bar("f32", "any").out and relative_rms(state, want_state) <= bar("f32", "any").state
        with pytest.raises(ValueError, match="seq_idx is given without cu_seqlens"):
            layer(**call, output_final_state=True, seq_idx=starts)


def test_folder(folder):
    for backend in ("cpu", "cuda"):
        variant = folder / f"build/torch-{backend}"
        metadata = json.loads((variant / "metadata.json").read_text())
        assert metadata["name"] == "flashkda" and metadata["license"] == "MIT" and metadata["backend"] == {"type": backend}
        assert sorted(file.name for file in variant.iterdir()) == ["__init__.py", "layers.py", "metadata.json"]


def test_kernels_loads_the_folder(folder):
    kernels = pytest.importorskip("kernels", "0.17", reason="kernels 0.17 is not installed (pip install kernels==0.17.0)")
    module = kernels.get_local_kernel(folder)
    for name in MAPPING.values():
        assert kernels.LocalLayerRepository(folder, layer_name=name).load() is getattr(module.layers, name)
    from kernels._rust import Build

    assert str(Build.open(HERE).general) == "General(backends=[Cpu, Cuda])"


def kimi_linear():
    """A small model with random weights; transformers finds `kernels`, whatever its version."""
    import kernels
    import transformers.utils.import_utils

    if not hasattr(kernels, "KernelizeFallback"):  # 0.18
        kernels.KernelizeFallback = None
    transformers.utils.import_utils.is_kernels_available = lambda *_: True
    torch.manual_seed(0)
    config = transformers.KimiLinearConfig(
        vocab_size=64, pad_token_id=None, bos_token_id=None, eos_token_id=None, hidden_size=128, intermediate_size=128, moe_intermediate_size=64,
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, num_experts=2, num_local_experts=2, num_experts_per_tok=1,
        first_k_dense_replace=3, kv_lora_rank=32, q_lora_rank=None, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
        linear_attn_config=dict(kda_layers=[1, 2], full_attn_layers=[3], num_heads=2, head_dim=128, short_conv_kernel_size=4),
    )  # fmt: skip
    return transformers.KimiLinearForCausalLM(config).eval()


@torch.no_grad()
def kimi_linear_with_layers(folder):
    """In a process of its own: kernelize puts the layers into the model; a prompt and decode steps give the logits of the whole sequence."""
    import kernels

    calls = []

    def count(name):
        true = getattr(flash_kda, name)
        setattr(flash_kda, name, lambda *args, **kwargs: (calls.append(name), true(*args, **kwargs))[1])

    count("fwd")
    count("decode")
    model = kimi_linear()
    repositories = {name: {"cpu": kernels.LocalLayerRepository(pathlib.Path(folder), layer_name=layer)} for name, layer in MAPPING.items()}
    with kernels.use_kernel_mapping(repositories, inherit_mapping=False):
        model = kernels.kernelize(model, mode=kernels.Mode.INFERENCE, device="cpu")
    tokens = torch.randint(64, (1, 40))
    whole = model(tokens).logits
    assert calls == ["fwd"] * 2
    step = model(tokens[:, :37], use_cache=True)
    logits = [step.logits]
    for t in range(37, 40):
        step = model(tokens[:, t : t + 1], past_key_values=step.past_key_values, use_cache=True)
        logits.append(step.logits)
    assert calls == ["fwd"] * 4 + ["decode"] * 6
    assert relative_rms(torch.cat(logits, 1), whole.double()) < 1e-5
    print("the layers answered")


@LONG
def test_in_kimi_linear(folder):
    pytest.importorskip("kernels", "0.17", reason="kernels 0.17 is not installed (pip install kernels==0.17.0)")
    program = f"import test_hf_kernels; test_hf_kernels.kimi_linear_with_layers({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True)
    assert done.stdout == "the layers answered\n", done.stdout + done.stderr


@LONG
def test_layers_are_compiled(layers):
    """can_torch_compile is true."""
    call = inputs(1, 20, torch.float32)
    layer = layers.chunk_kimi_delta_attention()
    want = layer(**call, output_final_state=True)
    have = torch.compile(layer, fullgraph=True)(**call, output_final_state=True)
    assert all(torch.equal(x, y) for x, y in zip(have, want, strict=True))
