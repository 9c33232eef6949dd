"""The figures of the full run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from .render import ORDER
from .results import ELEMENTWISE, OURS, Result, plain

COLOURS = {name: "black" if name == OURS else f"C{(k - 1) % 10}" for k, name in enumerate(ORDER)}
COLUMNS = 6
BEST_SHOWN, WORST_SHOWN = 0.25, 1e4
"""ULP; what is nearer or further off stands at the edge."""


def throughput(results: list[Result]) -> Figure:
    """Elements a second against size, a panel a function."""
    functions: dict[str, list[Result]] = {}
    for result in sorted(plain(results, "forward"), key=lambda result: result.elements):
        functions.setdefault(result.cell.name, []).append(result)
    rows = math.ceil(len(functions) / COLUMNS)
    figure = Figure((2.6 * COLUMNS, 2.2 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    shown = [name for name in ORDER if any(name in result.seconds for group in functions.values() for result in group)]
    for (function, group), panel in zip(functions.items(), panels):
        for library in shown:
            points = [(result.elements, result.figure(library)) for result in group if library in result.seconds]
            style = {
                "color": COLOURS[library],
                "linewidth": 2.2 if library == OURS else 1,
                "zorder": 3 if library == OURS else 2,
            }
            panel.loglog(*zip(*points), base=2, label=library, **style) if points else None
        panel.set_title(function, fontsize=9)
        panel.grid(alpha=0.3)
    for panel in list(panels):
        panel.set_axis_off()
    lines = {line.get_label(): line for panel in figure.axes for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    for panel in figure.axes[-COLUMNS:]:
        panel.set_xlabel("elements")
    figure.supylabel("Gelem/s, float32")
    return figure


def ratios(results: list[Result]) -> Figure:
    """Times as fast as the fastest other library, function by size."""
    found = [result for result in plain(results, *ELEMENTWISE) if result.best]
    kinds = [kind for kind in ELEMENTWISE if any(result.cell.kind == kind for result in found)]
    functions = list(dict.fromkeys(result.cell.name.partition(".")[0] for result in found))
    figure = Figure((1.6 + 2.9 * len(kinds), 1.2 + 0.24 * len(functions)), layout="constrained")
    for panel, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds), sharey=True)), kinds):
        group = {
            (result.cell.name.partition(".")[0], result.elements): result
            for result in found
            if result.cell.kind == kind
        }
        sizes = sorted({size for _, size in group})
        values = np.array([
            [group[f, size].ratio(group[f, size].best) if (f, size) in group else np.nan for size in sizes] for f in functions
        ])  # fmt: skip
        norm = TwoSlopeNorm(0, -2, 3)
        image = panel.imshow(np.log2(values), cmap="RdYlGn", norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
                panel.text(column, row, text, ha="center", va="center", fontsize=7)
        panel.set_xticks(range(len(sizes)), [f"$2^{{{size.bit_length() - 1}}}$" for size in sizes])
        panel.set_yticks(range(len(functions)), functions, fontsize=8)
        panel.set(title=kind, xlabel="elements")
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.4, ticks=range(-2, 4))
    bar.ax.set_yticklabels([f"{2.0**k:g}" for k in range(-2, 4)])
    figure.suptitle("times as fast as the\nfastest other library, float32", fontsize=10)
    return figure


def accuracy(results: list[Result]) -> Figure:
    """The largest error where results are normal numbers, against speed; a point for each function and library."""
    found = [result for result in plain(results, "forward") if result.ulp]
    figure = Figure((8, 5), layout="constrained")
    panel = figure.subplots()
    for library in ORDER:
        points = [
            (result.figure(library), min(max(result.ulp[library], BEST_SHOWN), WORST_SHOWN))
            for result in found
            if library in result.ulp
        ]
        if points:
            panel.scatter(
                *zip(*points),
                s=30 if library == OURS else 14,
                color=COLOURS[library],
                label=library,
                zorder=3 if library == OURS else 2,
            )
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="Gelem/s",
        ylabel=f"largest error, ULP, from {BEST_SHOWN:g} to {WORST_SHOWN:g}",
    )
    panel.axhline(1, color="black", linewidth=0.6)
    panel.grid(alpha=0.3)
    panel.legend()
    return figure


def draw(results: list[Result], folder: Path) -> dict[Path, str]:
    """Write every figure that there are figures for; their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    forward = plain(results, "forward")
    needed = {
        throughput: forward,
        ratios: [result for result in plain(results, *ELEMENTWISE) if result.best],
        accuracy: [result for result in forward if result.ulp],
    }
    written = {}
    for figure in (figure for figure, found in needed.items() if found):
        path = folder / f"bench-{figure.__name__}.png"
        figure(results).savefig(path, dpi=90)
        written[path] = figure.__doc__.rstrip(".")
    return written
