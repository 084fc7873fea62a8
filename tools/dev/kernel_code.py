"""What nvcc makes of the kernels: the compiler's report, PTX, and machine code as instructions and loops. Used by lint_kernels.py."""
import importlib.util
import pathlib
import re
import shutil
import subprocess

from compile_once import compile_once

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = ["-gencode", "arch=compute_90a,code=sm_90a", "-std=c++20", "-O3"]


def sources(tree):
    """The files with kernels of a source tree."""
    return sorted((tree / "src/cuda").glob("*/*.cu"))


def compile_kernel(nvcc, source, folder):
    """Returns (ptxas report, PTX text, cubin)."""
    cubin, include = folder / f"{source.stem}.cubin", f"-I{source.parents[1]}"
    ptx = folder / f"{source.stem}.ptx"    # -keep: the PTX that the cubin was made of
    command = [nvcc, *FLAGS, include, "-Xptxas", "-v", "-keep", "-keep-dir", folder, "-MD", "-MF", folder / "read.d", "-cubin", source, "-o", cubin]
    status, report = compile_once(list(map(str, command)), [cubin, ptx])
    if status != 0:
        raise SystemExit(f"{source}: {report}")
    return report, ptx.read_text(), cubin


def report_for(nvcc, source, architecture, folder, virtual=None):
    """The compiler's report alone, for another architecture; virtual: by way of that one's PTX, as a driver compiles it."""
    gencode, cubin = f"arch=compute_{virtual or architecture},code=sm_{architecture}", folder / f"sm_{architecture}.cubin"
    options = ["-gencode", gencode, *FLAGS[2:], f"-I{source.parents[1]}", "-Xptxas", "-v", "-cubin"]
    built = subprocess.run([nvcc, *options, source, "-o", cubin], capture_output=True, text=True)
    if built.returncode != 0:
        raise SystemExit(f"{source}, sm_{architecture}: {built.stderr}")
    return built.stderr


def cuda_release(nvcc):
    return re.search(r"release ([\d.]+)", subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout).group(1)


def short_name(mangled):
    """prefill_kernel<0> of a kernel that is a template over one enumeration, prefill_kernel<0,1> if a bool behind it is true,
    prefill_cluster_kernel<0,Quad> if a type is behind it; without an argument of every other one."""
    name, argument, is_set, kind = re.search(r"\d+([a-z_]+_kernel)(?:IL\w*?E(\d+)E(?:Lb([01])E|NS\w*?\d([A-Z][A-Za-z]+?)E)?)?", mangled).groups()
    second = ",1" if is_set == "1" else f",{kind}" if kind else ""
    return f"{name}<{argument}{second}>" if argument else name


def entries(report):
    """kernel name -> (registers, spill bytes, stack bytes) from `ptxas -v`; of a template the most that one of its instances has."""
    found = {}
    for block in report.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", block).group(1)
        number = lambda pattern, block=block: sum(int(n) for n in re.findall(pattern, block))
        sizes = (number(r"Used (\d+) registers"), number(r"(\d+) bytes spill"), number(r"(\d+) bytes stack frame"))
        found[short_name(name)] = tuple(map(max, sizes, found.get(short_name(name), sizes)))
    return found


def disassembler(nvcc):
    """nvdisasm of a toolkit, or of Triton; None if there is none."""
    triton = importlib.util.find_spec("triton")
    places = [shutil.which("nvdisasm"), pathlib.Path(nvcc).resolve().parent / "nvdisasm"]
    places += [pathlib.Path(folder) / "backends/nvidia/bin/nvdisasm" for folder in (triton.submodule_search_locations if triton else ())]
    return next((place for place in places if place and pathlib.Path(place).exists()), None)


def disassemble(nvcc, cubin):
    """Machine code as text; None without nvdisasm."""
    nvdisasm = disassembler(nvcc)
    return subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout if nvdisasm else None


def code_of(kernel, sass):
    """The instructions of one kernel, and the places of its labels."""
    bodies = re.finditer(r"^\.text\.(\S*_kernel\S*):\n(.*?)(?=^\.text\.|\Z)", sass, re.M | re.S)
    body = next(body.group(2) for body in bodies if short_name(body.group(1)) == kernel)
    code, labels = [], {}
    for line in body.splitlines():
        label, instruction = re.match(r"(\.L_x_\d+):", line), re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?;)", line)
        if label:
            labels[label.group(1)] = len(code)
        elif instruction:
            code.append(instruction.group(1))
    return code, labels


def loops_of(kernel, sass):
    """The loops of one kernel, shortest first, each a list of instructions. A jump back over 1,000 is a wait far from its loop."""
    code, labels = code_of(kernel, sass)
    found = []
    for at, text in enumerate(code):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text)
        start = labels.get(target.group(1), at + 1) if target else at + 1
        if start <= at < start + 1000:
            found.append(code[start:at + 1])
    return sorted(found, key=len)


def hot_loops(kernel, sass, ledger):
    """(name, loops) for each hot loop of the ledger: the shortest that have the instructions which tell it apart, so many of each at least,
    and not those of others: a wait that the compiler put behind the loop jumps back into its middle, and looks like a shorter one. Where a
    role stands there in `copies`, as many of the shortest."""
    for name, want in ledger["loops"].items():
        count = lambda loop, mark: sum(bool(re.search(mark, instruction)) for instruction in loop)
        yield name, [loop for loop in loops_of(kernel, sass) if all(count(loop, mark) >= least for mark, least in want["has"].items())
                     and not any(count(loop, mark) for mark in want.get("has_not", ()))][:want.get("copies", 1)]


def without_places(code):
    """The instructions without the names of labels."""
    return [re.sub(r"\.L_x_\d+", "L", instruction) for instruction in code]
