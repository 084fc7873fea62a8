"""integrations/vllm: the plugin, its ops and functions, called as vLLM's layers call them, in a loop as a server runs it, against float64.

"stand-in" replaces vLLM by the few names that are used; "0.33.0" takes its functions, its schemas and its plugin loader from the wheel
(engine_sources.py), with stand-ins for what these import. Neither runs vLLM itself: its scheduler, convolution kernels and CUDA graphs.
"""

import importlib
import logging
import pathlib
import re
import sys

import pytest
import torch

import flash_kda
from engine_sources import GLM, KIMI, MISSING, alone, modules, sources
from flash_kda import engines
from serving import DEVICES, Layer, Sequence, takes_the_same

pytestmark = pytest.mark.usefixtures("no_grad")

PROJECT = "vllm==0.33.0"
PACKAGE = pathlib.Path(__file__).parents[2] / "integrations/vllm"
KIMI_KDA, GLM_KDA = "vllm.models.kimi_k3.nvidia.ops.third_party.kda", "vllm.models.glm5next.nvidia.ops.third_party.kda"
KIMI_LAYER = "vllm.models.kimi_k3.nvidia.kda"
CUSTOM_OPS = "vllm._custom_ops"
BF16 = torch.bfloat16


def its_own(*args, **kwargs):
    """In the place of vLLM's function: it answers with what it was asked."""
    return "its own", args, kwargs


def prefill(q, k, v, g, beta, A_log, dt_bias, lower_bound, initial_state, cu_seqlens, out, final_state, workspace, checkpoint_state=None,
            checkpoint_offsets=None):  # fmt: skip
    """What vLLM's function of this name does."""
    torch.ops._flashkda_C.fwd(q, k, v, g, beta, 128**-0.5, out, workspace, A_log, dt_bias.view(-1, 128), lower_bound, initial_state, final_state,
                              cu_seqlens, checkpoint_state, checkpoint_offsets)  # fmt: skip
    return out, final_state


def fused_kda_decode(x, weight, bias, conv_state, raw_g, raw_beta, A_log, dt_bias, state_indices, state, out, lower_bound=None, output_gate=None,
                     norm_weight=None, norm_eps=1e-5):  # fmt: skip
    torch.ops._C.fused_kda_decode(x, weight, bias, conv_state, raw_g, raw_beta, A_log, dt_bias, state_indices, state, out, lower_bound, output_gate,
                                  norm_weight, norm_eps)  # fmt: skip
    return out


STAND_INS = {
    **{name: {} for name in ("vllm", "vllm.models", "vllm.models.kimi_k3", "vllm.models.kimi_k3.nvidia", "vllm.models.glm5next")},
    KIMI_LAYER: {"_flashkda_prefill": prefill, "is_fused_kda_decode_supported": lambda num_heads, *_: num_heads in (12, 24, 48, 96)},
    KIMI_KDA: {"chunk_kda_with_fused_gate": its_own, "fused_recurrent_kda": its_own, "fused_recurrent_kda_packed_decode": its_own},
    GLM_KDA: {"fused_recurrent_kda": its_own},
    CUSTOM_OPS: {"fused_kda_decode": fused_kda_decode},
}  # fmt: skip


class Hopper:
    """vllm.platforms.current_platform."""

    is_device_capability = staticmethod(lambda capability: capability == 90)
    is_device_capability_family = is_arch_support_pdl = staticmethod(lambda *_: False)


def lay_out(where):
    """vLLM's files without what surrounds the functions that are called: these are as they stand there."""
    files = {
        f"{KIMI}/kda.py": alone(f"{KIMI}/kda.py", ["is_fused_kda_decode_supported", "_flashkda_prefill"],
                                "import torch\nfrom vllm.platforms import current_platform"),
        f"{KIMI}/ops/third_party/kda/__init__.py": "\n\n".join(
            alone(f"{KIMI}/ops/third_party/kda/{file}.py", names, "import torch") for file, names in {
                "chunk": ["chunk_kda_with_fused_gate"], "fused_recurrent": ["fused_recurrent_kda", "fused_recurrent_kda_packed_decode"]}.items()),
        f"{GLM}/nvidia/ops/third_party/kda/__init__.py": alone(
            f"{GLM}/nvidia/ops/third_party/kda/kernels.py", ["fused_recurrent_kda"], "import torch"),
        "vllm/_custom_ops.py": alone("vllm/_custom_ops.py", ["fused_kda_decode"], "import torch"),
    }  # fmt: skip
    for file, text in files.items():
        (where / file).parent.mkdir(parents=True, exist_ok=True)
        (where / file).write_text(text)


@pytest.fixture(params=["stand-in", "0.33.0"])
def vllm(request, monkeypatch, tmp_path):
    """vLLM, with the plugin on the path and not yet registered."""
    folder = sources(PROJECT) if request.param == "0.33.0" else None
    if request.param == "0.33.0" and folder is None:
        pytest.skip(MISSING.format(PROJECT))
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.setattr(engines._waiting, "patches", dict(engines._waiting.patches))
    names, folders = STAND_INS, ()
    if folder is not None:
        lay_out(tmp_path)
        names = {"vllm.platforms": {"current_platform": Hopper}, "vllm._flashkda_C": {}, "vllm.envs": {"VLLM_PLUGINS": None}}
        folders = (tmp_path, folder)
    with modules(("vllm",), names, folders):  # the plugin stays: torch takes its library once
        yield request.param
    for namespace, op in ((torch.ops._flashkda_C, "fwd"), (torch.ops._flashkda_C, "get_workspace_size"), (torch.ops._C, "fused_kda_decode")):
        vars(namespace).pop(op, None)


@pytest.fixture
def registered(vllm):
    importlib.import_module("flashkda_vllm").register()
    return vllm


class Server:
    """The calls of KimiK3DeltaAttention._forward, after the convolution."""

    def __init__(self, layer, pool):
        self.layer, self.pool = layer, pool
        self.gate = dict(A_log=torch.nn.Parameter(layer.A_log), dt_bias=layer.dt_bias, lower_bound=layer.lower_bound)
        self.functions, self.kda = importlib.import_module(KIMI_KDA), importlib.import_module(KIMI_LAYER)

    def inputs(self, rows):
        """q, k, v, g [1,T,H,128], beta [1,T,H]: views of the rows."""
        qkv, g, beta = self.layer.parts(rows)
        heads = lambda x: x.unflatten(-1, (-1, 128)).unsqueeze(0)
        return (*(heads(x) for x in qkv.split(self.layer.H * 128, dim=-1)), heads(g), beta[None])

    def prefill(self, batch, is_new, offsets=None):
        """batch: [(rows, block)]; offsets: after how many tokens a checkpoint is wanted. Returns out of each, and the checkpoints."""
        q, k, v, g, beta = self.inputs(torch.cat([rows for rows, _ in batch]))
        blocks = self.layer.indices([block for _, block in batch], torch.int64)
        initial = self.pool[blocks].masked_fill(self.layer.indices(is_new, torch.bool)[:, None, None, None], 0)
        starts_of = self.layer.starts(*(len(rows) for rows, _ in batch))
        if self.layer.lower_bound is None:
            out, final = self.functions.chunk_kda_with_fused_gate(
                q=q, k=k, v=v, raw_g=g, raw_beta=beta, A_log=self.gate["A_log"], g_bias=self.layer.dt_bias, lower_bound=None, initial_state=initial,
                output_final_state=True, use_qk_l2norm_in_kernel=True, cu_seqlens=starts_of,
            )  # fmt: skip
            self.pool[blocks] = final
            return out[0].split([len(rows) for rows, _ in batch]), None
        out, final, checkpoints = torch.full_like(v, float("nan")), torch.full_like(initial, float("nan")), torch.full_like(initial, float("nan"))
        self.kda._flashkda_prefill(
            q, k, v, g, beta, **self.gate, initial_state=initial, cu_seqlens=starts_of, out=out, final_state=final,
            workspace=torch.empty(torch.ops._flashkda_C.get_workspace_size(len(q), 2, len(batch)), dtype=torch.uint8, device=out.device),
            checkpoint_state=None if offsets is None else checkpoints,
            checkpoint_offsets=None if offsets is None else self.layer.indices(offsets),
        )  # fmt: skip
        self.pool[blocks] = final
        return out[0].split([len(rows) for rows, _ in batch]), checkpoints

    def decode(self, rows, blocks):
        qkv, g, beta = self.layer.parts(rows)
        out = torch.full((1, len(rows), self.layer.H, 128), float("nan"), dtype=BF16, device=rows.device)
        answer, pool = self.functions.fused_recurrent_kda_packed_decode(
            mixed_qkv=qkv, raw_g=g.unflatten(-1, (-1, 128))[None], raw_beta=beta[None], **self.gate, initial_state=self.pool,
            state_indices=self.layer.indices(blocks), out=out,
        )  # fmt: skip
        assert answer.data_ptr() == out.data_ptr() and pool is self.pool
        return out[0]

    def verify(self, rows, blocks, lengths, accepted):
        q, k, v, g, beta = self.inputs(rows)
        wide = self.layer.indices([*blocks, [0] * len(blocks[0])])  # a row more than there are sequences
        return self.functions.fused_recurrent_kda(
            q=q, k=k, v=v, raw_g=g, raw_beta=beta, **self.gate, initial_state=self.pool, cu_seqlens=self.layer.starts(*lengths),
            ssm_state_indices=wide,
            num_accepted_tokens=None if accepted is None else self.layer.indices([*accepted, 1]),
        )[0][0].split(lengths)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lower_bound", [-5.0, None], ids=["bounded", "softplus"])
def test_a_server(registered, lower_bound, device):
    """With softplus, as Kimi Linear has it, vLLM asks its Triton function for prefill, which knows no checkpoints."""
    layer = Layer(2, lower_bound, device)
    pool = layer.pool(14, pitch=64)
    server = Server(layer, pool)
    a, b, c = (Sequence(layer, block) for block in (3, 5, 1))
    prompt, other = layer.tokens(100), layer.tokens(30)
    (first, second), checkpoints = server.prefill([(prompt[:70], 3), (other, 5)], [True, True], offsets=[48, 0])
    a.check(prompt[:70], first, pool)
    b.check(other, second, pool)
    want, state = layer.truth(prompt[:48])
    if checkpoints is not None:
        layer.check(first[:48], want, checkpoints[0], state)
        assert checkpoints[1].isnan().all()
    pool[7] = pool[1] = state.float().to(device) if checkpoints is None else checkpoints[0]  # the prefix cache, and who has the same 48 tokens
    c.check(prompt[:48], want, pool)
    rest = layer.tokens(20)
    (first, second), _ = server.prefill([(prompt[70:], 3), (rest, 1)], [False, False])
    a.check(prompt[70:], first, pool)
    c.check(rest, second, pool)

    rows, before = layer.tokens(4), pool.clone()
    out = server.decode(rows, [5, 0, 1, 3])
    for n, sequence in ((0, b), (2, c), (3, a)):
        sequence.check(rows[n : n + 1], out[n : n + 1], pool)
    untouched = [0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13]
    assert not out[1].any() and torch.equal(pool[untouched].nan_to_num(7.0), before[untouched].nan_to_num(7.0))

    blocks = {a: [3, 8, 9, 10], b: [5, 0, 12, 0]}  # the state after the second draft of b is not kept
    drafts = {a: layer.tokens(4), b: layer.tokens(2)}
    out = server.verify(torch.cat([*drafts.values()]), [*blocks.values(), [0, 0, 0, 0]], [4, 2, 0], None)
    for n, (sequence, rows) in enumerate(drafts.items()):
        sequence.check_draft(rows, out[n], pool[blocks[sequence]] if sequence is a else None)
    accepted = {a: 3, b: 1}
    for n, sequence in enumerate(drafts):
        sequence.slot = blocks[sequence][accepted[sequence] - 1]
        sequence.check(drafts[sequence][: accepted[sequence]], out[n][: accepted[sequence]], pool)
    again = {a: layer.tokens(2), b: layer.tokens(4)}
    blocks[b] = [5, 11, 12, 13]
    out = server.verify(torch.cat([*again.values()]), [*blocks.values()], [2, 4], accepted.values())
    for n, (sequence, rows) in enumerate(again.items()):
        sequence.slot = blocks[sequence][len(rows) - 1]
        sequence.check(rows, out[n], pool)
    assert pool[0].isnan().all()


@pytest.mark.parametrize("device", DEVICES)
def test_glm(registered, device):
    """Its function has other names; states in one block for each sequence, or one for each token."""
    layer = Layer(1, -5.0, device)
    pool = layer.pool(8)
    function = importlib.import_module(GLM_KDA).fused_recurrent_kda
    gate = dict(a_log=layer.A_log.view(1, 1, -1, 1), g_bias=layer.dt_bias, lower_bound=layer.lower_bound)
    pool[[2, 5]] = states = layer.normal(2, 1, 128, 128)
    rows = layer.tokens(2)
    qkv, g, beta = layer.parts(rows)
    heads = lambda x: x.unflatten(-1, (-1, 128)).unsqueeze(0)
    q, k, v = (heads(x) for x in qkv.split(128, dim=-1))
    call = dict(q=q, k=k, v=v, g=heads(g), beta=beta[None], initial_state=pool, use_qk_l2norm_in_kernel=True, sigmoid_beta=True, compute_gate=True,
                **gate)  # fmt: skip
    out, _ = function(**call, cu_seqlens=layer.starts(1, 1), ssm_state_indices=layer.indices([5, 2]))
    sequences = [Sequence(layer, 5), Sequence(layer, 2)]
    for n, sequence in enumerate(sequences):
        sequence.state = states[1 - n].double().cpu()
        sequence.check(rows[n : n + 1], out[0, n : n + 1], pool)
    given = torch.full_like(v, float("nan"))
    accepted, table = layer.indices([2]), layer.indices([[6, 5, 7]])
    out, _ = function(**call, cu_seqlens=layer.starts(2), ssm_state_indices=table, num_accepted_tokens=accepted, out=given)
    assert out is given
    sequences[0].check_draft(rows, out[0], pool[[6, 5]])
    if registered == "stand-in":
        assert function(**{**call, "sigmoid_beta": False}, cu_seqlens=layer.starts(2), ssm_state_indices=table)[0] == "its own"
        assert function(**{**call, "compute_gate": False}, cu_seqlens=layer.starts(2), ssm_state_indices=table)[0] == "its own"


@pytest.mark.parametrize("channels_first", [False, True], ids=["SD", "DS"])
@pytest.mark.parametrize("has_norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("device", DEVICES)
def test_fused_decode_has_the_bits_of_decode_fused(registered, channels_first, has_norm, device):
    H = 3
    layer = Layer(H, -5.0, device)
    qkv, g, beta = layer.parts(layer.tokens(3))
    weights, bias = layer.normal(3, 4, H * 128), layer.normal(3 * H * 128)
    norm = dict(output_gate=layer.normal(3, H, 128).to(BF16), norm_weight=layer.normal(128)) if has_norm else {}
    taps, pool, blocks = layer.normal(5, 3, 3 * H * 128).to(BF16), layer.normal(5, H, 128, 128), layer.indices([4, 0, 2])
    mine, pool_of_mine = taps.clone(), pool.clone()
    conv_state = mine.transpose(1, 2).contiguous() if channels_first else mine.transpose(1, 2)
    heads = lambda x: x.unflatten(-1, (H, 128))
    out = torch.full((1, 3, H, 128), float("nan"), dtype=BF16, device=device)
    importlib.import_module(CUSTOM_OPS).fused_kda_decode(
        qkv, weights, bias, conv_state, heads(g)[None], beta[None], layer.A_log, layer.dt_bias, blocks, pool_of_mine, out, layer.lower_bound, **norm)
    want = torch.full((3, 1, H, 128), float("nan"), dtype=BF16, device=device)
    flash_kda.decode_fused(
        *(heads(x)[:, None] for x in qkv.contiguous().split(H * 128, dim=-1)), heads(g.contiguous())[:, None], beta[:, None], 128**-0.5, want,
        layer.A_log, layer.dt_bias, layer.lower_bound, pool, conv_weight=weights, conv_bias=bias.view(3, -1), conv_state=taps, slots=blocks,
        slot_null="not_positive", **{name: x[:, None] if name == "output_gate" else x for name, x in norm.items()},
    )  # fmt: skip
    assert torch.equal(out[0], want[:, 0]) and not out[0, 1].any() and out[0, 0].any()
    assert torch.equal(conv_state.transpose(1, 2), taps) and torch.equal(pool_of_mine, pool)


def test_any_number_of_heads_where_the_gpu_has_kernels(registered, monkeypatch):
    supported = importlib.import_module(KIMI_LAYER).is_fused_kda_decode_supported
    rest = (128, 4, 0, BF16, BF16, torch.float32)
    for has_kernels in (True, False):
        monkeypatch.setattr(flash_kda, "backends", lambda: {"cuda": flash_kda.Backend(has_kernels, "")})  # noqa: B023
        assert supported(12, *rest) and supported(8, *rest) == has_kernels


def test_it_can_be_switched_off(vllm, monkeypatch):
    monkeypatch.setenv("FLASHKDA_VLLM", "0")
    importlib.import_module("flashkda_vllm").register()
    assert not hasattr(importlib.import_module(KIMI_KDA).fused_recurrent_kda, "is_flashkda") and "fwd" not in vars(torch.ops._flashkda_C)


@pytest.mark.parametrize("vllm", ["0.33.0"], indirect=True)
def test_real_signatures_and_schemas(vllm):
    """Ours take what vLLM's take; the schemas of its compiled ops stand in the wheel's library, that of the fused decode in its Python wrapper."""
    names = ("chunk_kda_with_fused_gate", "fused_recurrent_kda", "fused_recurrent_kda_packed_decode")
    theirs = {name: getattr(importlib.import_module(KIMI_KDA), name) for name in names}
    of_glm = importlib.import_module(GLM_KDA).fused_recurrent_kda
    plugin = importlib.import_module("flashkda_vllm")
    plugin.register()
    plugin.register()
    for name, function in theirs.items():
        takes_the_same(getattr(sys.modules[KIMI_KDA], name), function)
    takes_the_same(sys.modules[GLM_KDA].fused_recurrent_kda, of_glm)
    text = (sources(PROJECT) / "vllm/_flashkda_C.abi3.so").read_bytes().decode("latin1")
    for name in ("fwd", "get_workspace_size"):
        schema = re.search(rf"\b{name}(\([^)]*(?:\([a-d]!\)[^)]*)*\) -> (?:\(\)|int))", text)[1]
        assert schema == sys.modules["flashkda_vllm.ops"].SCHEMAS[name]
    arguments = [argument.name for argument in torch.ops.flashkda_vllm.fused_kda_decode.default._schema.arguments]
    wrapper = alone("vllm/_custom_ops.py", ["fused_kda_decode"])
    assert re.findall(r"\w+", re.search(r"torch\.ops\._C\.fused_kda_decode\((.*?)\)", wrapper, re.S)[1]) == arguments


@pytest.mark.parametrize("vllm", ["0.33.0"], indirect=True)
def test_vllm_loads_the_plugin(vllm, tmp_path, monkeypatch):
    """Its own loader finds the entry point of pyproject.toml, as an installed package has it."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "flashkda_vllm-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    group, points = next(iter(project["entry-points"].items()))
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))
    plugins = importlib.import_module("vllm.plugins")
    assert group == plugins.DEFAULT_PLUGINS_GROUP
    plugins.load_general_plugins()
    assert KIMI_KDA not in sys.modules, "the plugin imports nothing of vLLM's models before vLLM does"
    assert importlib.import_module(KIMI_KDA).fused_recurrent_kda.is_flashkda


@pytest.mark.parametrize("vllm", ["stand-in"], indirect=True)
def test_what_goes_to_vllm(registered, monkeypatch, caplog):
    """What flash_kda refuses, with one line; arguments as they came. Without vLLM's op the refusal is the answer."""
    layer = Layer(1, -5.0)
    server = Server(layer, layer.pool(4).nan_to_num(1.0))
    rows = layer.tokens(3)
    (q, k, v, g, beta), qkv = server.inputs(rows), layer.parts(rows)[0]
    gate, indices = server.gate, torch.arange(1, 4, dtype=torch.int32)
    ops = sys.modules["flashkda_vllm.ops"]
    asked = []
    its_ops = {"fwd": lambda *args: asked.append(args), "get_workspace_size": lambda *args: 64, "fused_kda_decode": lambda *args: asked.append(args)}
    call = (q, k, v, g, beta.int(), 1.0, v.clone(), torch.empty(16), *gate.values())
    taps = torch.zeros(4, 3 * 128, 3, dtype=BF16)
    fused = (qkv, layer.normal(3, 4, 128), None, taps, g, beta.int(), gate["A_log"], gate["dt_bias"], indices, server.pool, v.clone())
    for op, arguments in (("fwd", call), ("fused_kda_decode", fused)):
        with pytest.raises(TypeError, match=r"beta has dtype torch\.int32"):
            getattr(torch.ops.flashkda_vllm, op)(*arguments)
    monkeypatch.setattr(ops, "_its_own", lambda namespace, name: its_ops[name])
    with caplog.at_level(logging.WARNING):
        answer = server.functions.fused_recurrent_kda(q, k, v, g, beta.int(), **gate, initial_state=server.pool, cu_seqlens=layer.starts(3),
                                                      ssm_state_indices=torch.tensor([[1, 2, 3]]), out=v)  # fmt: skip
        assert answer[0] == "its own" and answer[1][4].dtype == torch.int32 and answer[1][12] is v
        answer = server.functions.chunk_kda_with_fused_gate(q, k, v, g, beta.int(), gate["A_log"], None, 2.0, lower_bound=None, safe=3)
        assert answer[0] == "its own" and answer[1][7:] == (2.0, None, False, None, False, None, None) and answer[2] == {"safe": 3}
        answer = server.functions.fused_recurrent_kda_packed_decode(qkv, g, beta.int(), **gate, initial_state=server.pool,
                                                                    state_indices=indices, scale=2.0)  # fmt: skip
        assert answer[0] == "its own" and answer[1][8:] == (2.0, None)
        torch.ops.flashkda_vllm.fwd(*call)
        assert asked[-1][4].dtype == torch.int32 and asked[-1][7].numel() == 64
        torch.ops.flashkda_vllm.fused_kda_decode(*fused)
        assert len(asked[-1]) == 15 and asked[-1][14] == 1e-5
    assert [record.getMessage().split(" goes to")[0] for record in caplog.records] == [
        f"flashkda: {name}" for name in (
            "fused_recurrent_kda", "chunk_kda_with_fused_gate", "fused_recurrent_kda_packed_decode", "_flashkda_C::fwd", "_C::fused_kda_decode")
    ]  # fmt: skip
