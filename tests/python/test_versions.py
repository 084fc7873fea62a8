"""tools/gpu/versions.py run, with programs that print what prefill_time and prefill_marks would."""

import pathlib
import subprocess
import sys

TOOL = pathlib.Path(__file__).parents[2] / "tools/gpu/versions.py"
TIMES = """#!/bin/sh
n=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) > {count}
echo "case                   H      usual      slow     floor  spread   TB/s   (gates; ms)"
echo "fixed_8192_H8          8     0.{digit}${{n}}0    0.2000    0.3000  0.0010   0.95"
echo "$*" >> {count}.words
"""


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def run(folder, *words):
    return subprocess.run([sys.executable, TOOL, "run", "--folder", folder, *words], capture_output=True, text=True)


def test_rounds_in_turns(tmp_path):
    """The middle of three rounds, and the best; the suite and the repeats reach the programs."""
    for name, digit in (("new", 15), ("old", 17)):
        program(tmp_path / f"{name}.time", TIMES.format(count=tmp_path / f"{name}.count", digit=digit))
    done = run(tmp_path, "--suite", "time", "--repeats", "5")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["case", "new", "old"], ["fixed_8192_H8", "0.1510", "0.1500", "0.1710", "0.1700"]]
    assert (tmp_path / "new.count.words").read_text().split() == ["5", "time"] * 3


def test_marks_follow_and_failures_are_told(tmp_path):
    program(tmp_path / "new.time", TIMES.format(count=tmp_path / "count", digit=15))
    program(tmp_path / "new.marks", "#!/bin/sh\necho marks of $2\n")
    assert "new: prefill_marks 8 512 octet\nmarks of 512\n" in run(tmp_path, "--rounds", "1", "--marks", "8 512 octet").stdout
    program(tmp_path / "new.time", "#!/bin/sh\necho no GPU; exit 77\n")
    done = run(tmp_path)
    assert done.returncode == 1 and "no GPU" in done.stderr


def test_a_suite_without_times_is_an_error(tmp_path):
    program(tmp_path / "new.time", "#!/bin/sh\necho \"case                   H      usual      slow     floor\"\n")
    done = run(tmp_path, "--suite", "none")
    assert done.returncode == 1 and "printed no case of suite none" in done.stderr


def test_what_is_no_tree_is_refused(tmp_path):
    done = subprocess.run([sys.executable, TOOL, "pack", "new", "--folder", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "new: must be NAME=TREE" in done.stderr
