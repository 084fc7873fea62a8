#!/usr/bin/env python3
"""Installs what `make wheel` made as people do, and asks whether it computes KDA: `make check-wheel`. Needs the network and some gigabytes.

    tools/try_wheel.py                       every Python from 3.10 on that is on the PATH, with the newest torch; the oldest with torch 2.4.0 too
    tools/try_wheel.py PYTHON[:TORCH] ...    these: python3.12, python3.10:2.4.0, python3.13:none (import alone)

For each a fresh environment: the wheel without torch; torch; the wheel's answers beside the float64 recurrence of tests/python; then the same with
the module that pip builds from the source archive (without CUDA, which takes minutes). One line each.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MADE = ROOT / "out/wheel"
OLDEST_TORCH = "2.4.0"


def compare():
    """In the environment: prefill, then decode, on the CPU and on the GPU if there is one. Prints what was compared."""
    sys.path.insert(0, str(ROOT / "tests/python"))
    import torch

    from bars import bar

    cpu = bar("f32", "any")
    print(f"torch {torch.__version__}, {worst_error('cpu', torch.float32, cpu)}, {worst_error('cpu', torch.bfloat16, bar('stored', 'bf16'))}", end="")
    print(f", {worst_error('cuda', torch.bfloat16, bar('bf16', 'any'))}" if torch.cuda.is_available() else "")


def worst_error(device, dtype, limit):
    """Of 64 tokens at once and 6 more, out and state, in bars."""
    import torch

    import flash_kda
    from recurrence import recurrence, relative_rms

    seed = int.from_bytes(os.urandom(4), "little")
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random).to(device)
    T, prompt, H = 70, 64, 3
    q, k, v, g = (normal(1, T, H, 128).to(dtype) for _ in range(4))
    beta, A_log, dt_bias = normal(1, T, H).to(dtype), normal(H) * 0.5, normal(H, 128) - 2
    want, want_state = recurrence(q, k, v, g, beta, 128**-0.5, A_log, dt_bias, -5.0)
    out, state = torch.full_like(v, float("nan")), torch.full((1, H, 128, 128), float("nan"), device=device)
    first, last = ([x[:, part].contiguous() for x in (q, k, v, g, beta)] for part in (slice(prompt), slice(prompt, T)))
    with torch.no_grad():
        flash_kda.fwd(*first, 128**-0.5, out[:, :prompt], A_log, dt_bias, -5.0, final_state=state)
        plan = flash_kda.last_plan()
        flash_kda.decode(*last, 128**-0.5, out[:, prompt:], A_log, dt_bias, -5.0, state)
    worst = max(relative_rms(out, want) / limit.out, relative_rms(state, want_state) / limit.state)
    assert worst <= 1, f"{plan}, {dtype}, seed {seed}: {worst} bars off the recurrence"
    return f"{plan.partition(',')[0]} {str(dtype).removeprefix('torch.')} {worst:.2f} of its bar"


def must(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{done.stdout[-6000:]}\nfailed: {' '.join(map(str, command))}")
    return done.stdout.strip()


def answer(python):
    # Elsewhere than in the root, so that nothing but the installed module is found.
    return must(python, ROOT / "tools/try_wheel.py", "--inside", cwd="/").splitlines()[-1]


def try_python(python, torch, work):
    """Prints a line for each of wheel and source archive."""
    (wheel,), (archive,) = MADE.glob("flashkda-*.whl"), MADE.glob("flashkda-*.tar.gz")
    must(python, "-m", "venv", work)
    inside = work / "bin/python"
    pip = [inside, "-m", "pip", "--disable-pip-version-check"]
    must(*pip, "install", "--quiet", wheel)
    version = must(inside, "-c", "import flash_kda, sys; print(sys.version.split()[0], flash_kda.__version__)", cwd="/")
    if torch == "none":
        print(f"Python {version.split()[0]}  wheel, without torch: {must(inside, '-m', 'flash_kda', cwd='/').splitlines()[2].strip()}", flush=True)
    else:
        must(*pip, "install", "--quiet", f"torch=={torch}" if torch else "torch", "numpy")
        print(f"Python {version.split()[0]}  wheel, {answer(inside)}", flush=True)
    must(*pip, "uninstall", "--quiet", "--yes", "flashkda")
    must(*pip, "install", "--quiet", "--config-settings=cmake.define.FKDA_CUDA=OFF", archive)
    built = "without torch: imports" if torch == "none" else answer(inside)
    must(inside, "-c", "import flash_kda", cwd="/")
    print(f"Python {version.split()[0]}  source archive, {built}", flush=True)


def on_the_path():
    """Pythons from 3.10 on that start, oldest first."""
    for minor in range(10, 30):
        python = f"python3.{minor}"
        if shutil.which(python) and subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            yield python


def main():
    if sys.argv[1:] == ["--inside"]:
        return compare()
    if any(word.startswith("-") for word in sys.argv[1:]):
        sys.exit(__doc__)
    if not MADE.is_dir():
        sys.exit("out/wheel is not there: run make wheel before")
    found = list(on_the_path())
    wanted = sys.argv[1:] or [f"{python}:{OLDEST_TORCH}" for python in found[:1]] + found
    if not wanted:
        sys.exit("no Python from 3.10 on that has venv is on the PATH")
    for word in wanted:
        python, _, torch = word.partition(":")
        with tempfile.TemporaryDirectory() as work:
            try_python(python, torch, pathlib.Path(work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
