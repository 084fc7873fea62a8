#!/usr/bin/env python3
"""Host time of a call from Python, in microseconds: from the call to its return, while the GPU is not waited for.

    bench/host_time.py [--device cuda|cpu] [--calls N]

For each function: the call with keywords, and that of flash_kda.bind with the tokens brought or with everything held. Beside them two calls of
torch: an op of torch.library with as many arguments that does nothing, and torch.neg(x, out=y), which launches one kernel. Median over batches of
64 calls; the GPU is waited for between batches. Three grad modes. On the CPU a call includes its work, on a small problem.
"""
import argparse
import statistics
import time

import torch

import flash_kda

BATCH = 64
BF16 = torch.bfloat16
TOKENS = ("q", "k", "v", "g", "beta", "out")
MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode, "grad mode on": torch.enable_grad}


def step_call(N, H, device):
    """One token, as an engine gives it: slices of one row, a pool of states, slots."""
    make = lambda *shape: torch.randn(*shape, device=device)
    q, k, v = make(N, 1, 3 * H, 128).to(BF16).split(H, dim=2)
    return dict(q=q, k=k, v=v, g=make(N, 1, H, 128).to(BF16), beta=make(N, 1, H).to(BF16), scale=128**-0.5,
                out=torch.empty(N, 1, H, 128, dtype=BF16, device=device), A_log=make(H), dt_bias=make(H, 128), lower_bound=-5.0,
                state=make(N + 1, H, 128, 128), slots=torch.arange(N, device=device))


def fused_call(N, H, device):
    make = lambda *shape: torch.randn(*shape, device=device)
    return dict(**step_call(N, H, device), conv_weight=make(3, 4, H * 128), conv_bias=make(3, H * 128),
                conv_state=make(N + 1, 3, 3 * H * 128).to(BF16), output_gate=make(N, 1, H, 128).to(BF16), norm_weight=make(128))


def fwd_call(N, H, device, T=64):
    make = lambda *shape: torch.randn(*shape, device=device)
    tokens = {name: make(N, T, H, 128).to(BF16) for name in "qkvg"}
    state = make(N, H, 128, 128)
    return dict(**tokens, beta=make(N, T, H).to(BF16), scale=128**-0.5, out=torch.empty_like(tokens["v"]), A_log=make(H), dt_bias=make(H, 128),
                lower_bound=-5.0, initial_state=state, final_state=torch.empty_like(state))


def time_of(call, synchronize, calls):
    """Median of batches, in microseconds a call."""
    times = []
    for _ in range(3 + calls // BATCH):
        begin = time.perf_counter_ns()
        for _ in range(BATCH):
            call()
        times.append((time.perf_counter_ns() - begin) / BATCH / 1000)
        synchronize()
    return statistics.median(times[3:])


def empty_op(library, name, count):
    """torch.ops.flash_kda_bench.<name>: so many tensors, nothing is done."""
    library.define(f"{name}({', '.join(f'Tensor x{i}' for i in range(count))}) -> ()")
    library.impl(name, lambda *tensors: None, "CompositeExplicitAutograd")
    return getattr(torch.ops.flash_kda_bench, name)


def tensors_of(arguments):
    return [x for x in arguments.values() if isinstance(x, torch.Tensor)]


def rows(device, library):
    """(name, call): the functions, what bind makes of them, and the calls of torch."""
    for name, arguments, given in (("fwd", fwd_call(1, 2, device), TOKENS), ("decode", step_call(2, 2, device), (*TOKENS, "slots")),
                                   ("decode_fused", fused_call(2, 2, device), (*TOKENS, "output_gate", "slots"))):
        function = getattr(flash_kda, name)
        tensors, brought = tensors_of(arguments), [arguments[key] for key in given]
        some, all_held = flash_kda.bind(function, given, **arguments), flash_kda.bind(function, (), **arguments)
        op = empty_op(library, name, len(tensors))
        yield name, lambda f=function, a=arguments: f(**a)
        yield f"bind({name}), {len(given)} brought", lambda f=some, b=brought: f(*b)
        yield f"bind({name}), all held", all_held
        yield f"an empty op of {len(tensors)} tensors", lambda f=op, t=tensors: f(*t)
    x = torch.zeros(8, device=device)
    y = torch.empty_like(x)
    yield "torch.neg(x, out=y)", lambda: torch.neg(x, out=y)


def print_table(device, calls):
    library = torch.library.Library("flash_kda_bench", "DEF")
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    if device == "cpu":
        torch.set_num_threads(1)
    calls_of = list(rows(device, library))
    print(f"host time of a call, µs, median of {calls // BATCH} batches of {BATCH}; torch {torch.__version__}, "
          f"{torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}")
    print(f"{'':34}" + "".join(f"{mode:>16}" for mode in MODES))
    for name, call in calls_of:
        times = []
        for mode in MODES.values():
            with mode():
                times.append(time_of(call, synchronize, calls))
        print(f"{name:34}" + "".join(f"{value:16.2f}" for value in times), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    arguments.add_argument("--calls", type=int, default=6400, help="of each row and mode")
    chosen = arguments.parse_args()
    print_table(chosen.device, chosen.calls)


if __name__ == "__main__":
    main()
