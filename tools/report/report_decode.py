"""The decode section of docs/benchmarks.md: what `bench/peers.py --op decode` recorded, beside kernels of engines measured earlier."""
import math

from report_cpu import paragraph

EARLIER = {"sglang_cuda_us": "SGLang CUDA", "sglang_triton_us": "SGLang Triton", "vllm_fused_us": "vLLM fused*", "sglang_fused_us": "SGLang fused*"}
HBM_TB_PER_S = 4.2


def us(value):
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def decode_rows(rows, baselines):
    times = {(row["H"], row["N"], row["who"]): row["median_us"] for row in rows}
    earlier = {(row["H"], row["N"]): row for row in baselines["rows"]}
    text, ratios = [], []
    for H, N in sorted({(row["H"], row["N"]) for row in rows}, key=lambda case: (-case[0], case[1])):
        ours, floor = times[H, N, "flashkda"], N * H * 2 * 4 * 128 * 128 / (HBM_TB_PER_S * 1e6)
        peers = [times.get((H, N, who)) for who in ("fla", "fla_in_place")]
        best = min((time for time in peers if time is not None), default=math.nan)
        ratios.append(best / ours)
        text.append([f"{H}", f"{N:,}", us(ours), f"{100 * floor / ours:.0f} %", *map(us, peers), f"{best / ours:.2f}x",
                     *(us(earlier.get((H, N), {}).get(key)) for key in EARLIER)])
    return text, ratios


def decode_section(rows, baselines, table):
    body, ratios = decode_rows(rows, baselines)
    values = lambda key: ", ".join(sorted({str(row[key]) for row in rows if key in row}))
    worst = max(row["out_from_flashkda"] for row in rows)
    versions = ", ".join(f"{name} {version}" for name, version in baselines["versions"].items() if name != "fla")
    text = [f"{values('gpu')}, driver {values('driver')}, commit {values('commit')}, torch {values('torch')}, Triton {values('triton')}, "
            f"flash-linear-attention {values('fla')}. {values('method')}; median of {values('runs')} runs. One new token of each of N sequences, fp32 "
            "states, K = V = 128, bounded gate.",
            f"FLA is `fused_recurrent_kda`, and the same kernel in place with indices of slots, in the same process on the same tensors; the answers differ "
            f"by at most {worst:.1e} relative RMS. The floor is the states once in and once out at 4.2 TB/s. Geometric mean over the lines: "
            f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}x faster than the faster of the two.",
            f"Columns with an engine's name were measured earlier ({baselines['gpu']}, {baselines['date']}, {versions}; same method). * does the short "
            "convolution and the gated norm in the same kernel."]
    heading = ["H", "N", "flashkda, µs", "of the floor", "FLA, µs", "FLA in place, µs", "flashkda is faster by", *(f"{name}, µs" for name in EARLIER.values())]
    return ["## GPU, decode against other kernels", "", *(line for part in text for line in (paragraph(part), "")), *table(heading, body)]
