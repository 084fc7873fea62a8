#!/usr/bin/env python3
"""Makes a folder of link-time stand-ins for the C library as it was at an older version, so that what is linked with -L FOLDER runs there too.

    glibc_stubs.py FOLDER VERSION [C COMPILER]          glibc_stubs.py build/glibc 2.28 gcc

A program is bound, when it is linked, to the newest version of each function that the C library of this machine has, and does not start
where that version is missing. But the library keeps all older versions. A stand-in exports, of every symbol, the newest version that is not
later than VERSION, and nothing that came later: a use of such a symbol remains undefined. Stand-ins hold no code and are never loaded.
"""
import pathlib
import re
import subprocess
import sys

LIBRARIES = ("libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1")
MERGED = ("libpthread.so.0", "libdl.so.2", "librt.so.1")    # a part of libc.so.6 since 2.34; before, what they held is looked up in them
SYMBOL = re.compile(r"^ *\d+: \w+ +(\d+) (\w+) +\w+ +\w+ +\w+ +(\w+)@@?GLIBC_([0-9.]+)\b", re.M)    # size, kind, name, version


def numbers(version):
    return tuple(int(number) for number in version.split("."))


def symbols(library, newest):
    """name -> (version, kind, size): of each the newest version that is not later than `newest`."""
    chosen = {}
    printed = subprocess.run(["readelf", "--dyn-syms", "-W", library], stdout=subprocess.PIPE, text=True, check=True).stdout
    for size, kind, name, version in SYMBOL.findall(printed):
        is_name_of_version = kind == "OBJECT" and size == "0"
        if not is_name_of_version and numbers(version) <= newest and (name not in chosen or numbers(version) > numbers(chosen[name][0])):
            chosen[name] = version, kind, int(size)
    return chosen


def assembly(chosen):
    yield '.section .note.GNU-stack,"",%progbits'
    for name, (_, kind, size) in chosen.items():
        if kind in ("OBJECT", "TLS"):
            section, zeros = (".bss" if kind == "OBJECT" else '.section .tbss,"awT",%nobits'), f".zero {size}"
            yield f"{section}\n.globl {name}\n.type {name}, %{'object' if kind == 'OBJECT' else 'tls_object'}\n.size {name}, {size}\n{name}: {zeros}"
        else:
            yield f".text\n.globl {name}\n.type {name}, %function\n{name}:"


def version_script(chosen):
    by_version = {}
    for name, (version, _, _) in chosen.items():
        by_version.setdefault(version, []).append(name)
    before = ""
    for version in sorted(by_version, key=numbers):
        yield f"GLIBC_{version} {{ global: {'; '.join(sorted(by_version[version]))};{'' if before else ' local: *;'} }}{before};"
        before = f" GLIBC_{version}"


def make(folder, name, chosen, compiler):
    source, script = folder / f"{name}.s", folder / f"{name}.map"
    source.write_text("\n".join(assembly(chosen)) + "\n")
    script.write_text("\n".join(version_script(chosen)) + "\n")
    options = [f"-Wl,--version-script={script}"] if chosen else []
    subprocess.run([compiler, "-shared", "-nostdlib", f"-Wl,-soname,{name}", *options, source, "-o", folder / name], check=True)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    folder, newest, compiler = pathlib.Path(sys.argv[1]), numbers(sys.argv[2]), (sys.argv[3:] or ["cc"])[0]
    folder.mkdir(parents=True, exist_ok=True)
    path_of = lambda name: subprocess.run([compiler, f"-print-file-name={name}"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    made = [name for name in LIBRARIES if pathlib.Path(path_of(name)).is_absolute()]
    for name in made:
        make(folder, name, symbols(path_of(name), newest), compiler)
    for name in MERGED:
        make(folder, name, {}, compiler)
    loader = next(name for name in made if name.startswith("ld-"))
    (folder / "libc.so").write_text(f"GROUP ( libc.so.6 {path_of('libc_nonshared.a')} AS_NEEDED ( {loader} ) )\n")
    for name in ("libm.so.6", *MERGED):
        link = folder / (name.partition(".so")[0] + ".so")
        link.unlink(missing_ok=True)
        link.symlink_to(name)


if __name__ == "__main__":
    main()
