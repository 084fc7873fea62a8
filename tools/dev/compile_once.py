#!/usr/bin/env python3
"""Compiles what was not compiled before: a launcher for nvcc. `make check` builds the kernels in several folders, with the same options.

    FKDA_COMPILED=folder cmake -DCMAKE_CUDA_COMPILER_LAUNCHER=tools/dev/compile_once.py ...

An entry of the folder belongs to one command, whatever its output is called. It is taken if the compilers and every file that was read are the
same, and made anew otherwise. Who asks for the same command meanwhile waits. Without FKDA_COMPILED the command just runs.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

OF_OUTPUT = ("-o", "-MT", "-MF", "-keep-dir")    # options whose value tells where results go, and nothing of what is in them


def value_of(command, option):
    return pathlib.Path(command[command.index(option) + 1])


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def key_of(command):
    """Of everything that decides what a command makes, but the files that it reads."""
    words, meaning = iter(command[1:]), []
    for word in words:
        if word in OF_OUTPUT:
            next(words)
        elif word == "--options-file":
            meaning += shlex.split(pathlib.Path(next(words)).read_text())
        else:
            meaning.append(word)
    versions = [subprocess.run([compiler, "--version"], stdout=subprocess.PIPE, text=True).stdout for compiler in (command[0], "c++")]
    environment = [os.environ.get(name) for name in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CPATH", "CPLUS_INCLUDE_PATH")]
    return hashlib.sha256(json.dumps([versions, meaning, environment]).encode()).hexdigest()[:32]


def files_read(dependencies):
    """The files of a makefile's rule."""
    text = re.split(r":\s", dependencies, maxsplit=1)[1].replace("\\\n", " ")
    return {re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"(?:\\.|\S)+", text)}


def is_as_it_was(entry):
    with contextlib.suppress(OSError, ValueError, KeyError):
        return all(digest(path) == was for path, was in json.loads((entry / "read.json").read_text()).items())
    return False


def make(entry, command, results):
    """Runs the command, and notes what it read and made if it succeeded."""
    began = time.time()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        shutil.rmtree(entry, ignore_errors=True)
        entry.mkdir()
        for number, result in enumerate(results):
            shutil.copyfile(result, entry / str(number))
        (entry / "printed").write_text(done.stderr)
        read = files_read(value_of(command, "-MF").read_text())
        if all(os.stat(path).st_mtime < began for path in read):    # none was edited meanwhile
            (entry / "read.json").write_text(json.dumps({path: digest(path) for path in sorted(read)}))    # last: the entry is whole
    return done.returncode, done.stderr


def take(entry, command, results):
    for number, result in enumerate(results):
        shutil.copyfile(entry / str(number), result)
    if "-MT" in command:
        dependencies = value_of(command, "-MF")    # a rule, which gets this command's target
        dependencies.write_text(f"{value_of(command, '-MT')} : " + re.split(r":\s", dependencies.read_text(), maxsplit=1)[1])
    return 0, (entry / "printed").read_text()


def compile_once(command, results):
    """Runs a command with -MF, which makes these results and its file of dependencies, or copies what it made before. Returns its exit status and
    what it printed."""
    folder = os.environ.get("FKDA_COMPILED")
    if not folder:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr
    entry = pathlib.Path(folder) / key_of(command)
    entry.parent.mkdir(parents=True, exist_ok=True)
    results = [value_of(command, "-MF"), *results]
    with open(f"{entry}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return take(entry, command, results) if is_as_it_was(entry) else make(entry, command, results)


def main():
    command = sys.argv[1:]
    if "-MF" not in command or "-o" not in command:
        os.execvp(command[0], command)
    status, printed = compile_once(command, [value_of(command, "-o")])
    sys.stderr.write(printed)
    sys.exit(status)


if __name__ == "__main__":
    main()
