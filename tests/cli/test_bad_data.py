"""Files that are no problem: each breach has exit code 3 and a sentence that names file, tensor, value and rule."""
import json
import os
import shutil

import numpy
import pytest

from conftest import flashkda


def bad_shape(name, shape):
    return lambda p: p.put(name, numpy.zeros(shape), "I64" if name == "cu_seqlens" else "F32")


def bad_metadata(key, value):
    return lambda p: p.metadata.update({key: value})


BAD_DATA = {
    "no_beta": (lambda p: p.tensors.pop("beta"), "tensor 'beta' is missing; needed are q, k, v, g, beta"),
    "no_q": (lambda p: p.tensors.pop("q"), "tensor 'q' is missing"),
    "q_rank": (bad_shape("q", (40, 2, 16)), "tensor 'q' has shape [40,2,16], but q is [B,T,H,K]"),
    "k_shape": (bad_shape("k", (1, 40, 2, 15)), "tensor 'k' has shape [1,40,2,15], but it must be [1,40,2,16]: k is [B,T,H,K], as q"),
    "v_tokens": (bad_shape("v", (1, 39, 4, 24)), "tensor 'v' has shape [1,39,4,24], but it must be [1,40,4,24]"),
    "v_heads": (bad_shape("v", (1, 40, 3, 24)), "HV = 3 heads, which is not a multiple of the H = 2"),
    "g_shape": (bad_shape("g", (1, 40, 2, 16)), "tensor 'g' has shape [1,40,2,16], but it must be [1,40,4,16]"),
    "beta_shape": (bad_shape("beta", (1, 40, 4, 1)), "tensor 'beta' has shape [1,40,4,1], but it must be [1,40,4]"),
    "A_log_shape": (bad_shape("A_log", (2,)), "A_log is [HV]"),
    "dt_bias_shape": (bad_shape("dt_bias", (64,)), "tensor 'dt_bias' has shape [64], but it must be [4,16]"),
    "state_shape": (bad_shape("initial_state", (3, 4, 16, 24)), "initial_state is [N,HV,V,K]"),
    "state_count": (bad_shape("initial_state", (2, 4, 24, 16)), "but it must be [3,4,24,16]"),
    "out_shape": (bad_shape("out", (1, 40, 4, 16)), "out is [B,T,HV,V]"),
    "final_shape": (bad_shape("final_state", (1, 4, 24, 16)), "final_state is [N,HV,V,K]"),
    "cu_empty": (bad_shape("cu_seqlens", (0,)), "'cu_seqlens' has no entry, but N sequences need N + 1"),
    "cu_short": (bad_shape("cu_seqlens", (1,)), "tensor 'initial_state' has shape [3,4,24,16], but it must be [0,4,24,16]"),
    "cu_rank": (bad_shape("cu_seqlens", (2, 2)), "cu_seqlens is [N+1]"),
    "cu_first": (lambda p: p.put("cu_seqlens", [1, 33, 33, 40], "I64"), "cu_seqlens[0] = 1, but it must be 0"),
    "cu_decreasing": (lambda p: p.put("cu_seqlens", [0, 33, 32, 40], "I64"), "cu_seqlens[2] = 32 is below"),
    "cu_extreme": (lambda p: p.put("cu_seqlens", [0, 2**63 - 1, -(2**63), 40], "I64"), "cu_seqlens[1]"),
    "cu_last": (lambda p: p.put("cu_seqlens", [0, 33, 33, 41], "I32"), "cu_seqlens[3] = 41"),
    "cu_float": (lambda p: p.put("cu_seqlens", [0, 33, 33, 40], "F32"), "'cu_seqlens' has dtype F32, but it must be I32 or I64"),
    "q_f16": (lambda p: p.put("q", numpy.zeros((1, 40, 2, 16)), "F16"), "'q' has dtype F16, but it must be BF16 or F32"),
    "g_f64": (lambda p: p.put("g", numpy.zeros((1, 40, 4, 16)), "F64"), "'g' has dtype F64"),
    "out_int": (lambda p: p.put("out", numpy.zeros((1, 40, 4, 24)), "I32"), "'out' has dtype I32"),
    "gate": (bad_metadata("gate", "hard"), "'gate' is 'hard', but it must be sigmoid_lower_bound, softplus or precomputed"),
    "no_gate": (lambda p: p.metadata.clear(), "'gate' and 'lower_bound' are both missing"),
    "no_bound": (lambda p: p.metadata.pop("lower_bound"), "'lower_bound' is missing"),
    "bound_none": (bad_metadata("lower_bound", "none"), "'lower_bound' is none"),
    "bound_low": (bad_metadata("lower_bound", "-5.5"), "'lower_bound' is '-5.5', outside [-5, 0]"),
    "bound_text": (bad_metadata("lower_bound", "-5x"), "'lower_bound' is '-5x', but it must be a number"),
    "scale_nan": (bad_metadata("scale", "nan"), "'scale' is 'nan', but it must be a number"),
    "scale_number": (bad_metadata("scale", 0.5), "__metadata__: 'scale' is not a string"),
    "A_log_precomputed": (bad_metadata("gate", "precomputed"), "must be absent, because metadata 'gate' is precomputed"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(small, tmp_path, name):
    break_it, sentence = BAD_DATA[name]
    break_it(small)
    path = small.save(tmp_path / "bad")
    done = flashkda("verify", path, "-o", tmp_path / "out", expect=3)
    assert sentence in done.text and str(path) in done.text and done.out == ""
    assert not (tmp_path / "out").exists()


def test_unknown_tensor_is_noted(small, tmp_path):
    small.put("dt_bais", [1.0], "F32")
    assert "such as 'dt_bais'" in flashkda("verify", small.save(tmp_path / "in"), "--json").text


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, sentence in ((tmp_path / "fifo", "is a FIFO"), (tmp_path, "is a directory"), ("/dev/zero", "is a character device"),
                           (tmp_path / "none", "No such file")):
        assert sentence in flashkda("run", path, "-o", tmp_path / "out", expect=3).text


def test_truncated_by_one_byte(small, tmp_path):
    (tmp_path / "short").write_bytes(small.path.read_bytes()[:-1])
    assert "truncated" in flashkda("verify", tmp_path / "short", expect=3).text


@pytest.mark.parametrize("name", [b"%n%s%x", b"\xff\xfe", b"new\nline", "Größe".encode(), b"-dash", b"\x1b[2J"])
def test_file_names_are_harmless(small, tmp_path, name):
    folder = os.fsencode(tmp_path)
    missing = flashkda("verify", folder + b"/" + name, expect=3)
    assert missing.text.count("\n") == 1 and "\x1b" not in missing.text
    shutil.copy(small.path, folder + b"/" + name)
    done = flashkda("run", "-o", b"./" + name + b".out", "--json", "--", name, cwd=tmp_path)
    assert os.path.exists(folder + b"/" + name + b".out")
    json.loads(done.out)
