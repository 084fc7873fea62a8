#!/usr/bin/env python3
"""flashkda and its peers on one GPU, in one process, on the same tensors: JSON lines.

Peers are flashkda-mma, our own portable kernel (FKDA_CUDA_KERNEL=mma), and fla, flash-linear-attention's chunk_kda in Triton (its dispatch to
flash_kda off, which is checked); autotuning chooses its kernels for each length by itself. Cases are those of cli/bench/suites.def. Each is checked
first (the answers agree), then timed: replays of a CUDA graph, the L2 cache flushed before each, events, median. What cannot be captured is timed
call by call with the same events, and its line says so.

    bench/peers.py                          suite seed, three gate families, lines on standard output
    bench/peers.py --suite shapes --gates slow --max-T 8192 --out peers.jsonl
    bench/peers.py --op decode              fused_recurrent_kda instead; N from 1 to 1024 (peers_decode.py)
    bench/peers.py --compile-jobs 16        the candidates of Triton's autotuning are compiled by 16 processes first
    bench/peers.py --tuned tuned.json       what autotuning chose is kept there, and taken from there by the next run
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

os.environ["FLA_FLASH_KDA"] = "0"    # before fla is imported: chunk_kda stays in Triton
os.environ["FLA_CACHE_RESULTS"] = "0"    # and takes no choice of an earlier run, which may have been of another length (class Tuning)

import torch

import flash_kda
import gpu_facts
import peers_decode

ROOT = pathlib.Path(__file__).resolve().parent.parent
K = 128
HBM_TB_PER_S = 4.2    # what a large copy reaches on an H200
GATES = ("slow", "random", "floor")
OPTIONS = dict(use_gate_in_kernel=True, use_qk_l2norm_in_kernel=True, use_beta_sigmoid_in_kernel=True, safe_gate=True, state_v_first=True,
               output_final_state=True)


def read_suite(suite):
    """(name, T, H, lens) of the suite's cases that the CUDA kernels take; lens is empty for one dense sequence."""
    text = (ROOT / "cli/bench/suites.def").read_text()
    macros = dict(re.findall(r'^#define (\w+) "([^"]*)"', text, re.M))
    cases = []
    for line in re.findall(r"^FKDA_CASE\((.*)\)\s*$", text, re.M):
        words = [word.strip().strip('"') for word in re.findall(r'"[^"]*"|[^,]+', line)]
        name, T, H, HV, width, value_width, gate, lens = words[1:9]
        if words[0] == suite and gate == "BOUNDED" and H == HV and (width, value_width) == ("128", "128"):
            cases.append((name, int(T), int(H), parse_lens(macros.get(lens, lens))))
    return cases


def parse_lens(text):
    lens = []
    for entry in filter(None, text.split(",")):
        count, length = entry.split("x") if "x" in entry else (1, entry)
        lens += [int(length)] * int(count)
    return lens


def make_inputs(T, H, lens, gates):
    """As cli/problem/problem_made.c: normal q, k, v and logits in bf16, small fp32 states, one family of gates."""
    random = torch.Generator(device="cuda").manual_seed(20250713)
    normal = lambda *shape: torch.randn(*shape, generator=random, device="cuda", dtype=torch.bfloat16)
    uniform = lambda *shape: torch.rand(*shape, generator=random, device="cuda")
    N = len(lens) or 1
    inputs = dict(q=normal(1, T, H, K), k=normal(1, T, H, K), v=normal(1, T, H, K), g=normal(1, T, H, K), beta=normal(1, T, H),
                  A_log=uniform(H), dt_bias=uniform(H, K), lower_bound=-5.0, scale=K**-0.5,
                  initial_state=0.1 * torch.randn(N, H, K, K, generator=random, device="cuda"))
    if gates == "slow":
        inputs["A_log"] = (1 + 15 * inputs["A_log"]).log()
        inputs["dt_bias"] = (1e-3 * 100 ** inputs["dt_bias"]).expm1().log()
    if gates == "floor":
        inputs["g"].fill_(30)
        inputs["A_log"].zero_()
        inputs["dt_bias"].zero_()
    if lens:
        inputs["cu_seqlens"] = torch.tensor([0, *lens], device="cuda").cumsum(0)
    return inputs


def our_call(inputs):
    out, state = torch.empty_like(inputs["v"]), torch.empty_like(inputs["initial_state"])

    def call():
        flash_kda.fwd(**inputs, out=out, final_state=state)
        return out, state

    return call


def fla_call(inputs):
    from fla.ops.kda import chunk_kda

    return lambda: chunk_kda(**inputs, **OPTIONS)


CALLS = {"flashkda": our_call, "flashkda-mma": our_call, "fla": fla_call}
KERNELS = {"flashkda-mma": "mma"}    # FKDA_CUDA_KERNEL


class Timer:
    """Median and percentiles of one call, in milliseconds."""

    def __init__(self, runs):
        self.runs = runs
        self.flush = torch.empty(2 * torch.cuda.get_device_properties(0).L2_cache_size, dtype=torch.uint8, device="cuda")

    def replayable(self, call):
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                call()
        except RuntimeError:    # a call that waits for the device cannot be captured
            torch.cuda.synchronize()
            return call, "events around calls, L2 flushed"
        return graph.replay, "CUDA graph replay, L2 flushed, events"

    def measure(self, call):
        replay, method = self.replayable(call)
        event = lambda: torch.cuda.Event(enable_timing=True)
        pairs = [(event(), event()) for _ in range(self.runs + 3)]
        for begin, end in pairs:
            self.flush.zero_()
            begin.record()
            replay()
            end.record()
        torch.cuda.synchronize()
        times = sorted(begin.elapsed_time(end) for begin, end in pairs[3:])
        at = lambda share: times[round(share * (len(times) - 1))]
        return dict(median_ms=at(0.5), p10_ms=at(0.1), p90_ms=at(0.9), min_ms=times[0], max_ms=times[-1], runs=len(times), method=method)


# ---------------------------------------------------------------- Triton: compiling ahead, autotuning


def empty_inputs(T, H, lens):
    """As make_inputs, in host memory that nobody touches: for kernels that are compiled and not launched."""
    empty = lambda *shape, dtype=torch.bfloat16: torch.empty(*shape, dtype=dtype)
    inputs = {name: empty(1, T, H, K) for name in "qkvg"}
    inputs.update(beta=empty(1, T, H), A_log=empty(H, dtype=torch.float32), dt_bias=empty(H, K, dtype=torch.float32), lower_bound=-5.0, scale=K**-0.5,
                  initial_state=empty(len(lens) or 1, H, K, K, dtype=torch.float32))
    if lens:
        inputs["cu_seqlens"] = torch.tensor([0, *lens]).cumsum(0)
    return inputs


def compile_share(cases, share, shares):
    """Compiles every shares-th candidate of the autotuned kernels that the peers launch, and launches none of them."""
    from fla.ops.utils import cache
    from triton.runtime import autotuner, jit

    seen, launch = set(), jit.JITFunction.run

    def run(self, *args, **options):
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        named = {**self.nargs, **options}
        numbers = tuple((name, value) for name, value in named.items() if isinstance(value, (int, float)) and name != "T")
        for config in self.prune_configs(options):
            candidate = self.base_fn.__name__, numbers, named.get("cu_seqlens") is None, str(config)
            if candidate in seen:
                continue
            seen.add(candidate)
            if len(seen) % shares != share:
                continue
            try:
                self.fn.run(*args, **{**options, **config.all_kwargs()})
            except Exception as error:    # a candidate that does not compile: autotuning leaves it out too
                print(f"{self.base_fn.__name__}: {config}: {type(error).__name__}", file=sys.stderr)
        self.nargs = None

    jit.JITFunction.run = lambda self, *args, **options: launch(self, *args, **{**options, "warmup": True})
    autotuner.Autotuner.run = run
    cache.CachedAutotuner.run = run
    for _, T, H, lens in cases:
        fla_call(empty_inputs(T, H, lens))()


def compile_all(jobs):
    """Triton compiles one candidate after the other in a process; on many cores that is most of a run's time."""
    command = [sys.executable, *sys.argv]
    workers = [subprocess.Popen([*command, "--compile-share", f"{i}/{jobs}"], stdout=subprocess.DEVNULL) for i in range(jobs)]
    if [worker.wait() for worker in workers] != [0] * len(workers):
        print("bench/peers.py: a compiling process failed; Triton compiles the rest as it needs it", file=sys.stderr)


class Tuning:
    """What Triton's autotuning chose, for each length by itself, packed or not: the keys of FLA's kernels leave that out, and a choice made for 512
    tokens would hold for 65,536. A candidate is measured for 20 ms, where Triton takes 100."""

    def __init__(self, path):
        self.path, self.length, self.chosen = path, None, {}    # length -> kernel -> key -> configuration
        from triton import Config, testing
        from triton.runtime import autotuner

        for line in json.loads(path.read_text()) if path and path.exists() else []:
            self.of(tuple(line["length"]), line["kernel"])[tuple(line["key"])] = Config(**line["config"])
        run = autotuner.Autotuner.run

        def run_as_chosen(tuner, *args, **options):
            tuner.cache = self.of(self.length, f"{tuner.base_fn.__module__}.{tuner.base_fn.__name__}")
            return run(tuner, *args, **options)

        autotuner.Autotuner.run = run_as_chosen
        autotuner.Autotuner.do_bench = staticmethod(functools.partial(testing.do_bench, warmup=5, rep=20))

    def of(self, length, kernel):
        return self.chosen.setdefault(length, {}).setdefault(kernel, {})

    def keep(self):
        if self.path:
            self.path.write_text(json.dumps([{"length": length, "kernel": kernel, "key": key, "config": vars(config)} for length, kernels
                                             in self.chosen.items() for kernel, chosen in kernels.items() for key, config in chosen.items()]))


# ---------------------------------------------------------------- measuring


def facts(commit):
    """What the figures belong to; clocks as they are now."""
    import fla
    import triton

    return dict(**gpu_facts.gpu_facts(), commit=commit, torch=torch.__version__, triton=triton.__version__, fla=fla.__version__)


def floor_ms(T, H, lens):
    """1280 bytes a token and head, and the states once in and once out, at 4.2 TB/s."""
    return (1280 * T * H + 8 * (len(lens) or 1) * H * K * K) / (HBM_TB_PER_S * 1e9)


def relative_rms(a, b):
    difference = (a.float() - b.float()).norm() / b.float().norm().clamp_min(1e-30)
    return difference.item()


def measure_peer(peer, case, inputs, timer):
    """The answer, and a line without what it is held against."""
    name, T, H, lens = case
    call, true_fwd, calls_of_ours = CALLS[peer](inputs), flash_kda.fwd, []
    flash_kda.fwd = lambda *args, **kwargs: (calls_of_ours.append(1), true_fwd(*args, **kwargs))
    os.environ["FKDA_CUDA_KERNEL"] = KERNELS.get(peer, "")
    flash_kda._core._forget_calls()    # or the call is known, with the kernel that it had
    answer = [x.clone() for x in call()]
    flash_kda.fwd = true_fwd
    if bool(calls_of_ours) != (peer in ("flashkda", *KERNELS)):
        sys.exit(f"{name}: {peer} did not run what it should: flash_kda.fwd was called {len(calls_of_ours)} times")
    if calls_of_ours and ("chosen by FKDA_CUDA_KERNEL" in flash_kda.last_plan()) != (peer in KERNELS):
        sys.exit(f"{name}: {peer} did not run what it should: {flash_kda.last_plan()}")
    line = dict(case=name, who=peer, T=T, H=H, N=len(lens) or 1, **timer.measure(call))
    line.update(hbm_floor_ms=floor_ms(T, H, lens), hbm_fraction=floor_ms(T, H, lens) / line["median_ms"])
    return answer, {**line, "plan": flash_kda.last_plan()} if calls_of_ours else line


def begin_thread():
    torch.set_grad_enabled(False)
    torch.cuda.synchronize()    # the thread has a CUDA context


def measure_case(case, gates, peers, timer):
    """A line for each peer; the first is flashkda, which the others are held against. Each in a thread of its own: a thread keeps its plans."""
    inputs = make_inputs(*case[1:], gates)
    reference = None
    for peer in peers:
        with concurrent.futures.ThreadPoolExecutor(1, initializer=begin_thread) as thread:
            answer, line = thread.submit(measure_peer, peer, case, inputs, timer).result()
        reference = reference or answer
        out, state = map(relative_rms, answer, reference)
        yield dict(gates=gates, out_from_flashkda=out, state_from_flashkda=state, **line)


def decode_lines(options):
    for N, H in peers_decode.CASES:
        yield from peers_decode.measure_case(N, H, options.peers.split(",") if options.peers else list(peers_decode.PEERS), options.runs)


def prefill_lines(options):
    cases = [case for case in read_suite(options.suite) if case[1] <= options.max_T]
    if not cases:
        sys.exit(f"--suite is '{options.suite}', which has no case in cli/bench/suites.def that the CUDA kernels take")
    if options.compile_share:
        compile_share(cases, *map(int, options.compile_share.split("/")))
        return
    if options.compile_jobs:
        compile_all(options.compile_jobs)
    timer, tuning = Timer(options.runs), Tuning(options.tuned)
    for gates in GATES if options.gates == "all" else [options.gates]:
        for case in cases:
            tuning.length = case[1], bool(case[3])
            for line in measure_case(case, gates, options.peers.split(",") if options.peers else list(CALLS), timer):
                yield {**line, "suite": options.suite}
            tuning.keep()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", choices=["prefill", "decode"], default="prefill")
    parser.add_argument("--suite", default="seed", help="a suite of cli/bench/suites.def (default seed)")
    parser.add_argument("--gates", choices=[*GATES, "all"], default="all")
    parser.add_argument("--peers", help="which, separated by commas; flashkda first (default: all)")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--max-T", type=int, default=1 << 40, help="leave longer cases out")
    parser.add_argument("--compile-jobs", type=int, default=0, help="processes that compile the peers' kernels first")
    parser.add_argument("--compile-share", help=argparse.SUPPRESS)
    parser.add_argument("--tuned", type=pathlib.Path, help="a file of what Triton's autotuning chose: read if it is there, written")
    parser.add_argument("--commit", help="the source that is measured (default: ask git)")
    parser.add_argument("--out", type=pathlib.Path, help="append the lines to this file as well")
    options = parser.parse_args()
    commit = options.commit or gpu_facts.commit()
    torch.set_grad_enabled(False)
    for line in decode_lines(options) if options.op == "decode" else prefill_lines(options):
        text = json.dumps({**line, **facts(commit)})
        print(text, flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
