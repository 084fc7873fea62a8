#!/usr/bin/env python3
"""Builds everything that needs a GPU to run and lays it out in one folder, for tools/gpu/check_gpu.py here or on a machine without a compiler.

    tools/gpu/pack_gpu.py [--without-sanitizer] [FOLDER]      default build/gpu

FOLDER/tests      the programs                     FOLDER/lib         shared libraries they need beside libc
FOLDER/manifest.json   the parts of the check, from CTest's list: name, labels, command, limit, tests expected
FOLDER/python     the module flash_kda             FOLDER/packages    what pytest needs, for a Python that lacks it
FOLDER/sanitizer  NVIDIA's compute-sanitizer, unless PyPI cannot be reached; more than half of the folder
"""
import argparse
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/check-gpu"
# For tests/python beside torch and numpy, which a GPU machine brings. Pure Python or abi3.
PACKAGES = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "safetensors", "einops", "fla")
SANITIZER = "nvidia-cuda-sanitizer-api==13.5.25"    # the wheels of 13.0 to 13.2 lack a helper program of theirs


def must(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}")
    return done.stdout


def pack_programs(folder):
    must("tools/build", "check-gpu", "-DFKDA_BUILD_TESTS=ON", "-DFKDA_BUILD_GPU_TESTS=ON", "-DFKDA_BUILD_CLI=OFF", "-DFKDA_CUDA=ON")
    for name in ("tests", "lib"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for built in (BUILD / "tests/gpu").iterdir():
        if not built.is_file() or not os.access(built, os.X_OK):
            continue
        shutil.copy2(built, folder / "tests" / built.name)
        for library in re.findall(r"=> (\S*/libcmocka\.\S+)", must("ldd", built)):
            shutil.copy2(library, folder / "lib")


def packed_word(word):
    """A word of a command as it is in the folder, or relative to the repository."""
    path = pathlib.Path(word)
    if path.name.startswith("python"):
        return "python3"    # whatever Python that machine has
    if path.is_relative_to(BUILD / "tests/gpu"):
        return f"tests/{path.name}"
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else word


def part_of(test):
    """An entry of the manifest from an entry of CTest's list. Labels with a value (expect=3) say what check_gpu.py needs to know."""
    properties = {p["name"]: p["value"] for p in test["properties"]}
    labels = properties["LABELS"]
    values = lambda key: [label.partition("=")[2] for label in labels if label.startswith(f"{key}=")]
    return {"name": test["name"], "labels": [label for label in labels if "=" not in label],
            "command": [packed_word(word) for word in test["command"]], "seconds": int(properties["TIMEOUT"]),
            "expected": int(values("expect")[0]), "imports": values("imports"),
            "tool": "".join(values("tool")), "planted": "".join(values("planted"))}


def pack_manifest(folder):
    listed = json.loads(must("ctest", "--test-dir", BUILD, "-C", "packed", "-L", "^gpu$", "--show-only=json-v1"))
    lost = [test["name"] for test in listed["tests"] if "command" not in test]    # CTest's way to say that the program is not there
    if lost or not listed["tests"]:
        sys.exit(f"CTest lists no program for: {', '.join(lost) or 'the label gpu'}")
    parts = [part_of(test) for test in listed["tests"]]
    (folder / "manifest.json").write_text(json.dumps({"parts": parts}, indent=1) + "\n")
    return len(parts)


def pack_python(folder):
    shutil.rmtree(folder / "python", ignore_errors=True)
    must(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--target", folder / "python",
         "--config-settings=cmake.define.FKDA_CUDA=ON", ".")
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            shutil.copytree(found.submodule_search_locations[0], folder / "packages" / name, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))


def pack_sanitizer(folder):
    """The part of the wheel that runs: 64-bit, without documentation."""
    if (folder / "sanitizer/compute-sanitizer").exists():
        return
    wheels = folder / "wheels"
    got = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, SANITIZER], capture_output=True, text=True)
    if got.returncode != 0:
        print(f"no compute-sanitizer in the folder: {SANITIZER} could not be fetched")
        return
    must(sys.executable, "-m", "zipfile", "-e", next(wheels.glob("*.whl")), wheels)
    tool = next(wheels.rglob("compute-sanitizer/compute-sanitizer"))
    shutil.copytree(tool.parent, folder / "sanitizer", ignore=shutil.ignore_patterns("docs", "include", "x86"))
    (folder / "sanitizer/compute-sanitizer").chmod(0o755)
    for helper in folder.glob("sanitizer/TreeLauncher*"):
        helper.chmod(0o755)
    shutil.rmtree(wheels)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=pathlib.Path, default=ROOT / "build/gpu")
    arguments.add_argument("--without-sanitizer", action="store_true", help="leave compute-sanitizer out: the GPU machine has its own")
    arguments = arguments.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pack_programs(folder)
    parts = pack_manifest(folder)
    pack_python(folder)
    if arguments.without_sanitizer:
        shutil.rmtree(folder / "sanitizer", ignore_errors=True)
    else:
        pack_sanitizer(folder)
    print(f"{folder}: {parts} parts, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
