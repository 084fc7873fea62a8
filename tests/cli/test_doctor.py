"""flashkda doctor: what it says of libraries, headers and backends that do not fit together, each of them made here."""
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import BINARY, ROOT, flashkda

CLEAN = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "CPATH", "FKDA_CPU_ISA")}
VERSION = flashkda("version").out.split()[1]


def examined(expect=0, **environment):
    """[(name, state, text, suggestion)]; the text form says the same."""
    env = {**CLEAN, **environment}
    facts = flashkda("doctor", "--json", expect=expect, env=env).json
    lines = flashkda("doctor", expect=expect, env=env).out.splitlines()
    assert facts["version"] == VERSION and facts["ok"] == (expect == 0)
    rows = [(x["name"], x["state"], x["text"], x["suggestion"]) for x in facts["checks"]]
    wrong = sum(state == "wrong" for _, state, _, _ in rows)
    assert lines[-1] == ("nothing is wrong" if wrong == 0 else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong")
    for name, state, text, suggestion in rows:
        at = lines.index(f"{state:5}  {name:13} {text}")
        assert (state == "ok") == (suggestion == "") and (state == "ok" or lines[at + 1] == f"{'':20} -> {suggestion}")
    return rows


@pytest.fixture(scope="module")
def status():
    """0, or 1 where this machine itself is ill: then tests cannot tell."""
    code = subprocess.run([BINARY, "doctor"], env=CLEAN, stdout=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        pytest.skip("flashkda doctor finds something wrong with this machine")


def test_a_machine_that_is_well(status):
    rows = examined()
    assert [name for name, _, _, _ in rows if name.startswith("backend")] == ["backend cuda", "backend cpu", "backend ref"]
    assert rows[0][0] == "loaded" and f"flashkda {VERSION}, " in rows[0][2]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to make another library with")
def test_two_libraries(status, tmp_path):
    (tmp_path / "a.c").write_text('const char *fkda_version_string(void) { return "9.8.7"; }')
    (tmp_path / "far").mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "far/libflashkda.so.9", tmp_path / "a.c"], check=True)
    (tmp_path / "far/libflashkda.so").symlink_to("libflashkda.so.9")
    (tmp_path / "libflashkda.so.8").write_text("no library")
    rows = [row for row in examined(1, LD_LIBRARY_PATH=f"{tmp_path}/far::{tmp_path}:{tmp_path}/none") if row[0] == "library" and row[1] == "wrong"]
    assert len(rows) == 2
    assert rows[0][2] == f"{tmp_path}/far/libflashkda.so.9 is version 9.8.7, but the library that is loaded is {VERSION}"
    assert rows[1][2].startswith(f"{tmp_path}/libflashkda.so.8 is no library of flashkda: ")


def test_headers(status, tmp_path):
    header = (ROOT / "include/flashkda.h").read_text()
    assert ("header", "ok", f"{VERSION}, {ROOT}/include/flashkda.h", "") in examined(CPATH=f"{ROOT}/include")
    (tmp_path / "flashkda.h").write_text(header.replace("#define FKDA_VERSION_MINOR ", "#define FKDA_VERSION_MINOR 7"))
    row = next(row for row in examined(1, CPATH=f"/none:{tmp_path}") if row[0] == "header")
    assert row[1] == "wrong" and f"{tmp_path}/flashkda.h is version 0.7" in row[2] and "one source tree" in row[3]
    (tmp_path / "flashkda.h").write_bytes(b"\x00\xff" * 5000)
    assert any("is version unreadable" in row[2] for row in examined(1, CPATH=str(tmp_path)))


def test_the_instruction_set(status):
    row = next(row for row in examined(1, FKDA_CPU_ISA="sse") if row[0] == "backend cpu")
    assert row[1] == "wrong" and row[3] == "unset FKDA_CPU_ISA" and '"sse"' in row[2]
    assert ("environment", "note") in [row[:2] for row in examined(FKDA_CPU_ISA="scalar")]


def test_names_that_cannot_be_printed(status, tmp_path):
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J"))
    folder.mkdir()
    (folder / "flashkda.h").write_text("")
    env = {**CLEAN, "CPATH": str(folder)}
    assert r"\xff\x1b[2J/flashkda.h is version unreadable" in flashkda("doctor", expect=1, env=env).out
    assert r"\xff\x1b[2J" in flashkda("doctor", "--json", expect=1, env=env).json["checks"][1]["text"]
