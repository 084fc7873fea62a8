"""integrations/sglang: the plugin and its kernel class under SGLang's own dispatcher, in a loop as a server runs it, against float64.

"stand-in" replaces SGLang by the few names that are used; "0.5.23" takes its dispatcher, its base classes and its plugin loader from the wheel
(engine_sources.py), with stand-ins for what these import. Neither runs SGLang itself: its scheduler, convolution kernels and CUDA graphs.
"""

import importlib
import logging
import pathlib
import sys

import pytest
import torch

import flash_kda
from engine_sources import LINEAR, MISSING, alone, modules, sources
from flash_kda import engines
from serving import DEVICES, Layer, Sequence, takes_the_same

pytestmark = pytest.mark.usefixtures("no_grad")

PROJECT = "sglang==0.5.23"
PACKAGE = pathlib.Path(__file__).parents[2] / "integrations/sglang"
KDA_BACKEND, LINEAR_UTILS = "sglang.srt.layers.attention.linear.kda_backend", "sglang.srt.layers.attention.linear.utils"
KDA_TRITON = "sglang.srt.layers.attention.linear.kernels.kda_triton"
FUSED = "sglang.kernels.ops.attention.kda_fused_decode"
SAID: list[str] = []
BF16 = torch.bfloat16


class Triton:
    """In the place of SGLang's own kernel: it answers with what it was asked, after `was_asked`."""

    def extend(self, *args, **kwargs):
        return "triton", args, kwargs

    packed_decode = decode = target_verify = extend


class Dispatcher:
    def __init__(self, decode, prefill, verify):
        self.triton_kernel = Triton()
        self.decode_kernel = self.extend_kernel = self.verify_kernel = self.triton_kernel

    def __getattr__(self, name):
        kernel = {"packed_decode": "decode", "decode": "decode", "extend": "extend", "target_verify": "verify"}[name]
        return getattr(getattr(self, f"{kernel}_kernel"), name)


STAND_INS = {
    **{".".join(KDA_TRITON.split(".")[:count]): {} for count in range(1, 7)}, "sglang.kernels": {}, "sglang.kernels.ops": {},
    "sglang.kernels.ops.attention": {}, KDA_TRITON: {"TritonKDAKernel": Triton}, LINEAR_UTILS: {"pp_spec_stable_rows_enabled": lambda: False},
    KDA_BACKEND: {"KDAKernelDispatcher": Dispatcher, "rank0_log": SAID.append}, FUSED: {"kda_fused_decode": lambda *args: ("its own", *args)},
}  # fmt: skip


class Setting:
    """envs.ANYTHING.get(): not set."""

    def __getattr__(self, name):
        return self

    def get(self):
        return None


def imported_by_the_sources():
    """What SGLang's files import beside each other: a machine without a GPU, nothing set."""
    no = lambda: False
    return {
        "sglang.srt.utils": {"is_cpu": lambda: True, "is_hip": no, "is_npu": no, "is_xpu": no, "is_cuda": no},
        "sglang.srt.utils.common": {"rank0_log": SAID.append}, "sglang.srt.environ": {"envs": Setting()},
        "sglang.srt.runtime_context": {"get_exec": None}, "msgspec": {"Struct": type("Struct", (), {"__init_subclass__": lambda cls, **_: None})},
        "sglang.kernels.jit.utils": {"cache_once": lambda f: f, "is_arch_support_pdl": no, "load_jit": None, "make_cpp_args": None},
    }  # fmt: skip


IMPORTS = f"""from typing import Optional
import torch
from {KDA_TRITON} import TritonKDAKernel
from {LINEAR_UTILS} import LinearAttnKernelBackend
from sglang.srt.utils import is_cuda
from sglang.srt.utils.common import rank0_log
"""  # of the dispatcher; its file has more classes, and imports the whole engine


@pytest.fixture(params=["stand-in", "0.5.23"])
def sglang(request, monkeypatch, tmp_path):
    """SGLang, with the plugin on the path and not yet registered."""
    folder = sources(PROJECT) if request.param == "0.5.23" else None
    if request.param == "0.5.23" and folder is None:
        pytest.skip(MISSING.format(PROJECT))
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.setattr(engines._waiting, "patches", dict(engines._waiting.patches))
    monkeypatch.setattr(Dispatcher, "__init__", Dispatcher.__init__)
    SAID.clear()
    if folder is not None:
        file = tmp_path / f"{LINEAR}/kda_backend.py"
        file.parent.mkdir(parents=True)
        file.write_text(alone(f"{LINEAR}/kda_backend.py", ["KDAKernelDispatcher"], IMPORTS))
    names, folders = (STAND_INS, ()) if folder is None else (imported_by_the_sources(), (tmp_path, folder))
    with modules(("sglang", "flashkda_sglang", "msgspec"), names, folders):
        yield request.param


@pytest.fixture
def dispatcher(sglang):
    importlib.import_module("flashkda_sglang").register()
    utils, backend = importlib.import_module(LINEAR_UTILS), importlib.import_module(KDA_BACKEND)
    kind = getattr(utils, "LinearAttnKernelBackend", str)
    return backend.KDAKernelDispatcher(kind("triton"), kind("triton"), kind("triton"))


class Server:
    """The calls of KDAAttnBackend.forward_extend, forward_decode and _forward_target_verify, after the convolution."""

    def __init__(self, layer, kernel, pool):
        self.layer, self.kernel, self.pool = layer, kernel, pool
        self.gate = dict(A_log=torch.nn.Parameter(layer.A_log.view(1, 1, -1, 1)), dt_bias=layer.dt_bias, lower_bound=layer.lower_bound)

    def inputs(self, rows):
        """q, k, v [1,T,H,128], a [1,T,H*128], b [1,T,H]: views of the rows."""
        qkv, a, b = self.layer.parts(rows)
        return (*(x.unflatten(-1, (-1, 128)).unsqueeze(0) for x in qkv.split(self.layer.H * 128, dim=-1)), a[None], b[None])

    def extend(self, batch, chunks=None):
        """batch: [(rows, slot)]; chunks: what the prefix cache tracks. Returns out of each, and the tracked states."""
        q, k, v, a, b = self.inputs(torch.cat([rows for rows, _ in batch]))
        track = None if chunks is None else self.layer.pool(len(batch))
        answer = self.kernel.extend(
            q=q, k=k, v=v, g=a.unflatten(-1, (-1, 128)), beta=b, ssm_states=self.pool, **self.gate, beta_is_raw=True,
            cache_indices=self.layer.indices([slot for _, slot in batch]), query_start_loc=self.layer.starts(*(len(rows) for rows, _ in batch)),
            extend_seq_lens_cpu=[len(rows) for rows, _ in batch], extend_prefix_lens=None, layer_id=0, is_spec_decode=False,
            return_intermediate_states=chunks is not None, track_ssm_h_src=None if chunks is None else torch.tensor([1]), track_state=track,
            track_chunk_idx=None if chunks is None else self.layer.indices(chunks),
        )  # fmt: skip
        out = answer if chunks is None else answer[0]
        return out[0].split([len(rows) for rows, _ in batch]), track

    def decode(self, rows, slots, packed=True):
        qkv, a, b = self.layer.parts(rows)
        slots = self.layer.indices(slots)
        if packed:
            return self.kernel.packed_decode(
                mixed_qkv=qkv, a=a, b=b[:, None], scale=128**-0.5, ssm_states=self.pool, cache_indices=slots, num_v_heads=self.layer.H,
                head_v_dim=128, **self.gate, replayssm_d=None, replayssm_k=None, replayssm_g=None, replayssm_write_pos=None,
                replayssm_force_flush=None,
            )[0]  # fmt: skip
        q, k, v, a, b = self.inputs(rows)
        return self.kernel.decode(
            q=q, k=k, v=v, a=a, b=b, ssm_states=self.pool, cache_indices=slots, query_start_loc=self.layer.starts(*[1] * len(slots)),
            **self.gate,
        )[0]

    def verify(self, rows, slots, lengths, buffer, parent=None):
        q, k, v, a, b = self.inputs(rows)
        return self.kernel.target_verify(
            q=q, k=k, v=v, a=a, b=b, ssm_states=self.pool, cache_indices=self.layer.indices(slots), query_start_loc=self.layer.starts(*lengths),
            intermediate_states_buffer=buffer, intermediate_state_indices=self.layer.indices(range(len(buffer))),
            cache_steps=buffer.shape[1], retrieve_parent_token=parent, **self.gate,
        )[0].split(lengths)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lower_bound", [-5.0, None], ids=["bounded", "softplus"])
def test_a_server(dispatcher, lower_bound, device):
    layer = Layer(2, lower_bound, device)
    pool = layer.pool(9, pitch=64)
    server = Server(layer, dispatcher, pool)
    a, b, c = (Sequence(layer, slot) for slot in (3, 5, 1))
    cached = 7
    pool[[3, 5]] = 0

    prompt, other = layer.tokens(150), layer.tokens(40)
    (first, second, _), track = server.extend([(prompt[:90], 3), (other, 5), (prompt[:0], -1)], chunks=[1, 0, -1])
    a.check(prompt[:90], first, pool)
    b.check(other, second, pool)
    want, state = layer.truth(prompt[:64])
    layer.check(first[:64], want, track[0], state)
    assert not track[1].any()
    pool[cached] = track[0]  # the prefix cache

    pool[1] = pool[cached]  # a request with the same first 64 tokens
    c.check(prompt[:64], want, pool)
    rest = layer.tokens(70)
    (first, second), _ = server.extend([(prompt[90:], 3), (rest, 1)])
    a.check(prompt[90:], first, pool)
    c.check(rest, second, pool)

    for step in range(2):
        rows, before = layer.tokens(4), pool.clone()
        out = server.decode(rows, [5, -1, 1, 3], packed=step == 0)
        for n, sequence in ((0, b), (2, c), (3, a)):
            sequence.check(rows[n : n + 1], out[n : n + 1], pool)
        assert step == 1 or not out[1].any()
        untouched = [0, 2, 4, 6, 7, 8]
        assert torch.equal(pool[untouched].nan_to_num(7.0), before[untouched].nan_to_num(7.0))

    buffer, before = layer.pool(5 * 4).view(5, 4, 2, 128, 128), pool.clone()
    drafts = {a: layer.tokens(4), b: layer.tokens(2)}
    out = server.verify(torch.cat([*drafts.values(), layer.tokens(1)]), [3, 5, -1], [4, 2, 1], buffer)
    assert torch.equal(pool.nan_to_num(7.0), before.nan_to_num(7.0))
    for n, (sequence, rows) in enumerate(drafts.items()):
        sequence.check_draft(rows, out[n], buffer[n])
        accepted = 3 - n  # 3 of 4, 2 of 2
        pool[sequence.slot] = buffer[n, accepted - 1]  # SGLang's commit
        sequence.check(rows[:accepted], out[n][:accepted], pool)

    tree = layer.indices([[0, 0, 1, 0], [-1, 0, 0, 2]], torch.int64)
    rows = layer.tokens(8)
    out = server.verify(rows, [3, 1], [4, 4], buffer, tree)
    a.check_draft(rows[[0, 1, 2]], out[0][[0, 1, 2]], buffer[0, [0, 1, 2]])
    a.check_draft(rows[[0, 3]], out[0][[0, 3]], buffer[0, [0, 3]])
    c.check_draft(rows[[4, 6, 7]], out[1][[0, 2, 3]], buffer[1, [0, 2, 3]])
    last = layer.tokens(1)
    a.check(last, server.decode(last, [3]), pool)


def test_what_is_chosen(sglang, monkeypatch):
    """The kernels take the place of Triton's; off: nothing changes."""
    monkeypatch.setenv("FLASHKDA_SGLANG", "0")
    plugin = importlib.import_module("flashkda_sglang")
    plugin.register()
    backend, utils = importlib.import_module(KDA_BACKEND), importlib.import_module(LINEAR_UTILS)
    kind = getattr(utils, "LinearAttnKernelBackend", str)
    make = lambda: backend.KDAKernelDispatcher(kind("triton"), kind("triton"), kind("triton"))
    assert make().extend_kernel is not None and type(make().extend_kernel).__name__ != "FlashKDAKernel"
    monkeypatch.setenv("FLASHKDA_SGLANG", "1")
    plugin.register()
    plugin.register()
    mine = make()
    triton = importlib.import_module(KDA_TRITON).TritonKDAKernel
    for kernel in (mine.decode_kernel, mine.extend_kernel, mine.verify_kernel):
        assert type(kernel).__name__ == "FlashKDAKernel" and type(kernel).__module__ == "flashkda_sglang.kernel" and isinstance(kernel, triton)
    assert type(mine.triton_kernel) is triton
    assert mine.supports_packed_decode and mine.supports_packed_decode_safe_gate
    assert [line for line in SAID if line.startswith("flashkda")] == [
        "flashkda: decode_kernel FlashKDAKernel, verify_kernel FlashKDAKernel, extend_kernel FlashKDAKernel"
    ]


@pytest.mark.parametrize("sglang", ["0.5.23"], indirect=True)
def test_real_signatures(sglang):
    """Ours take what SGLang's take: the same names in the same order, positional where they are."""
    kernel = importlib.import_module("flashkda_sglang.kernel").FlashKDAKernel
    base = importlib.import_module("sglang.srt.layers.attention.linear.kernels.kernel_backend").LinearAttnKernelBase
    triton = importlib.import_module(KDA_TRITON).TritonKDAKernel
    assert issubclass(kernel, base)
    for name in ("extend", "packed_decode", "decode", "target_verify"):
        for theirs in (triton, base):
            if hasattr(theirs, name):
                takes_the_same(getattr(kernel, name), getattr(theirs, name), passed_on="replayssm_")
    flags = [name for name in vars(base) if name.startswith(("supports_", "uses_"))]
    assert set(flags) <= set(dir(kernel)) and not kernel.uses_state_checkpoints
    theirs = importlib.import_module(FUSED).kda_fused_decode
    importlib.import_module("flashkda_sglang.fused").replace(sys.modules[FUSED])
    takes_the_same(sys.modules[FUSED].kda_fused_decode, theirs)


@pytest.mark.parametrize("sglang", ["0.5.23"], indirect=True)
def test_sglang_loads_the_plugin(sglang, tmp_path, monkeypatch):
    """Its own loader finds the entry point of pyproject.toml, as an installed package has it."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "flashkda_sglang-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    group, points = next(iter(project["entry-points"].items()))
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))
    monkeypatch.syspath_prepend(tmp_path)
    plugins = importlib.import_module("sglang.srt.plugins")
    assert group == plugins.GENERAL_PLUGINS_GROUP
    plugins.load_plugins()
    assert KDA_BACKEND not in sys.modules, "the plugin imports nothing of SGLang's backend before SGLang does"
    assert importlib.import_module(KDA_BACKEND).KDAKernelDispatcher.__init__.is_flashkda


@pytest.mark.parametrize("device", DEVICES)
def test_fused_decode_has_the_bits_of_decode_fused(dispatcher, device):
    H = 3
    fused, layer = importlib.import_module(FUSED).kda_fused_decode, Layer(H, -5.0, device)
    normal, (qkv, a, b) = layer.normal, layer.parts(layer.tokens(3))
    weights, bias, norm, gate = [normal(4, H * 128) for _ in range(3)], normal(3 * H * 128), normal(128), normal(3, H * 128).to(BF16)
    taps, pool, slots = normal(5, 3, 3 * H * 128).to(BF16), normal(5, H, 128, 128), layer.indices([4, -1, 2])
    mine = taps.clone(), pool.clone()
    out = fused(qkv, a, b, mine[0], *weights, bias, layer.A_log, layer.dt_bias, gate, norm, mine[1], slots, 128**-0.5, 1e-5, layer.lower_bound)
    heads = lambda x: x.unflatten(-1, (H, 128)).unsqueeze(1)
    want = torch.full((3, 1, H, 128), float("nan"), dtype=BF16, device=device)
    flash_kda.decode_fused(
        *(heads(x) for x in qkv.contiguous().split(H * 128, dim=-1)), heads(a.contiguous()), b[:, None], 128**-0.5,
        want, layer.A_log, layer.dt_bias, layer.lower_bound, pool,
        conv_weight=weights, conv_bias=bias.split(H * 128), conv_state=taps, output_gate=heads(gate), norm_weight=norm, slots=slots,
    )  # fmt: skip
    assert out.shape == (1, 3, H, 128) and torch.equal(out[0], want[:, 0]) and not out[0, 1].any() and out[0, 0].any()
    assert torch.equal(mine[0], taps) and torch.equal(mine[1], pool)


@pytest.mark.parametrize("sglang", ["stand-in"], indirect=True)
def test_what_goes_to_triton(dispatcher, monkeypatch, caplog):
    """What flash_kda has no word for, silently; what it refuses, with one line. The arguments arrive as they came, the pool untouched."""
    layer, kernel = Layer(1, -5.0), dispatcher.extend_kernel
    pool = layer.pool(4).nan_to_num(1.0)
    server = Server(layer, dispatcher, pool)
    q, k, v, a, b = server.inputs(layer.tokens(10))
    states = dict(ssm_states=pool, cache_indices=torch.tensor([1], dtype=torch.int32), query_start_loc=layer.starts(10))
    raw = dict(beta_is_raw=True, **server.gate)
    is_triton = lambda answer: isinstance(answer, tuple) and answer[0] == "triton"
    g = a.unflatten(-1, (-1, 128))
    assert is_triton(kernel.extend(q, k, v, g, b, **states, **{**raw, "beta_is_raw": False}))
    assert is_triton(kernel.extend(q, k, v, g, b, **states, beta_is_raw=True))
    assert is_triton(kernel.extend(q, k, v, g, b, **states, **raw, return_intermediate_states=True))
    no_chunk = torch.tensor([], dtype=torch.int64)
    out, chunks = kernel.extend(q, k, v, g, b, **states, **raw, return_intermediate_states=True, track_ssm_h_src=no_chunk)
    assert chunks is None and out.shape == v.shape
    ring = torch.zeros(1)
    assert is_triton(kernel.packed_decode(q, a, b, scale=1.0, num_v_heads=1, head_v_dim=128, replayssm_d=ring, **states, **server.gate))
    buffer = layer.pool(2 * 12).view(2, 12, 1, 128, 128)
    verify = dict(q=q, k=k, v=v, a=a, b=b, **states, **server.gate, intermediate_state_indices=None, retrieve_parent_token=None)
    assert is_triton(kernel.target_verify(**verify, intermediate_states_buffer=buffer, cache_steps=12))
    assert is_triton(kernel.target_verify(**verify, intermediate_states_buffer=buffer[:, :4], cache_steps=3))
    assert is_triton(kernel.target_verify(**verify, intermediate_states_buffer=None, cache_steps=4, cache_ring=True))
    monkeypatch.setattr(sys.modules["flashkda_sglang.kernel"], "pp_spec_stable_rows_enabled", lambda: True)
    assert is_triton(kernel.target_verify(**verify, intermediate_states_buffer=buffer[:, :4], cache_steps=4))
    before = pool.clone()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            answer = kernel.extend(q, k, v, g, b.int(), **states, **raw)
            assert is_triton(answer) and answer[1][4].dtype == torch.int32 and answer[2]["cache_indices"] is states["cache_indices"]
    assert [record.getMessage() for record in caplog.records] == [
        "flashkda: extend goes to the engine's own kernel: beta has dtype torch.int32, but it must be a floating point dtype"
    ]
    assert torch.equal(pool, before)


