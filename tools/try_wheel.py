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
    """In the environment: prefill in two dtypes, then decode, on tensors on the CPU. Prints what was compared."""
    sys.path.insert(0, str(ROOT / "tests/python"))
    import torch

    import flash_kda
    from bars import bar
    from recurrence import recurrence, relative_rms

    random = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "little"))
    normal = lambda *shape: torch.randn(*shape, generator=random)
    T, prompt, H = 70, 64, 3
    worst = 0.0
    for dtype, arithmetic in (torch.float32, bar("f32", "any").out), (torch.bfloat16, bar("stored", "bf16").out):
        q, k, v, g = (normal(1, T, H, 128).to(dtype) for _ in range(4))
        beta, A_log, dt_bias = normal(1, T, H).to(dtype), normal(H) * 0.5, normal(H, 128) - 2
        want, want_state = recurrence(q, k, v, g, beta, 128**-0.5, A_log, dt_bias, -5.0)
        out, state = torch.full_like(v, float("nan")), torch.full((1, H, 128, 128), float("nan"))
        first, last = ([x[:, part].contiguous() for x in (q, k, v, g, beta)] for part in (slice(prompt), slice(prompt, T)))
        with torch.no_grad():
            flash_kda.fwd(*first, 128**-0.5, out[:, :prompt], A_log, dt_bias, -5.0, final_state=state)
            flash_kda.decode(*last, 128**-0.5, out[:, prompt:], A_log, dt_bias, -5.0, state)
        errors = relative_rms(out, want) / arithmetic, relative_rms(state, want_state) / bar("f32", "any").state
        assert max(errors) <= 1, f"{dtype}: out and state are {errors} bars off the recurrence"
        worst = max(worst, *errors)
    print(f"torch {torch.__version__}, {flash_kda.last_plan().partition(',')[0]}: errors up to {worst:.2f} of their bars")


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
    (wheel,), (archive,) = MADE.glob("*.whl"), MADE.glob("*.tar.gz")
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
