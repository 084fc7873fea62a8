"""``import flash_kda.fla`` with older versions of FLA, whose dispatch is another, downloaded each into a folder of its own; and FLA's own tests."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

NETWORK = pytest.mark.skipif(os.environ.get("FKDA_TEST_NETWORK") != "1", reason="downloads fla-core from PyPI: set FKDA_TEST_NETWORK=1")
CHECKOUT = os.environ.get("FKDA_FLA_CHECKOUT")

CALLS = """
import sys
sys.modules.update({"fla.layers": None, "fla.models": None, "fla.backends": None})  # of the FLA that is installed: its folders join the older one's
import torch, fla, flash_kda.fla
from fla.ops.kda import chunk_kda
from recurrence import recurrence, relative_rms

normal = lambda *shape: torch.randn(*shape)
q, k, v, g = (normal(2, 40, 2, 128) for _ in range(4))
beta, h0, A_log, dt_bias = normal(2, 40, 2), normal(2, 2, 128, 128), normal(2), normal(256)
knows_beta = fla.__version__ != "0.5.0"
options = dict(output_final_state=True, use_qk_l2norm_in_kernel=True, initial_state=h0)
options |= {"state_v_first" if knows_beta else "transpose_state_layout": True}

def check(answers, *inputs, **meaning):
    want = recurrence(q, k, v, *inputs, initial_state=h0, **meaning)
    assert all(relative_rms(a, b) < 1e-5 for a, b in zip(answers, want))

with torch.no_grad():
    for negative in (False, True)[: 1 + knows_beta]:
        more = dict(use_beta_sigmoid_in_kernel=True, allow_neg_eigval=negative) if knows_beta else {}
        b, kind = (beta, "logit") if knows_beta else (beta.sigmoid(), "activated")
        answers = chunk_kda(q, k, v, g, b, A_log=A_log, dt_bias=dt_bias, use_gate_in_kernel=True, **options, **more)
        check(answers, g, b, 128**-0.5, A_log, dt_bias, None, beta_kind=kind, beta_multiplier=1 + negative)
    answers = chunk_kda(q, k, v, -g.abs(), beta.sigmoid(), None, h0, True, True)
    check(answers, -g.abs(), beta.sigmoid(), 128**-0.5, None, None, None, gate="precomputed", beta_kind="activated", state_layout="nhkv")
print(fla.__version__, flash_kda.fla.status()["chunk_kda"].taken["cpu"], flash_kda.fla.status()["chunk_kda"].passed_on)
"""


def run(tmp_path, version):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", tmp_path, f"fla-core=={version}"]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "fla_core")
    path = f"{tmp_path}/fla_core:{os.path.dirname(__file__)}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run([sys.executable, "-c", CALLS], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


@NETWORK
@pytest.mark.parametrize("version,calls", [("0.5.2", 3), ("0.5.1", 3), ("0.5.0", 2)])
def test_versions_that_dispatch_otherwise(tmp_path, version, calls):
    done = run(tmp_path, version)
    assert done.stdout == f"{version} {calls} 0\n", done.stderr


@NETWORK
def test_a_version_that_asks_nobody(tmp_path):
    done = run(tmp_path, "0.4.2")
    assert done.returncode != 0 and "flash_kda.fla needs flash-linear-attention 0.5.1 or later" in done.stderr


@pytest.mark.skipif(CHECKOUT is None, reason="needs a source tree of flash-linear-attention: name it in FKDA_FLA_CHECKOUT")
def test_the_tests_of_fla():
    """Sequences of at most 128 tokens; tools/run_fla_tests.py runs them whole."""
    tool = pathlib.Path(__file__).parents[2] / "tools/run_fla_tests.py"
    done = subprocess.run([sys.executable, tool, CHECKOUT, "--tokens", "128"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    (total,) = [line.split() for line in done.stdout.splitlines() if line.startswith("all ")]
    assert int(total[1]) >= 60 and total[2] == "0" and int(total[4]) >= 80
