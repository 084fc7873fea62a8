"""The binary under test, and small problem files."""
import json
import os
import pathlib
import pty
import subprocess

import numpy
import pytest

import problem_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "data"


def find_binary():
    if "FKDA_CLI" in os.environ:
        return pathlib.Path(os.environ["FKDA_CLI"]).resolve()
    for build in ("build", "build/release", "build/check-release"):
        if (ROOT / build / "cli/flashkda").exists():
            return ROOT / build / "cli/flashkda"
    pytest.exit("no flashkda binary: build it, or name it in FKDA_CLI", returncode=5)


BINARY = find_binary()


class Done:
    """What a command did. `text` is its standard error, which must be one harmless line or two when it failed."""

    def __init__(self, process):
        self.code, self.out, self.text = process.returncode, process.stdout.decode(errors="replace"), process.stderr.decode()

    @property
    def json(self):
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])


def flashkda(*arguments, expect=0, **options):
    process = subprocess.run([BINARY, *arguments], stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, timeout=120, **options)
    process.stdout = process.stdout or b""
    done = Done(process)
    assert done.code == expect, f"exit {done.code}, expected {expect}\n{done.out}\n{done.text}"
    return done


def on_terminal(*arguments, which="stderr", expect=0, stdout=subprocess.PIPE, **environment):
    """The command with one of its streams on a terminal: (what came out of the other pipes, what the terminal saw)."""
    ours, theirs = pty.openpty()
    streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE, which: theirs}
    env = {name: value for name, value in {**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment}.items() if value is not None}
    process = subprocess.Popen([BINARY, *arguments], env=env, **streams)
    os.close(theirs)
    seen = b""
    try:
        while which != "stdin" and (piece := os.read(ours, 65536)):
            seen += piece
    except OSError:
        pass    # the other end is closed: Linux says so with EIO
    out, text = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == expect, (process.returncode, out, text, seen)
    return (out or b"").decode() + (text or b"").decode(), seen


@pytest.fixture
def small(tmp_path):
    """A packed problem of three sequences, one of them empty, as tensors and metadata, with the answers of the recurrence."""
    problem = problem_files.make_problem(numpy.random.default_rng(7), B=1, T=40, H=2, HV=4, K=16, V=24, bounds=[0, 33, 33, 40])
    problem_files.add_answers(problem)
    problem.path = tmp_path / "small.safetensors"
    problem.save(problem.path)
    return problem
