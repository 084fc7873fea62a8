"""Pools, masks and checkpoints in problem files."""
import numpy
import pytest
import safetensors.numpy

from conftest import flashkda
from problem_files import from_bf16, make_problem, recurrence

LENS = [5, 0, 20, 17, 1]
BOUNDS = [0, 5, 5, 25, 42, 43]
SHAPE = dict(B=1, T=43, H=1, HV=2, K=16, V=24, bounds=BOUNDS)


def dense_problem():
    return make_problem(numpy.random.default_rng(5), **SHAPE)


def pooled(p, dtype="I32", state="F32"):
    """The problem with its initial states in slots 9, 3, 0, 7, 5 of a pool of 11; final states go to others, that of sequence 3 nowhere."""
    rng = numpy.random.default_rng(6)
    pool = rng.standard_normal((11, 2, 24, 16))
    pool[[9, 3, 0, 7, 5]] = p.get("initial_state")
    p.put("initial_state", pool, state)
    p.put("initial_slots", [9, 3, 0, 7, 5], dtype)
    p.put("final_slots", [1, 3, 0, -4, 10], dtype)
    return p


def read(path):
    """Results as float64; numpy has no bfloat16, so states in it are read as they are stored."""
    data = path.read_bytes()
    try:
        return {name: x.astype(numpy.float64) for name, x in safetensors.numpy.load_file(path).items()}
    except (KeyError, TypeError, AttributeError):
        import json
        import struct

        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        found = {}
        for name, at in header.items():
            if name == "__metadata__":
                continue
            raw = data[8 + length + at["data_offsets"][0] : 8 + length + at["data_offsets"][1]]
            stored = from_bf16(numpy.frombuffer(raw, "<u2")) if at["dtype"] == "BF16" else numpy.frombuffer(raw, "<f4")
            found[name] = stored.reshape(at["shape"]).astype(numpy.float64)
        return found


@pytest.fixture(autouse=True)
def memory_is_not_zero(monkeypatch):
    """What nobody writes must not be 0 by chance."""
    monkeypatch.setenv("MALLOC_PERTURB_", "165")


def run(p, tmp_path, *options):
    flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", "--out-dtype", "f32", "--force", *options)
    return read(tmp_path / "out")


def near(got, want, tolerance=2e-5):
    numpy.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, numpy.abs(want).max(initial=0)))


@pytest.mark.parametrize("state", ["F32", "BF16"])
@pytest.mark.parametrize("dtype", ["I32", "I64"])
def test_pool(tmp_path, dtype, state):
    p = pooled(dense_problem(), dtype, state)
    before = p.get("initial_state")
    q = dense_problem()
    q.put("initial_state", before[[9, 3, 0, 7, 5]], "F32")
    out, final = recurrence(q)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"][[1, 3, 0, 10]], final[[0, 1, 2, 4]], 2e-5 if state == "F32" else 8e-3)
    assert (got["final_state"][[2, 4, 5, 6, 7, 8, 9]] == before[[2, 4, 5, 6, 7, 8, 9]]).all()


def test_pool_to_dense_states(tmp_path):
    p = pooled(dense_problem())
    del p.tensors["final_slots"]
    _, final = recurrence(dense_problem())
    near(run(p, tmp_path)["final_state"], final)


@pytest.mark.parametrize("dtype", ["U8", "BOOL"])
def test_mask_and_null_rule(tmp_path, dtype):
    p = pooled(dense_problem())
    p.put("initial_mask", [0, 1, 1, 1, 0], dtype)
    p.metadata["slot_null"] = "not_positive"    # slot 0 of sequence 2 is none
    q = dense_problem()
    states = q.get("initial_state")
    states[[0, 2, 4]] = 0
    q.put("initial_state", states, "F32")
    before = p.get("initial_state")
    out, final = recurrence(q)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"][[1, 3, 10]], final[[0, 1, 4]])
    assert (got["final_state"][0] == before[0]).all()


@pytest.mark.parametrize("dtype", ["I32", "I64"])
def test_checkpoint_offsets(tmp_path, dtype):
    p, after = dense_problem(), {}
    out, final = recurrence(p, after)
    offsets = numpy.array([[5, 1], [0, -1], [16, 20], [0, 3], [1, 1]])
    p.put("checkpoint_offsets", offsets, dtype)
    got = run(p, tmp_path)
    near(got["out"], out)
    near(got["final_state"], final)
    want = [after[n, o] if o > 0 else numpy.zeros((2, 24, 16)) for n in range(5) for o in offsets[n]]
    near(got["checkpoint_state"], numpy.array(want))
    p.put("checkpoint_offsets", offsets[:, 0], dtype)
    near(run(p, tmp_path)["checkpoint_state"], numpy.array(want[::2]))


@pytest.mark.parametrize("every", [1, 4, 20, 21])
def test_checkpoint_every(tmp_path, every):
    p, after = dense_problem(), {}
    recurrence(p, after)
    p.metadata["checkpoint_every"] = str(every)
    want = [after[n, tokens] for n, length in enumerate(LENS) for tokens in range(every, length + 1, every)]
    got = run(p, tmp_path)["checkpoint_state"]
    assert got.shape == (len(want), 2, 24, 16)
    near(got, numpy.array(want).reshape(got.shape))
    assert flashkda("verify", tmp_path / "in", "--json").json["pass"]


def test_checkpoint_every_in_a_dense_batch(tmp_path):
    p, after = make_problem(numpy.random.default_rng(5), B=3, T=11, H=1, HV=2, K=16, V=24), {}
    recurrence(p, after)
    p.metadata["checkpoint_every"] = "5"
    near(run(p, tmp_path)["checkpoint_state"], numpy.array([after[n, tokens] for n in range(3) for tokens in (5, 10)]))


def test_checkpoint_slots(tmp_path):
    p, after = dense_problem(), {}
    recurrence(p, after)
    p.metadata["checkpoint_every"] = "5"
    p.put("checkpoint_slots", [4, 0, -1, 2, 7, 1, 6, 3], "I32")
    got = run(p, tmp_path)["checkpoint_state"]
    rows = [(0, 5), (2, 5), (2, 10), (2, 15), (2, 20), (3, 5), (3, 10), (3, 15)]
    want = numpy.zeros((8, 2, 24, 16))
    for slot, at in zip([4, 0, -1, 2, 7, 1, 6, 3], rows, strict=True):
        if slot >= 0:
            want[slot] = after[at]
    near(got, want)


def everything():
    p, after = dense_problem(), {}
    out, final = recurrence(p, after)
    p = pooled(p)
    p.put("checkpoint_offsets", [[5, 1], [0, -1], [16, 20], [0, 3], [1, 1]], "I64")
    p.put("out", out, "F32")
    pool = p.get("initial_state") + 1    # not compared where nobody writes
    pool[[1, 3, 0, 10]] = final[[0, 1, 2, 4]]
    p.put("final_state", pool, "F32")
    rows = numpy.full((10, 2, 24, 16), 7.0)
    for i, at in enumerate([(0, 5), (0, 1), None, None, (2, 16), (2, 20), None, (3, 3), (4, 1), (4, 1)]):
        if at:
            rows[i] = after[at]
    p.put("checkpoint_state", rows, "F32")
    return p


def test_verify_against_the_file(tmp_path):
    done = flashkda("verify", everything().save(tmp_path / "in"), "--json").json
    assert done["pass"] and all(done[name]["answer"] == "file" for name in ("out", "final_state", "checkpoint_state"))
    assert done["checkpoint_state"]["m1"] < 2e-6
    text = flashkda("verify", tmp_path / "in").out
    assert "checkpoints" in text and "pass: the answer comes from the file" in text


def test_verify_without_answers(tmp_path):
    p = everything()
    del p.tensors["checkpoint_state"], p.tensors["final_state"]
    done = flashkda("verify", p.save(tmp_path / "in"), "--json", "-o", tmp_path / "out").json
    assert done["pass"] and done["out"]["answer"] == "file" and done["checkpoint_state"]["answer"] == "ref"
    assert set(read(tmp_path / "out")) == {"out", "final_state", "checkpoint_state"}
    assert "the file and, where it has none, the float64 reference" in flashkda("verify", tmp_path / "in").out


@pytest.mark.parametrize("name,row", [("final_state", 10), ("checkpoint_state", 5)])
def test_verify_fails_on_a_tampered_row(tmp_path, name, row):
    p = everything()
    p.tensors[name][1][row] *= 1.001
    done = flashkda("verify", p.save(tmp_path / "in"), "--json", expect=1).json
    assert not done["pass"] and not done[name]["pass"] and done["out"]["pass"]


BAD = {
    "final_alone": (lambda p: p.tensors.pop("initial_slots"), "'final_slots' is there without 'initial_slots'"),
    "no_pool": (lambda p: p.tensors.pop("initial_state"), "'initial_slots' needs the pool"),
    "slots_shape": (lambda p: p.put("initial_slots", [1, 2], "I32"), "tensor 'initial_slots' has shape [2], but it must be [5]"),
    "slots_dtype": (lambda p: p.put("final_slots", [1, 2, 3, 4, 5], "F32"), "'final_slots' has dtype F32, but it must be I32 or I64"),
    "slots_value": (lambda p: p.put("final_slots", [1, 2, 3, 4, 11], "I32"), "final_slots[4] = 11 is not below desc.final_state.slot_count = 11"),
    "slots_twice": (lambda p: p.put("final_slots", [1, 2, 3, 4, 2], "I32"), "final_slots[1] and args.final_slots[4] are both 2"),
    "final_shape": (lambda p: p.put("final_state", numpy.zeros((5, 2, 24, 16)), "F32"), "but it must be [11,2,24,16]"),
    "null_rule": (lambda p: p.metadata.update(slot_null="zero"), "'slot_null' is 'zero', but it must be negative or not_positive"),
    "mask_dtype": (lambda p: p.put("initial_mask", [1] * 5, "I32"), "'initial_mask' has dtype I32, but it must be U8 or BOOL"),
    "mask_shape": (lambda p: p.put("initial_mask", [1] * 4, "U8"), "tensor 'initial_mask' has shape [4], but it must be [5]"),
    "every_text": (lambda p: p.metadata.update(checkpoint_every="5x"), "'checkpoint_every' is '5x', but it must be a whole number"),
    "every_zero": (lambda p: p.metadata.update(checkpoint_every="0"), "'checkpoint_every' is '0'"),
    "offsets_rank": (lambda p: p.put("checkpoint_offsets", numpy.zeros((5, 1, 1)), "I32"), "'checkpoint_offsets' has 3 dimensions"),
    "offsets_shape": (lambda p: p.put("checkpoint_offsets", numpy.zeros((4, 2)), "I32"), "has shape [4,2], but it must be [5,2]"),
    "offsets_value": (lambda p: p.put("checkpoint_offsets", [6, 0, 0, 0, 0], "I32"), "checkpoint_offsets[0] = 6"),
    "slots_alone": (lambda p: p.put("checkpoint_slots", [0], "I32"), "tensor 'checkpoint_slots' is there, but neither"),
    "state_alone": (lambda p: p.put("checkpoint_state", numpy.zeros((5, 2, 24, 16)), "F32"), "tensor 'checkpoint_state' is there, but neither"),
}    # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_states(tmp_path, name):
    break_it, sentence = BAD[name]
    p = pooled(dense_problem())
    break_it(p)
    done = flashkda("run", p.save(tmp_path / "in"), "-o", tmp_path / "out", expect=3)
    assert sentence in done.text and str(tmp_path / "in") in done.text and not (tmp_path / "out").exists()


def test_late_shapes(tmp_path):
    p = dense_problem()
    p.metadata["checkpoint_every"] = "5"
    p.put("checkpoint_state", numpy.zeros((7, 2, 24, 16)), "F32")
    text = flashkda("verify", p.save(tmp_path / "in"), expect=3).text
    assert "tensor 'checkpoint_state' has shape [7,2,24,16], but it must be [8,2,24,16]" in text
    p.put("checkpoint_offsets", [0] * 5, "I32")
    assert "both there, but one says where" in flashkda("verify", p.save(tmp_path / "in"), expect=3).text


def test_no_checkpoint_and_no_sequence(tmp_path):
    p = make_problem(numpy.random.default_rng(5), **{**SHAPE, "T": 0, "bounds": [0]})
    p.metadata["checkpoint_every"] = "5"
    p.put("checkpoint_slots", [], "I32")
    got = run(p, tmp_path)
    assert got["checkpoint_state"].shape[1:] == (2, 24, 16)
    assert flashkda("verify", tmp_path / "in", "--json").json["pass"]
