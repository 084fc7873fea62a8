"""Too large: refused before any work, with a sentence that says how much is needed and how much there is."""
import json
import os
import re
import resource
import struct
import time

import pytest

from conftest import flashkda

NEEDED = r"\d+(\.\d)? [KMGTPE]iB of (GPU )?memory are needed, but only \d+(\.\d)? [KMGT]iB are available"


def at_most(bytes_):
    return dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_)))


def sparse(path, T, H=1, K=64, B=1):
    """A valid file of zeros that takes no disk."""
    header, end = {"__metadata__": {"gate": "softplus"}}, 0
    for name, shape in {"q": [B, T, H, K], "k": [B, T, H, K], "v": [B, T, H, K], "g": [B, T, H, K], "beta": [B, T, H]}.items():
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)
    return path


@pytest.mark.parametrize("arguments", [["--T", str(2**30), "--H", "65536"], ["--lens", f"{2**17}x{2**13}", "--H", "65536"],
                                       ["--T", str(2**30), "--H", "65536", "--json"],
                                       ["--T", str(2**30), "--H", "65536", "--backend", "ref", "--K", "1"]], ids=" ".join)
def test_a_bench_that_does_not_fit(arguments):
    done = flashkda("bench", *arguments, expect=2)
    assert done.out == "" and re.search(NEEDED, done.text) and "case 'T1073741824 H65536" in done.text and "--help" in done.text


def test_a_suite_that_partly_does_not_fit():
    started = time.monotonic()
    done = flashkda("bench", "--suite", "shapes", "--backend", "cpu", expect=2, **at_most(2 << 30))
    assert done.out == "" and re.search(rf"case 'T32768 H96': {NEEDED}", done.text), "no case is timed, small ones neither"
    assert time.monotonic() - started < 5
    assert "2.0 GiB are available" in done.text


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_file_that_does_not_fit(tmp_path, command):
    path = sparse(tmp_path / "large", T=1 << 23)    # 4 GiB and a result
    done = flashkda(command, path, "-o", tmp_path / "out", expect=5, **at_most(2 << 30))
    assert done.out == "" and re.search(rf"{path}: {NEEDED}", done.text) and os.listdir(tmp_path) == ["large"]


def test_a_stream_that_does_not_fit(tmp_path):
    path = sparse(tmp_path / "large", T=1 << 23)
    with open(path, "rb") as stream:
        done = flashkda("run", "-", "-o", tmp_path / "out", stdin=stream, expect=5, **at_most(2 << 30))
    assert re.search(f"standard input: {NEEDED}", done.text)


def test_empty_tensors_with_huge_sizes(tmp_path):
    """No byte of input, and a final state of 2^54 or 2^66 bytes."""
    done = flashkda("run", sparse(tmp_path / "a", T=0, B=1 << 40), "-o", tmp_path / "out", expect=5)
    assert re.search(NEEDED, done.text)
    done = flashkda("run", sparse(tmp_path / "b", T=0, B=1 << 52), "-o", tmp_path / "out", expect=3)
    assert f"{tmp_path}/b: " in done.text and re.search("2\\^59 bytes|63 bits", done.text)
