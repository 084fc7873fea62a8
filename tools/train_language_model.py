#!/usr/bin/env python3
"""The small byte-level language model of examples/30_language_model.c: its text, its training, its file.

    tools/train_language_model.py collect out/corpus.txt.xz          prose out of the documentation on this machine
    tools/train_language_model.py train out/corpus.txt.xz --seconds 240 --out data/language_model.safetensors
    tools/train_language_model.py check                              the chunk form against the token-by-token form, on the CPU

One file, though long, so that it runs on a machine with PyTorch and nothing of this project.

Layers of Kimi Delta Attention alone, no other attention, no positions. Per layer, with x [B,T,D] and H heads of K = V channels:

    y = rmsnorm(x);  q, k, v = silu(conv4(y W))         short causal convolution, a weight per channel
    g = y W_down W_up;  beta = y W_beta                 log a = lower_bound sigmoid(exp(A_log) (g + dt_bias))
    o = KDA(q, k, v, g, beta)                           include/flashkda.h
    x += (rmsnorm(o) per head * sigmoid(y O_down O_up)) W_out
    x += (silu(z W_gate) * (z W_in)) W_out,  z = rmsnorm(x)

Training needs a GPU for minutes; `--steps 2` on a CPU shows that everything works. The weights are rounded to bf16 at the end, and the
bits per byte that are printed last are theirs.
"""
import argparse
import ast
import gzip
import hashlib
import html
import json
import lzma
import math
import pathlib
import re
import subprocess
import sys
import sysconfig
import time

import torch

SHAPE = dict(layers=5, width=256, heads=2, head_width=128, gate_rank=32, conv=4, hidden=576)
LOWER_BOUND = -5.0
CHUNK = 32    # 32 tokens decay by at most e^-160: e^80 on both sides of a chunk's middle, which fp32 holds
EPSILON = 1e-6

# ---------------------------------------------------------------- text

FOLDERS = [sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"], "/usr/lib/python3", "/usr/lib/jvm", "/usr/share/info", "/usr/share/man",
           "/usr/share/doc", "/usr/share/perl", "/usr/share/vim"]


def docstrings(path):
    """Docstrings of a module, in order."""
    try:
        tree = ast.parse(path.read_text(errors="ignore"))
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def manual_page(path):
    source = gzip.decompress(path.read_bytes())
    shown = subprocess.run(["mandoc", "-T", "ascii"], input=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    return re.sub(r".\x08", "", shown.decode("ascii", "ignore"))


def documents(folders):
    """Texts below the folders: Python modules' docstrings, manual and info pages, Markdown, reStructuredText, pod, plain text."""
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            name = path.name
            if path.is_symlink() or not path.is_file():
                continue
            if re.search(r"copyright|licen[cs]e|changelog|NEWS|AUTHORS|/gcloud|/man/(?!man)|/tests?/", str(path), re.I):
                continue
            try:
                if name.endswith(".py"):
                    yield "\n\n".join(docstrings(path))
                elif re.search(r"\.[1-8]\w*\.gz$", name) and re.search(r"/man\d/", str(path)):
                    yield manual_page(path)
                elif re.search(r"\.(info(-\d+)?|txt|README)\.gz$", name):
                    yield gzip.decompress(path.read_bytes()).decode(errors="ignore")
                elif re.search(r"\.(md|rst|pod|pm|txt)$|^README", name):
                    yield path.read_text(errors="ignore")
            except OSError:
                continue


def prose(text):
    """Paragraphs that read like sentences, each on one line."""
    for paragraph in re.split(r"\n\s*\n", text):
        line = html.unescape(re.sub(r"\s+", " ", re.sub(r"(?<=[a-z])-\n\s*(?=[a-z])", "", paragraph))).strip()
        if not 80 <= len(line) <= 2000 or not re.match(r"[A-Z]", line) or not line.endswith((".", ":")) or not line.isascii():
            continue
        if sum((c.isalpha() and c.islower()) or c == " " for c in line) < 0.88 * len(line) or re.search(r"[A-Z]{9}|[<>{}|\\]|  |--[-=]|\.\. ", line):
            continue
        if re.search(r"copyright|licen[cs]e|warrant|redistribut", line, re.I):
            continue
        yield line


def collect(options):
    seen, lines = set(), []
    for text in documents(options.folders or FOLDERS):
        fresh = []
        for line in prose(text):
            key = hashlib.blake2b(re.sub(r"\W", "", line.lower()).encode(), digest_size=8).digest()
            if key not in seen:
                seen.add(key)
                fresh.append(line)
        if fresh:
            lines.append("\n".join(fresh) + "\n\n")
    raw = "".join(lines).encode()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_bytes(lzma.compress(raw))
    print(f"{options.file}: {len(lines)} documents, {len(raw):,} bytes of text in {options.file.stat().st_size:,}")
    return 0

# ---------------------------------------------------------------- Kimi Delta Attention


def kda_by_token(q, k, v, log_a, b):
    """The rule itself. q, k, v, log_a [T,n,K], b [T,n]: n independent heads."""
    state, outs = torch.zeros(q.shape[1], q.shape[2], v.shape[2], dtype=q.dtype), []
    for q_t, k_t, v_t, a_t, b_t in zip(q, k, v, log_a.exp(), b, strict=True):
        state = state * a_t[..., None]
        update = b_t[..., None] * (v_t - torch.einsum("nkv,nk->nv", state, k_t))
        state = state + k_t[..., None] * update[:, None]
        outs.append(torch.einsum("nkv,nk->nv", state, q_t))
    return torch.stack(outs)


class UnitLowerInverse(torch.autograd.Function):
    """(I + A)^-1 of strictly lower triangular A [...,C,C], from blocks of one to the whole."""

    @staticmethod
    def forward(ctx, A):
        size = A.shape[-1]
        index = torch.arange(size, device=A.device)
        inverse = torch.eye(size, dtype=A.dtype, device=A.device).expand_as(A)
        half = 1
        while half < size:    # the block below the diagonal of each pair: -inverse * A * inverse
            pair = index // (2 * half)
            below = (pair[:, None] == pair[None]) & (index[:, None] // half > index[None] // half)
            inverse = inverse - inverse @ torch.where(below, A, 0.0) @ inverse
            half *= 2
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx, gradient):
        upper = ctx.saved_tensors[0].mT
        return -(upper @ gradient @ upper).tril(-1)


def kda_prepare(q, k, v, log_a, b):
    """What a chunk needs of its own tokens: all [chunks,n,C,...]. The symbols are those of docs/algorithm.md."""
    gamma = log_a.cumsum(-2)
    last, middle = gamma[..., -1:, :], gamma[..., CHUNK // 2 : CHUNK // 2 + 1, :].detach()
    near, far = (gamma - middle).exp(), (middle - gamma).exp()
    k_plus, k_minus = k * near, (k * far).mT
    akk = b[..., None] * torch.where(torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril(-1), k_plus @ k_minus, 0.0)
    mqk = torch.where(torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril(), (q * near) @ k_minus, 0.0)
    solve = UnitLowerInverse.apply(akk) * b[..., None, :]
    return solve @ v, solve @ (k * gamma.exp()), q * gamma.exp(), mqk, (k * (last - gamma).exp()).mT, last.exp().mT


def kda_by_chunk(q, k, v, log_a, b, prepare=kda_prepare):
    """The same in chunks; T is a multiple of CHUNK."""
    T, n, K = q.shape
    q, k, v, log_a = (x.reshape(T // CHUNK, CHUNK, n, K).transpose(1, 2).contiguous() for x in (q, k, v, log_a))
    own, weights, q_plus, mqk, k_rest, decay = prepare(q, k, v, log_a, b.reshape(T // CHUNK, CHUNK, n).transpose(1, 2).contiguous())
    state, states, updates = torch.zeros(n, K, K, dtype=q.dtype, device=q.device), [], []
    for own_c, weights_c, k_rest_c, decay_c in zip(*(x.unbind(0) for x in (own, weights, k_rest, decay)), strict=True):
        states.append(state)
        updates.append(torch.baddbmm(own_c, weights_c, state, alpha=-1))
        state = torch.baddbmm(state * decay_c, k_rest_c, updates[-1])
    out = q_plus @ torch.stack(states) + mqk @ torch.stack(updates)
    return out.transpose(1, 2).reshape(T, n, K)


def check(_):
    """Chunk form against token form, in float64, values and gradients, with decays from none to the strongest and with equal keys."""
    torch.manual_seed(1)
    T, n, K = 4 * CHUNK, 6, 16
    q, k, v = (torch.randn(T, n, K, dtype=torch.float64) for _ in range(3))
    k[:, 1] = k[:1, 1]
    q, k = (x / (x.square().sum(-1, keepdim=True) + EPSILON).sqrt() for x in (q, k))
    log_a = LOWER_BOUND * torch.sigmoid(4 * torch.randn(T, n, K, dtype=torch.float64))
    log_a[:, 0], log_a[:, 1], log_a[:, 2] = LOWER_BOUND, 0, -1e-3
    inputs = [x.requires_grad_() for x in (q, k, v, log_a, torch.rand(T, n, dtype=torch.float64))]
    wanted, got = kda_by_token(*inputs), kda_by_chunk(*inputs)
    probe = torch.randn_like(wanted)
    pairs = [(wanted, got), *zip(torch.autograd.grad((wanted * probe).sum(), inputs), torch.autograd.grad((got * probe).sum(), inputs), strict=True)]
    single = kda_by_chunk(*(x.detach().float() for x in inputs))
    errors = [float((a - b).detach().abs().max() / a.detach().abs().max()) for a, b in pairs]
    fp32 = float((wanted - single).detach().abs().max() / wanted.detach().abs().max())
    print("out, dq, dk, dv, dlog_a, db:", ", ".join(f"{e:.1e}" for e in errors), f"  in fp32: {fp32:.1e}")
    return 0 if max(errors) < 1e-10 and fp32 < 1e-4 else 1


# ---------------------------------------------------------------- the model


def parameters_of(seed, device):
    """Named parameters; matrices are [in,out]."""
    s, make = SHAPE, torch.Generator().manual_seed(seed)
    D, HK, R, F = s["width"], s["heads"] * s["head_width"], s["gate_rank"], s["hidden"]

    def normal(rows, columns, gain=1.0):
        return gain / math.sqrt(rows) * torch.randn(rows, columns, generator=make)

    named = {"embedding": 0.5 * torch.randn(256, D, generator=make)}
    for i in range(s["layers"]):
        decay = torch.logspace(math.log10(0.002), 0, HK)[torch.randperm(HK, generator=make)] / -LOWER_BOUND    # log a of a neutral token
        out_gain = 1 / math.sqrt(2 * s["layers"])
        conv = 0.1 * torch.randn(s["conv"], 3 * HK, generator=make)
        conv[-1] += 1    # the token itself
        named |= {f"layers.{i}.{name}": tensor for name, tensor in {
            "norm": torch.ones(D), "qkv": normal(D, 3 * HK), "conv": conv, "gate_down": normal(D, R), "gate_up": normal(R, HK, 0.5),
            "A_log": torch.zeros(s["heads"]), "dt_bias": torch.logit(decay), "beta": normal(D, s["heads"]), "out_gate_down": normal(D, R),
            "out_gate_up": normal(R, HK), "head_norm": torch.ones(s["head_width"]), "out": normal(HK, D, out_gain),
            "mlp_norm": torch.ones(D), "mlp_in": normal(D, 2 * F), "mlp_out": normal(F, D, out_gain)}.items()}
    named |= {"norm": torch.ones(D), "head": normal(D, 256, 0.1)}
    return {name: torch.nn.Parameter(tensor.to(device)) for name, tensor in named.items()}


def rmsnorm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def before_kda(x, w):
    """Token rows to what KDA takes: [T,B*H,K] in fp32."""
    B, T, _ = x.shape
    H, K, taps = SHAPE["heads"], SHAPE["head_width"], SHAPE["conv"]
    y = rmsnorm(x, w["norm"])
    qkv = torch.nn.functional.pad((y @ w["qkv"]).float(), (0, 0, taps - 1, 0))
    qkv = torch.nn.functional.silu(sum(qkv[:, i : i + T] * w["conv"][i] for i in range(taps)))
    heads = [part.reshape(B, T, H, K).permute(1, 0, 2, 3).reshape(T, B * H, K) for part in qkv.chunk(3, -1)]
    q, k = (part * torch.rsqrt(part.square().sum(-1, keepdim=True) + EPSILON) for part in heads[:2])
    raw = (y @ w["gate_down"] @ w["gate_up"]).float() + w["dt_bias"]
    log_a = LOWER_BOUND * torch.sigmoid(raw.reshape(B, T, H, K) * w["A_log"].exp()[:, None])
    b = torch.sigmoid((y @ w["beta"]).float())
    gate = torch.sigmoid((y @ w["out_gate_down"] @ w["out_gate_up"]).float())
    return q / math.sqrt(K), k, heads[2], log_a.permute(1, 0, 2, 3).reshape(T, B * H, K), b.permute(1, 0, 2).reshape(T, B * H), gate


def after_kda(x, o, gate, w):
    B, T, _ = x.shape
    o = rmsnorm(o.reshape(T, B, SHAPE["heads"], -1).permute(1, 0, 2, 3), w["head_norm"]).reshape(B, T, -1)
    x = x + (o * gate) @ w["out"]
    up, gated = (rmsnorm(x, w["mlp_norm"]) @ w["mlp_in"]).chunk(2, -1)
    return x + (torch.nn.functional.silu(gated) * up) @ w["mlp_out"]


PARTS = {"before": before_kda, "prepare": kda_prepare, "after": after_kda}    # torch.compile replaces them


def logits_of(named, tokens):
    x = named["embedding"][tokens]
    for i in range(SHAPE["layers"]):
        prefix = f"layers.{i}."
        w = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
        q, k, v, log_a, b, gate = PARTS["before"](x, w)
        with torch.autocast(x.device.type, enabled=False):
            o = kda_by_chunk(q, k, v, log_a, b, PARTS["prepare"])
        x = PARTS["after"](x, o, gate, w)
    return rmsnorm(x, named["norm"]) @ named["head"]


def loss_of(named, text):
    """Mean loss in nats of text [B,T+1], byte by byte."""
    with torch.autocast(text.device.type, dtype=torch.bfloat16):
        logits = logits_of(named, text[:, :-1])
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), text[:, 1:].flatten())


# ---------------------------------------------------------------- training


def write_safetensors(path, named, metadata):
    header, data = {"__metadata__": {key: str(value) for key, value in metadata.items()}}, b""
    for name, tensor in named.items():
        raw = tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(len(text).to_bytes(8, "little") + text + data)
    partial.replace(path)


def read_text(path, seed, device):
    """Documents in a random order: what is held out (a fiftieth, at most 256 KiB), and the rest."""
    documents = lzma.decompress(path.read_bytes()).split(b"\n\n")
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    text = torch.frombuffer(bytearray(b"\n\n".join(documents[i] for i in order)), dtype=torch.uint8).to(device)
    held_out = min(1 << 18, len(text) // 50)
    return text[:held_out], text[held_out:]


def bits_per_byte(named, text, length):
    rows = text[: (len(text) - 1) // length * length + 1]
    rows = torch.stack([rows[i : i + length + 1] for i in range(0, len(rows) - 1, length)]).long()
    with torch.no_grad():
        return sum(float(loss_of(named, part)) * len(part) for part in rows.split(32)) / len(rows) / math.log(2)


def make_step(named, optimizer, batch, compiled):
    """One training step on `batch`, a tensor that the caller refills: a CUDA graph on a GPU. Returns (function, its loss)."""
    if compiled:
        for name in PARTS:
            PARTS[name] = torch.compile(PARTS[name])

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(named, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(named.values()), 1.0)
        optimizer.step()
        return loss.detach()

    if not batch.is_cuda:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = step()

    def replay():
        graph.replay()
        return loss

    return replay


def learning_rate(options, done):
    """Up over the first fiftieth, then along a cosine to a hundredth."""
    return options.rate * min(1.0, 50 * done + 0.01) * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def train(options):
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    held_out, text = read_text(options.text, options.seed, device)
    named = parameters_of(options.seed, device)
    rate = torch.tensor(options.rate * 0.01, device=device)
    matrices = [p for name, p in named.items() if p.dim() == 2 and not name.endswith("conv")]
    others = [p for name, p in named.items() if p.dim() != 2 or name.endswith("conv")]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=rate,
                                  betas=(0.9, 0.98), capturable=device == "cuda")
    batch = torch.zeros(options.batch, options.length + 1, dtype=torch.long, device=device)
    window = torch.arange(options.length + 1, device=device)

    def refill():
        batch.copy_(text[torch.randint(len(text) - options.length, (options.batch, 1), device=device) + window])

    print(f"{sum(p.numel() for p in named.values()):,} parameters, {len(text):,} bytes of text, {device}", flush=True)
    refill()
    plain = dict(PARTS)
    try:
        step = make_step(named, optimizer, batch, options.compile)
    except Exception as error:    # a compiler that is not there: slower, the same training
        if not options.compile:
            raise
        print(f"without torch.compile: {type(error).__name__}: {str(error)[:300]}", flush=True)
        PARTS.update(plain)
        step = make_step(named, optimizer, batch, False)
    print(f"ready to train after {time.time() - started:.0f} s", flush=True)
    metadata = {**SHAPE, "lower_bound": LOWER_BOUND, "epsilon": EPSILON, "bytes_per_step": options.batch * options.length}
    began = saved = time.time()
    count, losses = 0, []
    while count < options.steps if options.steps else time.time() - started < options.seconds:
        done = count / options.steps if options.steps else (time.time() - began) / (started + options.seconds - began)
        rate.fill_(learning_rate(options, done))
        refill()
        losses.append(step().clone())
        count += 1
        if len(losses) == (20 if device == "cuda" else 1):    # waits for the GPU: the clock is that of work done
            loss, losses = float(torch.stack(losses).mean()) / math.log(2), []
            if count % (100 if device == "cuda" else 1) == 0:
                pace = count * options.batch * options.length / (time.time() - began)
                print(f"{time.time() - started:4.0f} s  step {count}  {loss:.3f} bits/byte  {pace / 1e6:.2f} MB/s", flush=True)
        if time.time() - saved > 60:
            write_safetensors(options.out, named, {**metadata, "steps": count})
            saved = time.time()
    with torch.no_grad():
        for parameter in named.values():
            parameter.copy_(parameter.to(torch.bfloat16))
    write_safetensors(options.out, named, {**metadata, "steps": count})
    PARTS.update(plain)    # other shapes
    measured = bits_per_byte(named, held_out, options.length)
    write_safetensors(options.out, named, {**metadata, "steps": count, "bits_per_byte": f"{measured:.4f}"})
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {count} steps, {measured:.4f} bits/byte held out, {time.time() - started:.0f} s")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("collect", help="prose out of the documentation on this machine")
    one.add_argument("file", type=pathlib.Path)
    one.add_argument("folders", nargs="*", help=f"default: {' '.join(FOLDERS)}")
    one = commands.add_parser("train")
    one.add_argument("text", type=pathlib.Path)
    one.add_argument("--out", type=pathlib.Path, required=True)
    one.add_argument("--seconds", type=float, default=240, help="from the start of the program; the learning rate follows the clock")
    one.add_argument("--steps", type=int, default=0, help="so many steps instead")
    one.add_argument("--batch", type=int, default=64)
    one.add_argument("--length", type=int, default=1024)
    one.add_argument("--rate", type=float, default=3e-3)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--compile", action="store_true", help="torch.compile for what is not the loop over chunks")
    commands.add_parser("check", help="the chunk form against the token form, on the CPU")
    options = parser.parse_args()
    return {"collect": collect, "train": train, "check": check}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
