"""``python -m flash_kda doctor``: what is installed, whether it fits together, and for what does not one suggestion each."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import glob
import importlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import flash_kda

OLDEST_TORCH, TABLE_TORCH, OLDEST_FLA, OPEN_FLA, DEAF_FLA = (2, 4), (2, 11), (0, 5, 1), (0, 6), ("0.5.1", "0.5.2")
REINSTALL = "build and install module, library and command line from one source tree"


@dataclasses.dataclass
class Check:
    """One thing that was looked at."""

    name: str
    state: str  # "ok", "note", "wrong"
    text: str
    suggestion: str = ""


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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


# ---------------------------------------------------------------- the module


def _other_modules() -> list[pathlib.Path]:
    """What else on sys.path is called flash_kda, a folder without code too."""
    own = pathlib.Path(flash_kda.__file__).parent.resolve()
    places = [pathlib.Path(folder or ".") / name for folder in sys.path for name in ("flash_kda", "flash_kda.py")]
    found = {place.resolve() for place in places if place.exists()}
    return sorted(place for place in found if place != own)


def check_module() -> Iterator[Check]:
    yield Check("module", "ok", f"flash_kda {flash_kda.__version__}, {flash_kda.__file__}")
    for place in _other_modules():
        yield Check(
            "module", "wrong", f"{place} is called flash_kda too: the first on sys.path is imported, and FLA counts either as installed",
            f"rename or remove {place}",
        )  # fmt: skip
    installed = version_of("flashkda")
    if installed is None:
        yield Check("package", "note", "pip knows no flashkda: the module runs from a folder", "pip install .")
    elif installed != flash_kda.__version__:
        yield Check("package", "wrong", f"pip says flashkda {installed}, but the module is {flash_kda.__version__}", REINSTALL)
    for name in sorted({*metadata.packages_distributions().get("flash_kda", ())} - {"flashkda"}):
        yield Check(
            "package", "wrong", f"the package {name} also installs a module flash_kda: one overwrites the other",
            f"pip uninstall {name} flashkda, then install flashkda again",
        )  # fmt: skip


# ---------------------------------------------------------------- versions of library, header, command line


def _library_folders() -> list[str]:
    return [
        *os.environ.get("LD_LIBRARY_PATH", "").split(":"), f"{sys.prefix}/lib", "/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64",
        *glob.glob("/usr/lib/*-linux-gnu"), *glob.glob("/usr/local/lib/*-linux-gnu"),
    ]  # fmt: skip


def _libraries() -> dict[str, str]:
    """Real path -> version of every libflashkda.so that programs may find."""
    found = {os.path.realpath(file) for folder in _library_folders() if folder for file in glob.glob(f"{folder}/libflashkda.so*")}
    return {file: _version_of_library(file) for file in sorted(found)}


def _version_of_library(file: str) -> str:
    try:
        function = ctypes.CDLL(file).fkda_version_string
    except (OSError, AttributeError) as error:
        return f"unreadable ({error})"
    function.restype = ctypes.c_char_p
    return function().decode()


def _headers() -> dict[str, str]:
    folders = [*os.environ.get("CPATH", "").split(":"), f"{sys.prefix}/include", "/usr/local/include", "/usr/include"]
    files = {os.path.realpath(f"{folder}/flashkda.h") for folder in folders if folder and os.path.exists(f"{folder}/flashkda.h")}
    return {file: _version_of_header(file) for file in sorted(files)}


def _version_of_header(file: str) -> str:
    text = pathlib.Path(file).read_text(errors="replace")
    return ".".join(re.findall(r"#define FKDA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text)) or "unreadable"


def _command() -> dict[str, str]:
    file = shutil.which("flashkda")
    if file is None:
        return {}
    try:
        done = subprocess.run([file, "version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return {file: f"unreadable ({error})"}
    return {file: (done.stdout.split() or ["", f"unreadable ({done.stderr.strip()})"])[-1]}


def check_versions() -> Iterator[Check]:
    found = {"library": _libraries(), "header": _headers(), "command line": _command()}
    for kind, files in found.items():
        for file, version in files.items():
            if version == flash_kda.__version__:
                yield Check(kind, "ok", f"{version}, {file}")
            else:
                yield Check(kind, "wrong", f"{file} is version {version}, but the module is {flash_kda.__version__}", REINSTALL)


# ---------------------------------------------------------------- who computes


def _has_gpu() -> bool:
    return bool(glob.glob("/dev/nvidia[0-9]*")) or os.path.exists("/dev/dxg")


def _cuda_suggestion(text: str) -> str:
    if "without CUDA" in text:
        return "install a CUDA toolkit of 12.9 or later and build again: pip install --force-reinstall ."
    return "update the driver" if "driver" in text else "look at nvidia-smi; on GPUs without kernels move tensors to the CPU"


def check_backends() -> Iterator[Check]:
    for name, backend in flash_kda.backends().items():
        is_missed = not backend.available and (name != "cuda" or _has_gpu())
        suggestion = "" if not is_missed else _cuda_suggestion(backend.text) if name == "cuda" else "unset FKDA_CPU_ISA"
        yield Check(f"backend {name}", "wrong" if is_missed else "ok", f"{'on' if backend.available else 'off'}: {backend.text}", suggestion)
    isa = os.environ.get("FKDA_CPU_ISA")
    if isa and flash_kda.backends()["cpu"].available:
        yield Check("environment", "note", f"FKDA_CPU_ISA={isa} chooses the instructions of the CPU backend", "unset it but for tests")


def check_torch() -> Iterator[Check]:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        is_there = version_of("torch") is not None
        text = f"cannot be imported: {error}" if is_there else "not installed: the module takes nothing but torch tensors"
        yield Check("torch", "wrong", text, "pip install torch")
        return
    numbers = _numbers(torch.__version__)
    if numbers < OLDEST_TORCH:
        yield Check("torch", "wrong", f"{torch.__version__} is older than 2.4, the oldest that was tested", "pip install --upgrade torch")
    elif flash_kda._core._use_exchange_table(True):
        yield Check("torch", "ok", torch.__version__)
    else:
        yield Check(
            "torch", "note", f"{torch.__version__} has no exchange table: tensors are read attribute by attribute, some microseconds a call",
            f"torch {'.'.join(map(str, TABLE_TORCH))} or later" if numbers < TABLE_TORCH else "report this with the version of torch",
        )  # fmt: skip
    if flash_kda.backends()["cuda"].available and not torch.cuda.is_available():
        yield Check("torch", "note", "it has no CUDA here, though the cuda backend is on: tensors will be on the CPU", "a torch with CUDA")


# ---------------------------------------------------------------- who calls


def what_fla_does() -> tuple[bool, str, str]:
    """Would flash-linear-attention call this module, why (not), and what to do about it."""
    folder = folder_of("fla")
    if folder is None:
        return False, "not installed", ""
    if not any((folder / f"ops/kda/backends/{name}.py").exists() for name in ("flash_kda", "flashkda")):
        return False, "this version does not know flash_kda", "pip install --upgrade flash-linear-attention"
    if os.environ.get("FLA_FLASH_KDA") == "0":
        return False, "FLA_FLASH_KDA=0 turns flash_kda off", "unset FLA_FLASH_KDA"
    if os.environ.get("FLA_DISABLE_BACKEND_DISPATCH") == "1":
        return False, "FLA_DISABLE_BACKEND_DISPATCH=1 turns all backends off", "unset FLA_DISABLE_BACKEND_DISPATCH"
    return True, CONDITIONS, "import flash_kda.fla"


CONDITIONS = (
    "chunk_kda calls flash_kda when grad is off, q is bfloat16, K = V = 128, HV = H, A_log and dt_bias are given, safe_gate, state_v_first "
    "and the three use_*_in_kernel are set, and neither allow_neg_eigval, return_intermediate_states nor cp_context; after "
    "`import flash_kda.fla` for all that flash_kda computes"
)


def check_fla() -> Iterator[Check]:
    calls, text, suggestion = what_fla_does()
    version = version_of("fla-core", "flash-linear-attention")
    if version is None:
        yield Check("fla", "note", "flash-linear-attention is not installed", "pip install flash-linear-attention, if models are to call flash_kda")
        return
    if not calls:
        yield Check("fla", "wrong", f"{version}: {text}", suggestion)
        return
    yield Check("fla", "ok", f"{version}: {text}")
    if version in DEAF_FLA:
        yield Check("fla", "note", f"{version} drops allow_neg_eigval=True when it calls flash_kda by itself", "import flash_kda.fla")
    if _numbers(version) < OPEN_FLA:
        yield Check("fla", "note", f"{version} asks no backend in fused_recurrent_kda: decode stays with FLA", "flash-linear-attention 0.6 or later")


def check_transformers() -> Iterator[Check]:
    version, folder = version_of("transformers"), folder_of("transformers")
    if version is None or folder is None:
        return
    knows = [name for name in ("kimi_linear", "glm5_next", "bailing_hybrid") if (folder / "models" / name).exists()]
    if not knows:
        yield Check("transformers", "note", f"{version} has no model with KDA", "pip install --upgrade transformers")
    elif version_of("fla-core") is None:
        text = f"{version} has {', '.join(knows)}, and without flash-linear-attention runs their KDA layers in Python"
        yield Check("transformers", "note", text, "pip install flash-linear-attention, then import flash_kda.fla")
    else:
        yield Check("transformers", "ok", f"{version} has {', '.join(knows)}; with `import flash_kda.fla` their KDA layers run on flash_kda")


# ---------------------------------------------------------------- one call


def _value(text: str) -> Any:
    words = {"on": True, "true": True, "off": False, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def make_call(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE words -> the arguments of a call of chunk_kda, with tensors of zeros. ValueError: a word that is none."""
    import torch

    sizes: dict[str, Any] = {"B": 1, "T": 64, "H": 2, "HV": None, "D": 128, "K": None, "V": None}
    options: dict[str, Any] = {"dtype": "bfloat16", "device": "cpu", "grad": False, "state": False, "packed": False}
    call: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is not KEY=VALUE")
        home = sizes if key in sizes else options if key in options else call
        home[key] = _value(text)
    B, T, H, HV = (sizes[name] for name in ("B", "T", "H", "HV"))
    HV, K, V = HV or H, sizes["K"] or sizes["D"], sizes["V"] or sizes["D"]
    dtype = getattr(torch, str(options["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype is {options['dtype']!r}, which torch does not have")
    zeros = lambda *shape, of=dtype: torch.zeros(*shape, dtype=of, device=options["device"])
    call = {"q": zeros(B, T, H, K), "k": zeros(B, T, H, K), "v": zeros(B, T, HV, V), "g": zeros(B, T, HV, K), "beta": zeros(B, T, HV), **call}
    if call.get("use_gate_in_kernel"):
        call = {"A_log": zeros(HV, of=torch.float32), "dt_bias": zeros(HV * K, of=torch.float32), **call}
    if options["state"]:
        call["initial_state"] = zeros(B, HV, *((V, K) if call.get("state_v_first") else (K, V)), of=torch.float32)
    if options["packed"]:
        call["cu_seqlens"] = torch.tensor([0, T], device=options["device"])
    if options["grad"]:
        call["q"].requires_grad_()
    return call


def check_call(words: list[str]) -> Iterator[Check]:
    """Who would answer this call, and which conditions it misses."""
    import torch

    call = make_call(words)
    fla_backend = importlib.import_module("fla.ops.kda.backends.flash_kda").FlashKDABackend
    ours = importlib.import_module("flash_kda.fla")
    with torch.set_grad_enabled(call["q"].requires_grad):
        taken, reason = fla_backend().verify("chunk_kda", **call)
        reasons = ours.explain("chunk_kda", **call)
    yield Check("call", "ok" if taken else "note", "FLA by itself calls flash_kda" if taken else f"FLA by itself does not call flash_kda: {reason}",
                "" if taken else "import flash_kda.fla")  # fmt: skip
    if not reasons:
        yield Check("call", "ok", "with `import flash_kda.fla` it is taken")
    for missed in reasons:
        yield Check("call", "wrong", f"with `import flash_kda.fla` it is left to FLA: {missed}", "change that, or leave it to FLA")


# ---------------------------------------------------------------- all of it


def examine(words: list[str] | None = None) -> list[Check]:
    """All checks; with words also that of a call."""
    found: list[Check] = []
    for check in (check_module, check_versions, check_backends, check_torch, check_fla, check_transformers):
        found.extend(check())
    return found if words is None else [*found, *check_call(words)]


def print_checks(checks: list[Check]) -> None:
    for check in checks:
        print(f"{check.state:5}  {check.name:13} {check.text}")
        if check.suggestion and check.state != "ok":
            print(f"{'':20} -> {check.suggestion}")
    wrong = sum(check.state == "wrong" for check in checks)
    print("nothing is wrong" if wrong == 0 else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong")
