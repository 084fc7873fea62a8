"""tools/dev/compile_once.py in front of a compiler that counts how often it is asked."""

import os
import pathlib
import subprocess

import pytest

TOOL = pathlib.Path(__file__).parents[2] / "tools/dev/compile_once.py"
COMPILER = """#!/bin/sh
[ "$1" = --version ] && { echo 1.0; exit; }
cd "$(dirname "$0")"
echo asked >> log
echo noted >&2
for word; do
  case $before in -o) out=$word;; -MF) rule=$word;; -MT) target=$word;; esac
  before=$word
done
grep -q error source.cu && exit 3
cat source.cu "a header.h" > "$out"
printf '%s : %s/source.cu \\\\\\n  %s/a\\\\ header.h\\n' "$target" "$PWD" "$PWD" > "$rule"
"""


@pytest.fixture
def build(tmp_path):
    """build(name, option...): compiles into name.o; (exit status, how often the compiler was asked until now)."""
    compiler = tmp_path / "nvcc"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    (tmp_path / "source.cu").write_text("1")
    (tmp_path / "a header.h").write_text("2")

    def run(name, *options, store="compiled"):
        command = [TOOL, compiler, *options, "-MT", f"{name}.o", "-MF", tmp_path / f"{name}.d", "source.cu", "-o", tmp_path / f"{name}.o"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "FKDA_COMPILED": store and str(tmp_path / store)})
        assert done.stderr == "noted\n"
        return done.returncode, (tmp_path / "log").read_text().count("asked")

    return run


def test_once_for_all_outputs(build, tmp_path):
    assert build("one", "-O3") == (0, 1) and build("other", "-O3") == (0, 1) and build("one", "-O3") == (0, 1)
    assert (tmp_path / "one.o").read_text() == (tmp_path / "other.o").read_text() == "12"
    rules = [(tmp_path / f"{name}.d").read_text().split(" : ") for name in ("one", "other")]
    assert [rule[0] for rule in rules] == ["one.o", "other.o"] and rules[0][1] == rules[1][1]


@pytest.mark.parametrize("file", ["source.cu", "a header.h"])
def test_anew_when_what_is_read_changes(build, tmp_path, file):
    assert build("one") == (0, 1)
    (tmp_path / file).write_text("3")
    assert build("other") == (0, 2) and "3" in (tmp_path / "other.o").read_text()
    assert build("one") == (0, 2) and (tmp_path / "one.o").read_text() == (tmp_path / "other.o").read_text()


def test_anew_with_other_options_or_compiler(build, tmp_path, monkeypatch):
    assert build("one") == (0, 1) and build("one", "-O3") == (0, 2)
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-lineinfo")
    assert build("one") == (0, 3)
    (tmp_path / "nvcc").write_text(COMPILER.replace("1.0", "1.1"))
    assert build("one") == (0, 4) and build("one") == (0, 4)


def test_what_failed_is_asked_again(build, tmp_path):
    (tmp_path / "source.cu").write_text("error")
    assert build("one") == (3, 1) and build("one") == (3, 2) and not (tmp_path / "one.o").exists()
    (tmp_path / "source.cu").write_text("1")
    assert build("one") == (0, 3)


def test_without_a_folder_it_just_runs(build):
    assert build("one", store="") == (0, 1) and build("one", store="") == (0, 2)
