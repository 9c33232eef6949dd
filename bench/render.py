"""Results as text for the terminal and as Markdown."""

from __future__ import annotations

import math

from .peers import LIBRARIES
from .results import COPY, OURS, geometric_mean, of_elementwise

ORDER = (OURS, "np.tanh", *(name for name in LIBRARIES if name != OURS), COPY)
LEGEND = """\
vs best: times as fast as the fastest of the other libraries (under 1: slower), which is named behind it. of copy: bytes
through memory per second over those of a copy with streaming stores, measured in the same turns. *: disturbed, other
processes used more than a tenth of a core meanwhile."""


def text_of(value, digits=2):
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def times(ratio):
    """A ratio with as many digits as say something."""
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def label(result):
    return result.cell.name + " *" * result.disturbed


def tables(results):
    """(title, rows of cells) for every kind, setting and size."""
    groups = {}
    for result in results:
        groups.setdefault(result.describe(), []).append(result)
    for title, group in groups.items():
        libraries = [name for name in ORDER if any(name in result.seconds for result in group)]
        digits = 2 if group[0].unit == "Gelem/s" else 0
        rows = [["", *libraries, "vs best", "", "of copy"]]
        for result in group:
            figures = (text_of(result.figure(name), digits) for name in libraries)
            best = result.best
            ratio = times(result.ratio(best)) if best else ""
            rows.append([label(result), *figures, ratio, best or "", text_of(result.share_of_copy())])
        used = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])]
        yield f"{title}: {group[0].unit}", [[row[k] for k in used] for row in rows]


def as_text(title, rows):
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([title, *lines])


def as_markdown(title, rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|--:" * (len(rows[0]) - 1) + "|")
    return "\n".join([f"### {title}", "", *lines])


def measured_on(machine, threads):
    """A line that says on what."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    number = " and ".join(map(str, sorted(threads)))
    line = (
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['instruction_set']} kernels, threads: {number}; {versions}"
    )
    return line + (f". Not installed: {', '.join(machine['missing'])}." if machine["missing"] else ".")


def summary(results):
    """The geometric mean over the elementwise float32 cells, against each library and the best, and where we are slower."""
    cells = of_elementwise(results)
    if cells:
        mean = geometric_mean([result.ratio(result.best) for result in cells])
        yield f"Elementwise functions, float32: {mean:.2f} times as fast as the fastest other library (geometric mean of {len(cells)} cells)."
        against = {library: [r.ratio(library) for r in cells if library in r.seconds] for library in ORDER}
        means = [
            f"{name} {times(geometric_mean(r))} ({len(r)})"
            for name, r in against.items()
            if r and name not in (OURS, COPY)
        ]
        yield "Against each (number of cells): " + ", ".join(means) + "."
    compared = [result for result in results if result.best]
    slower = sorted((result for result in compared if result.ratio(result.best) < 1), key=lambda r: r.ratio(r.best))
    yield (
        f"Slower than the fastest other library in {len(slower)} of {len(compared)} cells{':' if slower else '.'}"
        + "".join(f"\n- {r.ratio(r.best):.2f} {label(r)} ({r.describe()}), {r.best}" for r in slower)
    )


def left_out(results):
    """Where a library has no figure, and why."""
    reasons = {}
    for result in results:
        for library, reason in result.left_out.items():
            reasons.setdefault(f"{library}: {reason}", {}).setdefault(result.cell.name)
    if reasons:
        yield "Left out:" + "".join(f"\n- {', '.join(names)}, {reason}" for reason, names in reasons.items())


def page(machine, results, render):
    """Everything there is to say, its tables drawn by ``as_text`` or ``as_markdown``."""
    threads = {result.cell.threads for result in results}
    parts = [measured_on(machine, threads), *summary(results), LEGEND, *(render(*table) for table in tables(results))]
    return "\n\n".join([*parts, *left_out(results)]) + "\n"
