"""What `targe bench` shows: the table, the JSON file, the plot of the ratios, and the page
docs/performance.md, into which --docs puts table and plot.
"""

import json
import math
import platform
import re
from xml.sax.saxutils import escape

from targe import project
from targe.report import Failure, say

_DOC = project.ROOT / "docs" / "performance.md"
_FOLDER = project.BUILD / "bench"
_HEAD = ("row", "unit", "Linux", "Targe", "goal", "ratio", "paper")
_SPREAD = "range of the boots' medians (Linux; Targe)"
_TIME = "ns under TCG"
_BEGIN, _END = "<!-- begin of the table -->", "<!-- end of the table -->"


def publish(results, linux, options):
    """Prints the table and writes the files."""
    title = f"Linux {linux}" if linux else "no Linux"
    print(f"\nTarge beside {title}, in one emulated machine. Ratio: Linux / Targe.")
    for measure, rows in _by_measure(results):
        _print_table(measure, rows)
    print(f"\n{_contradictions(results)}" if any(r.measure == _TIME for r in results) else "")
    _print_goals(results)
    if options.json:
        _write(options.json, _json(results))
    plot = _plot(results)
    text = _markdown(results, title)
    _write(_FOLDER / "performance.svg", plot)
    _write(_FOLDER / "performance.md", text)
    say("the table and the plot are in build/bench/performance.md and .svg")
    if options.docs:
        _put_in_docs(text, plot)


def _write(path, text):
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error


def _by_measure(results):
    measures = dict.fromkeys((result.group == "memory by size", result.measure)
                             for result in results)
    for by_size, measure in measures:
        rows = [result for result in results if result.measure == measure
                and (result.group == "memory by size") == by_size]
        yield f"{measure}, by size of memory" if by_size else measure, rows


def number(value):
    """A figure as people read it."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def _cells(result):
    mark = {True: "", False: " !", None: ""}[result.met]
    return (result.row, result.unit, number(result.linux), number(result.targe) + mark,
            number(result.goal), number(result.ratio), number(result.paper))


def _print_table(measure, results):
    spread = bool(results[0].spread)
    lines = [(*_HEAD, *[_SPREAD] * spread)]
    lines += [(*_cells(result), *[result.spread] * spread) for result in results]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print(f"\n{measure}")
    for line in lines:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def _print_goals(results):
    missed = [result for result in results if result.met is False]
    goals = sum(result.met is not None for result in results)
    print(f"{goals - len(missed)} of {goals} goals are met (a row marked ! misses its goal)")


def _json(results):
    return json.dumps({"rows": [
        {"row": r.row, "unit": r.unit, "measure": r.measure, "linux": r.linux, "targe": r.targe,
         "goal": r.goal, "ratio": r.ratio} for r in results]}, indent=1) + "\n"


# ---- docs/performance.md

def _markdown(results, title):
    lines = [f"Against {title}. Made on a machine with {platform.machine()} by QEMU; "
             "rows marked ! miss their goal.", ""]
    for measure, rows in _by_measure(results):
        head = [*_HEAD, _SPREAD] if rows[0].spread else _HEAD
        lines += [f"### {measure[0].upper()}{measure[1:]}", "", f"| {' | '.join(head)} |",
                  f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
        for result in rows:
            cells = [*_cells(result), *([result.spread] if rows[0].spread else [])]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [_contradictions(results), ""]
    return "\n".join(lines)


def _contradictions(results):
    """What instructions and time disagree about: which system is ahead."""
    counted = {r.row: r.ratio for r in results if r.measure == "instructions" and r.ratio}
    rows = [f"*{r.row}* ({number(counted[r.row])} in instructions, {number(r.ratio)} in time)"
            for r in results if r.measure == _TIME and r.ratio and r.row in counted
            and (r.ratio > 1) != (counted[r.row] > 1)]
    if rows:
        return f"Instructions and time differ in who is ahead in: {', '.join(rows)}."
    return "Instructions and time agree in who is ahead in every row that has both."


def _put_in_docs(text, plot):
    page = _DOC.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(_BEGIN) + ".*" + re.escape(_END), re.S)
    if not pattern.search(page):
        raise Failure("docs/performance.md has no place for the table")
    _write(_DOC, pattern.sub(lambda _: f"{_BEGIN}\n{text}{_END}", page))
    _write(_DOC.with_suffix(".svg"), plot)
    say("put table and plot into docs/performance.md and docs/performance.svg")


# ---- the plot: a row's name, and below it a bar from 1 to its ratio on a logarithmic scale; narrow
# enough for a telephone

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP, _HEADING = 440, 14, 58, 86, 33, 30
_GOOD, _BAD, _PAPER, _INK = "#2a7a4b", "#b5651d", "#c2185b", "#333"
_GROUPS = {"exceptions": "Exceptions", "memory": "Memory", "ipc": "Communication",
           "processor": "Processor", "network": "Network", "web": "Web", "size": "Size"}


def _plot(results):
    """`results`: all of them; those are drawn that have a ratio of instructions or of memory."""
    drawn = [r for r in results if r.measure in ("instructions", "memory") and r.ratio]
    times = {r.row: r.ratio for r in results if r.measure == _TIME and r.ratio}
    ratios = [value for r in drawn for value in (r.ratio, r.paper, times.get(r.row)) if value]
    high = max(1, math.ceil(math.log10(max(ratios, default=10))))
    low = min(0, math.floor(math.log10(min(ratios, default=1))))

    def x(ratio):
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(ratio) - low) / (high - low)

    body, y, group = [], _TOP, None
    for result in drawn:
        if result.group != group:
            group, y = result.group, y + _HEADING
            body.append(f'<text x="{_LEFT}" y="{y - 9}" font-weight="bold">'
                        f'{_GROUPS.get(group, group)}</text>')
        body.append(_bar(result, times.get(result.row), x, y))
        y += _STEP
    return "\n".join([*_frame(range(low, high + 1), x, y + 8), *body, "</svg>", ""])


def _frame(exponents, x, height):
    """The background: what the marks mean, and a line for each power of ten."""
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
           f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">')
    yield "<title>How many times more instructions Linux needs than Targe</title>"
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield (f'<text x="{_LEFT}" y="22" font-size="15" font-weight="bold">'
           'Linux / Targe, larger is better</text>')
    yield (f'<rect x="{_LEFT}" y="34" width="22" height="9" fill="{_GOOD}"/>'
           f'<text x="{_LEFT + 28}" y="43">instructions</text>'
           f'{_dot(_LEFT + 128, 39)}<text x="{_LEFT + 138}" y="43">time under TCG</text>'
           f'{_diamond(_LEFT + 255, 39)}'
           f'<text x="{_LEFT + 265}" y="43">in 1995, time</text>')
    for exponent in exponents:
        at = x(10 ** exponent)
        yield (f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 12}" y2="{height - 6}" '
               f'stroke="{_INK if exponent == 0 else "#ddd"}"/>'
               f'<text x="{at:.1f}" y="{_TOP - 17}" text-anchor="middle" font-size="12">'
               f'{f"{10 ** exponent:,g}"}{" = Linux" if exponent == 0 else ""}</text>')


def _bar(result, time, x, y):
    begin, end = sorted((x(1), x(result.ratio)))
    # Lines do not strike names through.
    parts = [f'<text x="{_LEFT}" y="{y + 10}" paint-order="stroke" stroke="#fff" '
             f'stroke-width="4">{escape(result.row)}</text>',
             f'<rect x="{begin:.1f}" y="{y + 15}" width="{max(1, end - begin):.1f}" height="9" '
             f'fill="{_GOOD if result.ratio >= 1 else _BAD}"/>']
    marks = [end]
    if time:
        parts.append(_dot(x(time), y + 19.5))
        marks.append(x(time) + 5)
    if result.paper:
        parts.append(_diamond(x(result.paper), y + 19.5))
        marks.append(x(result.paper) + 6)
    # The figure stands behind all marks, so that nothing covers it.
    parts.append(f'<text x="{max(*marks, x(1)) + 5:.1f}" y="{y + 24}" font-size="12">'
                 f'{number(result.ratio)}</text>')
    return "".join(parts)


def _dot(x, y):
    return f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="#fff" stroke="{_INK}" stroke-width="1.5"/>'


def _diamond(x, y):
    return (f'<path d="M{x:.1f} {y - 6}l5 6l-5 6l-5 -6z" fill="{_PAPER}" stroke="#fff" '
            'stroke-width="1"/>')
