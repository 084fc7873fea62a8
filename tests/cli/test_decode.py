"""--op decode: a few tokens of each sequence, states in place."""
import json

import numpy
import pytest

from conftest import DATA, flashkda
from problem_files import make_problem, recurrence
from test_states import near, read

BOUNDS = [0, 1, 1, 9, 12]


def run(p, tmp_path, *options):
    flashkda("run", p.save(tmp_path / "in"), "--op", "decode", "-o", tmp_path / "out", "--out-dtype", "f32", "--force", *options)
    return read(tmp_path / "out")


def packed(K=16, V=24, **options):
    return make_problem(numpy.random.default_rng(8), B=1, T=12, H=1, HV=2, K=K, V=V, bounds=BOUNDS, **options)


@pytest.mark.parametrize("width", [16, 128], ids=["ref", "cpu"])
@pytest.mark.parametrize("gate", ["sigmoid_lower_bound", "softplus", "precomputed"])
def test_dense_and_packed_against_the_recurrence(tmp_path, width, gate):
    for p in (packed(width, width, gate=gate), make_problem(numpy.random.default_rng(9), 5, 3, 1, 2, width, width, gate=gate)):
        out, final = recurrence(p)
        got = run(p, tmp_path)
        near(got["out"], out)
        near(got["final_state"], final)


def test_no_initial_state_is_zero(tmp_path):
    p = packed(states=False)
    out, final = recurrence(p)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"], final)


def pooled(state="F32", slots=(6, 3, 0, 2), width=(16, 24)):
    """Initial states in slots of a pool of 7, and the same without a pool."""
    p, dense = packed(*width), packed(*width)
    pool = numpy.random.default_rng(10).standard_normal((7, 2, width[1], width[0]))
    pool[list(slots)] = dense.get("initial_state")
    p.put("initial_state", pool, state)
    p.put("initial_slots", slots, "I32")
    dense.put("initial_state", p.get("initial_state")[list(slots)], "F32")
    return p, dense


@pytest.mark.parametrize("state", ["F32", "BF16"])
def test_pool_is_updated_in_place(tmp_path, state):
    p, dense = pooled(state)
    before = p.get("initial_state")
    out, final = recurrence(dense)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"][[6, 0, 2]], final[[0, 2, 3]], 2e-5 if state == "F32" else 8e-3)
    assert (got["final_state"][[1, 3, 4, 5]] == before[[1, 3, 4, 5]]).all(), "slot 3 is that of a sequence without tokens"


def test_mask_and_null_slot(tmp_path):
    p, dense = pooled()
    before = p.get("initial_state")
    p.put("initial_slots", [6, 3, -1, 2], "I64")
    p.put("initial_mask", [0, 1, 1, 1], "U8")
    states = dense.get("initial_state")
    states[[0, 2]] = 0
    dense.put("initial_state", states, "F32")
    out, final = recurrence(dense)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"][[6, 2]], final[[0, 3]])
    assert (got["final_state"][[0, 1, 3, 4, 5]] == before[[0, 1, 3, 4, 5]]).all()


@pytest.mark.parametrize("state", ["F32", "BF16"])
@pytest.mark.parametrize("width", [(16, 24), (128, 128)], ids=["ref", "cpu"])
def test_verify_without_answers(tmp_path, width, state):
    p, _ = pooled(state, width=width)
    done = flashkda("verify", p.save(tmp_path / "in"), "--op", "decode", "--json", "-o", tmp_path / "out").json
    assert done["pass"] and done["out"]["answer"] == "ref" and (done["backend"] == "ref" or "decode" in done["plan"])
    assert done["final_state"]["m1"] < (1e-6 if state == "F32" else 3e-3)
    again = run(p, tmp_path)
    near(read(tmp_path / "out")["final_state"], again["final_state"])    # whatever was timed in between


def test_verify_against_the_file(tmp_path):
    p, dense = pooled()
    out, final = recurrence(dense)
    pool = p.get("initial_state")
    pool[[6, 0, 2]] = final[[0, 2, 3]]
    p.put("out", out, "F32")
    p.put("final_state", pool, "F32")
    assert flashkda("verify", p.save(tmp_path / "in"), "--op", "decode", "--json").json["pass"]
    p.tensors["final_state"][1][2] *= 1.001
    done = flashkda("verify", p.save(tmp_path / "in"), "--op", "decode", "--json", expect=1).json
    assert not done["final_state"]["pass"] and done["out"]["pass"]


BAD = {
    "long_sequence": (lambda p: p.put("cu_seqlens", [0, 1, 1, 10, 12], "I64"), "'cu_seqlens' gives sequence 2 9 tokens, but decode takes at most 8"),
    "final_slots": (lambda p: p.put("final_slots", [1, 2, 3, 4], "I32"), "'final_slots' is there, but decode updates the slots that it reads"),
    "every": (lambda p: p.metadata.update(checkpoint_every="1"), "asks for checkpoints, but decode writes none"),
    "offsets": (lambda p: p.put("checkpoint_offsets", [1, 0, 0, 0], "I32"), "asks for checkpoints, but decode writes none"),
    "slots_twice": (lambda p: p.put("initial_slots", [6, 3, 6, 2], "I32"), "are both 6"),
    "slots_value": (lambda p: p.put("initial_slots", [6, 3, 7, 2], "I32"), "slots[2] = 7 is not below"),
    "bounds": (lambda p: p.put("cu_seqlens", [0, 2, 1, 9, 12], "I64"), "cu_seqlens"),
    "final_shape": (lambda p: p.put("final_state", numpy.zeros((4, 2, 24, 16)), "F32"), "but it must be [7,2,24,16]"),
}    # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    break_it, sentence = BAD[name]
    p, _ = pooled()
    break_it(p)
    done = flashkda("run", p.save(tmp_path / "in"), "--op", "decode", "-o", tmp_path / "out", expect=3)
    assert sentence in done.text and str(tmp_path / "in") in done.text and not (tmp_path / "out").exists()


def test_too_many_tokens(tmp_path):
    p = make_problem(numpy.random.default_rng(9), 2, 9, 1, 1, 16, 16)
    text = flashkda("run", p.save(tmp_path / "in"), "--op", "decode", "-o", tmp_path / "out", expect=3).text
    assert "has T = 9 tokens of each sequence, but decode takes at most 8" in text
    assert "gives sequence 0 700 tokens" in flashkda("verify", DATA / "kda_lb.safetensors", "--op", "decode", expect=3).text


# ---------------------------------------------------------------- bench


def test_bench_case():
    case = flashkda("bench", "--op", "decode", "--N", "3", "--S", "2", "--slots", "9", "--H", "1", "--HV", "2", "--runs", "2", "--json").json
    assert (case["op"], case["N"], case["S"], case["T"], case["slots"], case["HV"]) == ("decode", 3, 2, 6, 9, 2)
    assert case["case"] == "N3 of 9 H1 HV2 S2" and case["layers"] * 9 * 2 * 65536 >= 3.2e8
    assert case["tokens_per_s"] == pytest.approx(6e3 / case["median_ms"])


def test_bench_default_case():
    case = flashkda("bench", "--op", "decode", "--runs", "1", "--json").json
    assert (case["case"], case["N"], case["S"], case["slots"]) == ("N1 H8", 1, 1, 0)


@pytest.mark.parametrize("arguments,sentence", [
    ("--N 3", "--N, --S and --slots belong to --op decode"),
    ("--op decode --T 8", "takes --N sequences of --S tokens"),
    ("--op decode --lens 3,4", "takes --N sequences of --S tokens"),
    ("--op decode --N 9 --slots 8", "--slots is 8, but N = 9 sequences have a slot each"),
    ("--op decode --S 9", "--S"),
    ("--op decode --suite quick", "--suite excludes --T"),
    ("--op decoding", "--op"),
])    # fmt: skip
def test_bench_refuses(arguments, sentence):
    done = flashkda("bench", *arguments.split(), expect=2)
    assert sentence in done.text and done.out == ""


def test_suite_kimi_linear():
    done = flashkda("bench", "--suite", "kimi-linear", "--runs", "1", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["N"] for line in lines if line["case"] != "memory"] == [1, 8, 64]
    memory = {(line["cache"], line["context"]): line for line in lines if line["case"] == "memory"}
    assert len(memory) == 22
    long, gqa = memory["MLA", 1 << 20], memory["GQA", 1 << 10]
    assert long["kda_layer_bytes"] == 32 * 128 * 128 * 4 + 3 * 3 * 32 * 128 * 2 and long["four_full_bytes"] == 4 * (1 << 20) * 576 * 2
    assert long["three_kda_one_full_bytes"] == 3 * long["kda_layer_bytes"] + long["full_layer_bytes"]
    assert gqa["full_layer_bytes"] == (1 << 10) * 2 * 8 * 128 * 2
    assert "3 KDA + 1 MLA" in flashkda("bench", "--suite", "kimi-linear", "--runs", "1").out
