#!/usr/bin/env python3
"""Holds the arrows of the source tree: which folder may include which. Prints one line per breach and exits 1, or the number of files read.

    core -> flashkda.h                      cli, python, bench, examples -> flashkda.h only
    ref, cpu, cuda/backend -> core          nobody -> a file named utils
    cuda/device/sm90 -> cuda/device         cuda/device -> nothing, cuda/schedule -> cuda/device
    cuda/<kernel> -> core, cuda/backend, cuda/device, cuda/schedule; only a kernel named *_sm90 -> cuda/device/sm90
    inside a kernel: mapping -> roles -> problem
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUFFIXES = {".c", ".h", ".cu", ".cuh", ".def", ".inc"}
USERS = ("cli", "python", "bench", "examples")
ARROWS = {
    **dict.fromkeys(USERS, ()),
    "core": (),
    "ref": ("core",),
    "cpu": ("core",),
    "cuda/backend": ("core",),
    "cuda/device": (),
    "cuda/device/sm90": ("cuda/device",),
    "cuda/schedule": ("cuda/device",),
}
FOR_KERNELS = ("core", "cuda/backend", "cuda/device", "cuda/schedule")
PARTS_OF_A_KERNEL = ("problem", "roles", "mapping")    # each may include itself and those before it


def folder_of(path):
    """core, ref, cuda/device, cuda/device/sm90, cuda/<kernel>, cuda/<kernel>/roles, cli, ...; `path` is relative to the repository."""
    parts = path.parts[:-1]
    if parts[0] in USERS:
        return parts[0]
    depth = 3 if parts[1] == "cuda" else 1
    return "/".join(parts[1:1 + depth])


def may_include(folder, other):
    if folder == other:
        return True
    if folder in ARROWS or not folder.startswith("cuda/"):
        return other in ARROWS.get(folder, ())
    _, kernel, *part = folder.split("/")
    if other.split("/")[:2] == ["cuda", kernel]:
        other_part = other.split("/")[2:]
        if not part or not other_part:
            return True    # the kernel's own entry and its C headers
        return part[0] not in PARTS_OF_A_KERNEL or other_part[0] in PARTS_OF_A_KERNEL[:PARTS_OF_A_KERNEL.index(part[0])]
    return other in FOR_KERNELS or (other == "cuda/device/sm90" and kernel.endswith("_sm90"))


def source_files(root):
    return [p.relative_to(root) for top in ("src", *USERS) for p in sorted((root / top).rglob("*")) if p.suffix in SUFFIXES]


def includes_of(path):
    """(line number, name as written)"""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if found:
            yield number, found.group(1)


def breaches_in(root):
    """One line for each breach, and the number of files read."""
    files = source_files(root)
    by_name, breaches = {}, []
    for path in files:
        if path.name in by_name and path.suffix != ".def":
            breaches.append(f"{path}: the basename exists twice, also {by_name[path.name]}")
        by_name[path.name] = path
    for path in files:
        if "utils" in path.stem:
            breaches.append(f"{path}: a file is named after its idea, not utils")
        for number, name in includes_of(root / path):
            target = by_name.get(pathlib.PurePath(name).name)
            if target and not may_include(folder_of(path), folder_of(target)):
                breaches.append(f"{path}:{number}: {folder_of(path)} may not include {target}")
    for number, name in includes_of(root / "include/flashkda.h"):
        if name not in ("stddef.h", "stdint.h"):
            breaches.append(f"include/flashkda.h:{number}: may not include {name}, only stddef.h and stdint.h")
    return breaches, len(files)


def main():
    breaches, count = breaches_in(ROOT)
    print("\n".join(breaches) or f"{count} files, every include points down")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
