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
_BEGIN, _END = "<!-- begin of the table -->", "<!-- end of the table -->"


def publish(results, linux, options):
    """Prints the table and writes the files."""
    title = f"Linux {linux}" if linux else "no Linux"
    print(f"\nTarge beside {title}, in one emulated machine. Ratio: Linux / Targe.")
    for measure, rows in _by_measure(results):
        _print_table(measure, rows)
    _print_goals(results)
    if options.json:
        _write(options.json, _json(results))
    plot = _plot([result for result in results
                  if result.measure == "instructions" and result.ratio])
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
    lines = [_HEAD, *map(_cells, results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    print(f"\n{measure}")
    for line in lines:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def _print_goals(results):
    missed = [result for result in results if result.met is False]
    goals = sum(result.met is not None for result in results)
    print(f"\n{goals - len(missed)} of {goals} goals are met (a row marked ! misses its goal)")


def _json(results):
    return json.dumps({"rows": [
        {"row": r.row, "unit": r.unit, "measure": r.measure, "linux": r.linux, "targe": r.targe,
         "goal": r.goal, "ratio": r.ratio} for r in results]}, indent=1) + "\n"


# ---- docs/performance.md

def _markdown(results, title):
    lines = [f"Against {title}. Made on a machine with {platform.machine()} by QEMU; "
             "rows marked ! miss their goal.", ""]
    for measure, rows in _by_measure(results):
        head = [*_HEAD, "range of the medians (Linux; Targe)"] if rows[0].spread else _HEAD
        lines += [f"### {measure[0].upper()}{measure[1:]}", "", f"| {' | '.join(head)} |",
                  f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
        for result in rows:
            cells = [*_cells(result), *([result.spread] if rows[0].spread else [])]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _put_in_docs(text, plot):
    page = _DOC.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(_BEGIN) + ".*" + re.escape(_END), re.S)
    if not pattern.search(page):
        raise Failure("docs/performance.md has no place for the table")
    _write(_DOC, pattern.sub(lambda _: f"{_BEGIN}\n{text}{_END}", page))
    _write(_DOC.with_suffix(".svg"), plot)
    say("put table and plot into docs/performance.md and docs/performance.svg")


# ---- the plot: a bar a row, logarithmic, with the ratio of 1995 as a line across

_LEFT, _WIDTH, _STEP, _TOP = 330, 430, 20, 50


def _plot(results):
    paper = [result.paper for result in results if result.paper]
    most = max([result.ratio for result in results] + paper, default=10)
    decades = max(1, math.ceil(math.log10(most)))
    least = min([result.ratio for result in results] + paper, default=1)
    below = max(0, math.ceil(-math.log10(least)))

    def x(ratio):
        return _LEFT + _WIDTH * (math.log10(ratio) + below) / (decades + below)

    height = _TOP + _STEP * len(results) + 20
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" '
             f'viewBox="0 0 {_LEFT + _WIDTH + 70} {height}" '
             'font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="#fff"/>',
             f'<text x="{_LEFT}" y="18" font-size="14">Instructions: Linux / Targe '
             '(red line: Ultrix / Aegis or ExOS, 1995, in time)</text>']
    for exponent in range(-below, decades + 1):
        at = x(10 ** exponent)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{height - 12}" '
                     f'stroke="{"#555" if exponent == 0 else "#ccc"}"/>'
                     f'<text x="{at:.1f}" y="{_TOP - 12}" text-anchor="middle" fill="#555">'
                     f'{10 ** exponent:g}</text>')
    for i, result in enumerate(results):
        y = _TOP + i * _STEP
        begin, end = sorted((x(1), x(result.ratio)))
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">'
                     f'{escape(result.row)}</text>'
                     f'<rect x="{begin:.1f}" y="{y + 2}" width="{end - begin:.1f}" height="12" '
                     f'fill="{"#2a7a4b" if result.ratio >= 1 else "#b5651d"}"/>'
                     f'<text x="{x(max(1, result.ratio)) + 4:.1f}" y="{y + 12}">'
                     f'{number(result.ratio)}</text>')
        if result.paper:
            at = x(result.paper)
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + 16}" '
                         'stroke="#c00" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>", ""])
