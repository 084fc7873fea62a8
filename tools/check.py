#!/usr/bin/env python3
"""Every test of flashkda: `make check`.

Looks at the sources, builds the library (shared, release; address and undefined-behaviour sanitizers; static, debug, with the GPU programs),
installs the wheel into .venv, runs the C suites on the first two builds and the Python suites, and prints one table: suite, ran, passed,
failed, skipped, seconds. A suite that runs fewer tests than tools/expected_counts.json says has failed: a skip is not a pass.

    tools/check.py             everything, with few draws of each case: others in every run
    tools/check.py --long      with all draws in the release build (`make check-long`, once a week on GitHub)
    tools/check.py --only c    one step: source, c, sanitize, python
    tools/check.py --record    everything, then writes the counts of a green run to tools/expected_counts.json
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "check"
EXPECTED = ROOT / "tools" / "expected_counts.json"
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Suite:
    """What one suite did; which of its tests failed, where they have names."""

    def __init__(self, name, passed=0, failed=0, skipped=0, seconds=0.0, output="", failures=()):
        self.name, self.passed, self.failed, self.skipped = name, passed, failed, skipped
        self.seconds, self.output, self.failures = seconds, output, failures

    @property
    def ran(self):
        return self.passed + self.failed


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


CPU_SECONDS: dict[str, float] = {}    # of the commands, by what they are for


def run(what, command, **options):
    """Runs a command quietly; returns (exit status, output)."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    CPU_SECONDS[what] = CPU_SECONDS.get(what, 0) + used.ru_utime + used.ru_stime
    return process.returncode, output


def count_cmocka(output, ok):
    """cmocka prints its own counts; a program without them counts as one test."""
    passed, failed, skipped = (
        sum(int(n) for n in re.findall(rf"^\[\s+{word}\s+\] (\d+) test\(s\)", output, re.M)) for word in ("PASSED", "FAILED", "SKIPPED"))
    if passed + failed + skipped == 0:
        passed = 1 if ok else 0
    if not ok and failed == 0:
        failed = 1    # crashed, timed out, or found by a sanitizer
    return passed, failed, skipped


class Once:
    """A function of which each call happens once; who asks meanwhile, in another lane, waits for the answer."""

    def __init__(self, function):
        self.function, self.lock, self.answers = function, threading.Lock(), {}

    def __call__(self, *arguments):
        with self.lock:
            if arguments not in self.answers:
                self.answers[arguments] = self.function(*arguments)
            return self.answers[arguments]


@Once
def hasty_flag():
    """Lets nvcc compile ten times as fast, and badly: for builds that are to succeed, and whose kernels nobody runs."""
    known = can_compile_kernels() and "--Ofast-compile" in run("nvcc --help", ["nvcc", "--help"])[1]
    return "--Ofast-compile=max" if known else ""


def cuda_options(flags):
    """The kernels are compiled once for all builds that give them the same flags (tools/dev/compile_once.py)."""
    return [f"CMAKE_CUDA_FLAGS={flags}", f"CMAKE_CUDA_COMPILER_LAUNCHER={ROOT / 'tools/dev/compile_once.py'}", "FKDA_WERROR=ON"]


def options_of_kernels():
    """Of builds whose kernels a GPU runs where there is one. CMake knows the flag: with a GPU, or without, everything is compiled anew."""
    has_gpu = any(pathlib.Path("/dev").glob("nvidia[0-9]*")) or pathlib.Path("/dev/dxg").exists()
    return cuda_options("" if has_gpu else hasty_flag())


@Once
def build_release():
    return build_with_tests("check-release", *options_of_kernels())


def build_sanitized():
    return build_with_tests("check-sanitize", "FKDA_SANITIZE=address,undefined", "CMAKE_BUILD_TYPE=RelWithDebInfo", "FKDA_CUDA=OFF", "FKDA_WERROR=ON")


def build_with_tests(build, *options):
    return run(build, ["tools/build", build, "-DFKDA_BUILD_TESTS=ON", "-DFKDA_BUILD_EXAMPLES=ON", *(f"-D{option}" for option in options)])


# Under sanitizers the drivers of other instruction sets repeat test_backends; their micro-kernels are there without them (test_ukr_*).
SANITIZED = ["-E", "^test_backends_(scalar|avx2)$"]


def c_suites(build, label, built, env, only=()):
    """Runs the tests of build/<build> under CTest. built: (exit status, output) of its build. only: which of them, as CTest's options."""
    status, output = built
    if status != 0:
        return [Suite(f"{label}: build", failed=1, output=output)]
    say(f"C suites, {label}")
    report = OUT / f"ctest-{build}.xml"
    run(f"tests of {build}", ["ctest", "--test-dir", f"build/{build}", "-j", str(os.cpu_count()), "--timeout", "900",
                              "--test-output-size-passed", "1000000", "--output-junit", str(report), *only], env={**os.environ, **env})
    suites = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        name, seconds = f"{label}: {case.get('name')}", float(case.get("time") or 0)
        if case.find("skipped") is not None:
            suites.append(Suite(name, skipped=1, seconds=seconds, output=output))
        else:
            suites.append(Suite(name, *count_cmocka(output, case.get("status") == "run"), seconds, output))
    return suites


def install_wheel():
    """Builds the wheel and installs it into .venv; returns (exit status, output)."""
    say("building and installing the Python wheel")
    return run("wheel", [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--force-reinstall",
                "--config-settings=build-dir=build/wheel", *(f"--config-settings=cmake.define.{option}" for option in options_of_kernels()), "."],
               env={**os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": "2"})


def python_suites():
    """pytest over the command line, the module and flash-linear-attention, with the command line of build/check-release and the wheel in .venv."""
    for name, (status, output) in (("command line", build_release()), ("wheel", install_wheel())):
        if status != 0:
            return [Suite(f"python: {name}", failed=1, output=output)]
    suites = []
    python = sys.executable
    # PASSIVE: torch's threads wait for each other without turning; on cores that are shared with other lanes that was half of the time.
    env = {**os.environ, "FKDA_CLI": str(ROOT / "build/check-release/cli/flashkda"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    for folder in ("cli", "python"):
        say(f"pytest tests/{folder}")
        report = OUT / f"pytest-{folder}.xml"
        report.unlink(missing_ok=True)
        started = time.time()
        command = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"tests/{folder}", f"--junitxml={report}"]
        status, output = run(f"pytest {folder}", command, env=env)
        suite = Suite(f"pytest: {folder}", seconds=time.time() - started, output=output)
        if report.exists():
            counts = ElementTree.parse(report).getroot().find("testsuite")
            failed, skipped = int(counts.get("failures")) + int(counts.get("errors")), int(counts.get("skipped"))
            suite.failed, suite.skipped = failed, skipped
            suite.passed = int(counts.get("tests")) - failed - skipped
            suite.failures = [f"{case.get('classname')}::{case.get('name')}" for case in counts.iter("testcase")
                              if case.find("failure") is not None or case.find("error") is not None]
        if status != 0 and suite.failed == 0:
            suite.failed = 1
        suites.append(suite)
    return suites


def tool_suite(name, *command):
    """A tool that says by its exit status what it found; 77 means that it could not look."""
    say(name)
    started = time.time()
    status, output = run(name, [sys.executable, *command])
    return Suite(name, int(status == 0), int(status not in (0, 77)), int(status == 77), time.time() - started, output)


def debug_build_suite():
    """What the other builds leave out: no optimization, assertions, a static library, which is then used from outside, the benchmarks, and the
    programs that need a GPU to run (tests/gpu), wherever nvcc is. Not in build/check-gpu, whose programs a GPU runs. The tests are not built."""
    targets = "flashkda flashkda_cli fkda_printed fkda_bench_cpu fkda_bench_decode" + (" gpu_programs" if can_compile_kernels() else "")
    say("debug build: build/check-debug")
    started = time.time()
    options = [*cuda_options(hasty_flag()), "FKDA_BUILD_TESTS=ON", "BUILD_SHARED_LIBS=OFF", "CMAKE_BUILD_TYPE=Debug", "FKDA_BUILD_BENCH=ON",
               "FKDA_BUILD_GPU_TESTS=ON", f"FKDA_CUDA={'ON' if can_compile_kernels() else 'OFF'}"]
    command = ["tools/build", "check-debug", *(f"-D{option}" for option in options)]
    status, output = run("check-debug", command, env={**os.environ, "TARGETS": targets})
    if status == 0:
        command = ["ctest", "--test-dir", "build/check-debug", "-R", "^(consumer|exports)$", "--output-on-failure", "--no-tests=error"]
        status, output = run("check-debug", command)
    return Suite("debug build", int(status == 0), int(status != 0), 0, time.time() - started, output)


LINT = ["tools/dev/lint_kernels.py", "--quick"]


def source_suites():
    """Tools over the sources, and builds that must be free of warnings."""
    tools = [
        ("layers", "tools/dev/check_layers.py"),
        ("ruff", "-m", "ruff", "check", "."),
        ("mypy", "-m", "mypy"),
        ("figures", "tools/report/figures.py", "--check"),
        ("report", "tools/report/report.py", "--check"),
        ("API page", "tools/report/api.py", "--check"),
        ("kernel lint", *LINT),
    ]
    return [*(tool_suite(*tool) for tool in tools), debug_build_suite()]


STEPS = {
    "source": source_suites,
    "c": lambda: c_suites("check-release", "release", build_release(), {}),
    "sanitize": lambda: c_suites("check-sanitize", "sanitized", build_sanitized(), SANITIZER_ENV, SANITIZED),
    "python": python_suites,
}
# Side by side. What a core at a time does comes first: the lint, pytest; what ends last, CTest, can use all of them.
LANES = (("sanitize",), ("python",), ("source", "c"))


def can_compile_kernels():
    return shutil.which("nvcc") is not None


def machine_lacks(name):
    """A suite for an instruction set or a compiler that this machine does not have is not expected to run."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    needs = ((r"_avx2$", " avx2" in cpu), (r"_avx512$", " avx512f" in cpu),
             (r"example_rust$", shutil.which("rustc") is not None), (r"example_go$", shutil.which("go") is not None),
             (r"lint|cuda|prefill|library_size|first_capture|far_elements|_launch$|arrows_decode|: decode(_fused)?_cases", can_compile_kernels()))
    return any(re.search(pattern, name) and not present for pattern, present in needs)


def hold_to_expectation(suites, steps):
    """A suite that is missing, or ran less than expected, gets a failure."""
    expected = json.loads(EXPECTED.read_text())
    by_name = {suite.name: suite for suite in suites}
    for step in steps:
        for name, count in expected[step].items():
            suite = by_name.get(name)
            if machine_lacks(name):
                continue
            if suite is None:
                suites.append(Suite(name, failed=1, output=f"{name} did not run at all"))
            elif suite.ran < count:
                suite.failed += 1
                suite.output += f"\n{name} ran {suite.ran} tests, at least {count} are expected (tools/expected_counts.json)\n"


def run_steps(steps):
    """step -> suites"""
    with concurrent.futures.ThreadPoolExecutor(len(LANES)) as lanes:
        results = list(lanes.map(lambda lane: {step: STEPS[step]() for step in lane if step in steps}, LANES))
    return {step: suites for lane in results for step, suites in lane.items()}


def print_report(suites, seconds):
    for suite in suites:
        if suite.failed:
            print(f"\n----- {suite.name} -----\n{suite.output[-6000:]}")
    width = max(len(suite.name) for suite in suites)
    print(f"\n{'suite':<{width}}  {'ran':>5} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>8}")
    for suite in suites:
        print(f"{suite.name:<{width}}  {suite.ran:>5} {suite.passed:>6} {suite.failed:>6} {suite.skipped:>7} {suite.seconds:>8.1f}")
    passed, failed, skipped = (sum(getattr(suite, key) for suite in suites) for key in ("passed", "failed", "skipped"))
    print("\nCPU seconds: " + ", ".join(f"{what} {used:.0f}" for what, used in CPU_SECONDS.items() if used >= 1))
    print(f"\nran {passed + failed} in {seconds:.0f} s, {sum(CPU_SECONDS.values()):.0f} CPU seconds")
    for suite in suites:    # once more, in what is left of a log that was cut
        if suite.failed:
            print(f"failed: {suite.name} {' '.join(suite.failures)}".rstrip())
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed


def choose_draws(is_long):
    """Which draws of a case the C suites make (tests/support/counter_rng.h): those of FKDA_TEST_DRAWS, or others in every run. Under
    sanitizers fewer, and not the same as in the release build."""
    word, _, number = os.environ.get("FKDA_TEST_DRAWS", "all" if is_long else "few").partition(":")
    number = int(number or random.randrange(10**8))
    os.environ["FKDA_TEST_DRAWS"] = f"{word}:{number}"
    SANITIZER_ENV["FKDA_TEST_DRAWS"] = f"{'few' if word == 'all' else 'fewer'}:{number + 1}"
    return os.environ["FKDA_TEST_DRAWS"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", choices=STEPS, help="run one step")
    arguments.add_argument("--long", action="store_true", help="all draws, all suites under sanitizers, all architectures in the lint")
    arguments.add_argument("--record", action="store_true", help="write the counts of a green run as the new expectation")
    arguments = arguments.parse_args()
    steps = [arguments.only] if arguments.only else list(STEPS)
    draws = choose_draws(arguments.long)
    if arguments.long:
        LINT.remove("--quick")
        SANITIZED.clear()
    OUT.mkdir(parents=True, exist_ok=True)
    os.environ["FKDA_COMPILED"] = str(OUT / "compiled")
    started = time.time()
    results = run_steps(steps)
    suites = [suite for step in steps for suite in results[step]]
    if not arguments.record:
        hold_to_expectation(suites, steps)
    failed = print_report(suites, time.time() - started)
    print(f"FKDA_TEST_DRAWS={draws} repeats these draws")
    if arguments.record and not failed:
        counts = {**json.loads(EXPECTED.read_text()), **{step: {s.name: s.ran for s in results[step]} for step in steps}}
        EXPECTED.write_text(json.dumps(counts, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
