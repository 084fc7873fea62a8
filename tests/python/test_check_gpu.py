"""tools/gpu/check_gpu.py with programs that only pretend: what it counts, what it calls bad, what it says without a GPU; and the list that
tools/gpu/pack_gpu.py makes of CTest's."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools/gpu"
BUSY_S = 600  # for what ends by itself: on a busy machine starting a Python with torch has taken 47 s


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool():
    return load("check_gpu")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tests").mkdir()
    write(tmp_path, "planted_bugs", "exit 2")
    return tmp_path


def write(folder, name, text):
    path = folder / "tests" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def part(name="first", command=("tests/first", "word"), seconds=BUSY_S, expected=3, labels=("gpu",), **more):
    return {"name": name, "command": list(command), "seconds": seconds, "expected": expected, "labels": list(labels),
            "imports": [], "tool": "", "planted": "", **more}


def run(tool, folder, capsys, monkeypatch, parts, *words):
    (folder / "manifest.json").write_text(json.dumps({"parts": parts}))
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--build", str(folder), "--json", str(folder / "summary.json"), *words])
    status = tool.main()
    return status, capsys.readouterr().out


def test_counts(tool, folder, capsys, monkeypatch):
    write(folder, "first", 'test "$1" = word && echo "first: ran 3, failed 0, skipped 40 (of another kind)"')
    status, out = run(tool, folder, capsys, monkeypatch, [part()])
    assert status == 0 and "total: ran 3, failed 0, skipped 0" in out
    assert json.loads((folder / "summary.json").read_text())["parts"][0]["ran"] == 3


@pytest.mark.parametrize("script,words", [
    ('echo "FAIL this one"; echo "first: ran 3, failed 1"; exit 1', "FAIL this one"),
    ('echo "first: ran 2, failed 0"', "3 expected"),
    ('echo "     names: ran 3, failed 0"', "3 expected"),
    ('echo "first: ran 3, failed 0"; kill -SEGV $$', "exit status -11"),
    ('echo "first: no GPU, skipped"; exit 77', "no GPU, skipped"),
    ("sleep 600", "still running after 1 s"),
])  # fmt: skip
def test_bad_parts(tool, folder, capsys, monkeypatch, script, words):
    write(folder, "first", script)
    status, out = run(tool, folder, capsys, monkeypatch, [part(seconds=1 if "sleep" in script else BUSY_S)])
    assert status == 1 and "BAD" in out and words in out and "1 of 1 parts bad" in out


def test_only_some_parts(tool, folder, capsys, monkeypatch):
    write(folder, "first", 'echo "first: ran 3, failed 0"')
    status, out = run(tool, folder, capsys, monkeypatch, [part("one.duo"), part("one.solo"), part("two.solo")], "--only", "solo")
    assert status == 0 and "0 of 2 parts bad" in out and "one.duo" not in out


def test_parts_side_by_side(tool, folder, capsys, monkeypatch):
    write(folder, "first", 'test "$1" = wait && until test -e "$(dirname "$0")/second"; do sleep 0.1; done; echo "first: ran 3, failed 0"')
    write(folder, "other", 'touch "$(dirname "$0")/second"; echo "other: ran 3, failed 0"; echo more')
    parts = [part("waits", command=("tests/first", "wait")), part("other", command=("tests/other",)), part("left_out")]
    words = ["--jobs", "2", "--only", "waits", "--only", "other", "--logs", str(folder / "logs")]
    status, out = run(tool, folder, capsys, monkeypatch, parts, *words)
    assert status == 0 and "0 of 2 parts bad" in out and out.index("other") < out.index("waits")
    assert (folder / "logs/other.txt").read_text() == "other: ran 3, failed 0\nmore\n"


def test_no_gpu(tool, folder, capsys, monkeypatch):
    write(folder, "planted_bugs", 'echo "planted_bugs: no GPU, skipped"; exit 77')
    status, out = run(tool, folder, capsys, monkeypatch, [part()])
    assert status == 77 and out == "check-gpu: nothing ran, everything skipped: planted_bugs: no GPU, skipped\n"


def test_no_manifest(tool, folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--build", str(folder)])
    with pytest.raises(SystemExit, match=r"no manifest\.json"):
        tool.main()


SANITIZER = """
case "$*" in
  *"--tool memcheck "*/tests/planted_bugs" outside") echo "ERROR SUMMARY: 1 error"; exit PLANTED ;;
  *"--tool memcheck "*/tests/prefill_tiny) echo "========= Error: the first"; seq 20; echo "prefill_tiny: ran SHAPES, failed 0"; exit TINY ;;
  *) exit 3 ;;
esac"""


@pytest.mark.parametrize("planted,tiny,shapes,status,words", [
    (99, 0, 18, 0, "ok"), (99, 99, 18, 1, "Error: the first"), (99, 0, 17, 1, "18 expected"),
    (0, 0, 18, 1, "the tool does not see a planted bug here"),
])  # fmt: skip
def test_sanitizer_is_believed_only_after_a_planted_bug(tool, folder, capsys, monkeypatch, planted, tiny, shapes, status, words):
    write(folder, "sanitizer", SANITIZER.replace("PLANTED", str(planted)).replace("TINY", str(tiny)).replace("SHAPES", str(shapes)))
    monkeypatch.setattr(tool, "sanitizers", lambda build: [str(folder / "tests/sanitizer")])
    parts = [part("sanitizer.memcheck", ["tests/prefill_tiny"], expected=18, labels=("gpu", "sanitizer"), tool="memcheck", planted="outside")]
    found, out = run(tool, folder, capsys, monkeypatch, parts)
    assert found == status and words in out
    assert run(tool, folder, capsys, monkeypatch, parts, "--allow", "sanitizer")[0] == (0 if planted == 0 else status)


def python_part(file, imports, expected):
    command = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/python/{file}")
    return part("pytest.some", command, BUSY_S, expected, ("gpu", "python"), imports=imports)


def test_parts_that_may_be_missing(tool, folder, capsys, monkeypatch):
    parts = [python_part("test_some.py", ["no_such_module_anywhere"], 1)]
    status, out = run(tool, folder, capsys, monkeypatch, parts)
    assert status == 1 and "not run: ModuleNotFoundError" in out
    assert run(tool, folder, capsys, monkeypatch, parts, "--allow", "some")[0] == 0


def test_pytest_is_run_and_counted(tool, folder, capsys, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--noconftest -k test_no_manifest")  # without conftest.py, which imports torch
    status, out = run(tool, folder, capsys, monkeypatch, [python_part("test_check_gpu.py", ["pytest"], 1)])
    assert status == 0 and "total: ran 1, failed 0" in out


# ---------------------------------------------------------------- the list


CMAKE = """
cmake_minimum_required(VERSION 3.22)
project(list NONE)
enable_testing()
add_test(NAME other COMMAND true)
add_test(NAME check.quad COMMAND BUILD/tests/gpu/prefill_check quad)
set_tests_properties(check.quad PROPERTIES LABELS "gpu;kernel;expect=267" TIMEOUT 150)
add_test(NAME pytest.cuda COMMAND python3 -m pytest ROOT/tests/python/test_cuda.py CONFIGURATIONS packed)
set_tests_properties(pytest.cuda PROPERTIES LABELS "gpu;python;expect=186;imports=torch;imports=fla" TIMEOUT 240)
add_test(NAME sanitizer.memcheck COMMAND BUILD/tests/gpu/prefill_tiny CONFIGURATIONS packed)
set_tests_properties(sanitizer.memcheck PROPERTIES LABELS "gpu;sanitizer;expect=18;tool=memcheck;planted=outside" TIMEOUT 120)
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_manifest_is_the_list_of_ctest(tmp_path, monkeypatch):
    pack = load("pack_gpu")
    monkeypatch.setattr(pack, "BUILD", tmp_path / "build")
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.replace("BUILD", str(pack.BUILD)).replace("ROOT", str(pack.ROOT)))
    for name in ("prefill_check", "prefill_tiny"):  # CTest leaves out the commands of programs that are not there
        program = pack.BUILD / "tests/gpu" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("")
        program.chmod(0o755)
    subprocess.run(["cmake", "-S", tmp_path, "-B", pack.BUILD], check=True, capture_output=True)
    assert pack.pack_manifest(tmp_path) == 3
    parts = {p["name"]: p for p in json.loads((tmp_path / "manifest.json").read_text())["parts"]}
    assert parts["check.quad"] == {"name": "check.quad", "labels": ["gpu", "kernel"], "command": ["tests/prefill_check", "quad"],
                                   "seconds": 150, "expected": 267, "imports": [], "tool": "", "planted": ""}
    assert parts["pytest.cuda"]["command"] == ["python3", "-m", "pytest", "tests/python/test_cuda.py"]
    assert parts["pytest.cuda"]["imports"] == ["fla", "torch"]
    assert parts["sanitizer.memcheck"]["command"] == ["tests/prefill_tiny"] and parts["sanitizer.memcheck"]["expected"] == 18
    assert parts["sanitizer.memcheck"]["tool"] == "memcheck" and parts["sanitizer.memcheck"]["planted"] == "outside"
