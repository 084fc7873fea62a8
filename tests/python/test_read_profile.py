"""tools/gpu/read_profile.py --runs on a made profile: a prologue, and a pass that half of the warps take two times, the others not at all."""

import pathlib
import subprocess
import sys

TOOL = pathlib.Path(__file__).parents[2] / "tools/gpu/read_profile.py"
HEAD = '"Address","Source","# Samples","Instructions Executed","stall_wait","stall_barrier"\n'
ROWS = [(0x1000, "S2R", 10, 8, 10, 0), (0x1010, "MUFU", 30, 8, 20, 10), (0x1020, "NOP", 0, 0, 0, 0), (0x1030, "FFMA", 40, 16, 0, 40),
        (0x1040, "BRA", 20, 16, 20, 0)]


def read(folder, *words):
    profile = folder / "profile.csv"
    profile.write_text("some lines before\n" + HEAD + "".join(f'"{at:x}","{text}",{",".join(map(str, counts))}\n' for at, text, *counts in ROWS))
    command = [sys.executable, TOOL, profile, "--runs", "--cycles", "500", "--warps", "8", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_cycles_are_those_of_one_pass(tmp_path):
    """100 samples are 500 cycles of 8 warps: 40 a sample."""
    first, second = read(tmp_path).splitlines()
    assert first.split() == "00000..00010 2 instructions, 8 passes 200 cycles percent of it: wait 75, barrier 25".split()
    assert second.split() == "00030..00040 2 instructions, 16 passes 150 cycles percent of it: barrier 66, wait 33".split()


def test_single_instructions_and_the_least(tmp_path):
    assert [line.split()[0] for line in read(tmp_path, "--between", "10", "30").splitlines()] == ["00010..00010", "00030..00030"]
    assert [line.split()[0] for line in read(tmp_path, "--between", "10", "30", "--least", "120").splitlines()] == ["00010..00010"]
