"""What explains the program: help, version, suggestions, the manual page, completions, and where they are installed."""
import os
import re
import shutil
import stat
import subprocess

import pytest

from conftest import BINARY, flashkda

COMMANDS = ["run", "verify", "bench", "info", "doctor", "completion", "help", "version"]


def options_of(command):
    """[(letter or "", name, value or "")] as the help of the command lists them."""
    return re.findall(r"^  (?:(-\w), )?(--[\w-]+) ?([A-Z][\w.,]*)?  ", flashkda(command, "--help").out, re.M)


def test_help_of_everything():
    top = flashkda("--help")
    assert top.out == flashkda("-h").out == flashkda("help").out and top.text == ""
    assert re.findall(r"^  ([a-z]+) +\w", top.out.split("Commands:")[1].split("\n\n")[0], re.M) == COMMANDS
    for command in COMMANDS:
        done = flashkda(command, "--help")
        assert "Examples:" in done.out and f"flashkda {command}" in done.out and done.text == ""
        assert done.out == flashkda("help", command).out == flashkda("--help", command).out == flashkda(command, "--bad-option", "-h").out
        assert all(len(line) <= 130 for line in done.out.splitlines())
    assert [int(code) for code in re.findall(r"^  (\d)  \w", top.out.split("Exit codes:")[1], re.M)] == [0, 1, 2, 3, 4, 5]


def test_version():
    assert re.fullmatch(r"flashkda \d+\.\d+\.\d+\n", flashkda("--version").out)
    assert flashkda("--version").out == flashkda("-V").out == flashkda("version").out


def test_nothing_prints_the_usage():
    done = flashkda(expect=2)
    assert done.out == "" and "Usage: flashkda COMMAND" in done.text


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
def test_threads_say_what_bounds_them(command):
    text = " ".join(flashkda(command, "--help").out.split())
    assert "as many as CPU affinity, the cgroup's CPU quota and OMP_NUM_THREADS allow" in text


@pytest.mark.parametrize(
    "arguments, meant",
    [
        (["verfy"], "verify"), (["ru"], "run"), (["benhc", "--T", "8"], "bench"), (["--versoin"], "--version"), (["--hepl"], "--help"),
        (["bench", "--bakend", "cpu"], "--backend"), (["bench", "--thread", "2"], "--threads"), (["run", "a", "--ouput=b"], "--output"),
        (["info", "--jsn"], "--json"), (["verify", "a", "--hlep"], "--help"),
    ],
)
def test_the_nearest_word_is_suggested(arguments, meant):
    assert f"; did you mean '{meant}'?\n" in flashkda(*arguments, expect=2).text


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["frobnicate"], "unknown command 'frobnicate'\n"),
        (["verify", "a", "--frobnicate"], "unknown option '--frobnicate'\n"),
        (["--json", "info"], "unknown option '--json' in front of the command"),
        (["help", "nonsense"], "COMMAND is 'nonsense', but it must be one of run, verify, bench, info, doctor, completion, help, version"),
        (["help", "run", "bench"], "unexpected argument 'bench': COMMAND is already 'run'"),
        (["completion"], "SHELL is missing"),
        (["completion", "csh"], "SHELL is 'csh', but it must be one of bash, zsh, fish"),
        (["version", "x"], "unexpected argument 'x'"),
        (["z" * 100000], "unknown command 'zzz"),
        (["run", "--" + "y" * 100000], "unknown option '--yyy"),
    ],
)
def test_what_is_near_nothing(arguments, sentence):
    done = flashkda(*arguments, expect=2)
    assert sentence in done.text and "did you mean" not in done.text and done.out == ""


# ---------------------------------------------------------------- manual page


def test_manual_page_has_everything():
    page = flashkda("help", "--man").out.replace("\\-", "-")
    for command in COMMANDS:
        section = re.search(rf'^\.SS "{command}\b.*?(?=^\.S)', page, re.M | re.S).group()
        for letter, name, value in options_of(command):
            if name != "--help":
                assert re.search(rf"^\.B {letter + ', ' if letter else ''}{name}{' ' + re.escape(value) if value else ''}$", section, re.M), name
    top = flashkda("help").out
    for command, summary in re.findall(r"^  ([a-z]+)  +(.*)$", top.split("Commands:")[1].split("\n\n")[0], re.M):
        assert f".B {command}\n{summary}\n" in page
    assert "also -V, --version" in page
    status = page.split('.SH "EXIT STATUS"')[1]
    for code, text in re.findall(r"^  (\d)  (.*)$", top, re.M):
        assert f".B {code}\n{text}\n" in status
    for variable, text in re.findall(r"^  ([A-Z_]{4,}) +(.*)$", top, re.M):
        assert f".B {variable}\n{text}\n" in page
    assert len(re.findall(r"^flashkda|^  flashkda|^  zstd", page, re.M)) > 10, "examples"


def test_manual_page_is_good_roff():
    page = flashkda("help", "--man").out
    lines = page.splitlines()
    assert lines[0].startswith(".TH FLASHKDA 1 ") and ".SH NAME" in lines[:3]
    for line in lines:
        assert not line.startswith("'") and re.match(r"\.(TH|SH|SS|PP|TP|B|I|br|EX|EE)\b|[^.]|$", line), line
        assert not re.search(r"\\[^-e& ]", line) and not re.search(r"(?<!\\)-", line), line
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-z"], input=page.encode(), stderr=subprocess.PIPE)
        assert done.returncode == 0 and done.stderr == b""


# ---------------------------------------------------------------- completions


@pytest.fixture
def bash(tmp_path):
    script = tmp_path / "flashkda.bash"
    script.write_text(flashkda("completion", "bash").out)
    place = tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    for name in ("a.safetensors", "two words.safetensors", "note.txt"):
        (place / name).write_text("")

    def complete(*words):
        """The candidates for the last word, as bash splits a command line."""
        code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _flashkda; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", code, "bash", script, "flashkda", *words], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == ""
        return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []

    return complete


def test_bash_completes_words(bash):
    assert bash("") == [*COMMANDS, "--help", "-h", "--version", "-V"]
    assert bash("ver") == ["verify", "version"]
    for command in COMMANDS:
        names = [word for letter, name, _ in options_of(command) for word in (letter, name) if word]
        assert set(bash(command, "-")) == set(names)
    assert bash("bench", "--suite", "") == ["quick", "cpu", "seed", "shapes", "decode", "kimi-linear"]
    assert bash("bench", "--backend", "=", "c") == ["cuda", "cpu"] and bash("run", "--out-dtype", "=") == ["bf16", "f32"]
    assert bash("bench", "--T", "") == [] and "--suite" in bash("bench", "")
    assert bash("help", "b") == ["bench"] and bash("completion", "") == ["bash", "zsh", "fish"]


def test_bash_completes_files(bash):
    files = ["sub", "a.safetensors", "two words.safetensors"]
    for words in (["verify", ""], ["run", "-o", ""], ["run", "--output", ""], ["run", "--json", ""], ["run", "--output", "="]):
        assert sorted(bash(*words)) == sorted(files)
    assert bash("run", "a") == ["a.safetensors"]


def test_completions_of_other_shells_hold_every_word(tmp_path):
    for shell in ("zsh", "fish"):
        script = flashkda("completion", shell).out
        for command in COMMANDS:
            assert command in script
            assert all(name.lstrip("-") in script for _, name, _ in options_of(command))
        (tmp_path / shell).write_text(script)
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", tmp_path / shell], stderr=subprocess.PIPE).stderr == b""


# ---------------------------------------------------------------- installed


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A build that was installed and then moved."""
    build, folder = BINARY.parent.parent, tmp_path_factory.mktemp("installed")
    if not (build / "cmake_install.cmake").exists() or not shutil.which("cmake"):
        pytest.skip("not run from a build tree")
    subprocess.run(["cmake", "--install", build, "--prefix", folder / "place"], check=True, stdout=subprocess.DEVNULL)
    return (folder / "place").rename(folder / "moved")


def test_installed_binary_finds_its_library(installed):
    binary = installed / "bin/flashkda"
    assert binary.stat().st_mode & stat.S_IXUSR
    clean = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    listed = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, text=True, env=clean).stdout
    assert re.search(rf"libflashkda\.so\S* => {installed}/", listed)
    assert subprocess.run([binary, "info"], stdout=subprocess.DEVNULL, env=clean).returncode == 0


def test_installed_manual_and_completions(installed):
    for path, arguments in {
        "share/man/man1/flashkda.1": ["help", "--man"],
        "share/bash-completion/completions/flashkda": ["completion", "bash"],
        "share/zsh/site-functions/_flashkda": ["completion", "zsh"],
        "share/fish/vendor_completions.d/flashkda.fish": ["completion", "fish"],
    }.items():
        assert (installed / path).read_text() == flashkda(*arguments).out, path
