"""Installing from source: what FKDA_CUDA and nvcc decide, what the source distribution holds, a wheel without nvcc in an environment of its own."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
import scikit_build_core

from conftest import FEW

ROOT = pathlib.Path(__file__).parents[2]
NO_NVCC = "CUDA off: no CUDA toolkit found (nvcc)"
TRUE = ["ON", "on", "1", "TRUE", "True", "yes", "Y"]
FALSE = ["OFF", "off", "0", "False", "NO", "n"]


def environment(**changes):
    """This process's environment without what names a CUDA compiler."""
    names = ("CUDACXX", "CUDAHOSTCXX", "CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT", "CMAKE_ARGS")
    return {**{name: value for name, value in os.environ.items() if name not in names}, **changes}


@pytest.fixture(scope="module")
def no_nvcc(tmp_path_factory):
    """(environment, CMake options) that hide every nvcc: a folder that has one is replaced by links to its other programs."""
    path, hidden = [], ["/usr/local/cuda/bin", "/usr/local/bin"]
    for folder in os.environ["PATH"].split(os.pathsep):
        if os.access(os.path.join(folder, "nvcc"), os.X_OK):
            hidden.append(folder)
            links = tmp_path_factory.mktemp("bin")
            for program in pathlib.Path(folder).iterdir():
                if program.name != "nvcc":
                    (links / program.name).symlink_to(program)
            folder = str(links)
        path.append(folder)
    return environment(PATH=os.pathsep.join(path)), ["-DCMAKE_IGNORE_PATH=" + ";".join(hidden)]


def configure(build, env, *options):
    """(did it succeed, what CMake printed, in one line)"""
    done = subprocess.run(["cmake", "-S", ROOT, "-B", build, "-DFKDA_BUILD_CLI=OFF", *options], env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    return done.returncode == 0, " ".join(done.stdout.split())


def with_nvcc(folder, script):
    """An environment whose first nvcc is this shell script."""
    (folder / "bin").mkdir()
    nvcc = folder / "bin/nvcc"
    nvcc.write_text(f"#!/bin/sh\n{script}\n")
    nvcc.chmod(0o755)
    return environment(PATH=f"{folder}/bin{os.pathsep}{os.environ['PATH']}")


def is_refused(configured, *words):
    succeeded, printed = configured
    sentences = re.findall(r"flashkda: .*?(?= Call Stack)", printed)
    return not succeeded and len(sentences) == 1 and all(word in sentences[0] for word in (*words, "-DFKDA_CUDA=OFF"))


# ---------------------------------------------------------------- FKDA_CUDA and nvcc


def test_without_nvcc(no_nvcc, tmp_path):
    env, hide = no_nvcc
    for option in ([], ["-DFKDA_CUDA=AUTO"], ["-DFKDA_CUDA=auto"]):
        succeeded, printed = configure(tmp_path / "auto", env, *hide, *option)
        assert succeeded and f"flashkda: {NO_NVCC}" in printed, printed
    for value in TRUE:
        succeeded, printed = configure(tmp_path / "on", env, *hide, f"-DFKDA_CUDA={value}")
        assert not succeeded and f"flashkda: FKDA_CUDA={value}, but no CUDA toolkit was found" in printed, printed


VERSION_13 = 'case $1 in --version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit;; esac'
BAD_NVCC = {
    "too old": ('echo "Cuda compilation tools, release 12.8, V12.8.93"', "is of CUDA 12.8.93, but the kernels need 12.9 or later"),
    "not an nvcc": ("echo clang", "does not tell its version as nvcc does"),
    "cannot start": ("exit 126", "does not tell its version as nvcc does"),
    "wrong host compiler": (f"{VERSION_13}; echo 'host_config.h:139: error: #error -- unsupported GNU version!' >&2; exit 1",
                            "cannot compile an empty kernel (host_config.h:139: error: #error -- unsupported GNU version!;"),
    "no host compiler": (f"{VERSION_13}; echo 'sh: 1: g++: not found' >&2; exit 1", "cannot compile an empty kernel (sh: 1: g++: not found;"),
    "no runtime": (f"{VERSION_13}; exit 0", "has no static CUDA runtime (libcudart_static.a) beside it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_NVCC)
def test_an_nvcc_that_cannot_be_used_is_refused(kind, tmp_path, no_nvcc):
    script, sentence = BAD_NVCC[kind]
    env = with_nvcc(tmp_path, script)
    for option in ([], ["-DFKDA_CUDA=ON"]):
        configured = configure(tmp_path / "b", env, *option)
        assert is_refused(configured, f"{tmp_path}/bin/nvcc {sentence}"), configured[1]
    succeeded, printed = configure(tmp_path / "b", env, "-DFKDA_CUDA=OFF")
    assert succeeded and "flashkda: CUDA off: FKDA_CUDA=OFF" in printed, printed
    env, hide = no_nvcc
    succeeded, printed = configure(tmp_path / "b", env, *hide, "-DFKDA_CUDA=AUTO")
    assert succeeded and NO_NVCC in printed, f"the folder still knows the refused nvcc: {printed}"


def test_the_compiler_that_is_named_is_used(tmp_path):
    env = with_nvcc(tmp_path, "exit 1")
    (tmp_path / "old nvcc").write_text("#!/bin/sh\n" + BAD_NVCC["too old"][0])
    (tmp_path / "old nvcc").chmod(0o755)
    for option, more in ([f"-DCMAKE_CUDA_COMPILER={tmp_path}/old nvcc"], {}), ([], {"CUDACXX": f"{tmp_path}/old nvcc"}):
        configured = configure(tmp_path / "b", {**env, **more}, *option)
        assert is_refused(configured, f"{tmp_path}/old nvcc is of CUDA 12.8.93"), configured[1]
        shutil.rmtree(tmp_path / "b")
    succeeded, printed = configure(tmp_path / "c", {**env, "CUDACXX": "no-such-nvcc"})
    assert not succeeded and '"no-such-nvcc" (CMAKE_CUDA_COMPILER or CUDACXX), but there is no such program' in printed, printed


def test_values(tmp_path):
    for value in FALSE:
        succeeded, printed = configure(tmp_path, environment(), f"-DFKDA_CUDA={value}")
        assert succeeded and "flashkda: CUDA off: FKDA_CUDA=OFF" in printed, printed
    for value in ("2", "maybe", "ONE", "", "OF"):
        succeeded, printed = configure(tmp_path, environment(), f"-DFKDA_CUDA={value}")
        assert not succeeded and f'FKDA_CUDA is "{value}", but must be AUTO, ON (1, TRUE, YES, Y) or OFF (0, FALSE, NO, N)' in printed, printed


def cuda_of_this_machine():
    """What the build is to say of CUDA where nothing is hidden from it."""
    nvcc = shutil.which("nvcc", path=os.pathsep.join([os.environ["PATH"], "/usr/local/cuda/bin"]))
    if nvcc is None:
        return NO_NVCC
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return f"CUDA {re.search(r'V([0-9.]+)', version).group(1)} sm_80 sm_86 sm_89 sm_90a sm_100 sm_103 sm_120"


def test_with_what_this_machine_has(tmp_path):
    """AUTO finds the nvcc of this machine, and so do true values, all of which are read above; so is a machine that has none."""
    wanted = cuda_of_this_machine()
    for value in ["AUTO"] if wanted == NO_NVCC else ["AUTO", "ON", "yes"]:
        succeeded, printed = configure(tmp_path, environment(), f"-DFKDA_CUDA={value}")
        assert succeeded and f"flashkda: {wanted}" in printed, printed


# ---------------------------------------------------------------- pip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The working tree as a clone has it: nothing that was built in it."""
    built = re.compile(r"build.*|\.venv|\.cache|out|\.git|__pycache__")
    copy = tmp_path_factory.mktemp("clone") / "a clone"
    shutil.copytree(ROOT, copy, ignore=lambda folder, names: [
        name for name in names if built.fullmatch(name) and os.path.isdir(os.path.join(folder, name))])  # fmt: skip
    return copy


def must(*command, **options):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def pip_options(tmp_path_factory):
    """(options, environment) of pip install: none; without a package index the build takes scikit-build-core from this Python."""
    requirement = re.search(r'requires = \["(.*)"\]', (ROOT / "pyproject.toml").read_text()).group(1)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", tmp_path_factory.mktemp("index"), requirement]
    if subprocess.run(command, capture_output=True).returncode == 0:
        return [], {}
    return ["--no-build-isolation"], {"PYTHONPATH": str(pathlib.Path(scikit_build_core.__file__).parents[1])}


def check_installed(python, wanted, cwd):
    """The installed module says what it was built with, and holds nothing else of the build."""
    printed = must(python, "-c", "import flash_kda; print(flash_kda._core.build_info); print(flash_kda.__file__)", cwd=cwd)
    assert wanted in printed
    package = pathlib.Path(printed.split()[-1]).parent
    strays = [file.name for file in package.rglob("*") if file.suffix in (".h", ".a", ".c", ".cmake")]
    assert package.name == "flash_kda" and strays == []


def test_pip_install_without_nvcc(source, no_nvcc, pip_options, tmp_path):
    """In an environment of its own."""
    env = {**no_nvcc[0], **pip_options[1], "CMAKE_ARGS": no_nvcc[1][0]}
    must(sys.executable, "-m", "venv", tmp_path)
    hasty = ["--config-settings=cmake.build-type=Debug"] if FEW else []  # optimised is the wheel that these tests are of
    must(tmp_path / "bin/python", "-m", "pip", "install", "--quiet", *pip_options[0], *hasty, ".", cwd=source, env=env)
    check_installed(tmp_path / "bin/python", NO_NVCC, "/")
    assert not (source / "build").exists() and not list(source.glob("build-*"))


def test_pip_install_as_it_is():
    """The module that these tests are of, which `pip install` put here with what this machine has."""
    check_installed(sys.executable, cuda_of_this_machine(), "/")


def test_source_distribution(tmp_path):
    must(sys.executable, "-c", "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])", tmp_path, cwd=ROOT)
    (archive,) = tmp_path.glob("flashkda-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    needed = {str(file.relative_to(ROOT)) for folder in ("cmake", "include", "python", "src") for file in (ROOT / folder).rglob("*")
              if file.is_file() and "__pycache__" not in file.parts}  # fmt: skip
    assert names == needed | {"CMakeLists.txt", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
