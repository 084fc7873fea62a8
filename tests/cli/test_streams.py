"""Standard input, standard output and terminals: pipes, refusals, escape sequences, and outputs that cannot be written."""
import json
import os
import signal
import subprocess

import pytest

from conftest import BINARY, flashkda, on_terminal

ESCAPES = (b"\033", b"\r\033", b"[####")


# ---------------------------------------------------------------- pipes


def test_output_to_standard_output(small, tmp_path):
    flashkda("run", small.path, "-o", tmp_path / "out")
    for command in ("run", "verify"):
        with open(tmp_path / command, "wb") as stream:
            done = flashkda(command, small.path, "-o", "-", stdout=stream)
        assert (tmp_path / command).read_bytes() == (tmp_path / "out").read_bytes()
        assert "wrote standard output" in done.text
    with open(tmp_path / "json", "wb") as stream:
        line = json.loads(flashkda("run", small.path, "-o", "-", "--json", "--quiet", stdout=stream).text)
    assert line["output"] == "-" and (tmp_path / "json").read_bytes() == (tmp_path / "out").read_bytes()


def test_input_from_standard_input(small, tmp_path):
    raw = small.path.read_bytes()
    assert flashkda("verify", "-", "--json", input=raw).json["pass"] is True
    del small.tensors["out"], small.tensors["final_state"]
    assert flashkda("verify", "-", "--json", input=small.save(tmp_path / "bare").read_bytes()).json["out"]["answer"] == "ref"
    with open(small.path, "rb") as stream:
        assert flashkda("verify", "-", stdin=stream).out.startswith("standard input\n")
    flashkda("run", "-", "-o", tmp_path / "a", input=raw)
    flashkda("run", small.path, "-o", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_pipe_of_two(small, tmp_path):
    first = subprocess.Popen([BINARY, "run", small.path, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    done = flashkda("run", "-", "-o", tmp_path / "out", stdin=first.stdout, expect=3)
    assert "standard input: tensor 'q' is missing" in done.text, "the whole header arrived"
    first.stdout.close()
    assert first.wait(60) == 0


def test_broken_streams(small, tmp_path):
    raw = small.path.read_bytes()
    for bytes_, sentence in ((b"", "the file is empty"), (raw[:7], "the file has 7 bytes"), (raw[:20], "bytes, but only 12 bytes follow it"),
                             (raw[:-1], "truncated, or not written to the end"), (raw + b"x", "what follows the last tensor belongs to none"),
                             (bytes(100), "the header length is 0"), (b"\xff" * 100, "perhaps this is not a safetensors file")):
        done = flashkda("run", "-", "-o", tmp_path / "out", input=bytes_, expect=3)
        assert f"standard input: {sentence}" in done.text or (sentence in done.text and "standard input" in done.text)
        assert not (tmp_path / "out").exists()


def test_a_failure_writes_nothing_to_the_pipe(small, tmp_path):
    small.put("cu_seqlens", [0, 33, 32, 40], "I64")
    done = flashkda("run", small.save(tmp_path / "bad"), "-o", "-", expect=3)
    assert done.out == "" and f"{tmp_path}/bad: cu_seqlens[2] = 32" in done.text


def test_the_input_is_never_the_output_stream(small):
    before = small.path.read_bytes()
    with open(small.path, "ab") as same:
        assert "standard output: the output is the same file as the input" in flashkda("run", small.path, "-o", "-", stdout=same, expect=3).text
    with open(small.path, "rb") as same:
        assert "the output is the same file as the input" in flashkda("run", "-", "-o", small.path, "--force", stdin=same, expect=3).text
    assert small.path.read_bytes() == before


def test_a_fifo_is_told_of_the_stream(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "or - for standard input" in flashkda("run", tmp_path / "fifo", "-o", tmp_path / "out", expect=3).text


# ---------------------------------------------------------------- terminals


def test_no_binary_to_or_from_a_terminal(small):
    text, seen = on_terminal("run", small.path, "-o", "-", which="stdout", expect=3)
    assert "standard output: is a terminal, and the output is binary" in text and seen == b""
    _, seen = on_terminal("run", small.path, "-o", "-", "--force", which="stdout")
    assert b'"final_state":{"dtype":"F32"' in seen
    text, _ = on_terminal("verify", "-", which="stdin", expect=3)
    assert "standard input: is a terminal, but a safetensors file is needed" in text


def commands_on(small, tmp_path):
    return {"verify": ["verify", small.path, "--backend", "ref"], "run": ["run", small.path, "-o", tmp_path / "out", "--force", "--backend", "ref"],
            "bench": ["bench", "--T", "8", "--H", "1", "--runs", "1"]}


@pytest.mark.parametrize("command", ["verify", "run", "bench"])
def test_progress_only_on_a_terminal(small, tmp_path, command):
    arguments = commands_on(small, tmp_path)[command]
    out, seen = on_terminal(*arguments)
    assert b"[####" in seen and seen.endswith(b"\r\033[K") and "[####" not in out
    assert flashkda(*arguments).text == ""


PLAIN = {"dumb": dict(TERM="dumb"), "unset": dict(TERM=None), "empty": dict(TERM=""), "no_color": dict(NO_COLOR="1")}


@pytest.mark.parametrize("how", PLAIN)
@pytest.mark.parametrize("command", ["verify", "run", "bench"])
def test_a_plain_terminal_gets_plain_text(small, tmp_path, command, how):
    for which in ("stderr", "stdout"):
        _, seen = on_terminal(*commands_on(small, tmp_path)[command], which=which, **PLAIN[how])
        assert b"\033" not in seen and b"[####" not in seen and b"\r" not in seen.replace(b"\r\n", b"")


def test_colours_on_a_terminal(small):
    assert b"\033[32mpass\033[0m" in on_terminal("verify", small.path, which="stdout")[1]
    small.tensors["out"][1][0, 0, 0, 0] += 1
    assert b"\033[1;31mFAIL\033[0m" in on_terminal("verify", small.save(small.path), which="stdout", expect=1)[1]


@pytest.mark.parametrize("command", ["verify", "run", "bench"])
def test_quiet(small, tmp_path, command):
    small.put("dt_bais", [1.0], "F32")
    small.save(small.path)
    arguments = commands_on(small, tmp_path)[command]
    assert ("dt_bais" in flashkda(*arguments).text) == (command != "bench")
    assert on_terminal(*arguments, "-q")[1] == b"" and flashkda(*arguments, "--quiet").text == ""


# ---------------------------------------------------------------- outputs that cannot be written


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["doctor"], ["help"], ["help", "--man"], ["version"], ["completion", "bash"],
                                       ["bench", "--runs", "1"],
                                       ["bench", "--runs", "1", "--json"]], ids=" ".join)
def test_unwritable_standard_output(arguments):
    with open("/dev/full", "w") as full:
        assert "standard output cannot be written" in flashkda(*arguments, stdout=full, expect=3).text


def test_unwritable_result(small):
    with open("/dev/full", "w") as full:
        assert "standard output: cannot be written: No space left on device" in flashkda("run", small.path, "-o", "-", stdout=full, expect=3).text


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_closed_standard_streams(small, tmp_path, fd):
    """No file takes the place of a stream that is closed: what is printed would go into it."""
    closed = dict(preexec_fn=lambda: os.close(fd))
    code = 3 if fd == 1 else 0
    flashkda("run", small.path, "-o", tmp_path / "out", expect=code, **closed)
    want = tmp_path / "want"
    flashkda("run", small.path, "-o", want)
    assert (tmp_path / "out").read_bytes() == want.read_bytes()
    flashkda("info", expect=code, **closed)
    done = flashkda("run", small.path, "-o", "-", "-q", expect=0 if fd == 0 else 3, **closed)    # 2: the report cannot be written
    if fd == 1:
        assert "standard output: cannot be written: Bad file descriptor" in done.text
    if fd == 0:
        assert "standard input: cannot be read: Bad file descriptor" in flashkda("verify", "-", expect=3, **closed).text


def without_a_reader(*arguments, **options):
    """(exit status, standard error) of a command that writes into a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([BINARY, *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60, **options)
    os.close(writing)
    return process.returncode, process.stderr.decode()


@pytest.mark.parametrize("command", ["bench", "run", "info"])
def test_the_reader_goes_away(small, command):
    arguments = {"bench": ["bench", "--runs", "1"], "run": ["run", small.path, "-o", "-", "-q"], "info": ["info"]}[command]
    assert without_a_reader(*arguments) == (-signal.SIGPIPE, ""), "head took what it wanted"
    code, text = without_a_reader(*arguments, preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    assert code == 3 and "standard output" in text and "cannot be written" in text


def test_bench_stops_when_nobody_can_read_it():
    """The first row that is lost ends the suite; the rest would be timed for nothing."""
    with open("/dev/full", "w") as full:
        _, seen = on_terminal("bench", "--runs", "1", stdout=full, expect=3)
    assert b"dense: timing" in seen and b"softplus" not in seen and seen.count(b"\n") == 1
