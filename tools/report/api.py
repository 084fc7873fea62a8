#!/usr/bin/env python3
"""Writes docs/api.md: the C API from include/flashkda.h, the Python API from the signatures and docstrings of python/flash_kda.

    tools/report/api.py            writes the page
    tools/report/api.py --check    exit status 1 if the page is not what it would write, or a public name has no words of its own

Comments become prose, what is indented in them a code block, declarations stay as they are. Nothing is imported or compiled.
"""
import ast
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/api.md"
MODULES = ("__init__", "fla", "torch_ops", "engines")
SECTION = re.compile(r"^/\* -{10,} (.*) \*/$", re.M)
FUNCTION = re.compile(r"^FKDA_API [^;(]*?\b(fkda_\w+)\(", re.M)
NAMES = (FUNCTION, re.compile(r"^typedef (?:enum|struct)\b[^{]*\{.*?\} (\w+);|^typedef [^{;]*?(\w+);", re.M | re.S))
STATUS = re.compile(r"\bX\((FKDA_\w+), +(\d+), \"(.*)\"\)")
NOTE = """\
<!-- Written by tools/report/api.py from include/flashkda.h and python/flash_kda. -->
# The API

[C](#c), from [include/flashkda.h](../include/flashkda.h), and [Python](#python). `make check` sees to it that this page
is what they say.
"""


# ---------------------------------------------------------------- prose


def marked(text):
    """A paragraph in Markdown: names as code, at most 120 columns."""
    text = re.sub(r"``(.+?)``", lambda found: f"`{found[1]}`", " ".join(text.split()))
    code = r"(`[^`]*`)|(\*?(?<![\w.])(?:fkda|FKDA)_[\w.]*\w\*?(?:\(\))?|(?<!\w)\*[a-z][\w.]*\w)"
    text = re.sub(code, lambda found: found[1] or f"`{found[2]}`", text)
    text = re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", text)
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)    # of 120, two of which a list indents


def paragraphs(text):
    """Prose of a comment or docstring, whose indented lines are code."""
    pieces, kind = [], None
    for line in textwrap.dedent(text).strip("\n").splitlines():
        now = "blank" if not line.strip() else "code" if line.startswith("    ") else "prose"
        if now == "blank" and kind == "code":
            pieces[-1][1].append("")    # inside of code, if code goes on
        elif now != kind and now != "blank":
            pieces.append((now, [line]))
        elif now != "blank":
            pieces[-1][1].append(line)
        kind = kind if now == "blank" and kind == "code" else now
    for kind, lines in pieces:
        block = "\n".join(lines).rstrip()
        yield f"```text\n{textwrap.dedent(block)}\n```" if kind == "code" else marked(re.sub(r"::$", ":", block))


# ---------------------------------------------------------------- the header


def uncommented(comment):
    """The text of a comment, without its stars."""
    lines = comment.removeprefix("/*").removesuffix("*/").splitlines()
    return "\n".join(line if number == 0 else re.sub(r"^ \* ?", "", line) for number, line in enumerate(lines)).strip(" \n")


def blocks(text):
    """(comment or "", code) of what stands between blank lines; blank lines in comments and braces part nothing."""
    for block in re.findall(r"(?:/\*.*?\*/|\{[^{}]*\}|(?!\n\n).)+", text, re.S):
        found = re.match(r"\s*(/\*.*?\*/)?\n?(.*)", block, re.S)
        if found and (found[1] or found[2].strip()):
            yield uncommented(found[1] or ""), found[2].strip("\n")


def names_in(code):
    """What a block declares, functions first; if that is nothing, its macros."""
    declared = ["".join(found) for pattern in NAMES for found in pattern.findall(code)]
    macros = re.findall(r"^#define (\w+)", code, re.M)
    if len(macros) > 1 and not declared:
        macros = [re.fullmatch(r"(\w+_)\w+(?:\n\1\w+)*", "\n".join(macros))[1] + "*"]    # FKDA_FLAG_*
    return declared or macros


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def c_entry(comment, code):
    heading = ", ".join(names_in(code))
    for name in FUNCTION.findall(code):
        if not comment and not re.search(rf"\b{name}\([^;]*; +/\*", code):
            sys.exit(f"include/flashkda.h: {name} has no comment")
    yield f"#### {heading}" if heading else ""
    yield from paragraphs(comment)
    if STATUS.search(code):
        rows = "\n".join(f"| {number} | `{name}` | {text.replace('|', '/')} |" for name, number, text in STATUS.findall(code))
        yield f"| | status | what it says |\n|--:|---|---|\n{rows}"
    elif code:
        yield f"```c\n{code}\n```"


def c_pages(header):
    """Title and entries of every section; the first is what holds for all of them."""
    title, _, rest = header.partition("#ifndef FLASHKDA_H")
    yield "What holds everywhere", [("", uncommented(title.strip()))]
    rest = rest.rpartition("\n#ifdef __cplusplus")[0]
    parts = SECTION.split(rest)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        yield name.capitalize(), [(code, comment) for comment, code in blocks(text)]


def c_api(header):
    sections = list(c_pages(header))
    declared = set(FUNCTION.findall(header))
    index = []
    for name, entries in sections:
        headings = [", ".join(names_in(code)) for code, _ in entries]
        declared -= {function for code, _ in entries for function in FUNCTION.findall(code)}
        links = [f"[{heading}](#{anchor(heading)})" for (code, _), heading in zip(entries, headings, strict=True) if FUNCTION.search(code)]
        if links:
            index.append(f"| [{name}](#{anchor(name)}) | {', '.join(links)} |")
    if declared:
        sys.exit(f"include/flashkda.h: the page would miss {', '.join(sorted(declared))}")
    yield "## C"
    yield "| section | functions |\n|---|---|\n" + "\n".join(index)
    for name, entries in sections:
        yield f"### {name}"
        for code, comment in entries:
            yield from c_entry(comment, code)


# ---------------------------------------------------------------- the module


def public_names(tree):
    (value,) = (node.value for node in tree.body if "__all__" in targets(node))
    return set(ast.literal_eval(value)) - {"__version__"}


def targets(node):
    nodes = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in nodes if isinstance(target, ast.Name)]


def docstring(node, where):
    text = ast.get_docstring(node)
    if not text:
        sys.exit(f"{where} has no docstring")
    return text


def described(text):
    """A docstring: lists of arguments and exceptions become lists, the rest is prose."""
    while found := re.search(r"^(Args|Raises|Warns):\n((?: +\S.*\n?)+)", text, re.M):
        yield from paragraphs(text[: found.start()])
        yield f"**{found[1]}**"
        yield "\n".join(item_of(item) for item in re.split(r"^ {4}(?=\S)", found[2], flags=re.M)[1:])
        text = text[found.end() :]
    yield from paragraphs(text)


def item_of(item):
    """`names: words` with the names as code; of a sentence the whole as it is."""
    names, colon, words = " ".join(item.split()).partition(": ")
    has_names = colon and re.fullmatch(r"\w+(, \w+)*", names)
    return textwrap.indent(marked(f"``{names}``: {words}" if has_names else item), "  ").replace("  ", "* ", 1)


def signature(source, node):
    """`def name(...) -> ...`, as it is written."""
    lines = source.splitlines()[node.lineno - 1:node.body[0].lineno - 1]
    return "\n".join(lines).rstrip().removesuffix(":")


def python_entry(source, node, name):
    yield f"#### {name}"
    lines = source.splitlines()
    if isinstance(node, ast.FunctionDef):
        yield f"```python\n{signature(source, node)}\n```"
    elif isinstance(node, ast.ClassDef):
        fields = [lines[field.lineno - 1].strip() for field in node.body if isinstance(field, ast.AnnAssign)]
        yield "\n".join(["```python", f"class {node.name}:", *(f"    {field}" for field in fields), "```"])
    else:
        yield f"```python\n{lines[node.lineno - 1]}\n```"
        return
    yield from described(docstring(node, name))


def python_api(folder):
    yield "## Python"
    for file in MODULES:
        source = (folder / f"{file}.py").read_text()
        tree, module = ast.parse(source), "flash_kda" if file == "__init__" else f"flash_kda.{file}"
        yield f"### {module}"
        yield from described(docstring(tree, module))
        public = public_names(tree)
        for node in tree.body:
            for name in {getattr(node, "name", None), *targets(node)} & public:
                public.remove(name)
                yield from python_entry(source, node, f"{module}.{name}")
        if public:
            sys.exit(f"{module}: what is {', '.join(sorted(public))}?")


def page(root=ROOT):
    parts = [NOTE.rstrip(), *c_api((root / "include/flashkda.h").read_text()), *python_api(root / "python/flash_kda")]
    return "\n\n".join(part for part in parts if part) + "\n"


def main():
    text = page()
    if sys.argv[1:] == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.exit("docs/api.md is not what include/flashkda.h and python/flash_kda say: run tools/report/api.py")
        print(f"{text.count(chr(10))} lines as the sources say")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
