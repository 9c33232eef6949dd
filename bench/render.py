"""Results as text for the terminal and as Markdown."""

from __future__ import annotations

import math

from .peers import LIBRARIES
from .results import COPY, ELEMENTWISE, OURS, geometric_mean, plain

ORDER = (OURS, "np.tanh", *(name for name in LIBRARIES if name != OURS), COPY)
THROUGHPUT_FROM = 2**16
"""Elements; with fewer the cost of a call counts as much."""
LEGEND = """\
vs best: times as fast as the fastest of the other libraries (under 1: slower), which is named behind it. of copy: bytes
through memory per second over those of a copy with streaming stores, measured in the same turns. *: disturbed, other
processes used more than a tenth of a core meanwhile."""


def text_of(value, digits=2):
    if value is None or math.isnan(value):
        return ""
    return f"{value:.{digits}f}" if value >= 0.1 else f"{value:.{digits}g}"


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


def errors(results):
    """The same about errors beside speed."""
    found = [result for result in results if result.ulp]
    libraries = [name for name in ORDER if any(name in result.ulp for result in found)]
    if found:
        rows = [["", *libraries]]
        for result in found:
            cells = (
                f"{result.ulp[name]:.3g} ({result.figure(name):.2f})" if name in result.ulp else ""
                for name in libraries
            )
            rows.append([label(result), *cells])
        yield (
            "largest error in ULP over a sample of all float32 values whose results are normal numbers (Gelem/s at 2^20 elements)",
            rows,
        )


def as_text(title, rows):
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([title, *lines])


def markdown_table(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|--:" * (len(rows[0]) - 1) + "|")
    return lines


def as_markdown(title, rows):
    return "\n".join([f"### {title}", "", *markdown_table(rows)])


def measured_on(machine, threads):
    """A line that says on what."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    number = " and ".join(map(str, sorted(threads)))
    line = f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['instruction_set'] or machine['backend']} kernels, threads: {number}; {versions}"
    return line + (f". Not installed: {', '.join(machine['missing'])}." if machine["missing"] else ".")


def count(results):
    disturbed = sum(result.disturbed for result in results)
    return f"{len(results)} cells" + f", {disturbed} of them disturbed" * (disturbed > 0)


def summary(results):
    """The geometric mean over the elementwise float32 cells, against each library and the best, and where we are slower."""
    cells = [result for result in plain(results, *ELEMENTWISE) if result.best]
    for title, some in (
        ("from 2^16 elements on", [result for result in cells if result.elements >= THROUGHPUT_FROM]),
        ("on fewer elements", [result for result in cells if result.elements < THROUGHPUT_FROM]),
    ):
        if some:
            mean = geometric_mean([result.ratio(result.best) for result in some])
            against = {library: [r.ratio(library) for r in some if library in r.seconds] for library in ORDER}
            means = (
                f"{name} {times(geometric_mean(r))} ({len(r)})"
                for name, r in against.items()
                if r and name not in (OURS, COPY)
            )
            yield (
                f"Elementwise functions, float32, {title}: {mean:.2f} times as fast as the fastest other library (geometric mean of "
                f"{count(some)}). Against each (cells): {', '.join(means)}."
            )
    compared = [result for result in results if result.best]
    slower = sorted((result for result in compared if result.ratio(result.best) < 1), key=lambda r: r.ratio(r.best))
    yield (
        f"Slower than the fastest other library in {len(slower)} of {count(compared)}{':' if slower else '.'}"
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
    shown = [*tables(results), *errors(results)]
    parts = [measured_on(machine, threads), *summary(results), LEGEND, *(render(*table) for table in shown)]
    return "\n\n".join([*parts, *left_out(results)]) + "\n"
