#!/usr/bin/env python3
"""flash-linear-attention's own tests of KDA, unmodified, with `import flash_kda.fla` in front: which ran, and who answered.

    tools/run_fla_tests.py CHECKOUT                  CHECKOUT: a source tree of flash-linear-attention, whose tests/ops/test_kda.py is run
    tools/run_fla_tests.py CHECKOUT --tokens 512     sequences of at most so many tokens
    tools/run_fla_tests.py CHECKOUT --first-config   FLA's kernels are not tuned: minutes less of compiling
    tools/run_fla_tests.py CHECKOUT -k flash_kda     options that are not known here go to pytest

Tests run against the flash-linear-attention that is installed, not the one of the checkout. Those with a backward pass run their forward part:
without grad, so that this module is asked too, and with gradients of zero, which then agree. `--with-backward` runs them as they are; that takes
Triton, so a GPU.

Without a GPU "cpu:0" stands for FLA's device, as FLA skips its tests of this module on "cpu"; their truth, a call in float64 that FLA computes in
Triton, is computed by the recurrence of tests/python. What needs Triton on a CPU is left out, and named.
"""

import argparse
import pathlib
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/python"))

import fla.utils  # noqa: E402

import flash_kda.fla  # noqa: E402
from recurrence import recurrence  # noqa: E402

FORWARD = (
    "test_naive_chunk", "test_chunk_invalid_chunk_size", "test_fused_recurrent", "test_fused_recurrent_use_beta_sigmoid_in_kernel",
    "test_fused_recurrent_state_v_first", "test_fused_recurrent_gate_in_kernel", "test_fused_recurrent_vllm_decode", "test_chunk_varlen_prefill",
    "test_chunk_return_intermediate_states", "test_flash_kda_chunk", "test_flash_kda_chunk_varlen",
)  # fmt: skip
WITH_BACKWARD = ("test_chunk", "test_chunk_state_v_first", "test_chunk_use_beta_sigmoid_in_kernel", "test_chunk_varlen")
MOST_ELEMENTS = 1 << 25  # of q, on a CPU: more take minutes and gigabytes


def counts():
    status = flash_kda.fla.status()
    return sum(sum(calls.taken.values()) for calls in status.values()), sum(calls.passed_on for calls in status.values())


# ---------------------------------------------------------------- the truth of FLA's tests, on a CPU


def register_truth():
    """A backend behind all others: float64 calls of fused_recurrent_kda."""
    from fla.backends import BaseBackend, register

    class Float64Recurrence(BaseBackend):
        backend_type = "float64_recurrence"
        priority = 100

        def fused_recurrent_kda_fwd_verifier(self, **call):
            return call["q"].dtype == torch.float64, "not float64"

        def fused_recurrent_kda_fwd(self, **call):
            has_gate = call["use_gate_in_kernel"]
            return recurrence(
                *(call[name] for name in ("q", "k", "v", "g", "beta")), call["scale"],
                *(call[name] if has_gate else None for name in ("A_log", "dt_bias", "lower_bound")),
                call["initial_state"], call["cu_seqlens"], gate="logit" if has_gate else "precomputed",
                beta_kind="logit" if call["use_beta_sigmoid_in_kernel"] else "activated", beta_multiplier=2 if call["allow_neg_eigval"] else 1,
                qk_norm="l2" if call["use_qk_l2norm_in_kernel"] else "none", state_layout="nhvk" if call["state_v_first"] else "nhkv",
            )  # fmt: skip

    register("kda")(Float64Recurrence)


# ---------------------------------------------------------------- Triton's autotuner


def take_first_configs():
    """Of a kernel's configurations the first that compiles and runs is taken, and the others are not tried."""
    from triton.runtime.autotuner import Autotuner

    prune, bench = Autotuner.prune_configs, Autotuner._bench
    Autotuner.check_disk_cache = lambda self, key, configs, bench_fn: bench_fn()  # what is chosen so is kept for nobody

    def prune_configs(self, *args, **kwargs):
        self.has_config = False
        return prune(self, *args, **kwargs)

    def bench_unless_found(self, *args, **kwargs):
        if self.has_config:
            return [float("inf")] * 3
        times = bench(self, *args, **kwargs)
        self.has_config = (times[0] if isinstance(times, (list, tuple)) else times) < float("inf")
        return times

    Autotuner.prune_configs, Autotuner._bench = prune_configs, bench_unless_found


# ---------------------------------------------------------------- the forward part of a test


class ForwardPart:
    """While it is entered, a test that computes gradients computes zeros instead, and nothing records a graph."""

    def __enter__(self):
        self.leaves = []
        self.no_grad, self.backward, self.requires_grad_ = torch.no_grad(), torch.Tensor.backward, torch.Tensor.requires_grad_
        torch.Tensor.backward = lambda tensor, *args, **kwargs: self.fill()
        torch.Tensor.requires_grad_ = lambda tensor, wanted=True: self.leaves.append(tensor) or self.requires_grad_(tensor, wanted)
        self.no_grad.__enter__()

    def fill(self):
        for leaf in self.leaves:
            leaf.grad = torch.zeros_like(leaf)

    def __exit__(self, *error):
        self.no_grad.__exit__(*error)
        torch.Tensor.backward, torch.Tensor.requires_grad_ = self.backward, self.requires_grad_


# ---------------------------------------------------------------- pytest


class Plugin:
    def __init__(self, options, on_gpu):
        self.options, self.on_gpu = options, on_gpu
        self.rows = {}  # name of a function -> [passed, failed, skipped, calls taken, calls passed on]
        self.left_out = {}  # name -> why

    def why_left_out(self, item):
        name, values = item.originalname, item.callspec.params if hasattr(item, "callspec") else {}
        if name not in FORWARD + WITH_BACKWARD:
            return "not a call of KDA, or of another backend"
        if name == "test_fused_recurrent_vllm_decode" and not self.on_gpu:
            return "its tensors are on a GPU"
        if not self.on_gpu and self.elements(values) > MOST_ELEMENTS:
            return f"more than 2^{MOST_ELEMENTS.bit_length() - 1} elements: --tokens makes it smaller"
        return None

    def elements(self, values):
        T = values.get("T") or max(values.get("cu_seqlens") or [0])
        return values.get("B", 1) * T * values.get("HV", values.get("H", 1)) * values.get("D", 1)

    def shorten(self, item):
        values, most = item.callspec.params if hasattr(item, "callspec") else {}, self.options.tokens
        if "T" in values:
            values["T"] = min(values["T"], most)
        if values.get("cu_seqlens") and values["cu_seqlens"][-1] > most:
            values["cu_seqlens"] = [at * most // values["cu_seqlens"][-1] for at in values["cu_seqlens"]]

    def pytest_collection_modifyitems(self, config, items):
        kept = []
        for item in items:
            if self.options.tokens:
                self.shorten(item)
            why = self.why_left_out(item)
            if why is None:
                kept.append(item)
            else:
                self.left_out.setdefault((item.originalname, why), []).append(item)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        before = counts()
        if item.originalname in WITH_BACKWARD and not self.options.with_backward:
            with ForwardPart():
                yield
        else:
            yield
        row = self.rows.setdefault(item.originalname, [0, 0, 0, 0, 0])
        row[3:] = [row[3 + i] + counts()[i] - before[i] for i in range(2)]

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.split("::")[-1].split("[")[0]
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.rows.setdefault(name, [0, 0, 0, 0, 0])[("passed", "failed", "skipped").index(report.outcome)] += 1

    def print_report(self):
        print(f"\n{'test':50} {'passed':>6} {'failed':>6} {'skipped':>7}   calls: {'flash_kda':>9} {'passed on':>9}")
        for name, row in sorted(self.rows.items()):
            forward = " (forward part)" if name in WITH_BACKWARD and not self.options.with_backward else ""
            print(f"{name + forward:50} {row[0]:6} {row[1]:6} {row[2]:7}          {row[3]:9} {row[4]:9}")
        sums = [sum(row[i] for row in self.rows.values()) for i in range(5)]
        print(f"{'all':50} {sums[0]:6} {sums[1]:6} {sums[2]:7}          {sums[3]:9} {sums[4]:9}")
        for (name, why), items in sorted(self.left_out.items()):
            print(f"left out: {len(items)} of {name}: {why}")
        for name, calls in flash_kda.fla.status().items():
            for reason, count in calls.reasons.items():
                print(f"passed on: {count} calls of {name}: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=pathlib.Path, help="a source tree of flash-linear-attention")
    parser.add_argument("--tokens", type=int, help="the most tokens of a sequence; without it as many as FLA has")
    parser.add_argument("--with-backward", action="store_true", help="tests with a backward pass as they are")
    parser.add_argument("--first-config", action="store_true", help="of each Triton kernel's configurations take the first that runs")
    options, rest = parser.parse_known_args()
    tests = options.checkout.resolve() / "tests/ops/test_kda.py"
    if not tests.exists():
        parser.error(f"{tests} is not there")
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        fla.utils.device, fla.utils.device_torch_lib = "cpu:0", torch.cpu
        register_truth()
    if options.first_config:
        take_first_configs()
    print(f"FLA {fla.__version__} installed; tests of {tests}; on {fla.utils.device}; flash_kda {flash_kda.__version__}")
    plugin = Plugin(options, on_gpu)
    status = pytest.main([str(tests), "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(options.checkout), *rest], [plugin])
    plugin.print_report()
    return status


if __name__ == "__main__":
    sys.exit(main())
