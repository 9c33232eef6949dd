"""The full run: figures to a file, then tables and plots from it.

Slices of the plan run in processes of their own, and what is in the file already is not measured again: so a run that was cut
off, or stopped after ``--minutes``, is continued by the same command. Cells that others disturbed are measured once more at the
end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import fastact as fa

from . import cases, compare, plots, render, results

HUGE, LARGE, MEDIUM = 2**26, 2**24, 2**20
SETTING = {"dtype": "float32", "layout": cases.CONTIGUOUS, "out": True}
TURNS = compare.QUICK


@dataclass(frozen=True)
class Slice:
    """Cases of some kinds, with the sizes and the shapes of their arrays, in some settings."""

    kinds: tuple
    sizes: tuple = ()
    shapes: tuple = ()
    settings: tuple = (SETTING,)
    serial: bool = False


def settings(**choices):
    ((name, values),) = choices.items()
    return tuple(SETTING | {name: value} for value in values)


SLICES = {
    "forward": Slice(("forward",), (16, 2**8, 2**12, 2**16, MEDIUM, LARGE, HUGE)),
    "gradients": Slice(("derivative", "backward"), (2**12, 2**16, MEDIUM, LARGE)),
    "gated": Slice(("gated",), (2**16, MEDIUM, LARGE)),
    "losses": Slice(("elementwise loss", "loss"), (2**16, MEDIUM, LARGE), cases.SHAPES),
    "rows": Slice(("rows",), (), cases.SHAPES),
    "optimizers": Slice(("optimizer",), (2**12, MEDIUM, LARGE)),
    "calls": Slice(("call", "training step")),
    "types": Slice(("forward", "backward", "rows"), (MEDIUM,), cases.SHAPES[:1], settings(dtype=cases.DTYPES[1:])),
    "layouts": Slice(("forward", "backward", "rows"), (MEDIUM,), cases.SHAPES[:1], settings(layout=cases.LAYOUTS[1:])),
    "memory": Slice(("forward", "gated", "rows"), (MEDIUM, LARGE), cases.SHAPES[:1], settings(out=[False])),
    "serial": Slice(("forward", "backward", "rows"), (MEDIUM,), cases.SHAPES[:1], serial=True),
}
"""The plan; together some 25 minutes on 2 CPUs."""


def cells_of(part, threads):
    from . import measure

    threads = 1 if part.serial else threads
    found = measure.cells_of_cases([], part.sizes, part.shapes, part.settings, threads)
    found += measure.cells_of_calls([], threads) + measure.cells_of_training(threads)
    return [cell for cell in found if cell.kind in part.kinds]


def known(file):
    """Cell -> what the file holds of it."""
    return {result.cell: result for result in results.load(file)[1]} if file.exists() else {}


def measure_cells(cells, file, compiled, end):
    """Measure these, all on as many threads, until the end, and keep each result at once. In a process of its own."""
    from . import measure, peers

    peers.set_num_threads(cells[0].threads)
    machine, found = measure.machine(), known(file)
    if found and (before := results.load(file)[0]) != machine:
        different = ", ".join(key for key in machine if before.get(key) != machine[key])
        sys.exit(f"{file} holds figures of another machine or other versions ({different})")

    def keep(result):
        found[result.cell] = result
        results.save(file, machine, list(found.values()))
        if time.time() > end:
            sys.exit("out of time: the same command goes on from here")

    def libraries(cell):
        wanted = compiled and MEDIUM in cell.setting.shape
        return [library for library in peers.LIBRARIES if wanted or library != peers.COMPILED]

    measure.measure_all(cells, libraries, keep=keep, **TURNS)


def measure_slices(names, sizes, threads, file, compiled, end):
    """First what the file lacks, then what was disturbed; the exit status of what stopped it, or 0."""
    context = multiprocessing.get_context("spawn")
    for again in (False, True):
        for name in names:
            part = replace(SLICES[name], sizes=sizes) if sizes else SLICES[name]
            there = known(file)
            cells = [cell for cell in cells_of(part, threads) if (cell in there) == again]
            cells = [cell for cell in cells if not again or there[cell].disturbed]
            if not cells:
                continue
            print(f"{name}: {len(cells)} cells{' that were disturbed' * again}", flush=True)
            # XLA takes its number of threads from its process at its start, and a crash costs one slice only.
            work = context.Process(target=measure_cells, args=(cells, file, compiled, end))
            work.start()
            work.join()
            if work.exitcode:
                return work.exitcode
    return 0


# Documents ------------------------------------------------------------------------------------------------------------


def overview(found):
    """How each kind of function compares in the plain setting, and all of them in each other, as rows of cells."""
    usual = {result.cell for result in results.plain(found, *(result.cell.kind for result in found))}
    groups = {}
    for result in found:
        if result.best:
            title = result.cell.kind if result.cell in usual else ", ".join(result.circumstances())
            groups.setdefault(title, []).append(result)
    rows = [["", "cells", "times as fast as the fastest other library (geometric mean)", "slower in", "slowest"]]
    for title, group in groups.items():
        values = [result.ratio(result.best) for result in group]
        lowest = group[values.index(min(values))]
        mean, slower = render.times(results.geometric_mean(values)), sum(value < 1 for value in values)
        rows.append(
            [title, str(len(values)), mean, str(slower), f"{min(values):.2f}: {lowest.cell.name}, {lowest.size()}"]
        )
    return rows


def readme(text, machine, found, figures):
    """The README with a fresh part about speed."""
    threads = {result.cell.threads for result in found}
    head = "\n\n".join(list(render.summary(found))[:-1])
    pictures = "\n\n".join(f"![{caption}](docs/{path.name})" for path, caption in figures.items())
    table = "\n".join(render.markdown_table(overview(found)))
    about = f"Measured on {render.measured_on(machine, threads)} All cells, also the slower ones: [docs/benchmarks.md](docs/benchmarks.md)."
    body = f"## Speed\n\n{head}\n\n{table}\n\n{about}\n\n{pictures}\n"
    return re.sub(r"(<!-- speed: .*? -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{body}\n{m[2]}", text, flags=re.S)


def write_documents(machine, found, docs):
    figures = plots.draw(found, docs)
    pictures = "\n\n".join(f"![{caption}]({path.name})" for path, caption in figures.items())
    page = render.page(machine, found, render.as_markdown)
    (docs / "benchmarks.md").write_text(f"# Speed\n\nWritten by `python -m bench.report`.\n\n{page}\n{pictures}\n")
    path = docs.parent / "README.md"
    if path.exists():
        path.write_text(readme(path.read_text(), machine, found, figures))


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    parser.add_argument(
        "--append", type=Path, default=Path("benchmarks.json"), metavar="FILE", help="the figures, kept and continued"
    )
    parser.add_argument(
        "--slices",
        nargs="*",
        choices=SLICES,
        default=list(SLICES),
        metavar="NAME",
        help=f"of {', '.join(SLICES)}; none: only write",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=compare.size, metavar="N", help="elements, such as 2^26, instead of the plan's"
    )
    parser.add_argument("--minutes", type=float, default=24 * 60, help="stop measuring after so long")
    parser.add_argument("--threads", type=int, default=fa.get_num_threads(), help="of each library")
    parser.add_argument("--compiled", action="store_true", help="PyTorch compiled too, at 2^20 elements: minutes more")
    parser.add_argument(
        "--docs",
        type=Path,
        default=Path("docs"),
        metavar="DIR",
        help="where benchmarks.md and the plots go; the README beside it",
    )
    arguments = parser.parse_args()
    end = time.time() + 60 * arguments.minutes
    status = measure_slices(
        arguments.slices, arguments.sizes, arguments.threads, arguments.append, arguments.compiled, end
    )
    if not arguments.append.exists():
        parser.error(f"there is no {arguments.append}")
    machine, found = results.load(arguments.append)
    write_documents(machine, found, arguments.docs)
    print("\n\n".join(render.summary(found)))
    sys.exit(status)


if __name__ == "__main__":
    main()
