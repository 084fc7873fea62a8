"""What the kernel's headers say: constants, enumerators, and the layout of their structs, so that no figure repeats a number by hand.

A small part of C++ is understood: `constexpr` values and enumerators made of integers, other constants, sizeof and offsetof; structs and
unions whose members are plain types, other structs, and arrays of them. Templates over `Shape` are read for one shape, a struct of constants; of
those over a number and flags the flags change no layout.
What is not understood has no value, and a figure that asks for it fails.
"""
import pathlib
import re

CUDA = pathlib.Path(__file__).resolve().parents[2] / "src" / "cuda"
PLAIN = {"uint8_t": 1, "bool": 1, "__nv_bfloat16": 2, "uint16_t": 2, "int": 4, "float": 4, "uint32_t": 4, "int32_t": 4, "unsigned": 4,
         "double": 8, "int64_t": 8, "uint64_t": 8}
MEMBER = re.compile(r"^(?:alignas\((?P<align>\d+)\)\s*)?(?P<type>[\w:]+(?:<[\w:, ]+>)?)\s+(?P<names>[^()]+)$", re.S)


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def body_at(text, brace):
    """(what stands between the brace at `brace` and its partner, the place behind the partner)"""
    depth = 0
    for at in range(brace, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[brace + 1:at], at + 1
    raise ValueError("a brace is not closed")


def statements(body):
    """The members of a struct, functions left out: ('plain', text) or ('nested', kind, body, name)."""
    at, found = 0, []
    while at < len(body):
        end = re.compile(r"[;{]").search(body, at)
        if end is None:
            break
        head = body[at:end.start()].strip()
        if body[end.start()] == ";":
            found.append(("plain", head))
            at = end.end()
            continue
        inside, behind = body_at(body, end.start())
        if "(" in re.sub(r"alignas\(\d+\)", "", head) or re.match(r"(enum|template|using)\b", head):
            at = behind + (body[behind:behind + 1] == ";")
            continue
        name = re.compile(r"[^;]*;").match(body, behind)
        found.append(("nested", re.match(r"(?:alignas\(\d+\)\s*)?(struct|union)", head).group(1), inside, name.group()[:-1].strip()))
        at = name.end()
    return found


class Scope:
    """Constants and structs of some headers, over those of `base`; templates for the struct that is named `shape`."""

    def __init__(self, *headers, base=None, shape=None):
        self.values = dict(base.values) if base else {}
        self.layouts = dict(base.layouts) if base else {}
        self.templates = dict(base.templates) if base else {}    # name -> (kind, body, its number's name)
        self.shape = shape
        for header in headers:
            self.read(without_comments((CUDA / header).read_text()).replace("<Shape>", ""))

    def read(self, text):
        pattern = re.compile(r"constexpr \w+ (?P<constants>\w+ = [^;]+);|\benum(?: \w+)?(?: : \w+)?\s*\{(?P<list>[^}]*)\}|"
                             r"\benum class (?P<enum>\w+) : (?P<under>\w+)\s*\{|\b(?P<kind>struct|union) (?:alignas\((?P<align>\d+)\) )?(?P<name>\w+)[^;{()]*\{")
        at = 0
        while (found := pattern.search(text, at)) is not None:
            at = found.end()
            if found["constants"]:
                self.read_constants(found["constants"])
            elif found["enum"]:
                _, at = body_at(text, found.end() - 1)
                self.layouts[found["enum"]] = {"size": PLAIN[found["under"]], "align": PLAIN[found["under"]], "members": {}}
            elif found["list"] is not None:
                self.read_enum(found["list"])
            else:
                body, at = body_at(text, found.end() - 1)
                if of_number := re.search(r"template <int (\w+)(?:, bool \w+(?: = \w+)?)*>\s*$", text[:found.start()]):
                    self.templates[found["name"]] = found["kind"], body, of_number[1]
                    continue
                if found["name"] == self.shape:
                    self.values = self.values_within(body)
                try:
                    self.layouts[found["name"]] = self.layout(found["kind"], body, int(found["align"] or 1))
                except KeyError:    # of types that no figure speaks of
                    continue

    def read_constants(self, text):
        for name, value in re.findall(r"(\w+) = ((?:[^,(]|\([^)]*\))+)", text):
            self.values[name] = self.value(value)

    def values_within(self, body):
        """Those of a struct's own constants, and of all that it sees."""
        outside, self.values = self.values, dict(self.values)
        for _, text, *_ in statements(body):
            if found := re.match(r"static constexpr \w+ (\w+ = .*)", text, re.S):
                self.read_constants(found[1])
        inside, self.values = self.values, outside
        return inside

    def read_enum(self, text):
        before = -1
        for entry in filter(None, (word.strip() for word in text.split(","))):
            name, _, value = entry.partition("=")
            before = self.value(value) if value else before + 1
            self.values[name.strip()] = before

    def value(self, text):
        text = re.sub(r"sizeof\((\w+)\)", lambda m: str(self.size(m[1])), text)
        text = re.sub(r"offsetof\((\w+), (\w+)\)", lambda m: str(self.layouts[m[1]]["members"][m[2]][0]), text)
        text = re.sub(r"sizeof\((\w+)::(\w+)\)", lambda m: str(self.layouts[m[1]]["members"][m[2]][1]), text)
        text = re.sub(r"\w+::|\bint64_t\{(\w+)\}", lambda m: m[1] or "", text)
        text = re.sub(r"^\s*(\w+) \? (.+) : (.+)$", r"(\2) if (\1) else (\3)", text)
        text = re.sub(r"\b(true|false)\b", lambda m: m[1].capitalize(), text)
        try:
            return int(eval(text, {"__builtins__": {}}, self.values))
        except (NameError, SyntaxError, TypeError, KeyError):
            return None

    def size(self, name):
        return PLAIN[name] if name in PLAIN else self.layouts[name]["size"]

    def layout(self, kind, body, least_align=1):
        """{size, align, members: name -> (offset, bytes of it)}"""
        outside, self.values = self.values, self.values_within(body)
        try:
            return self.layout_of_members(kind, body, least_align)
        finally:
            self.values = outside

    def layout_of_template(self, name, number):
        kind, body, parameter = self.templates[name]
        outside, self.values = self.values, {**self.values, parameter: self.value(number)}
        try:
            return self.layout(kind, body)
        finally:
            self.values = outside

    def layout_of_members(self, kind, body, least_align):
        members, at, size, align = {}, 0, 0, least_align
        for statement in statements(body):
            for name, bytes_, its_align, inner in self.parts_of(statement):
                at = 0 if kind == "union" else (at + its_align - 1) // its_align * its_align
                if name:
                    members[name] = (at, bytes_)
                for inner_name, (offset, inner_bytes) in inner.items():
                    members[inner_name] = (at + offset, inner_bytes)
                size, align = max(size, at + bytes_), max(align, its_align)
                at += bytes_
        return {"size": (size + align - 1) // align * align, "align": align, "members": members}

    def parts_of(self, statement):
        """(name, bytes, alignment, members that are seen from outside) of each member that a statement declares."""
        if statement[0] == "nested":
            inner = self.layout(statement[1], statement[2])
            yield statement[3], inner["size"], inner["align"], {} if statement[3] else inner["members"]
            return
        if re.match(r"(using|static|friend)\b", statement[1]):
            return
        found = MEMBER.match(re.sub(r"\bconst\b|\bvoid\b", lambda m: "" if m[0] == "const" else "uint8_t", statement[1]).strip())
        if found is None:
            if "(" in statement[1] or not statement[1]:
                return
            raise KeyError(statement[1])
        type_, _, arguments = found["type"].rstrip("> ").partition("<")
        number = arguments.split(",")[0]
        if type_ in self.templates:
            self.layouts[type_] = self.layout_of_template(type_, number)
        for word in found["names"].split(","):
            word = word.split("=")[0].strip()
            name = re.match(r"\**\s*(\w+)", word).group(1)
            bytes_, align = (8, 8) if word.startswith("*") else (self.size(type_), self.layouts[type_]["align"] if type_ in self.layouts else PLAIN[type_])
            for dimension in re.findall(r"\[([^\]]+)\]", word):
                bytes_ *= self.value(dimension)
            yield name, bytes_, max(align, int(found["align"] or 1)), {}

    def __getattr__(self, name):
        value = self.__dict__["values"].get(name)
        if value is None:
            raise AttributeError(f"{name} is not a number in the sources")
        return value

    def member(self, struct, name):
        """(offset, bytes)"""
        return self.layouts[struct]["members"][name]


def kernel():
    """Scopes of what the mappings share, of the mappings, and of the plan."""
    plan = Scope("schedule/schedule_tuning.h", "prefill_sm90/prefill_tuning.h", "prefill_sm90/prefill_plan.h")
    shared = Scope("schedule/jobs.cuh", "prefill_sm90/problem/params.cuh", "prefill_sm90/problem/segments.cuh", base=plan)
    duo = Scope("prefill_sm90/mapping/duo_config.cuh", base=shared)
    quad, octet = (Scope("prefill_sm90/mapping/quad_config.cuh", base=duo, shape=shape) for shape in ("Quad", "Octet"))
    solo = Scope("prefill_sm90/mapping/solo_config.cuh", base=shared)
    return {"plan": plan, "shared": shared, "duo": duo, "quad": quad, "octet": octet, "solo": solo}


def count_arrivals(path):
    """barrier -> arrivals, as a mapping's init functions write them: {'raw_ready': ['1'], 'chunk_done': ['4 * kWarpArrivals'], ...}"""
    arrivals = {}
    for name, count in re.findall(r"barrier_init\(s\.at\(b\.(\w+)\[i\]\), ([^;]+)\);", without_comments((CUDA / path).read_text())):
        arrivals.setdefault(name, []).append(count)
    return arrivals
