#!/usr/bin/env python3
"""Draws the figures of docs/kernel.md, docs/figures/*.svg. Numbers come from the kernel's sources (sources.py) or are asserted against them.

    tools/report/figures.py            writes them
    tools/report/figures.py --check    writes nothing; exit 1 if a committed figure is not what this script draws, or is missing or left over
"""
import argparse
import pathlib
import sys

import figure_barriers
import figure_chunk
import figure_mappings
import figure_memory
import figure_ranges
import figure_roles
import figure_schedule
import sources

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "figures"
FIGURES = {
    "chunk": figure_chunk.draw,
    "roles": figure_roles.draw,
    "memory": figure_memory.draw,
    "mappings": figure_mappings.draw,
    "schedule": figure_schedule.draw,
    "barriers": figure_barriers.draw,
    "ranges": figure_ranges.draw,
}


def differences(drawn):
    """One line for each figure that is not as drawn."""
    for name, text in drawn.items():
        path = FOLDER / name
        if not path.exists():
            yield f"docs/figures/{name} is missing"
        elif path.read_text() != text:
            yield f"docs/figures/{name} is not what tools/report/figures.py draws"
    for path in sorted(FOLDER.glob("*.svg")):
        if path.name not in drawn:
            yield f"docs/figures/{path.name} is not drawn by tools/report/figures.py"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = arguments.parse_args()
    kernel = sources.kernel()
    drawn = {f"{name}.svg": draw(kernel) for name, draw in FIGURES.items()}
    if arguments.check:
        found = list(differences(drawn))
        print("\n".join(found) or f"{len(drawn)} figures are as drawn")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawn.items():
        (FOLDER / name).write_text(text)
    print(f"wrote {len(drawn)} figures to docs/figures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
