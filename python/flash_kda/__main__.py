"""``python -m flash_kda``: what this module is, what it would run on, and whether flash-linear-attention calls it. Imports no torch.
``python -m flash_kda doctor``: whether all of that fits together."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import flash_kda

from . import _doctor

CALL_HELP = (
    "also: would a call of FLA's chunk_kda be taken, and which conditions does it miss? B, T, H, HV, K, V, D, dtype, device, grad, state, packed, "
    "and any argument of chunk_kda, as in: --call D=64 dtype=float32 use_gate_in_kernel=on lower_bound=-5"
)


def collect() -> dict:
    calls_flash_kda, text, _ = _doctor.what_fla_does()
    return {
        "version": flash_kda.__version__,
        "file": flash_kda.__file__,
        "build": flash_kda.build_info(),
        "backends": {name: backend._asdict() for name, backend in flash_kda.backends().items()},
        "torch": _doctor.version_of("torch"),
        "fla": {"version": _doctor.version_of("flash-linear-attention", "fla-core"), "calls_flash_kda": calls_flash_kda, "text": text},
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


def run_doctor(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        checks = _doctor.examine(options.call)
    except (ValueError, RuntimeError, AssertionError, ImportError) as error:  # of --call
        parser.error(f"--call: {error}")
    is_ok = all(check.state != "wrong" for check in checks)
    if options.json:
        print(json.dumps({"version": flash_kda.__version__, "ok": is_ok, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        _doctor.print_checks(checks)
    return 0 if is_ok else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flash_kda", description="Prints what this module is and what it would run on.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    commands = parser.add_subparsers(dest="command", metavar="doctor")
    doctor = commands.add_parser("doctor", help="looks whether all that is installed fits together; exit status 1 if something is wrong")
    doctor.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object instead of text")
    doctor.add_argument("--call", nargs="*", metavar="KEY=VALUE", help=CALL_HELP)
    options = parser.parse_args()
    if options.command == "doctor":
        return run_doctor(options, doctor)
    facts = collect()
    if options.json:
        print(json.dumps(facts))
    else:
        print_text(facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
