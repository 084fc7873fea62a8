"""``python -m flash_kda``: what this module is, what it would run on, and whether flash-linear-attention calls it. Imports no torch."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
from importlib import metadata

import flash_kda

CONDITIONS = (
    "chunk_kda calls flash_kda when grad is off, q is bfloat16, K = V = 128, HV = H, A_log and dt_bias are given, safe_gate, state_v_first "
    "and the three use_*_in_kernel are set, and neither allow_neg_eigval, return_intermediate_states nor cp_context"
)


def version_of(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def folder_of(package: str) -> pathlib.Path | None:
    """Where ``import package`` would find it, without importing it."""
    spec = importlib.util.find_spec(package)
    return pathlib.Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def what_fla_does() -> tuple[bool, str]:
    """Would flash-linear-attention call this module, and the reason in words."""
    folder = folder_of("fla")
    if folder is None:
        return False, "not installed"
    if not (folder / "ops/kda/backends/flash_kda.py").exists():
        return False, "this version does not know flash_kda"
    if os.environ.get("FLA_FLASH_KDA") == "0":
        return False, "FLA_FLASH_KDA=0 turns flash_kda off"
    if os.environ.get("FLA_DISABLE_BACKEND_DISPATCH") == "1":
        return False, "FLA_DISABLE_BACKEND_DISPATCH=1 turns all backends off"
    return True, CONDITIONS


def collect() -> dict:
    calls_flash_kda, text = what_fla_does()
    return {
        "version": flash_kda.__version__,
        "file": flash_kda.__file__,
        "build": flash_kda.build_info(),
        "backends": {name: backend._asdict() for name, backend in flash_kda.backends().items()},
        "torch": version_of("torch"),
        "fla": {"version": version_of("flash-linear-attention", "fla-core"), "calls_flash_kda": calls_flash_kda, "text": text},
    }


def print_text(facts: dict) -> None:
    print(f"flash_kda {facts['version']}\n  file      {facts['file']}\n  build     {facts['build']}")
    title = "backends"
    for name, backend in facts["backends"].items():
        print(f"  {title:8}  {name:4}  {'on' if backend['available'] else 'off':3}  {backend['text']}")
        title = ""
    print(f"  torch     {facts['torch'] or 'not installed'}")
    fla = facts["fla"]
    print(f"  fla       {fla['version'] + ': ' if fla['version'] else ''}{fla['text']}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flash_kda", description="Prints what this module is and what it would run on.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = parser.parse_args()
    facts = collect()
    if options.json:
        print(json.dumps(facts))
    else:
        print_text(facts)


if __name__ == "__main__":
    main()
