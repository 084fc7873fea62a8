"""What the module says of itself: build_info, backends, and ``python -m flash_kda``."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

import flash_kda


def command(*options, before="", **environment):
    """``python -m flash_kda`` in a folder without packages; `before` runs in the same process."""
    code = f"{before}\nimport runpy, sys\nsys.argv[1:] = {options!r}\nrunpy.run_module('flash_kda', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def test_backends():
    found = flash_kda.backends()
    assert list(found) == ["cuda", "cpu", "ref"]
    assert all(isinstance(x.available, bool) and x.text and tuple(x) == (x.available, x.text) for x in found.values())
    assert found["cpu"].available and found["ref"].available
    if not found["cuda"].available and "CUDA off" in flash_kda.build_info():
        assert found["cuda"].text == "this library was built without CUDA"


def test_build_info():
    assert isinstance(flash_kda.build_info(), str) and "CUDA" in flash_kda.build_info()
    assert "flash_kda.build_info" not in flash_kda.build_info() and {"backends", "build_info", "Backend"} <= set(flash_kda.__all__)


def test_text():
    status, text, errors = command()
    assert status == 0 and not errors
    assert text.startswith(f"flash_kda {flash_kda.__version__}\n") and flash_kda.__file__ in text and flash_kda.build_info() in text
    for name, backend in flash_kda.backends().items():
        assert any(f" {name} " in line and backend.text in line and (" on " in line) == backend.available for line in text.splitlines())
    assert f"torch     {importlib.metadata.version('torch')}" in text and "chunk_kda calls flash_kda when grad is off" in text


def test_json():
    status, text, errors = command("--json", FLA_FLASH_KDA="1")
    facts = json.loads(text)
    assert status == 0 and not errors and text.count("\n") == 1
    assert list(facts) == ["version", "file", "build", "backends", "torch", "fla"]
    assert facts["version"] == flash_kda.__version__ and facts["file"] == flash_kda.__file__ and facts["build"] == flash_kda.build_info()
    assert facts["backends"] == {name: backend._asdict() for name, backend in flash_kda.backends().items()}
    assert facts["torch"] == importlib.metadata.version("torch") and facts["fla"]["version"] == importlib.metadata.version("flash-linear-attention")
    assert facts["fla"]["calls_flash_kda"] is True


@pytest.mark.parametrize("environment", [{"FLA_FLASH_KDA": "0"}, {"FLA_DISABLE_BACKEND_DISPATCH": "1"}], ids=str)
def test_fla_turned_off(environment):
    (variable,) = environment
    fla = json.loads(command("--json", **{"FLA_FLASH_KDA": "1", **environment})[1])["fla"]
    assert fla["calls_flash_kda"] is False and variable in fla["text"]


HIDE = """
import importlib.abc, importlib.metadata, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "fla"):
            raise ModuleNotFoundError(name)
hidden = importlib.metadata.version
def version(name):
    if name in ("torch", "flash-linear-attention", "fla-core"):
        raise importlib.metadata.PackageNotFoundError(name)
    return hidden(name)
importlib.metadata.version = version
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("torch", "fla") else found(name, *more)
sys.meta_path.insert(0, Hide())
"""


def test_without_torch_and_fla():
    status, text, errors = command(before=HIDE)
    assert status == 0 and "torch     not installed" in text and "fla       not installed" in text, errors


def test_imports_no_torch():
    status, text, errors = command(before="import sys; sys.modules['torch'] = sys.modules['fla'] = None")
    assert status == 0 and f"flash_kda {flash_kda.__version__}" in text, errors


def test_unknown_option():
    status, text, errors = command("--nonsense")
    assert status == 2 and not text and "--nonsense" in errors
