"""tools/dev/check_layers.py: finds an include against an arrow that is planted in a copy of the source tree, and none in the tree itself."""

import pathlib
import shutil
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools/dev"))
from check_layers import breaches_in  # noqa: E402

PLANTED = [
    ("src/core/extent.c", "ref.h", "core may not include"),
    ("src/cpu/cpu_task.c", "ref.h", "cpu may not include"),
    ("cli/shared/text.c", "status.h", "cli may not include"),
    ("src/cuda/device/flag.cuh", "device/sm90/barrier.cuh", "cuda/device may not include"),
    ("src/cuda/device/flag.cuh", "schedule/jobs.cuh", "cuda/device may not include"),
    ("src/cuda/device/sm90/barrier.cuh", "prefill_sm90/problem/params.cuh", "cuda/device/sm90 may not include"),
    ("src/cuda/schedule/jobs.cuh", "prefill_sm90/prefill_tuning.h", "cuda/schedule may not include"),
    ("src/cuda/schedule/jobs.cuh", "device/sm90/barrier.cuh", "cuda/schedule may not include"),
    ("src/cuda/backend/cuda_backend.c", "prefill_sm90/prefill_launch.h", "cuda/backend may not include"),
    ("src/cuda/prefill_sm90/problem/params.cuh", "prefill_sm90/roles/loads.cuh", "problem may not include"),
    ("src/cuda/prefill_sm90/roles/loads.cuh", "prefill_sm90/mapping/duo_config.cuh", "roles may not include"),
    ("src/cuda/decode/decode.cuh", "prefill_sm90/problem/params.cuh", "cuda/decode may not include"),
    ("src/cuda/decode/decode.cuh", "device/sm90/barrier.cuh", "cuda/decode may not include"),
    ("include/flashkda.h", "stdio.h", "may not include stdio.h"),
]
ALLOWED = [("src/cuda/decode/decode.cuh", "device/flag.cuh"), ("src/cuda/decode/decode.cuh", "schedule/jobs.cuh"),
           ("src/cuda/decode_sm90/decode_loads.cuh", "device/sm90/barrier.cuh"), ("src/cuda/decode/decode.c", "cuda_kernel.h")]


@pytest.fixture
def tree(tmp_path):
    for folder in ("src", "include", "cli", "python", "bench", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def plant(tree, path, name):
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.read_text() if file.exists() else ""
    file.write_text(f'#include "{name}"\n' + before)


def test_the_tree_has_no_breach():
    breaches, count = breaches_in(ROOT)
    assert breaches == [] and count > 100


@pytest.mark.parametrize("path, name, says", PLANTED)
def test_planted_include_is_found(tree, path, name, says):
    plant(tree, path, name)
    breaches, _ = breaches_in(tree)
    assert len(breaches) == 1 and breaches[0].startswith(f"{path}:1:") and says in breaches[0]


@pytest.mark.parametrize("path, name", ALLOWED)
def test_what_a_new_kernel_may_include(tree, path, name):
    plant(tree, path, name)
    assert breaches_in(tree)[0] == []


def test_a_basename_exists_once(tree):
    plant(tree, "src/cuda/decode/jobs.cuh", "device/flag.cuh")
    assert any("the basename exists twice" in line for line in breaches_in(tree)[0])
