"""tools/check_gpu.py with programs that only pretend: what it counts, what it calls bad, what it says without a GPU."""

import importlib.util
import json
import pathlib
import sys

import pytest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "check_gpu.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("check_gpu", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PROGRAMS = {"first": (["first", "word"], 5, 3)}
    module.PYTESTS = {}
    module.SANITIZERS = {}
    return module


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tests").mkdir()
    write(tmp_path, "planted_bugs", "exit 2")
    return tmp_path


def write(folder, name, text):
    path = folder / "tests" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(tool, folder, capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--build", str(folder), "--json", str(folder / "summary.json"), *words])
    status = tool.main()
    return status, capsys.readouterr().out


def test_counts(tool, folder, capsys, monkeypatch):
    write(folder, "first", 'test "$1" = word && echo "first: ran 3, failed 0"')
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 0 and "total: ran 3, failed 0, skipped 0" in out
    assert json.loads((folder / "summary.json").read_text())["parts"][0]["ran"] == 3


@pytest.mark.parametrize("script,words", [
    ('echo "FAIL this one"; echo "first: ran 3, failed 1"; exit 1', "FAIL this one"),
    ('echo "first: ran 2, failed 0"', "3 expected"),
    ('echo "first: ran 3, failed 0"; kill -SEGV $$', "exit status -11"),
    ('echo "first: no GPU, skipped"; exit 77', "no GPU, skipped"),
    ("sleep 60", "still running after 1 s"),
])  # fmt: skip
def test_bad_parts(tool, folder, capsys, monkeypatch, script, words):
    tool.PROGRAMS = {"first": (["first"], 1, 3)}
    write(folder, "first", script)
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 1 and "BAD" in out and words in out and "1 of 1 parts bad" in out


def test_cuda_cases_counts_its_own_way(tool, folder, capsys, monkeypatch):
    write(folder, "first", 'echo "cuda: 130 cases ran, 40 skipped (another operation or stride), 0 failed; the worst tile reached 0.5 of its bar"')
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 0 and "total: ran 130, failed 0" in out


def test_no_gpu(tool, folder, capsys, monkeypatch):
    write(folder, "planted_bugs", 'echo "planted_bugs: no GPU, skipped"; exit 77')
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 77 and out == "check-gpu: nothing ran, everything skipped: planted_bugs: no GPU, skipped\n"


SANITIZER = """
case "$*" in
  *planted_bugs*) echo "ERROR SUMMARY: 1 error"; exit PLANTED ;;
  *) echo "prefill_tiny: ran SHAPES, failed 0"; exit TINY ;;
esac"""


@pytest.mark.parametrize("planted,tiny,status,words", [
    (99, 0, 0, "ok"), (99, 99, 1, "BAD"), (0, 0, 1, "the tool does not see a planted bug here"),
])  # fmt: skip
def test_sanitizer_is_believed_only_after_a_planted_bug(tool, folder, capsys, monkeypatch, planted, tiny, status, words):
    tool.PROGRAMS, tool.SANITIZERS = {}, {"memcheck": "outside"}
    write(folder, "sanitizer", SANITIZER.replace("PLANTED", str(planted)).replace("TINY", str(tiny)).replace("SHAPES", str(tool.TINY_SHAPES)))
    monkeypatch.setattr(tool, "sanitizers", lambda build: [str(folder / "tests/sanitizer")])
    found, out = run(tool, folder, capsys, monkeypatch)
    assert found == status and words in out
    assert run(tool, folder, capsys, monkeypatch, "--allow", "sanitizer")[0] == (0 if planted == 0 else status)


def test_parts_that_may_be_missing(tool, folder, capsys, monkeypatch):
    tool.PROGRAMS, tool.PYTESTS = {}, {"pytest: some": ("test_some.py", ("no_such_module_anywhere",), 5, 1)}
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 1 and "not run: ModuleNotFoundError" in out
    assert run(tool, folder, capsys, monkeypatch, "--allow", "some")[0] == 0


def test_pytest_is_run_and_counted(tool, folder, capsys, monkeypatch):
    tool.PROGRAMS, tool.PYTESTS = {}, {"pytest: errors": ("test_check_gpu.py", ("pytest",), 100, 1)}
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k cuda_cases")
    status, out = run(tool, folder, capsys, monkeypatch)
    assert status == 0 and "total: ran 1, failed 0" in out
