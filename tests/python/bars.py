"""tests/bars.def for Python: bar("bf16", "any").out."""

import collections
import pathlib
import re

Bar = collections.namedtuple("Bar", "out state m2")
DEFINED = re.compile(r'^FKDA_BAR\((\w+), (\w+), (\S+), (\S+), (\S+), "', re.M)
BARS = {row[:2]: Bar(*map(float, row[2:])) for row in DEFINED.findall((pathlib.Path(__file__).parents[1] / "bars.def").read_text())}


def bar(arithmetic, kind):
    return BARS[arithmetic, kind]
