#!/usr/bin/env python3
"""Versions of the Hopper prefill kernel beside each other: built from source trees here, timed in turns on a GPU, which may be another machine's.

    tools/gpu/versions.py pack main=. new=../new                  into build/versions; bounded gate alone, about half a minute each
    tools/gpu/versions.py run --suite few --rounds 3              medians of prefill_time, the versions in turns
    tools/gpu/versions.py run --marks "8 512 octet" --marks "8 8192 octet"      then prefill_marks of each version, with these words

`pack` needs nvcc and CMake, and says which warnings of ptxas cost time: serialised products (C75xx), spills. `run` needs the folder and a GPU.
Times of different calls of `run` are not comparable, nor are those of programs with marks and without.
"""
import argparse
import concurrent.futures
import pathlib
import re
import statistics
import sys

from pack_gpu import must

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDES = ("src/cuda", "src/core", "src/cuda/backend", "src", "include", "tests/gpu", "tests/oracle", "tests/support", "tests")
# What the programs link and never call here: the portable kernel, but for its loading, and the public API.
NOT_CALLED = "fkdai_mma_shared_bytes fkdai_mma_launch fkda_last_error fkda_fwd fkda_fwd_workspace_size"


def pack_version(name, tree, folder):
    work = folder / f"{name}.objects"
    work.mkdir(parents=True, exist_ok=True)
    must("cmake", "-S", tree, "-B", work / "support", "-DFKDA_CUDA=OFF", "-DFKDA_BUILD_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release")
    must("cmake", "--build", work / "support", "--target", "fkda_test_support", "-j")
    stub = work / "stub.c"
    stub.write_text("#include <stdlib.h>\nint fkdai_mma_load(void) { return 0; }\n"
                    + "".join(f"void {symbol}(void) {{ abort(); }}\n" for symbol in NOT_CALLED.split()))
    nvcc = ["nvcc", "-std=c++20", "-O3", "-gencode=arch=compute_90a,code=sm_90a", "-Xptxas", "-v", "-DFKDA_BOUNDED_ALONE",
            *(f"-I{tree / include}" for include in INCLUDES), "-c"]
    sources = {"launch": "src/cuda/prefill_sm90/prefill_launch.cu", "time": "tests/gpu/prefill_time.cu", "marks": "tests/gpu/prefill_marks.cu"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        logs = dict(zip(sources, pool.map(lambda one: must(*nvcc, tree / sources[one], "-o", work / f"{one}.o"), sources), strict=True))
    plans = [tree / "src/cuda/prefill_sm90/prefill_plan.c", tree / "src/cuda/prefill_mma/prefill_mma_plan.c", stub]
    objects = []
    for plan in plans:
        objects.append(work / f"{plan.stem}.o")
        must("cc", "-O2", *(f"-I{tree / include}" for include in INCLUDES), "-c", plan, "-o", objects[-1])
    libraries = [*(work / "support").rglob("libfkda_test_support.a"), "-lm"]
    for program, parts in (("time", ["time", "launch"]), ("marks", ["marks"])):
        must("nvcc", "-arch=sm_90a", *(work / f"{part}.o" for part in parts), *objects, *libraries, "-o", folder / f"{name}.{program}")
    costly = [line for line in logs["launch"].splitlines() if "(C75" in line or re.search(r"[1-9]\d* bytes spill", line)]
    print("\n".join([f"{folder / name}: time, marks", *(f"    {line.strip()[:160]}" for line in costly)]), flush=True)


def times_of(printed):
    """{case: milliseconds with usual gates} of what prefill_time prints."""
    rows = (line.split() for line in printed.splitlines())
    return {row[0]: float(row[2]) for row in rows if len(row) >= 6 and re.fullmatch(r"\d+\.\d+", row[2])}


def table_of(times):
    """times: {version: [what times_of gives, for each round]}. A line a case: the middle round and the best one."""
    names, cases = list(times), list(next(iter(times.values()))[0])
    cell = lambda name, case: (lambda rounds: f"{statistics.median_low(rounds):.4f} {rounds[0]:.4f}")(sorted(x[case] for x in times[name]))
    rows = [["case", *names], *([case, *(cell(name, case) for name in names)] for case in cases)]
    return "\n".join(f"{row[0]:<18}" + "".join(f"{word:>16}" for word in row[1:]) for row in rows)


def run(options):
    names = options.versions or sorted(path.stem for path in options.folder.glob("*.time"))
    times = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            times[name].append(times_of(must(options.folder / f"{name}.time", str(options.repeats), options.suite)))
            if not times[name][-1]:
                sys.exit(f"{options.folder / name}.time printed no case of suite {options.suite}")
    print(f"suite {options.suite}, ms: the middle of {options.rounds} rounds in turns, and the best\n{table_of(times)}", flush=True)
    for words in options.marks:
        for name in names:
            print(f"\n{name}: prefill_marks {words}\n{must(options.folder / f'{name}.marks', *words.split())}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=["pack", "run"])
    parser.add_argument("versions", nargs="*", help="pack: NAME=TREE; run: names (default: all in the folder)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/versions")
    parser.add_argument("--suite", default="few", help="of tests/cases.def (default few)")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--marks", action="append", default=[], metavar="WORDS")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    if options.act == "run":
        return run(options)
    for version in options.versions:
        name, found, tree = version.partition("=")
        if not found or not (pathlib.Path(tree) / "src/cuda/prefill_sm90").is_dir():
            sys.exit(f"{version}: must be NAME=TREE, with TREE a source tree of flashkda")
        pack_version(name, pathlib.Path(tree).resolve(), options.folder)


if __name__ == "__main__":
    main()
