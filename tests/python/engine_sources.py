"""Files of the engines' wheels, as they are on PyPI: never committed, kept in build/engines (FKDA_ENGINE_SOURCES: another folder).

`make check-long` fetches them (`pip download`, 40 MB and 340 MB, of which a few files stay); elsewhere tests that need them skip, unless they are
there. `python tests/python/engine_sources.py` fetches them by hand.
"""

import ast
import contextlib
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import zipfile

FOLDER = pathlib.Path(os.environ.get("FKDA_ENGINE_SOURCES") or pathlib.Path(__file__).parents[2] / "build/engines")
LINEAR = "sglang/srt/layers/attention/linear"
KIMI, GLM = "vllm/models/kimi_k3/nvidia", "vllm/models/glm5next"
FILES = {
    "sglang==0.5.23": [
        f"{LINEAR}/kda_backend.py", f"{LINEAR}/utils.py", f"{LINEAR}/kernels/kernel_backend.py", f"{LINEAR}/kernels/kda_triton.py",
        f"{LINEAR}/kernels/kda_flashkda.py", "sglang/kernels/ops/attention/kda_fused_decode.py", "sglang/srt/plugins/__init__.py",
        "sglang/srt/plugins/hook_registry.py",
    ],
    "vllm==0.33.0": [
        f"{KIMI}/kda.py", f"{KIMI}/ops/third_party/kda/fused_recurrent.py", f"{KIMI}/ops/third_party/kda/chunk.py",
        f"{GLM}/nvidia/ops/third_party/kda/kernels.py",
        "vllm/_custom_ops.py", "vllm/plugins/__init__.py", "vllm/_flashkda_C.abi3.so",
    ],
}  # fmt: skip


def fetch(project):
    """Downloads the wheel and keeps the files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "-d", folder]
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (34, 28)]
        subprocess.run([*command, *platforms, project], check=True)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
            for file in FILES[project]:
                wheel.extract(file, FOLDER)


def sources(project):
    """The folder with the files of the project, or None: they are not there, and this is no run that fetches them."""
    is_there = all((FOLDER / file).exists() for file in FILES[project])
    if not is_there and os.environ.get("FKDA_TEST_DRAWS", "").startswith("all"):
        with contextlib.suppress(subprocess.CalledProcessError):  # no network
            fetch(project)
            is_there = True
    return FOLDER if is_there else None


def alone(file, names, head=""):
    """Source text: the classes and functions of these names as they stand in a file of theirs, behind a head that imports what they need."""
    source = (FOLDER / file).read_text()
    nodes = {node.name: node for node in ast.parse(source).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    return "\n\n\n".join([head, *(ast.get_source_segment(source, nodes[name]) for name in names)])


MISSING = "the files of {} are not in build/engines; make check-long fetches them, where pip reaches them"


@contextlib.contextmanager
def modules(prefixes, stand_ins, folders=()):
    """Imports of `prefixes` find the stand-ins, name -> attributes, and the files of these folders; everything is forgotten afterwards."""
    is_theirs = lambda name: name.split(".")[0] in prefixes
    before = {name: module for name, module in sys.modules.items() if is_theirs(name)}
    for name in before:
        del sys.modules[name]
    for name, attributes in stand_ins.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)
        if not folders:
            sys.modules[name].__path__ = []
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(str(folder))
        for name in [name for name in sys.modules if is_theirs(name)]:
            del sys.modules[name]
        sys.modules.update(before)


if __name__ == "__main__":
    for name in FILES:
        fetch(name)
