"""tests/mutants/run_mutants.py runs for long, and not often. That its list follows the code shows at once."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def test_each_old_text_is_in_its_file_once():
    spec = importlib.util.spec_from_file_location("run_mutants", ROOT / "tests/mutants/run_mutants.py")
    mutants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutants)
    assert len(mutants.MUTANTS) > 100
    counts = {(name, old): (ROOT / name).read_text().count(old) for name, old, _, _ in mutants.MUTANTS}
    assert {key: count for key, count in counts.items() if count != 1} == {}
