"""``python -m flash_kda doctor``: what it says of things that do not fit together, each of them made here."""

import collections
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest
import torch

import flash_kda
from flash_kda import __main__ as command
from flash_kda import _doctor as doctor

Backend = collections.namedtuple("Backend", "available text")


def found(check, state):
    return [x for x in check() if x.state == state]


@pytest.fixture(autouse=True)
def a_machine_without_others(monkeypatch):
    """What this machine happens to have does not matter."""
    for name in ("FLA_FLASH_KDA", "FLA_DISABLE_BACKEND_DISPATCH", "FKDA_CPU_ISA", "LD_LIBRARY_PATH", "CPATH"):
        monkeypatch.delenv(name, raising=False)
    look, before = doctor._other_modules, doctor._other_modules()
    monkeypatch.setattr(doctor, "_other_modules", lambda: [place for place in look() if place not in before])


def test_all_of_it():
    """In a process of its own: text and JSON say the same, the exit status says whether something is wrong."""
    run = lambda *options: subprocess.run([sys.executable, "-m", "flash_kda", "doctor", *options], cwd="/", capture_output=True, text=True)
    done = run("--json")
    facts = json.loads(done.stdout)
    assert facts["version"] == flash_kda.__version__ and done.stderr == "" and done.stdout.count("\n") == 1
    assert facts["ok"] == (done.returncode == 0) == all(x["state"] != "wrong" for x in facts["checks"]) and done.returncode in (0, 1)
    assert {"module", "backend cuda", "backend cpu", "backend ref", "torch", "fla", "transformers"} <= {x["name"] for x in facts["checks"]}
    assert all(x["state"] in ("ok", "note", "wrong") and x["text"] and (x["state"] == "ok" or x["suggestion"]) for x in facts["checks"])


@pytest.mark.parametrize("kind", ["folder", "package", "file"])
def test_another_module_of_the_name(tmp_path, monkeypatch, kind):
    place = tmp_path / ("flash_kda.py" if kind == "file" else "flash_kda")
    place.touch() if kind == "file" else place.mkdir()
    if kind == "package":
        (place / "__init__.py").touch()
    assert not found(doctor.check_module, "wrong")
    monkeypatch.syspath_prepend(tmp_path)
    (wrong,) = found(doctor.check_module, "wrong")
    assert str(place) in wrong.text and str(place) in wrong.suggestion


def test_packages(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "packages_distributions", lambda: {"flash_kda": ["flashkda", "flash-kda", "flashkda"]})
    monkeypatch.setattr(doctor, "version_of", lambda *names: "0.0.7")
    texts = [x.text for x in found(doctor.check_module, "wrong")]
    assert texts[0] == f"pip says flashkda 0.0.7, but the module is {flash_kda.__version__}" and "flash-kda also installs" in texts[1]
    monkeypatch.setattr(doctor, "version_of", lambda *names: None)
    assert "pip knows no flashkda" in found(doctor.check_module, "note")[0].text


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to make another library with")
def test_two_libraries(tmp_path, monkeypatch):
    source, text = tmp_path / "a.c", 'const char *fkda_version_string(void) { return "9.8.7"; }'
    source.write_text(text)
    (tmp_path / "old").mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "old/libflashkda.so.9", source], check=True)
    (tmp_path / "old/libflashkda.so").symlink_to("libflashkda.so.9")
    (tmp_path / "libflashkda.so").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/old::{tmp_path}")
    wrong = [x for x in found(doctor.check_versions, "wrong") if str(tmp_path) in x.text]
    assert len(wrong) == 2 and all(x.suggestion for x in wrong)
    assert any("old/libflashkda.so.9 is version 9.8.7" in x.text for x in wrong) and any("unreadable" in x.text for x in wrong)


def test_another_header_and_command_line(tmp_path, monkeypatch):
    (tmp_path / "flashkda.h").write_text("#define FKDA_VERSION_MAJOR 0\n#define FKDA_VERSION_MINOR 0\n#define FKDA_VERSION_PATCH 9\n")
    (tmp_path / "flashkda").write_text("#!/bin/sh\necho flashkda 0.0.8\n")
    (tmp_path / "flashkda").chmod(0o755)
    monkeypatch.setenv("CPATH", f":{tmp_path}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    texts = {x.name: x.text for x in found(doctor.check_versions, "wrong")}
    assert "0.0.9" in texts["header"] and "0.0.8" in texts["command line"]
    header = pathlib.Path(__file__).parents[2] / "include"
    (tmp_path / "flashkda").write_text(f"#!/bin/sh\necho flashkda {flash_kda.__version__}\n")
    monkeypatch.setenv("CPATH", str(header))
    good = {x.text for x in found(doctor.check_versions, "ok")}
    assert {f"{flash_kda.__version__}, {header}/flashkda.h", f"{flash_kda.__version__}, {tmp_path}/flashkda"} <= good


def test_backends_that_are_off(monkeypatch):
    states = lambda: {x.name: (x.state, x.suggestion) for x in doctor.check_backends()}
    backends = {"cuda": Backend(False, "this library was built without CUDA"), "cpu": Backend(True, "avx2"), "ref": Backend(True, "float64")}
    monkeypatch.setattr(flash_kda, "backends", lambda: backends)
    monkeypatch.setattr(doctor, "_has_gpu", lambda: False)
    assert {state for state, _ in states().values()} == {"ok"}
    monkeypatch.setattr(doctor, "_has_gpu", lambda: True)
    assert states()["backend cuda"][0] == "wrong" and "CUDA toolkit" in states()["backend cuda"][1]
    backends["cuda"] = Backend(False, "the driver is too old: 11.8")
    assert states()["backend cuda"] == ("wrong", "update the driver")
    backends["cpu"] = Backend(False, "FKDA_CPU_ISA = sse is no instruction set of this machine")
    assert states()["backend cpu"] == ("wrong", "unset FKDA_CPU_ISA")
    backends["cpu"] = Backend(True, "scalar")
    monkeypatch.setenv("FKDA_CPU_ISA", "scalar")
    assert states()["environment"][0] == "note"


def test_torches(monkeypatch):
    states = lambda: [(x.state, x.text) for x in doctor.check_torch()]
    assert states()[0] == ("ok", torch.__version__)
    real = importlib.import_module
    old = types.SimpleNamespace(__version__="2.3.1+cpu", cuda=torch.cuda)
    monkeypatch.setattr(importlib, "import_module", lambda name: old if name == "torch" else real(name))
    assert states()[0][0] == "wrong" and "2.3.1+cpu is older than 2.4" in states()[0][1]
    old.__version__ = "2.6.0"
    monkeypatch.setattr(flash_kda._core, "_use_exchange_table", lambda wanted: False)
    assert states()[0][0] == "note" and "no exchange table" in states()[0][1]

    def broken(name):
        raise OSError("libtorch.so is torn")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert states() == [("wrong", "cannot be imported: libtorch.so is torn")]
    monkeypatch.setattr(doctor, "version_of", lambda *names: None)
    assert "not installed" in states()[0][1]


@pytest.mark.parametrize("variable,value", [("FLA_FLASH_KDA", "0"), ("FLA_DISABLE_BACKEND_DISPATCH", "1")])
def test_fla_turned_off(monkeypatch, variable, value):
    assert not found(doctor.check_fla, "wrong")
    monkeypatch.setenv(variable, value)
    (wrong,) = found(doctor.check_fla, "wrong")
    assert variable in wrong.text and wrong.suggestion == f"unset {variable}"


def test_versions_of_fla(monkeypatch):
    versions = {"fla-core": "0.5.1"}
    monkeypatch.setattr(doctor, "version_of", lambda *names: next((versions[x] for x in names if x in versions), None))
    assert any("drops allow_neg_eigval" in x.text for x in found(doctor.check_fla, "note"))
    assert any("decode stays with FLA" in x.text for x in found(doctor.check_fla, "note"))
    versions["transformers"] = "5.23.0"
    assert [x.state for x in doctor.check_transformers()] == ["ok"]
    del versions["fla-core"]
    assert "not installed" in found(doctor.check_fla, "note")[0].text
    assert "in Python" in found(doctor.check_transformers, "note")[0].text
    versions.clear()
    assert list(doctor.check_transformers()) == []


def test_a_call(fla_with_us):
    """Which conditions a call misses: of FLA's own backend the first, of ours all."""
    told = lambda *words: [(x.state, x.text) for x in doctor.check_call(list(words))]
    assert [state for state, _ in told("T=8", "use_qk_l2norm_in_kernel=on", "state=on")] == ["note", "ok"]
    full = ["use_gate_in_kernel=on", "use_qk_l2norm_in_kernel=on", "use_beta_sigmoid_in_kernel=on", "safe_gate=on", "lower_bound=-5"]
    assert [state for state, _ in told("T=8", *full, "state_v_first=on")] == ["ok", "ok"]
    missed = told("T=8", "D=64", "HV=4", "dtype=float64", "chunk_size=16", "packed=on")
    assert missed[0][0] == "note" and "requires bfloat16" in missed[0][1]
    assert [state for state, _ in missed[1:]] == ["wrong"] * 4 and "chunk_size is 16" in missed[1][1] and "torch.float64" in missed[2][1]
    assert "q requires grad" in told("T=8", "grad=on")[-1][1]
    for word in ("T", "dtype=float3"):
        with pytest.raises(ValueError, match=word.split("=")[-1]):
            doctor.make_call([word])


def test_exit_status_and_text(monkeypatch, capsys):
    state = "note"
    monkeypatch.setattr(doctor, "examine", lambda words: [doctor.Check("a", "ok", "is well", "x"), doctor.Check("b", state, "is so", "do it")])
    monkeypatch.setattr(sys, "argv", ["flash_kda", "doctor"])
    assert command.main() == 0 and capsys.readouterr().out == f"ok     a{'':13}is well\nnote   b{'':13}is so\n{'':20} -> do it\nnothing is wrong\n"
    state = "wrong"
    assert command.main() == 1 and capsys.readouterr().out.endswith("1 thing is wrong\n")
    monkeypatch.setattr(sys, "argv", ["flash_kda", "doctor", "--json"])
    assert command.main() == 1 and json.loads(capsys.readouterr().out)["ok"] is False
