"""Drawings as SVG text: the one palette of all pictures, shapes, and text that may not overlap. Python's standard library alone.

A colour is a pair: for a light page and for a dark one. The file holds both, and the reader's browser chooses (prefers-color-scheme).
Areas are drawn in their colour at low opacity under a border of full colour, so that text on them has the contrast of the page.
"""
import unicodedata

PALETTE = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9aa3ad"),
    "grid": ("#d1d9e0", "#3d444d"),
    "page": ("#ffffff", "#0d1117"),
    # who was measured
    "flashkda": ("#0969da", "#4493f8"),
    "fla": ("#8c959f", "#7d8590"),
    "FlashKDA": ("#d4761f", "#e3954b"),
    "floor": ("#1b9e8f", "#39c5b5"),
    "plain": ("#8c959f", "#7d8590"),
    # what a warp does, in every figure
    "load": ("#8250df", "#ab7df8"),
    "operand": ("#b08000", "#d6a52c"),
    "solve": ("#cf222e", "#ff7b72"),
    "chain": ("#3b5bdb", "#8aa2ff"),
    "store": ("#1a7f37", "#3fb950"),
    "send": ("#bf3989", "#f778ba"),
    "find": ("#0a7ea4", "#56b6d6"),
    "idle": ("#8c959f", "#7d8590"),
}
FONT = "-apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
SMALLEST_TEXT = 11


def shade(name, part):
    """A colour between the page's own and PALETTE[name]: part 1 is the colour itself."""
    def mix(color, page):
        channels = [(int(color[i:i + 2], 16), int(page[i:i + 2], 16)) for i in (1, 3, 5)]
        return "#" + "".join(f"{round(c * part + p * (1 - part)):02x}" for c, p in channels)
    light, dark = PALETTE[name]
    return mix(light, "#ffffff"), mix(dark, "#0d1117")


def text_width(text, size, bold=False):
    """Pixels, of a wide font: what the reader's font needs is less."""
    units = 0.0
    for char in text:
        if unicodedata.combining(char):
            continue
        units += 0.33 if char in " .,:;'|!il()[]jfrt" else 0.92 if char in "mwMW%→←↔—" else 0.70 if char.isupper() else 0.61
    return units * size * (1.08 if bold else 1.0)


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def number(x):
    return f"{x:.1f}".rstrip("0").rstrip(".")


class Drawing:
    def __init__(self, width, height, title):
        self.width, self.height, self.title = width, height, title
        self.colors, self.parts, self.texts = {}, [], []

    def css(self, color):
        """The class of a colour, given by its name or as (light, dark)."""
        name, pair = (color, PALETTE[color]) if isinstance(color, str) else (f"c{color[0][1:]}", color)
        self.colors[name] = pair
        return name

    # ---------------------------------------------------------------- shapes

    def area(self, x, y, w, h, color, opacity=0.16, border=1.2, radius=3, dashed=False):
        name = self.css(color)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<rect class="f-{name} s-{name}" x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" rx="{radius}" '
                          f'fill-opacity="{opacity}" stroke-width="{border}"{dash}/>')

    def bar(self, x, y, w, h, color):
        self.parts.append(f'<rect class="f-{self.css(color)}" x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}"/>')

    def line(self, points, color="muted", width=1.4, dashed=False, arrow=False):
        name = self.css(color)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        tip = f' marker-end="url(#tip-{name})"' if arrow else ""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline class="s-{name}" points="{path}" fill="none" stroke-width="{width}"{dash}{tip}/>')

    def dot(self, x, y, color, radius=3.2):
        self.parts.append(f'<circle class="f-{self.css(color)}" cx="{number(x)}" cy="{number(y)}" r="{radius}"/>')

    # ---------------------------------------------------------------- text

    def text(self, x, y, text, size=12, anchor="start", color="ink", bold=False, over_lines=False):
        """(x, y) is the left end, middle or right end of the base line. over_lines: lines behind the text are interrupted."""
        assert size >= SMALLEST_TEXT, f"{self.title}: {text!r} has {size} px, at least {SMALLEST_TEXT} are readable"
        width = text_width(text, size, bold)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        box = (left, y - 0.78 * size, left + width, y + 0.22 * size)
        assert box[0] >= 0 and box[2] <= self.width and box[1] >= 0 and box[3] <= self.height, f"{self.title}: {text!r} leaves the picture"
        for other, at in self.texts:
            assert box[0] >= at[2] or at[0] >= box[2] or box[1] >= at[3] or at[1] >= box[3], f"{self.title}: {text!r} overlaps {other!r}"
        self.texts.append((text, box))
        weight = ' font-weight="600"' if bold else ""
        classes = f"f-{self.css(color)}"
        if over_lines:
            classes += f" s-{self.css('page')}"
            weight += ' stroke-width="5" stroke-linejoin="round" paint-order="stroke"'
        self.parts.append(f'<text class="{classes}" x="{number(x)}" y="{number(y)}" font-size="{size}" text-anchor="{anchor}"{weight}>'
                          f'{escape(text)}</text>')

    def box(self, x, y, w, h, color, lines, size=12, **options):
        """An area with lines of text in its middle; the first is bold. A line that is too long is an error."""
        self.area(x, y, w, h, color, **options)
        step = size * 1.3
        first = y + h / 2 - step * (len(lines) - 1) / 2 + 0.35 * size
        for i, text in enumerate(lines):
            bold = i == 0 and len(lines) > 1
            assert text_width(text, size, bold) <= w - 4, f"{self.title}: {text!r} is wider than its box of {w}"
            self.text(x + w / 2, first + i * step, text, size, "middle", bold=bold)

    # ---------------------------------------------------------------- the file

    def style(self, which):
        rules = [f".f-{name}{{fill:{pair[which]}}}.s-{name}{{stroke:{pair[which]}}}" for name, pair in sorted(self.colors.items())]
        return "".join(rules)

    def render(self):
        tips = "".join(f'<marker id="tip-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
                       f'<path class="f-{name}" d="M0,0.5 L8,4 L0,7.5 z"/></marker>'
                       for name in sorted(self.colors) if any(f"tip-{name})" in part for part in self.parts))
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
                f'font-family="{FONT}" role="img" aria-label="{escape(self.title)}">')
        style = f"<style>{self.style(0)}\n@media (prefers-color-scheme: dark){{{self.style(1)}}}</style>"
        return "\n".join([head, f"<title>{escape(self.title)}</title>", style, f"<defs>{tips}</defs>", *self.parts, "</svg>", ""])
