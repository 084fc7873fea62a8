"""The command line end to end: commands, files, exit codes."""
import json
import os
import re
import resource
import signal
import subprocess

import numpy
import pytest
import safetensors
import safetensors.numpy

from conftest import BINARY, DATA, flashkda
from problem_files import add_answers, from_bf16, make_problem, recurrence, relative_rms

FILES = ["kda_lb.safetensors", "kda_softplus.safetensors"]


def load(path):
    """name -> float array, by Python's own safetensors; bf16 comes as bits from it."""
    arrays = {}
    for name, item in safetensors.deserialize(path.read_bytes()):
        raw = numpy.frombuffer(item["data"], {"BF16": "<u2", "F32": "<f4", "I64": "<i8"}[item["dtype"]]).reshape(item["shape"])
        arrays[name] = from_bf16(raw) if item["dtype"] == "BF16" else raw
    return arrays


# ---------------------------------------------------------------- info


def test_info():
    info = flashkda("info", "--json").json
    assert info["version"] in flashkda("--version").out
    assert set(info["backends"]) == {"cuda", "cpu", "ref"}
    assert info["backends"]["ref"]["on"] is True
    for backend in info["backends"].values():
        assert backend["text"], "a backend says what it runs on or why it is off"
    assert info["cpu"]["cores"] >= 1 and isinstance(info["cpu"]["features"], list)
    text = flashkda("info").out
    assert info["build"] in text and info["backends"]["cuda"]["text"] in text


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["run"], "IN.safetensors is missing"),
        (["run", "a"], "-o OUT.safetensors is missing"),
        (["run", "a", "b", "-o", "c"], "unexpected argument 'b'"),
        (["run", "a", "-o"], "--output needs a value"),
        (["run", "a", "-o", "--force"], "--output needs a value"),
        (["run", "a", "-o", ""], "--output has an empty value"),
        (["verify", "a", "--frob"], "unknown option '--frob'"),
        (["verify", "a", "--backend", "gpu"], "must be one of auto, cuda, cpu, ref"),
        (["verify", "a", "--threads", "0"], "whole number from 1"),
        (["verify", "a", "--out-dtype", "f16"], "must be one of bf16, f32"),
        (["verify", "a", "--json=1"], "--json takes no value"),
        (["bench", "a"], "unexpected argument 'a'"),
        (["bench", "--T"], "--T needs a value"),
        (["bench", "--T", "-5"], "--T is '-5', but it must be a whole number"),
        (["bench", "--T", "5x"], "--T is '5x'"),
        (["bench", "--T", " 5"], "--T is ' 5'"),
        (["bench", "--T", "99999999999999999999"], "--T is '99999999999999999999'"),
        (["bench", "--T", "8", "--T", "8"], "--T is given twice"),
        (["bench", "--suite", "nope"], "must be one of quick, cpu, seed, shapes"),
        (["bench", "--suite", "quick", "--T", "8"], "--suite excludes --T"),
        (["bench", "--lens", "3,,4"], "--lens has the entry ''"),
        (["bench", "--lens", "3,-4"], "--lens has the entry '-4'"),
        (["bench", "--lens", "3,99999999999999999999999999"], "--lens has the entry '99999"),
        (["bench", "--lens", "0,0"], "sum up to 0"),
        (["bench", "--lens", "3,4", "--T", "8"], "--T is 8, but --lens sum up to 7"),
        (["bench", "--H", "3", "--HV", "4"], "HV = 4 is not a positive multiple of H = 3"),
        (["bench", "--gate", "hard"], "must be one of bounded, softplus"),
        (["bench", "--gates", "wide"], "must be one of slow, random, floor, all"),
        (["bench", "--lens", "0x8"], "--lens has the entry '0x8'"),
        (["bench", "--lens", "4x"], "--lens has the entry '4x'"),
        (["info", "--%n%s%s%s"], "unknown option '--%n%s%s%s'"),
        ([b"info", b"\xff\x1b[2J"], r"unexpected argument '\xff\x1b[2J'"),
    ],
)
def test_mistyped_commands(arguments, sentence):
    done = flashkda(*arguments, expect=2)
    assert sentence in done.text and "--help" in done.text and done.out == ""


# ---------------------------------------------------------------- run


@pytest.mark.parametrize("name", FILES)
def test_run_on_recorded_activations(name, tmp_path):
    out = tmp_path / "out.safetensors"
    flashkda("run", DATA / name, "-o", out)
    got, want = load(out), load(DATA / name)
    assert set(got) == {"out", "final_state"}
    assert relative_rms(got["out"], want["out"]) < 2.2e-3
    assert relative_rms(got["final_state"], want["final_state"]) < 1e-5
    with safetensors.safe_open(out, "np") as file:
        metadata = file.metadata()
        assert file.get_tensor("final_state").dtype == numpy.float32
    assert metadata["producer"] == "flashkda" and metadata["backend"] in ("cpu", "ref", "cuda")
    with safetensors.safe_open(DATA / name, "np") as file:
        source = file.metadata()
    assert metadata["gate"] == source["gate"] and abs(float(metadata["scale"]) - float(source["scale"])) < 1e-8


PROBLEMS = {
    "packed": dict(B=1, T=40, H=2, HV=4, K=16, V=24, bounds=[0, 33, 33, 40]),
    "packed_i32": dict(B=1, T=9, H=1, HV=1, K=8, V=8, bounds=[0, 9], cu_dtype="I32"),
    "dense": dict(B=3, T=17, H=2, HV=2, K=12, V=5),
    "softplus": dict(B=1, T=20, H=1, HV=3, K=8, V=8, gate="softplus"),
    "precomputed": dict(B=2, T=11, H=1, HV=1, K=8, V=8, gate="precomputed"),
    "f32_stateless": dict(B=1, T=13, H=2, HV=2, K=7, V=9, dtype="F32", states=False),
    "no_tokens": dict(B=1, T=0, H=1, HV=1, K=8, V=8),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_run_against_the_recurrence(name, tmp_path):
    p = make_problem(numpy.random.default_rng(3), **PROBLEMS[name])
    flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", "--out-dtype", "f32")
    got, (out, final) = safetensors.numpy.load_file(tmp_path / "out"), recurrence(p)
    assert got["out"].shape == out.shape and got["out"].dtype == numpy.float32
    numpy.testing.assert_allclose(got["out"], out, rtol=0, atol=2e-5 * max(1, numpy.abs(out).max(initial=0)))
    numpy.testing.assert_allclose(got["final_state"], final, rtol=0, atol=2e-5 * max(1, numpy.abs(final).max()))


def test_absent_optionals(tmp_path):
    p = make_problem(numpy.random.default_rng(3), B=1, T=10, H=1, HV=1, K=16, V=8, states=False)
    del p.tensors["A_log"], p.tensors["dt_bias"], p.metadata["scale"], p.metadata["gate"]
    flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", "--out-dtype", "f32")
    p.metadata |= {"gate": "sigmoid_lower_bound"}
    out, final = recurrence(p)
    got = safetensors.numpy.load_file(tmp_path / "out")
    assert relative_rms(got["out"], out) < 2e-6 and relative_rms(got["final_state"], final) < 1e-5


def test_run_prints_json(small, tmp_path):
    line = flashkda("run", small.path, "-o", tmp_path / "out", "--json", "--backend", "ref").json
    assert line["backend"] == "ref" and line["tokens"] == 40 and line["sequences"] == 3 and line["ms"] > 0
    assert line["output"] == str(tmp_path / "out")


def test_existing_output(small, tmp_path):
    out = tmp_path / "out"
    flashkda("run", small.path, "-o", out)
    first = out.read_bytes()
    assert "exists already; --force replaces it" in flashkda("run", small.path, "-o", out, expect=3).text
    assert out.read_bytes() == first
    flashkda("run", small.path, "-o", out, "--force")
    assert out.read_bytes() == first, "the same problem gives the same file"
    assert sorted(os.listdir(tmp_path)) == ["out", "small.safetensors"]


def test_output_is_the_input(small, tmp_path):
    before = small.path.read_bytes()
    os.symlink(small.path, tmp_path / "alias")
    for name in (small.path, tmp_path / "alias"):
        assert "same file as the input" in flashkda("run", small.path, "-o", name, "--force", expect=3).text
    assert small.path.read_bytes() == before


def test_full_disk_leaves_nothing(small, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = flashkda("run", small.path, "-o", tmp_path / "out", expect=3, preexec_fn=limit)
    assert "cannot be written: File too large" in done.text
    assert os.listdir(tmp_path) == ["small.safetensors"]


# ---------------------------------------------------------------- verify


@pytest.mark.parametrize("name", FILES)
def test_verify_recorded_activations(name):
    line = flashkda("verify", DATA / name, "--json").json
    assert line["pass"] is True and line["backend"] in ("cuda", "cpu", "ref")
    assert 1e-3 < line["out"]["m1"] <= line["out"]["bar_m1"] and line["out"]["m2"] <= line["out"]["bar_m2"]
    assert line["final_state"]["m1"] <= line["final_state"]["bar_m1"]
    assert line["out"]["answer"] == line["final_state"]["answer"] == "file"
    assert [row["tokens"] for row in line["sequences"]] == [700, 1, 333]
    assert all(row["ms"] > 0 and row["tokens_per_s"] > 0 and row["heads"] == 2 for row in line["sequences"])


def test_verify_table(small, tmp_path):
    done = flashkda("verify", small.path, "-o", tmp_path / "out")
    rows = re.findall(r"^ +(\d+|all) +([\d,]+) +4  (?:cpu|ref|cuda) +(\S.*)$", done.out, re.M)
    assert [row[:2] for row in rows] == [("0", "33"), ("1", "0"), ("2", "7"), ("all", "40")]
    assert "pass: the answer comes from the file; wrote" in done.out and "\033" not in done.out
    assert load(tmp_path / "out")["out"].shape == (1, 40, 4, 24)


def test_verify_f32_output(small):
    line = flashkda("verify", small.path, "--out-dtype", "f32", "--json").json
    assert line["pass"] and line["out"]["m1"] < line["out"]["bar_m1"] == 1e-7  # K = 16: the reference


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_verify_measures_like_numpy(small, tmp_path, dtype):
    rng = numpy.random.default_rng(1)
    want = small.get("out") * (1 + 1e-2 * rng.standard_normal(small.get("out").shape))
    small.put("out", want, dtype)
    line = flashkda("verify", small.save(tmp_path / "in"), "-o", tmp_path / "out", "--out-dtype", "f32", "--json", expect=1).json
    got, want = load(tmp_path / "out")["out"], small.get("out")
    assert line["pass"] is line["out"]["pass"] is False and line["final_state"]["pass"] is True
    assert line["out"]["m1"] == pytest.approx(relative_rms(got, want), rel=1e-6)    # JSON has seven digits
    tiles = []
    for begin, end in ((0, 33), (33, 40)):
        for hv in range(4):
            err, ref = (got - want)[0, begin:end, hv], want[0, begin:end, hv]
            floor = 0.05 * numpy.sqrt((ref**2).mean())
            rms = lambda rows, i: numpy.sqrt((rows[i : i + 16] ** 2).mean())
            tiles += [rms(err, i) / max(floor, rms(ref, i)) for i in range(0, end - begin, 16)]
    assert line["out"]["m2"] == pytest.approx(max(tiles), rel=1e-6)
    assert line["out"]["m3"] == pytest.approx((numpy.abs(got - want).max(-1) / numpy.abs(want).max(-1)).max() * 256, rel=1e-6)


def tamper_nan(p):
    p.tensors["out"][1][0, 3, 1, 2] = numpy.nan


def tamper_tile(p):
    p.tensors["out"][1][0, 16:32, 0] = 0


def tamper_state(p):
    p.tensors["final_state"][1][1] *= 1.001


@pytest.mark.parametrize("tamper", [tamper_nan, tamper_tile, tamper_state])
def test_verify_fails_on_a_tampered_answer(small, tmp_path, tamper):
    tamper(small)
    path = small.save(tmp_path / "tampered")
    assert flashkda("verify", path, "--json", expect=1).json["pass"] is False
    assert "FAIL" in flashkda("verify", path, expect=1).out


def test_verify_without_answers(small, tmp_path):
    del small.tensors["out"]
    line = flashkda("verify", small.save(tmp_path / "a"), "--json").json
    assert line["pass"] and line["out"]["answer"] == "ref" and line["final_state"]["answer"] == "file"
    del small.tensors["final_state"]
    done = flashkda("verify", small.save(tmp_path / "b"))
    assert "the float64 reference" in done.out


def test_verify_many_sequences(tmp_path):
    p = make_problem(numpy.random.default_rng(3), B=1, T=60, H=1, HV=1, K=4, V=4, bounds=list(range(61)))
    add_answers(p)
    path = p.save(tmp_path / "many")
    assert "and 20 more" in flashkda("verify", path).out
    assert len(flashkda("verify", path, "--json").json["sequences"]) == 60


def test_bf16_states(small, tmp_path):
    for name in ("initial_state", "final_state"):
        small.put(name, small.get(name), "BF16")
    out, final = recurrence(small)
    small.put("out", out, "BF16")
    line = flashkda("verify", small.save(tmp_path / "in"), "-o", tmp_path / "out", "--json").json
    assert line["final_state"]["dtype"] == "BF16" and line["pass"]
    assert relative_rms(load(tmp_path / "out")["final_state"], final) < 3e-3


# ---------------------------------------------------------------- backends


def test_a_backend_that_is_off(small, tmp_path):
    off = [name for name, backend in flashkda("info", "--json").json["backends"].items() if not backend["on"]]
    for name in off:
        done = flashkda("run", small.path, "-o", tmp_path / "out", "--backend", name, expect=4)
        assert name in done.text and not (tmp_path / "out").exists()
        flashkda("bench", "--T", "8", "--backend", name, expect=4)


def test_no_backend_takes_it(tmp_path):
    p = make_problem(numpy.random.default_rng(3), B=1, T=2, H=1, HV=1, K=300, V=8)
    assert "K = 300" in flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", expect=4).text


@pytest.mark.parametrize("arguments", [["run", DATA / FILES[0], "-o", "/nonexistent/out"], ["verify", DATA / FILES[0]], ["bench", "--T", "8"]],
                         ids=lambda a: a[0])
def test_a_mistyped_instruction_set(arguments, monkeypatch):
    monkeypatch.setenv("FKDA_CPU_ISA", "avx1024")
    done = flashkda(*arguments, expect=2)
    assert "FKDA_CPU_ISA" in done.text and "avx1024" in done.text and done.out == ""
    assert flashkda("info", "--json").json["backends"]["cpu"]["on"] is False


def test_the_environment_bounds_threads(tmp_path, monkeypatch):
    def threads(*options):
        plan = flashkda("run", DATA / FILES[0], "-o", tmp_path / "out", "--force", "--backend", "cpu", "--json", *options).json["plan"]
        return int(re.search(r" on (\d+) threads?", plan).group(1))

    free = threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads() == 1
    assert threads("--threads", "2") == min(free, 2), "an option goes before the environment"


# ---------------------------------------------------------------- bench


@pytest.mark.parametrize("gate", ["bounded", "softplus", "precomputed", "precomputed-f32"])
def test_bench_json(gate):
    lines = flashkda("bench", "--T", "16", "--H", "1", "--K", "64", "--runs", "3", "--json", "--gate", gate, "--threads", "1").out.splitlines()
    case = json.loads(lines[0])
    assert len(lines) == 1 and case["case"] == "T16 H1 K64 V64" and case["gate"] == gate and case["runs"] == 3 and case["threads"] == 1
    assert 0 < case["min_ms"] <= case["p10_ms"] <= case["median_ms"] <= case["p90_ms"] <= case["max_ms"]
    assert case["tokens_per_s"] == pytest.approx(16e3 / case["median_ms"])


def test_bench_lens():
    case = flashkda("bench", "--lens", "5,0,11", "--H", "1", "--HV", "2", "--runs", "1", "--json").json
    assert (case["T"], case["N"], case["H"], case["HV"], case["suite"]) == (16, 3, 1, 2, "own")


def test_bench_lens_with_counts_and_gates():
    lines = flashkda("bench", "--lens", "3x4,5", "--H", "1", "--runs", "1", "--json", "--gates", "all").out.splitlines()
    cases = [json.loads(line) for line in lines]
    assert [case["gates"] for case in cases] == ["slow", "random", "floor"] and cases[0]["commit"]
    assert all((case["T"], case["N"], case["lens"]) == (17, 4, "3x4,5") for case in cases)


def test_bench_suite():
    done = flashkda("bench", "--suite", "quick", "--runs", "1", "--json")
    cases = [json.loads(line) for line in done.out.splitlines()]
    assert [case["case"] for case in cases] == ["dense", "softplus", "packed"] and all(case["median_ms"] > 0 for case in cases)
    table = flashkda("bench", "--runs", "1").out.splitlines()
    assert len(table) == 2 + len(cases) and table[0].split()[:4] == ["case", "gate", "gates", "backend"]


# ---------------------------------------------------------------- interrupted


def test_interrupt_leaves_no_file(tmp_path):
    p = make_problem(numpy.random.default_rng(3), B=1, T=3000, H=4, HV=4, K=256, V=256)
    path = p.save(tmp_path / "in")
    process = subprocess.Popen([BINARY, "run", path, "-o", tmp_path / "out", "--backend", "ref"], stderr=subprocess.DEVNULL,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))    # whoever runs the tests may ignore it
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    assert os.listdir(tmp_path) == ["in"]
