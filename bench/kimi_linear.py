#!/usr/bin/env python3
"""One decoded token of full attention, as fast as PyTorch does it, over contexts of 1K to 1M: JSON lines for docs/kimi-linear.md.

Two caches in bf16, as models have them:
    MLA    one row of 512 + 64 numbers a token; 32 heads with queries of 576, values are the first 512 (keys and values stay compressed)
    GQA    8 heads of 128, keys and values; 32 query heads

Every way that PyTorch offers is tried: scaled_dot_product_attention with its flash, cuDNN, memory-efficient and math backends, each with the query
heads as heads and as rows of their key head, and plain matrix products, whole and in pieces of the context. Each is held against fp64 at
16K tokens; what is wrong, or refused by PyTorch, is left out and named. The fastest counts, and the line names it.

Time: a CUDA graph with one launch for each of so many caches that they come from memory (320 MB, one cache if it is larger); median of replays by
events, divided by the caches. The KDA side is `flashkda bench --suite kimi-linear --backend cuda --json`.

    build/release/cli/flashkda bench --suite kimi-linear --backend cuda --json > kimi_linear.jsonl
    bench/kimi_linear.py --out kimi_linear.jsonl
"""
import argparse
import json
import math
import pathlib
import sys
import time
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import gpu_facts

HEADS = 32
CACHES = {"MLA": dict(key_heads=1, key_width=576, value_width=512), "GQA": dict(key_heads=8, key_width=128, value_width=128)}
COLD_BYTES = 320_000_000
HOPELESS = 8          # a way that takes so many times the fastest is not tried on longer contexts
HBM_TB_PER_S = 4.2    # what a large copy reaches on an H200
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
            "math": SDPBackend.MATH}


def make_cache(name, N, context):
    """k [N,key heads,context,width], and v, which for MLA is a part of k."""
    shape = CACHES[name]
    k = torch.randn(N, shape["key_heads"], context, shape["key_width"], device="cuda", dtype=torch.bfloat16)
    return k, k[..., :512] if name == "MLA" else torch.randn_like(k)


def token_bytes(name):
    shape = CACHES[name]
    return 2 * shape["key_heads"] * (shape["key_width"] + (0 if name == "MLA" else shape["value_width"]))


# ---------------------------------------------------------------- ways; q is [N,key heads,rows,width]: rows are the query heads of a key head


def by_rows(backend):
    def attend(q, k, v, scale):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)

    return attend


def by_heads(backend):
    def attend(q, k, v, scale):
        N, key_heads, rows, width = q.shape
        with sdpa_kernel(backend):
            out = torch.nn.functional.scaled_dot_product_attention(q.reshape(N, key_heads * rows, 1, width), k, v, scale=scale, enable_gqa=True)
        return out.reshape(N, key_heads, rows, -1)

    return attend


def by_products(q, k, v, scale):
    return torch.softmax(q @ k.mT * scale, -1) @ v


def by_pieces(pieces):
    """Pieces of the context side by side, each with its own softmax, then their weighted mean."""

    def attend(q, k, v, scale):
        if k.shape[2] < 64 * pieces:
            raise RuntimeError("pieces of fewer than 64 tokens")
        cut = lambda x: x.unflatten(2, (pieces, -1))
        scores = (q * scale)[:, :, None] @ cut(k).mT    # [N,key heads,pieces,rows,tokens]
        most = scores.amax(-1, keepdim=True)
        weights = (scores - most).exp()
        sums, most = weights.sum(-1, keepdim=True, dtype=torch.float32), most.float()
        share = (most - most.amax(2, keepdim=True)).exp()
        outs = (weights @ cut(v)).float()
        return ((outs * share).sum(2) / (sums * share).sum(2)).to(q.dtype)

    return attend


def ways():
    found = {"products": by_products}
    for pieces in (16, 64, 256):
        found[f"products in {pieces} pieces"] = by_pieces(pieces)
    for name, backend in BACKENDS.items():
        found[f"SDPA {name}, rows"] = by_rows(backend)
        found[f"SDPA {name}, heads"] = by_heads(backend)
    return found


# ---------------------------------------------------------------- right, then fast


def check(cache):
    """The ways that PyTorch takes and that are right; the others with the reason."""
    torch.manual_seed(1)
    shape = CACHES[cache]
    k, v = make_cache(cache, 2, 16384)
    q = torch.randn(2, shape["key_heads"], HEADS // shape["key_heads"], shape["key_width"], device="cuda", dtype=torch.bfloat16)
    scale = 1 / math.sqrt(shape["key_width"])
    wanted = torch.softmax(q.double() @ k.double().mT * scale, -1) @ v.double()
    taken, refused = {}, {}
    for name, attend in ways().items():
        try:
            got = attend(q, k, v, scale)
        except RuntimeError as error:
            refused[name] = str(error).strip().splitlines()[0][:100]
            continue
        wrong = float((got.double() - wanted).norm() / wanted.norm())
        if wrong < 0.02:
            taken[name] = attend
        else:
            refused[name] = f"it is wrong, by {wrong:.2e} relative RMS"
    return taken, refused


def graph_of(attend, q, caches, scale):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):    # loads what is loaded late
        attend(q, *caches[0], scale)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for k, v in caches:
            attend(q, k, v, scale)
    return graph


def time_of(attend, q, caches, scale, seconds):
    """Median microseconds of one cache."""
    graph = graph_of(attend, q, caches, scale)
    event = lambda: torch.cuda.Event(enable_timing=True)
    times, began = [], time.monotonic()
    while len(times) < 5 or (len(times) < 30 and time.monotonic() - began < seconds):
        begin, end = event(), event()
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    times = sorted(times[2:])
    return 1e3 * times[len(times) // 2] / len(caches)


def measure(cache, N, context, taken, seconds):
    shape = CACHES[cache]
    count = max(1, min(300, math.ceil(COLD_BYTES / (N * context * token_bytes(cache)))))
    caches = [make_cache(cache, N, context) for _ in range(count)]
    q = torch.randn(N, shape["key_heads"], HEADS // shape["key_heads"], shape["key_width"], device="cuda", dtype=torch.bfloat16)
    times = {}
    for name, attend in taken.items():
        try:
            times[name] = time_of(attend, q, caches, 1 / math.sqrt(shape["key_width"]), seconds)
        except RuntimeError as error:    # out of memory, or pieces that are too small
            torch.cuda.synchronize()
            print(f"{cache}, N {N}, context {context}: {name}: {str(error).splitlines()[0][:80]}", file=sys.stderr)
    best = min(times, key=times.__getitem__)
    return dict(suite="kimi-linear", case="full attention", cache=cache, N=N, context=context, us=times[best], way=best,
                roof_us=N * context * token_bytes(cache) / (HBM_TB_PER_S * 1e6), caches=count,
                all_us={name: round(us, 2) for name, us in times.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--N", default="1,8", help="sequences, separated by commas (default 1,8)")
    parser.add_argument("--contexts", default=",".join(str(1 << i) for i in range(10, 21)), help="tokens, separated by commas (default 1K to 1M)")
    parser.add_argument("--seconds", type=float, default=0.03, help="for each way at each context (default 0.03)")
    parser.add_argument("--limit", type=float, default=75, help="seconds after which no further case is begun (default 75)")
    parser.add_argument("--commit", default=gpu_facts.commit(), help="the source that is measured (default: ask git)")
    parser.add_argument("--out", type=pathlib.Path, help="append the lines to this file as well")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore")    # why a backend is not taken: said once, by check
    began = time.monotonic()
    facts = dict(**gpu_facts.gpu_facts(), torch=torch.__version__, commit=options.commit)
    for N in map(int, options.N.split(",")):
        for cache in CACHES:
            taken, refused = check(cache)
            for name, sentence in refused.items():
                print(f"{cache}: {name} is not taken: {sentence}", file=sys.stderr)
            for context in map(int, options.contexts.split(",")):
                if time.monotonic() - began > options.limit:
                    sys.exit(f"--limit {options.limit:g}: stopped before {cache}, N {N}, context {context}")
                line = measure(cache, N, context, taken, options.seconds)
                taken = {name: way for name, way in taken.items() if line["all_us"].get(name, 0) <= HOPELESS * line["us"]}
                text = json.dumps({**line, **facts})
                torch.cuda.empty_cache()
                print(text, flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(text + "\n")


if __name__ == "__main__":
    main()
