"""Values that are strange and legal: NaN and infinity, nothing at all, rows behind the last sequence; and how numbers are printed."""
import json
import math
import re

import numpy
import pytest
import safetensors.numpy

from conftest import DATA, flashkda
from problem_files import add_answers, make_problem, recurrence, relative_rms


def rng():
    return numpy.random.default_rng(3)


# ---------------------------------------------------------------- NaN and infinity


def spoil(p, name, *places):
    """Puts values at places of a tensor of float32."""
    values = p.get(name)
    for place, value in places:
        values[place] = value
    p.put(name, values, p.tensors[name][0])


def test_non_finite_inputs_are_named(small, tmp_path):
    spoil(small, "q", ((0, 5, 1, 7), math.nan), ((0, 6, 0, 0), math.inf), ((0, 6, 0, 1), -math.inf))
    spoil(small, "initial_state", ((2, 3, 1, 1), math.nan))
    path = small.save(tmp_path / "in")
    wanted = ["note: tensor 'q' holds 1 NaN and 2 infinities, the first at [0,5,1,7]\n",
              "note: tensor 'initial_state' holds 1 NaN, the first at [2,3,1,1]\n"]
    run, verify = flashkda("run", path, "-o", tmp_path / "out", "--json"), flashkda("verify", path, "--json", expect=1)
    for done in (run, verify):
        for sentence in wanted:
            assert f"flashkda: {path}: {sentence}" in done.text
        assert done.json["non_finite"]["q"] == {"nan": 1, "inf": 2, "first": [0, 5, 1, 7]}
        assert done.json["non_finite"]["initial_state"] == {"nan": 1, "inf": 0, "first": [2, 3, 1, 1]}
        assert set(done.json["non_finite"]) <= {"q", "initial_state", "out", "final_state"}
    flashkda("run", path, "-o", tmp_path / "out", "--force", "--out-dtype", "f32")
    strays = numpy.isnan(safetensors.numpy.load_file(tmp_path / "out")["final_state"])
    first = ",".join(str(index[0]) for index in strays.nonzero())
    assert strays[2, 3].any() and f"the result 'final_state' holds {strays.sum()} NaN, the first at [{first}]" in run.text


def test_finite_inputs_say_nothing(small, tmp_path):
    spoil(small, "q", ((0, 5, 1, 7), 3e38), ((0, 5, 1, 6), 1e-40))
    done = flashkda("run", small.save(tmp_path / "in"), "-o", tmp_path / "out", "--backend", "ref", "--json")
    assert done.text == "" and "non_finite" not in done.json


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["out", "final_state"])
def test_a_non_finite_answer_is_outside_every_bar(small, tmp_path, name, value):
    place = (0, 3, 1, 2) if name == "out" else (1, 1, 0, 2)
    spoil(small, name, (place, value))
    path = small.save(tmp_path / "in")
    done = flashkda("verify", path, "--json", expect=1)
    assert done.json["pass"] is done.json[name]["pass"] is False and done.json[name]["m1"] is None
    counts = "1 NaN" if math.isnan(value) else "1 infinity"
    assert f"note: the answer '{name}' holds {counts}, the first at [{','.join(map(str, place))}]" in done.text
    table = flashkda("verify", path, expect=1)
    assert "-nan" not in table.out and "FAIL" in table.out


# ---------------------------------------------------------------- rows behind the last sequence


def with_rows_behind(K):
    """30 tokens of two sequences, and 10 rows behind them that hold anything."""
    p = make_problem(rng(), B=1, T=40, H=2, HV=4, K=K, V=K, bounds=[0, 13, 30])
    add_answers(p)
    for name in ("q", "k", "v", "g", "beta", "out"):
        spoil(p, name, (numpy.s_[:, 30:], math.nan))
    return p


@pytest.mark.parametrize("K", [16, 64])
def test_rows_behind_are_written_as_zeros(tmp_path, monkeypatch, K):
    monkeypatch.setenv("MALLOC_PERTURB_", "90")    # memory of the C library comes filled with 0xa5
    p = with_rows_behind(K)
    done = flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", "--out-dtype", "f32", "--json", "--quiet")
    assert done.json["tokens"] == 30 and "non_finite" not in done.json
    got = safetensors.numpy.load_file(tmp_path / "out")
    out, final = recurrence(p)
    assert (got["out"][:, 30:] == 0).all()
    assert relative_rms(got["out"][:, :30], out[:, :30]) < 2e-6 and relative_rms(got["final_state"], final) < 1e-5


@pytest.mark.parametrize("K", [16, 64])
def test_rows_behind_are_not_compared(tmp_path, K):
    p = with_rows_behind(K)
    done = flashkda("verify", p.save(tmp_path / "in"), "--json")
    assert done.json["pass"] and done.json["tokens"] == 30 and [row["tokens"] for row in done.json["sequences"]] == [13, 17]
    assert "NaN" not in done.text
    del p.tensors["out"]
    assert flashkda("verify", p.save(tmp_path / "bare"), "--json").json["pass"]
    assert re.search(r"^ +all +30 ", flashkda("verify", tmp_path / "in").out, re.M)


def test_usual_size_comes_from_the_sequences(tmp_path):
    """Huge rows behind the end must not excuse an error in a quiet tile (M2 holds a tile to 0.05 of its head)."""
    p = with_rows_behind(16)
    spoil(p, "out", (numpy.s_[:, 30:], 1e30))
    out = p.get("out")
    out[0, :13, 0] *= 1.05
    p.put("out", out, "F32")
    line = flashkda("verify", p.save(tmp_path / "in"), "--out-dtype", "f32", "--json", expect=1).json
    assert line["out"]["m2"] > 0.03


# ---------------------------------------------------------------- nothing

NOTHING = {
    "no_batch": dict(B=0, T=5, H=2, HV=4, K=64, V=64),
    "no_tokens": dict(B=2, T=0, H=2, HV=4, K=64, V=64),
    "no_sequences": dict(B=1, T=5, H=2, HV=4, K=64, V=64, bounds=[0]),
    "nothing_at_all": dict(B=1, T=0, H=2, HV=4, K=64, V=64, bounds=[0]),
    "empty_sequences": dict(B=1, T=5, H=2, HV=4, K=64, V=64, bounds=[0, 0, 0]),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_a_problem_too(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MALLOC_PERTURB_", "90")
    p = make_problem(rng(), **NOTHING[name])
    path = p.save(tmp_path / "in")
    flashkda("run", path, "-o", tmp_path / "out", "--out-dtype", "f32")
    got, (out, final) = safetensors.numpy.load_file(tmp_path / "out"), recurrence(p)
    assert got["out"].shape == out.shape and (got["out"] == 0).all()
    assert got["final_state"].shape == final.shape and (got["final_state"] == final.astype(numpy.float32)).all()
    assert flashkda("verify", path, "--json").json["pass"] is True
    add_answers(p)
    line = flashkda("verify", p.save(tmp_path / "answered"), "--json").json
    assert line["pass"] is True and line["tokens"] == 0 and len(line["sequences"]) == final.shape[0]
    assert "nan" not in flashkda("verify", tmp_path / "answered").out


# ---------------------------------------------------------------- numbers


def check_numbers(text):
    """JSON without NaN, every number with at most seven digits, or whole."""
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for line in text.splitlines():
        json.loads(line, parse_constant=refuse)
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
        for number in re.findall(r"-?\d[\d.eE+-]*", bare):
            digits = re.sub(r"[eE].*|[.-]", "", number).lstrip("0")
            assert len(digits) <= 7 or re.fullmatch(r"-?\d+", number), number


def test_json_numbers_have_sensible_digits(small, tmp_path):
    spoil(small, "final_state", ((0, 0, 0, 0), math.nan))
    small.save(small.path)
    texts = [flashkda("verify", DATA / "kda_lb.safetensors", "--json").out, flashkda("verify", small.path, "--json", expect=1).out,
             flashkda("run", small.path, "-o", tmp_path / "out", "--json").out, flashkda("info", "--json").out,
             flashkda("bench", "--T", "33", "--H", "1", "--json").out, flashkda("bench", "--suite", "quick", "--runs", "3", "--json").out]
    for text in texts:
        check_numbers(text)
    assert '"bar_m1":0.0022,' in texts[0] and '"m1":null' in texts[1] and '"T":33,' in texts[4]


# ---------------------------------------------------------------- the slow reference


@pytest.mark.parametrize("K, V", [(96, 96), (100, 100), (128, 96), (64, 24)])
def test_auto_that_ends_on_ref_says_why(tmp_path, K, V):
    path = make_problem(rng(), B=1, T=3, H=1, HV=1, K=K, V=V).save(tmp_path / "in")
    what = f"K = {K}" if K not in (64, 128) else f"V = {V}"
    for done in (flashkda("run", path, "-o", tmp_path / "out", "--json"), flashkda("verify", path, "--json")):
        assert done.text.count("ref computes this, the slow float64 reference, because of") == 1 and f"cpu: {what}, but" in done.text
        assert done.json["backend"] == "ref" and what in done.json["why_not_cpu"]
    bench = flashkda("bench", "--T", "3", "--H", "1", "--K", str(K), "--V", str(V), "--runs", "1", "--json")
    assert bench.text.count("the slow float64 reference") == 1 and what in bench.json["why_not_cpu"]
    for backend in ("ref", "auto"):
        asked = flashkda("run", path, "-o", tmp_path / "out", "--force", "--backend", backend, *(["-q"] if backend == "auto" else []))
        assert asked.text == "", "asked for, or asked to be quiet"
    fast = flashkda("bench", "--T", "3", "--H", "1", "--runs", "1", "--backend", "auto", "--json")
    assert "why_not_cpu" not in fast.json and "slow" not in fast.text
