#!/usr/bin/env python3
"""Lays the kernel out as `kernels` loads it from a folder: FOLDER/build/torch-cpu and FOLDER/build/torch-cuda.

    integrations/hf-kernels/lay_out.py FOLDER

On the Hub kernel-builder does this from build.toml. There is nothing to compile: the compiled code comes with the package flashkda.
"""

import argparse
import json
import pathlib
import re
import shutil
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent


def lay_out(folder: pathlib.Path) -> None:
    """One folder for each backend of build.toml: the Python files, and metadata.json."""
    toml = (HERE / "build.toml").read_text()
    value = lambda key: re.search(rf'^{key} = "?([^"\n]+)"?$', toml, re.M)[1]  # type: ignore[index]
    name, version = value("name"), int(value("version"))
    for backend in re.findall(r'"(\w+)",', toml):
        variant = folder / "build" / f"torch-{backend}"
        shutil.copytree(HERE / "torch-ext" / name, variant, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        metadata: dict[str, Any] = {
            "name": name, "id": f"_{name}_{backend}_{version}", "version": version, "license": value("license"), "python-depends": [],
            "backend": {"type": backend},
        }  # fmt: skip
        (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    lay_out(arguments.parse_args().folder)
