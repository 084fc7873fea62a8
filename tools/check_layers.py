#!/usr/bin/env python3
"""Holds the arrows of the house: who may include whom. Prints one line per breach and exits 1, or the number of files read.

    core -> flashkda.h      ref, cpu, cuda -> core      cuda/<kernel> -> cuda/device
    cli, python, bench, examples -> flashkda.h only     nobody -> utils
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".c", ".h", ".cu", ".cuh", ".def", ".inc"}
USERS = ("cli", "python", "bench", "examples")    # rooms that see flashkda.h alone


def room_of(path):
    """core, ref, cpu, cuda, cuda/device, cuda/<kernel>, cli, ...; None for what the rules do not cover."""
    parts = path.relative_to(ROOT).parts
    if parts[0] in USERS:
        return parts[0]
    if parts[0] != "src" or len(parts) < 3:
        return None
    if parts[1] == "cuda" and len(parts) > 3:
        return f"cuda/{parts[2]}"
    return parts[1]


def may_include(room, other):
    if room == other:
        return True
    if room in USERS or room == "core":
        return False
    if other == "core":
        return room in ("ref", "cpu", "cuda")
    if room == "cuda":
        return False    # the host side knows cuda_launch.h, which is its own
    if room.startswith("cuda/"):
        return other in ("cuda/device", "cuda")
    return False


def main():
    files = [p for top in ("src", *USERS) for p in sorted((ROOT / top).rglob("*")) if p.suffix in SUFFIXES]
    by_name, breaches = {}, []
    for path in files:
        if path.name in by_name and path.suffix != ".def":
            breaches.append(f"{path.relative_to(ROOT)}: the basename exists twice, also {by_name[path.name].relative_to(ROOT)}")
        by_name[path.name] = path
    for path in files:
        if "utils" in path.stem:
            breaches.append(f"{path.relative_to(ROOT)}: a file is named after its idea, not utils")
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            target = by_name.get(pathlib.Path(found.group(1)).name) if found else None
            if target and not may_include(room_of(path), room_of(target)):
                breaches.append(f"{path.relative_to(ROOT)}:{number}: {room_of(path)} may not include {target.relative_to(ROOT)}")
    header = (ROOT / "include/flashkda.h").read_text()
    for name in re.findall(r'#\s*include\s*[<"]([^>"]+)', header):
        if name not in ("stddef.h", "stdint.h"):
            breaches.append(f"include/flashkda.h includes {name}")
    print("\n".join(breaches) or f"{len(files)} files, every include points down")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
