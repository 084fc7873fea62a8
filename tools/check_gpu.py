#!/usr/bin/env python3
"""Every test that needs a GPU, in one call. Runs what tools/pack_gpu.py has built; needs neither a compiler nor CMake.

    tools/check_gpu.py [--build FOLDER] [--json FILE] [--only WORD] [--allow WORD]...

Prints one line per part (ran, failed, skipped, seconds), the last lines of a part that failed, and the total. Exit code 1 if a part
failed, ran out of time, or ran fewer tests than expected; 77 if there is no GPU at all. A part that cannot run here (no torch, a
sanitizer that does not see a planted bug) counts as too few, unless --allow names it.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
NO_GPU = 77
BUG_FOUND = 99    # what compute-sanitizer is told to return

# name: (program and its words, seconds, tests expected at least)
PROGRAMS = {
    "cuda_cases": (["cuda_cases"], 150, 100),
    "first_capture, no schedule": (["first_capture", "4"], 30, 100),
    "first_capture, schedule": (["first_capture", "40"], 30, 100),
    "first_capture, plan kernel": (["first_capture", "1", "600"], 60, 100),
    "prefill_check, quad": (["prefill_check", "quad"], 150, 189),
    "prefill_check, pair": (["prefill_check", "pair"], 150, 189),
    "prefill_check, solo": (["prefill_check", "solo"], 150, 189),
    "prefill_check, as chosen": (["prefill_check"], 150, 189),
    "stress: races, quad": (["prefill_stress", "races", "quad"], 90, 3),
    "stress: races, pair": (["prefill_stress", "races", "pair"], 90, 3),
    "stress: races, solo": (["prefill_stress", "races", "solo"], 90, 3),
    "stress: beside": (["prefill_stress", "beside"], 60, 2),
    "stress: streams": (["prefill_stress", "streams"], 60, 1),
    "stress: hang, quad": (["prefill_stress", "hang", "quad"], 60, 20),
    "stress: hang, pair": (["prefill_stress", "hang", "pair"], 60, 20),
    "stress: hang, solo": (["prefill_stress", "hang", "solo"], 60, 20),
    "bounds: fuzz": (["prefill_bounds", "fuzz"], 60, 1),
    "bounds: many": (["prefill_bounds", "many"], 90, 1),
    "bounds: states, quad": (["prefill_bounds", "states", "quad"], 60, 32),
    "bounds: states, pair": (["prefill_bounds", "states", "pair"], 60, 32),
    "bounds: states, solo": (["prefill_bounds", "states", "solo"], 60, 32),
}
# name: (file, modules it imports, seconds, tests expected at least)
PYTESTS = {
    "pytest: test_cuda": ("test_cuda.py", ("torch", "pytest", "safetensors", "flash_kda"), 240, 186),
    "pytest: test_fla_cuda": ("test_fla_cuda.py", ("torch", "pytest", "fla", "flash_kda"), 180, 9),
}
# tool: the planted bug that it must find
SANITIZERS = {"memcheck": "outside", "racecheck": "race", "synccheck": "sync", "initcheck": "unwritten"}
SANITIZER_SECONDS, TINY_SHAPES = 120, 18


class Part:
    """What one part did. note: why it did not run, or what is wrong beside single failures."""

    def __init__(self, name, expected):
        self.name, self.expected = name, expected
        self.ran = self.failed = self.skipped = 0
        self.seconds, self.note, self.output = 0.0, "", ""

    def is_good(self, allowed):
        if self.failed:
            return False
        return self.ran >= self.expected or (self.ran == 0 and any(word in self.name for word in allowed))


def run(command, seconds, env=None):
    """Returns (exit status, output, seconds); the status is None if the limit was reached, and then nothing is left running."""
    started = time.time()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        return status, out.read(), time.time() - started


def program(build, words):
    return [str(build / "tests" / words[0]), *words[1:]]


def library_path(build):
    return {"LD_LIBRARY_PATH": f"{build / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def judge(part, status, limit):
    """What an exit status says beside the counts."""
    if status is None:
        part.failed, part.note = max(part.failed, 1), f"still running after {limit} s"
    elif status == NO_GPU:
        part.ran, part.skipped, part.note = 0, 1, part.output.strip().splitlines()[-1] if part.output.strip() else "skipped"
    elif status != 0 and part.failed == 0:
        part.failed, part.note = 1, f"exit status {status}"
    elif part.ran < part.expected and not part.failed:
        part.note = f"{part.expected} expected"
    return part


def run_program(build, name):
    words, limit, expected = PROGRAMS[name]
    part = Part(name, expected)
    status, part.output, part.seconds = run(program(build, words), limit, library_path(build))
    counted = re.findall(r": (?:ran (\d+), failed (\d+)|(\d+) cases ran, \d+ skipped .*, (\d+) failed)", part.output)
    for ran, failed, cases, cases_failed in counted:
        part.ran += int(ran or cases)
        part.failed += int(failed or cases_failed)
    return judge(part, status, limit)


def python_path(build, modules):
    """PYTHONPATH with the module under test, and with packed packages only where this Python lacks them; or the reason why not."""
    path = str(build / "python")
    for extra in ("", f":{build / 'packages'}"):
        status, output, _ = run([sys.executable, "-c", f"import {', '.join(modules)}"], 120, {"PYTHONPATH": path + extra})
        if status == 0:
            return path + extra, ""
    return None, output.strip().splitlines()[-1] if output.strip() else "imports failed"


def run_pytest(build, name):
    file, modules, limit, expected = PYTESTS[name]
    part = Part(name, expected)
    path, why = python_path(build, modules)
    if path is None:
        part.skipped, part.note = 1, f"not run: {why}"
        return part
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"tests/python/{file}", f"--junitxml={report}"]
        status, part.output, part.seconds = run(command, limit, {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
        if report.exists():
            counts = ElementTree.parse(report).getroot().find("testsuite")
            part.failed, part.skipped = int(counts.get("failures")) + int(counts.get("errors")), int(counts.get("skipped"))
            part.ran = int(counts.get("tests")) - part.skipped
    return judge(part, status, limit)


def sanitizers(build):
    """Every compute-sanitizer of this machine: its own ones know its driver, the packed one is the last resort."""
    places = [shutil.which("compute-sanitizer"), *sorted(pathlib.Path("/usr/local").glob("cuda*/bin/compute-sanitizer")),
              build / "sanitizer/compute-sanitizer"]
    return [str(place) for place in places if place is not None and pathlib.Path(place).exists()]


def run_sanitizer(build, tool):
    """The six shapes, in every mapping, under the first compute-sanitizer that sees a planted bug."""
    part = Part(f"sanitizer: {tool}", TINY_SHAPES)
    part.note = "not run: no compute-sanitizer"
    watch = None
    for sanitizer in sanitizers(build):
        command = [sanitizer, "--tool", tool, "--error-exitcode", str(BUG_FOUND)]
        planted, part.output, seconds = run([*command, *program(build, ["planted_bugs", SANITIZERS[tool]])], SANITIZER_SECONDS, library_path(build))
        part.seconds += seconds
        if planted == BUG_FOUND and "SUMMARY" in part.output:
            watch = command
            break
        part.note = "not run: the tool does not see a planted bug here"
    if watch is None:
        part.skipped = 1
        return part
    part.note = ""
    status, part.output, seconds = run([*watch, *program(build, ["prefill_tiny"])], SANITIZER_SECONDS, library_path(build))
    part.seconds += seconds
    part.ran = sum(int(n) for n in re.findall(r"prefill_tiny: ran (\d+)", part.output))
    part.failed = int(status == BUG_FOUND)
    return judge(part, status, SANITIZER_SECONDS)


def all_parts(build, only):
    jobs = [(name, run_program, name) for name in PROGRAMS] + [(name, run_pytest, name) for name in PYTESTS]
    jobs += [(f"sanitizer: {tool}", run_sanitizer, tool) for tool in SANITIZERS]
    for name, act, what in jobs:
        if only is None or only in name:
            yield act(build, what)


def has_gpu(build):
    status, output, _ = run(program(build, ["planted_bugs"]), 60, library_path(build))
    return status != NO_GPU, output.strip()


def describe_machine():
    if shutil.which("nvidia-smi") is None:
        return "unknown GPU"
    return run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], 30)[1].strip()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--build", type=pathlib.Path, default=ROOT / "build/gpu", help="folder of tools/pack_gpu.py (default build/gpu)")
    arguments.add_argument("--json", type=pathlib.Path, help="write a summary there")
    arguments.add_argument("--only", help="run the parts whose name has this word")
    arguments.add_argument("--allow", action="append", default=[], help="a part that may be missing")
    arguments = arguments.parse_args()
    build = arguments.build.resolve()
    if not (build / "tests/planted_bugs").exists():
        sys.exit(f"{build} has no programs: run tools/pack_gpu.py, or give --build FOLDER")
    present, why = has_gpu(build)
    if not present:
        print(f"check-gpu: nothing ran, everything skipped: {why}")
        return NO_GPU
    print(f"{describe_machine()}\n{'part':<28} {'ran':>5} {'failed':>6} {'skipped':>7} {'seconds':>8}", flush=True)
    parts, bad = [], 0
    for part in all_parts(build, arguments.only):
        good = part.is_good(arguments.allow)
        parts.append(part)
        bad += not good
        counts = f"{part.name:<28} {part.ran:>5} {part.failed:>6} {part.skipped:>7} {part.seconds:>8.1f}"
        print(f"{counts}  {'ok ' if good else 'BAD'} {part.note}".rstrip(), flush=True)
        if not good:
            print("\n".join("    | " + line for line in part.output.strip().splitlines()[-15:]), flush=True)
    ran, failed, skipped = (sum(getattr(part, key) for part in parts) for key in ("ran", "failed", "skipped"))
    print(f"total: ran {ran}, failed {failed}, skipped {skipped}, {sum(p.seconds for p in parts):.0f} s; {bad} of {len(parts)} parts bad")
    if arguments.json:
        summary = {"machine": describe_machine(), "ran": ran, "failed": failed, "skipped": skipped, "bad_parts": bad,
                   "parts": [{key: getattr(p, key) for key in ("name", "expected", "ran", "failed", "skipped", "seconds", "note")} for p in parts]}
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
