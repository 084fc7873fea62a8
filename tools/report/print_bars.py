#!/usr/bin/env python3
"""Prints the bars of tests/bars.def into docs/numerics.md, between the lines `<!-- bars -->` and `<!-- end of bars -->`.

    tools/report/print_bars.py            writes the table
    tools/report/print_bars.py --check    exit status 1 if the file is not what it would write
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/numerics.md"
BEGIN, END = "<!-- bars -->\n", "<!-- end of bars -->\n"
LINE = re.compile(r'^FKDA_BAR(_NUMBER)?\((.*), "(.*)"\)$')


def rows():
    """(True for a number, the words before the text, the text) of every line of the table."""
    for line in (ROOT / "tests/bars.def").read_text().split("*/")[1].splitlines():
        found = LINE.match(line)
        if found:
            yield found.group(1) is not None, found.group(2).split(", "), found.group(3)
        elif line.strip():
            sys.exit(f"tests/bars.def: not understood: {line}")


def table():
    text = "| arithmetic, class | M1 of out | M1 of final state | M2 of out, in bars of its M1 | what it is for |\n|---|---|---|---|---|\n"
    numbers = "\n"
    for is_number, words, why in rows():
        if is_number:
            numbers += f"* `{words[0]}` = {float.fromhex(words[1]) if words[1].startswith('0x') else float(words[1]):g}: {why}\n"
        else:
            arithmetic, kind, out, state, m2 = words
            text += f"| {arithmetic}, {kind} | {out} | {state} | {m2} | {why} |\n"
    return text + numbers


def main():
    before = DOCUMENT.read_text()
    head, found, rest = before.partition(BEGIN)
    _, also_found, tail = rest.partition(END)
    if not found or not also_found:
        sys.exit(f"{DOCUMENT} lacks the lines {BEGIN.strip()} and {END.strip()}")
    after = head + BEGIN + table() + END + tail
    if sys.argv[1:] == ["--check"]:
        if after != before:
            sys.exit(f"{DOCUMENT.relative_to(ROOT)} is not what tests/bars.def says: run tools/report/print_bars.py")
        print(f"{table().count(chr(10))} lines as in tests/bars.def")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        DOCUMENT.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
