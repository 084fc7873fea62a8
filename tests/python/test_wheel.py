"""cmake/glibc_stubs.py: what is linked against its stand-ins needs nothing newer, and runs. tools/wheel.py: finds what is wrong with a module, and
(check-long) makes a wheel without CUDA."""

import pathlib
import platform
import re
import subprocess
import sys

import pytest

from conftest import LONG

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from wheel import GLIBC, faults, numbers  # noqa: E402

# Symbols that moved from one library to another (2.34), have several versions (exp: 2.29), belong to libc_nonshared.a (pthread_atfork).
USER = """
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static __thread double seen;
static void *work(void *x) { seen = exp(*(double *)x); *(double *)x = seen; errno = ERANGE; return x; }
double answer(double x)
{
    pthread_t thread;
    sem_t sem;
    if (sem_init(&sem, 0, 1) || sem_wait(&sem) || pthread_atfork(NULL, NULL, NULL)) return -1;
    errno = 0;
    if (pthread_create(&thread, NULL, work, &x) || pthread_join(thread, NULL) || errno || seen) return -2;
    char copy[8];
    memcpy(copy, strstr("xx printf", "print"), 7);
    return dlsym(RTLD_DEFAULT, copy) ? x : -3;
}
"""
MAIN = USER + 'int main(void) { fprintf(stdout, "%.15g\\n", answer(1)); return 0; }'


def compiled(folder, source, *options):
    """(path of what was made, what the compiler said)"""
    made = folder / "made"
    command = ["cc", "-x", "c", "-", "-o", made, "-D_GNU_SOURCE", "-O1", *options, "-lm"]
    done = subprocess.run(command, input=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return made if done.returncode == 0 else None, done.stdout


@pytest.fixture(scope="module", params=["2.17", GLIBC])
def stubs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("glibc")
    subprocess.run([sys.executable, ROOT / "cmake/glibc_stubs.py", folder, request.param], check=True)
    return request.param, folder


def newest_version(file):
    printed = subprocess.run(["readelf", "--dyn-syms", "-W", file], stdout=subprocess.PIPE, text=True, check=True).stdout
    return max((numbers(version) for version in re.findall(r"@+GLIBC_([0-9.]+)", printed)), default=(0,))


def test_an_older_library_is_asked_for_and_this_one_answers(stubs, tmp_path):
    version, folder = stubs
    program, said = compiled(tmp_path, MAIN, f"-L{folder}")
    assert program, said
    assert newest_version(program) <= numbers(version)
    assert subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout == "2.71828182845905\n"
    module, said = compiled(tmp_path, USER, f"-L{folder}", "-shared", "-fPIC")
    assert module and list(faults(module, version)) == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the versions of other machines begin with 2.17")
def test_of_older_versions_the_newest(stubs):
    """The first pthread_cond_wait, say, has a pthread_cond_t of its own."""
    printed = subprocess.run(["readelf", "--dyn-syms", "-W", stubs[1] / "libc.so.6"], stdout=subprocess.PIPE, text=True, check=True).stdout
    newest = {"pthread_cond_wait": "2.3.2", "memcpy": "2.14", "regexec": "2.3.4", "realpath": "2.3", "sched_setaffinity": "2.3.4", "nftw": "2.3.3"}
    assert {name: re.findall(rf" {name}@@GLIBC_(\S*)", printed) for name in newest} == {name: [version] for name, version in newest.items()}


def test_what_came_later_is_missing(stubs, tmp_path):
    version, folder = stubs
    later = "#include <stdlib.h>\nint later(void) { return (int)arc4random(); }"    # 2.36
    program, said = compiled(tmp_path, f"{later} int main(void) {{ return later(); }}", f"-L{folder}")
    assert program is None and re.search(r"undefined reference to .arc4random", said)
    module, said = compiled(tmp_path, later, f"-L{folder}", "-shared", "-fPIC")
    assert list(faults(module, version)) == [f"glibc {version} has no arc4random"]


@pytest.mark.parametrize("options,sentence", [
    ([], r"pthread_create is that of glibc 2\.\d+, but at most 2\.17 is wanted"),
    (["-Wl,-rpath,/somewhere"], "it has a path of libraries, which is one of this machine"),
    (["-Wl,--no-as-needed", "-lgcc_s"], r"it needs libgcc_s\.so\.1"),
])  # fmt: skip
def test_faults(options, sentence, tmp_path):
    module, said = compiled(tmp_path, USER, "-shared", "-fPIC", *options)
    assert module, said
    assert any(re.fullmatch(sentence, fault) for fault in faults(module, "2.17"))


@LONG
def test_a_wheel(tmp_path):
    """Without CUDA, by the tool itself: source archive, wheel from it, auditwheel's verdict, started alone."""
    if subprocess.run([ROOT / "tools/bootstrap", "wheel"]).returncode != 0:
        pytest.skip("tools/bootstrap wheel could not install auditwheel")
    done = subprocess.run([sys.executable, ROOT / "tools/wheel.py", "--without-cuda"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    platform = f"manylinux_{GLIBC.replace('.', '_')}"
    assert re.search(rf"MB  out/wheel-cpu/flashkda-[\d.]+-cp310-abi3-{platform}_\w+\.whl\n", done.stdout)
    assert re.search(r'consistent with the following platform tag: "manylinux_2_(\d+)', done.stdout)
