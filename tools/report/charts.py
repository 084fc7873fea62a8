"""Charts of measured values: bars that start at zero on a linear axis, and lines over numbers of tokens."""
import math

from svg import Drawing, shade, text_width


def nice_ticks(largest, most=6):
    """0 and round steps up to at least `largest`."""
    power = 10.0 ** math.floor(math.log10(largest / most))
    step = next(power * round_number for round_number in (1, 2, 2.5, 5, 10) if power * round_number * most >= largest)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def three_digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def head(drawing, title, subtitle, legend):
    """Title, what was measured, and a legend of (name, colour); returns the first y below."""
    drawing.text(16, 24, title, 16, bold=True)
    drawing.text(16, 43, subtitle, 12, color="muted")
    x = 16
    for name, color in legend:
        drawing.bar(x, 55, 12, 12, color)
        drawing.text(x + 18, 65, name, 12)
        x += 18 + text_width(name, 12) + 18
    return 92


def grouped_bars(title, subtitle, unit, groups, series):
    """Upright bars. series: (name, colour, one value or None for each group)."""
    width, height, left, right = 900, 400, 60, 16
    drawing = Drawing(width, height, title)
    top, bottom = head(drawing, title, subtitle, [(name, color) for name, color, _ in series]) + 10, height - 46
    ticks = nice_ticks(max(v for _, _, values in series for v in values if v is not None))
    y = lambda value: bottom - (bottom - top) * value / ticks[-1]
    for tick in ticks:
        drawing.line([(left, y(tick)), (width - right, y(tick))], "grid", 1)
        drawing.text(left - 8, y(tick) + 4, f"{tick:g}", 12, "end", "muted")
    drawing.text(left - 8, top - 14, unit, 12, "end", "muted")
    group = (width - left - right) / len(groups)
    bar = (group - 18) / len(series)
    for g, name in enumerate(groups):
        drawing.text(left + group * (g + 0.5), bottom + 20, name, 12, "middle")
        for s, (_, color, values) in enumerate(series):
            if values[g] is None:
                continue
            x = left + group * g + 9 + bar * s
            drawing.bar(x + 1, y(values[g]), bar - 2, bottom - y(values[g]), color)
            drawing.text(x + bar / 2, y(values[g]) - 4, three_digits(values[g]), 11, "middle", "ink" if color == "flashkda" else "muted", over_lines=True)
    drawing.line([(left, bottom), (width - right, bottom)], "muted", 1)
    return drawing.render()


def lying_bars(title, subtitle, axis, groups, legend):
    """Lying bars in groups: (name of the group, [(label, colour, value, remark)])."""
    width, label, right, row, gap = 900, 330, 130, 24, 30
    rows = sum(len(bars) for _, bars in groups)
    height = 92 + rows * row + len(groups) * gap + 44
    drawing = Drawing(width, height, title)
    top = head(drawing, title, subtitle, legend)
    bottom = height - 44
    ticks = nice_ticks(max(value for _, bars in groups for _, _, value, _ in bars))
    x = lambda value: label + (width - label - right) * value / ticks[-1]
    for tick in ticks:
        drawing.line([(x(tick), top), (x(tick), bottom)], "grid", 1)
        drawing.text(x(tick), bottom + 16, f"{tick:,.0f}", 12, "middle", "muted")
    drawing.text(x(0), bottom + 36, axis, 12, color="muted")
    y = top
    for name, bars in groups:
        drawing.text(16, y + 18, name, 13, bold=True)
        y += gap - 6
        for text, color, value, remark in bars:
            drawing.text(label - 8, y + 16, text, 12, "end")
            drawing.bar(x(0), y + 3, x(value) - x(0), row - 6, color)
            drawing.text(x(value) + 6, y + 16, f"{value:,.0f}{remark}", 12, color="ink" if color == "flashkda" else "muted", over_lines=True)
            y += row
        y += 6
    return drawing.render()


def apart(wanted, least):
    """Heights near those that are wanted (ascending), each at least `least` from the one before."""
    heights = []
    for want in wanted:
        heights.append(max(want, heights[-1] + least) if heights else want)
    return heights


def token_lines(title, subtitle, axis, lines):
    """lines: (name, [(tokens, percent)]), drawn in shades of one colour; tokens on a base-2 axis, percent on a linear one from 0 to 100."""
    width, height, left, right = 900, 420, 60, 90
    drawing = Drawing(width, height, title)
    top, bottom = head(drawing, title, subtitle, []) - 20, height - 52
    tokens = sorted({t for _, points in lines for t, _ in points})
    first, last = math.log2(tokens[0]), math.log2(tokens[-1])
    x = lambda t: left + 20 + (width - left - right - 40) * (math.log2(t) - first) / (last - first)
    y = lambda percent: bottom - (bottom - top) * percent / 100
    for tick in range(0, 101, 20):
        drawing.line([(left, y(tick)), (width - right, y(tick))], "grid", 1)
        drawing.text(left - 8, y(tick) + 4, f"{tick} %", 12, "end", "muted")
    for t in tokens:
        drawing.text(x(t), bottom + 18, f"{t:,}", 12, "middle", "muted")
    drawing.text(left + 20, bottom + 40, axis, 12, color="muted")
    ends = sorted((y(points[-1][1]), i) for i, (_, points) in enumerate(lines))
    label_y = {i: at for (_, i), at in zip(ends, apart([at for at, _ in ends], 15), strict=True)}
    for i, (name, points) in enumerate(lines):
        color = shade("flashkda", 1 - 0.5 * i / max(1, len(lines) - 1))
        drawing.line([(x(t), y(p)) for t, p in points], color, 2)
        for t, p in points:
            drawing.dot(x(t), y(p), color)
        drawing.line([(x(points[-1][0]) + 6, y(points[-1][1])), (width - right + 4, label_y[i])], color, 1)
        drawing.text(width - right + 8, label_y[i] + 4, name, 12)
    return drawing.render()


def log_lines(title, subtitle, axis, unit, lines):
    """lines: (name, colour, [(tokens, value)]); both axes logarithmic, tokens to base 2, values in decades."""
    width, height, left, right = 900, 460, 70, 150
    drawing = Drawing(width, height, title)
    top, bottom = head(drawing, title, subtitle, []) - 10, height - 52
    tokens = sorted({t for _, _, points in lines for t, _ in points})
    values = [value for _, _, points in lines for _, value in points]
    first, last = math.log2(tokens[0]), math.log2(tokens[-1])
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = lambda t: left + 20 + (width - left - right - 40) * (math.log2(t) - first) / max(last - first, 1)
    y = lambda value: bottom - (bottom - top) * (math.log10(value) - low) / max(high - low, 1)
    for decade in range(low, high + 1):
        drawing.line([(left, y(10.0**decade)), (width - right, y(10.0**decade))], "grid", 1)
        drawing.text(left - 8, y(10.0**decade) + 4, f"{10.0**decade:,g}", 12, "end", "muted")
    drawing.text(left - 8, top - 14, unit, 12, "end", "muted")
    for t in tokens:
        drawing.text(x(t), bottom + 18, f"{t >> 20}M" if t >= 1 << 20 else f"{t >> 10}K" if t >= 1 << 10 else f"{t}", 12, "middle", "muted")
    drawing.text(left + 20, bottom + 40, axis, 12, color="muted")
    ends = sorted((y(points[-1][1]), i) for i, (_, _, points) in enumerate(lines))
    label_y = {i: at for (_, i), at in zip(ends, apart([at for at, _ in ends], 15), strict=True)}
    for i, (name, color, points) in enumerate(lines):
        drawing.line([(x(t), y(value)) for t, value in points], color, 2)
        for t, value in points:
            drawing.dot(x(t), y(value), color)
        drawing.line([(x(points[-1][0]) + 6, y(points[-1][1])), (width - right + 4, label_y[i])], color, 1)
        drawing.text(width - right + 8, label_y[i] + 4, name, 12)
    return drawing.render()
