#!/usr/bin/env python3
"""Every test that needs a GPU, in one call. Runs what tools/gpu/pack_gpu.py has built; needs neither a compiler nor CMake.

    tools/gpu/check_gpu.py [--build FOLDER] [--json FILE] [--logs FOLDER] [--jobs N] [--only WORD]... [--allow WORD]...

The parts are those of FOLDER/manifest.json, which pack_gpu.py has written from CTest's list (tests/gpu/CMakeLists.txt): programs, pytest files
(label python), and programs under compute-sanitizer (label sanitizer). Prints one line per part (ran, failed, skipped, seconds), the last lines of
a part that failed, and the total. Exit code 1 if a part failed, ran out of time, or ran fewer tests than expected; 77 if there is no GPU at all.
--jobs runs parts side by side on the one GPU, in the order of the manifest: none of them is a timing. A part that cannot run here (no torch, a
sanitizer that does not see a planted bug) counts as too few, unless --allow names it.
"""
import argparse
import concurrent.futures
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
NO_GPU = 77
BUG_FOUND = 99    # what compute-sanitizer is told to return


class Part:
    """What one part is (an entry of the manifest) and did. note: why it did not run, or what is wrong beside single failures."""

    def __init__(self, entry):
        self.name, self.expected, self.limit, self.command = entry["name"], entry["expected"], entry["seconds"], entry["command"]
        self.labels, self.imports, self.tool, self.planted = entry["labels"], entry["imports"], entry["tool"], entry["planted"]
        self.ran = self.failed = self.skipped = 0
        self.seconds, self.note, self.output = 0.0, "", ""

    def is_good(self, allowed):
        if self.failed:
            return False
        return self.ran >= self.expected or (self.ran == 0 and any(word in self.name for word in allowed))

    def count(self, output):
        for ran, failed in re.findall(r"^\w+: ran (\d+), failed (\d+)", output, re.M):
            self.ran += int(ran)
            self.failed += int(failed)


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


def in_folder(build, words):
    """A packed program and its words."""
    return [str(build / words[0]), *words[1:]]


def library_path(build):
    return {"LD_LIBRARY_PATH": f"{build / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def judge(part, status):
    """What an exit status says beside the counts."""
    if status is None:
        part.failed, part.note = max(part.failed, 1), f"still running after {part.limit} s"
    elif status == NO_GPU:
        part.ran, part.skipped, part.note = 0, 1, part.output.strip().splitlines()[-1] if part.output.strip() else "skipped"
    elif status != 0 and part.failed == 0:
        part.failed, part.note = 1, f"exit status {status}"
    elif part.ran < part.expected and not part.failed:
        part.note = f"{part.expected} expected"


def run_program(build, part):
    status, part.output, part.seconds = run(in_folder(build, part.command), part.limit, library_path(build))
    part.count(part.output)
    judge(part, status)


def python_path(build, modules):
    """PYTHONPATH with the module under test, and with packed packages only where this Python lacks them; or the reason why not."""
    path = str(build / "python")
    for extra in ("", f":{build / 'packages'}"):
        status, output, _ = run([sys.executable, "-c", f"import {', '.join(modules)}"], 120, {"PYTHONPATH": path + extra})
        if status == 0:
            return path + extra, ""
    return None, output.strip().splitlines()[-1] if output.strip() else "imports failed"


def run_pytest(build, part):
    path, why = python_path(build, part.imports)
    if path is None:
        part.skipped, part.note = 1, f"not run: {why}"
        return
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [sys.executable, *part.command[1:], f"--junitxml={report}"]
        status, part.output, part.seconds = run(command, part.limit, {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
        if report.exists():
            counts = ElementTree.parse(report).getroot().find("testsuite")
            part.failed, part.skipped = int(counts.get("failures")) + int(counts.get("errors")), int(counts.get("skipped"))
            part.ran = int(counts.get("tests")) - part.skipped
    judge(part, status)


def sanitizers(build):
    """Every compute-sanitizer of this machine: its own ones know its driver, the packed one is the last resort."""
    places = [shutil.which("compute-sanitizer"), *sorted(pathlib.Path("/usr/local").glob("cuda*/bin/compute-sanitizer")),
              build / "sanitizer/compute-sanitizer"]
    return [str(place) for place in places if place is not None and pathlib.Path(place).exists()]


def run_sanitizer(build, part):
    """The program under the first compute-sanitizer that sees a planted bug."""
    part.note = "not run: no compute-sanitizer"
    watch = None
    for sanitizer in sanitizers(build):
        command = [sanitizer, "--tool", part.tool, "--error-exitcode", str(BUG_FOUND)]
        planted, part.output, seconds = run([*command, str(build / "tests/planted_bugs"), part.planted], part.limit, library_path(build))
        part.seconds += seconds
        if planted == BUG_FOUND and "SUMMARY" in part.output:
            watch = command
            break
        part.note = "not run: the tool does not see a planted bug here"
    if watch is None:
        part.skipped = 1
        return
    part.note = ""
    status, part.output, seconds = run([*watch, *in_folder(build, part.command)], part.limit, library_path(build))
    part.seconds += seconds
    part.count(part.output)
    judge(part, status)


def run_part(build, part):
    act = run_pytest if "python" in part.labels else run_sanitizer if "sanitizer" in part.labels else run_program
    act(build, part)
    return part


def all_parts(build, only, jobs):
    """The parts whose name has one of these words, all without words, as they end."""
    parts = [Part(entry) for entry in json.loads((build / "manifest.json").read_text())["parts"]]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run_part, build, part) for part in parts if not only or any(word in part.name for word in only)]
        for done in concurrent.futures.as_completed(running):
            yield done.result()


def has_gpu(build):
    status, output, _ = run([str(build / "tests/planted_bugs")], 60, library_path(build))
    return status != NO_GPU, output.strip()


def telling_lines(output):
    """The first things that a sanitizer found, and the last lines."""
    lines = output.strip().splitlines()
    found = [line for line in lines if re.match(r"=+ (Error|Warning)", line)]
    return found[:5] + lines[-15:]


def describe_machine():
    if shutil.which("nvidia-smi") is None:
        return "unknown GPU"
    return run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], 30)[1].strip()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--build", type=pathlib.Path, default=ROOT / "build/gpu", help="folder of tools/gpu/pack_gpu.py (default build/gpu)")
    arguments.add_argument("--json", type=pathlib.Path, help="write a summary there")
    arguments.add_argument("--logs", type=pathlib.Path, help="write what each part printed there")
    arguments.add_argument("--jobs", type=int, default=1, help="so many parts at a time (default 1)")
    arguments.add_argument("--only", action="append", help="run the parts whose name has this word")
    arguments.add_argument("--allow", action="append", default=[], help="a part that may be missing")
    arguments = arguments.parse_args()
    build = arguments.build.resolve()
    if not (build / "manifest.json").exists():
        sys.exit(f"{build} has no manifest.json: run tools/gpu/pack_gpu.py, or give --build FOLDER")
    present, why = has_gpu(build)
    if not present:
        print(f"check-gpu: nothing ran, everything skipped: {why}")
        return NO_GPU
    print(f"{describe_machine()}\n{'part':<28} {'ran':>5} {'failed':>6} {'skipped':>7} {'seconds':>8}", flush=True)
    parts, bad = [], 0
    for part in all_parts(build, arguments.only, arguments.jobs):
        if arguments.logs:
            arguments.logs.mkdir(parents=True, exist_ok=True)
            (arguments.logs / f"{part.name}.txt").write_text(part.output)
        good = part.is_good(arguments.allow)
        parts.append(part)
        bad += not good
        counts = f"{part.name:<28} {part.ran:>5} {part.failed:>6} {part.skipped:>7} {part.seconds:>8.1f}"
        print(f"{counts}  {'ok ' if good else 'BAD'} {part.note}".rstrip(), flush=True)
        if not good:
            print("\n".join("    | " + line for line in telling_lines(part.output)), flush=True)
    ran, failed, skipped = (sum(getattr(part, key) for part in parts) for key in ("ran", "failed", "skipped"))
    print(f"total: ran {ran}, failed {failed}, skipped {skipped}, {sum(p.seconds for p in parts):.0f} s; {bad} of {len(parts)} parts bad")
    if arguments.json:
        summary = {"machine": describe_machine(), "ran": ran, "failed": failed, "skipped": skipped, "bad_parts": bad,
                   "parts": [{key: getattr(p, key) for key in ("name", "expected", "ran", "failed", "skipped", "seconds", "note")} for p in parts]}
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
