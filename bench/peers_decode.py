"""`bench/peers.py --op decode`: one new token of each of 1 to 1024 sequences, flashkda beside flash-linear-attention, in one process.

Peers: fla, the public `fused_recurrent_kda`, which writes new states; fla_in_place, `fused_recurrent_kda_fwd` with indices of slots, as engines call
it. Each is checked against flashkda first. Time: a CUDA graph with one launch for each of so many layers that their states come from memory (320 MB,
one layer if it is larger); median of replays by events, divided by the launches.
"""
import math
import sys

import torch

import flash_kda

K = 128
CASES = [(N, H) for H in (32, 12) for N in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)]
COLD_BYTES = 320_000_000
OPTIONS = dict(use_qk_l2norm_in_kernel=True, use_gate_in_kernel=True, use_beta_sigmoid_in_kernel=True, state_v_first=True)


def make_inputs(N, H):
    """As cli/problem/problem_made.c with slow gates; states [N,H,V,K] are made layer by layer."""
    random = torch.Generator(device="cuda").manual_seed(20250713)
    normal = lambda *shape: torch.randn(*shape, generator=random, device="cuda", dtype=torch.bfloat16)
    uniform = lambda *shape: torch.rand(*shape, generator=random, device="cuda")
    inputs = {name: normal(N, 1, H, K) for name in "qkvg"}
    return dict(**inputs, beta=normal(N, 1, H), A_log=(1 + 15 * uniform(H)).log(), dt_bias=(1e-3 * 100 ** uniform(H, K)).expm1().log(),
                lower_bound=-5.0, scale=K**-0.5)


def ours(inputs, slots):
    out = torch.empty_like(inputs["v"])

    def call(state):
        flash_kda.decode(**inputs, out=out, state=state, slots=slots)
        return out, state

    return call


def fla(inputs, slots):
    from fla.ops.kda import fused_recurrent_kda

    return lambda state: fused_recurrent_kda(**inputs, initial_state=state, output_final_state=True, **OPTIONS)


def fla_in_place(inputs, slots):
    from fla.ops.kda.fused_recurrent import fused_recurrent_kda_fwd

    row = lambda x: x.reshape(1, -1, *x.shape[2:])    # indices go with packed sequences
    packed = {name: row(value) if name in "qkvg" or name == "beta" else value for name, value in inputs.items()}
    bounds = torch.arange(len(slots) + 1, device="cuda")
    out = torch.empty_like(packed["v"])

    def call(state):
        fused_recurrent_kda_fwd(**packed, initial_state=state, inplace_final_state=True, ssm_state_indices=slots, cu_seqlens=bounds, out=out,
                                **OPTIONS)
        return out.reshape(inputs["v"].shape), state

    return call


PEERS = {"flashkda": ours, "fla": fla, "fla_in_place": fla_in_place}


def relative_rms(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


def time_of(call, states, runs):
    launches = len(states) if len(states) * states[0].numel() * 4 > COLD_BYTES else max(len(states), 8)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            call(states[i % len(states)])
    event = lambda: torch.cuda.Event(enable_timing=True)
    pairs = [(event(), event()) for _ in range(runs + 3)]
    for begin, end in pairs:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    times = sorted(1e3 * begin.elapsed_time(end) / launches for begin, end in pairs[3:])
    at = lambda share: times[round(share * (len(times) - 1))]
    return dict(median_us=at(0.5), p10_us=at(0.1), p90_us=at(0.9), runs=len(times), launches=launches)


def measure_case(N, H, peers, runs):
    """A line for each peer; the first is flashkda, which the others are held against."""
    inputs = make_inputs(N, H)
    slots = torch.randperm(N, device="cuda", dtype=torch.int32)
    first = 0.1 * torch.randn(N, H, K, K, device="cuda")
    layers = max(1, min(1024, math.ceil(COLD_BYTES / (4 * first.numel()))))
    reference, lines = None, []
    for peer in peers:
        # the public call of fla has no indices: sequence n has state n
        order = torch.arange(N, device="cuda", dtype=torch.int32) if peer == "fla" else slots
        call = PEERS[peer](inputs, order)
        out, state = call(first[slots.long()] if peer == "fla" else first.clone())
        answer = out.clone(), state.clone() if peer == "fla" else state[slots.long()]
        reference = reference or answer
        line = dict(op="decode", case=f"N{N} H{H}", who=peer, N=N, H=H, S=1, gates="slow", out_from_flashkda=relative_rms(answer[0], reference[0]),
                    state_from_flashkda=relative_rms(answer[1], reference[1]))
        if not (line["out_from_flashkda"] < 0.02 and line["state_from_flashkda"] < 1e-3):
            sys.exit(f"{line['case']}: {peer} differs from flashkda: {line}")
        del out, state, answer
        states = [first.clone() for _ in range(layers)]
        line.update(time_of(call, states, runs), method="CUDA graph of one launch a layer, states cold, events")
        del states
        torch.cuda.empty_cache()
        lines.append(line)
    return lines
