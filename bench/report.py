"""How the results of ``compare.py`` are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

COPY = "copy"
BAR = ("NumPy", "SciPy", "PyTorch", "PyTorch out")
"""The libraries that must not be faster; ONNX Runtime is shown beside them."""
COLUMNS = ("fastact", *BAR, "ONNX Runtime", COPY)
ABOUT = ("cpu", "threads", "instruction_set", "load_average", "fastact", "numpy", "scipy", "torch", "onnxruntime")
LEGEND = """\
vs best: times as fast as the fastest of NumPy, SciPy and PyTorch (under 1: slower). vs ORT: as ONNX Runtime.
of copy: bytes through memory per second over those of a copy with streaming stores, measured in the same turns.
*: disturbed, other processes used more than a tenth of a core meanwhile."""


@dataclass
class Result:
    """Median seconds of one call, for each library.

    ``moved`` counts the arrays of that shape that pass through memory; ``disturbed`` says that other processes ran.
    """

    section: str
    name: str
    shape: tuple
    moved: int
    seconds: dict
    disturbed: bool

    def against(self, names):
        """How many times as fast as the fastest of ``names``; None if none of them has the function."""
        others = [self.seconds[name] for name in names if name in self.seconds]
        return min(others) / self.seconds["fastact"] if others else None

    def share_of_copy(self):
        """Bytes per second over those of the copy, which moves two arrays."""
        return self.moved / 2 * self.seconds[COPY] / self.seconds["fastact"] if COPY in self.seconds else None

    def title(self):
        return f"{self.section}, float32, {self.size()}: {self.unit()}"

    def size(self):
        return " x ".join(f"{n:,}" for n in self.shape)

    def label(self):
        return self.name + " *" * self.disturbed

    def unit(self):
        return {"call": "nanoseconds", "training": "microseconds"}.get(self.section.split()[0], "Gelem/s")

    def figure(self, library):
        seconds = self.seconds.get(library, math.nan)
        per_second = math.prod(self.shape) / seconds / 1e9
        return {"nanoseconds": seconds * 1e9, "microseconds": seconds * 1e6, "Gelem/s": per_second}[self.unit()]


def text_of(value, digits=2):
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def tables(results):
    """(title, rows of cells) for every section and shape."""
    for title in dict.fromkeys(result.title() for result in results):
        group = [result for result in results if result.title() == title]
        libraries = [name for name in COLUMNS if any(name in result.seconds for result in group)]
        digits = 2 if group[0].unit() == "Gelem/s" else 0
        rows = [["", *libraries, "vs best", "vs ORT", "of copy"]]
        for result in group:
            ratios = result.against(BAR), result.against(["ONNX Runtime"]), result.share_of_copy()
            figures = (text_of(result.figure(name), digits) for name in libraries)
            rows.append([result.label(), *figures, *map(text_of, ratios)])
        used = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])]
        yield title, [[row[k] for k in used] for row in rows]


def as_text(title, rows):
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([title, *lines])


def as_markdown(title, rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|--:" * (len(rows[0]) - 1) + "|")
    return "\n".join([title, "", *lines])


def losses(results):
    """Where another library is faster."""
    for names, label in ((BAR, "the best of NumPy, SciPy and PyTorch"), (["ONNX Runtime"], "ONNX Runtime")):
        compared = sorted((result.against(names), k) for k, result in enumerate(results) if result.against(names))
        slower = [(ratio, results[k]) for ratio, k in compared if ratio < 1]
        yield f"Slower than {label} in {len(slower)} of {len(compared)} cells{':' if slower else '.'}\n" + "".join(
            f"\n- {ratio:.2f} {result.section}, {result.label()}, {result.size()}" for ratio, result in slower)


def page(about, results, render):
    """Everything there is to say, its tables drawn by ``as_text`` or ``as_markdown``."""
    machine = ", ".join(f"{key.replace('_', ' ')} {about[key]}" for key in ABOUT if key in about)
    return "\n\n".join([machine, LEGEND, *(render(*table) for table in tables(results)), *losses(results)]) + "\n"
