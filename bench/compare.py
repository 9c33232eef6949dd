"""A short run, in the terminal: ``python -m fastact bench``."""

# What takes seconds to import is imported when it runs.

from __future__ import annotations

import argparse
from pathlib import Path

import fastact as fa

from . import cases, results

QUICK = {"rounds": 3, "seconds": 0.005}
SHORT, FEW = ("forward", "backward", "rows", "loss"), ("relu", "sigmoid", "gelu")
"""What there is time for in a minute: kinds of functions, and those to look at on large arrays and on almost none."""
THOROUGH = {"rounds": 5, "seconds": 0.01, "attempts": 2}


def size(text):
    """1048576 or 2^20"""
    base, _, exponent = text.partition("^")
    if not base.isdecimal() or exponent and not exponent.isdecimal() or int(base) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 1000 or 2^20")
    return int(base) ** int(exponent or 1)


def shape(text):
    return tuple(size(n) for n in text.split("x"))


def threads(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads")
    return int(text)


def file(text):
    if not Path(text).parent.is_dir():  # which is better known before the measuring than after
        raise argparse.ArgumentTypeError(f"there is no folder {Path(text).parent}")
    return Path(text)


def add_options(parser):
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="such as gelu, gelu.derivative, softmax, mse, Adam or training; else the activations, functions and losses of rows",
    )
    add(
        "--sizes",
        nargs="+",
        type=size,
        metavar="N",
        help="elements, such as 2^20; else 2^20, and 2^24 for some or for those that are named",
    )
    add("--shapes", nargs="+", type=shape, metavar="RxC", help="of functions and losses of rows, such as 1024x1000")
    add("--dtypes", nargs="+", choices=cases.DTYPES, default=["float32"], help="types of the arrays")
    add("--layouts", nargs="+", choices=cases.LAYOUTS, default=[cases.CONTIGUOUS], help="how they lie in memory")
    add("--new-memory", action="store_true", help="functions make their results, as without out=")
    add("--threads", type=threads, default=fa.get_num_threads(), help="of each library")
    add(
        "--peers",
        nargs="+",
        metavar="LIBRARY",
        help="only these; else all that are installed, but PyTorch not compiled",
    )
    add("--thorough", action="store_true", help="more and longer turns, and once more where others disturbed")
    add("--json", type=file, metavar="FILE", help="write all figures, in seconds")


def cells_for(arguments):
    from . import measure

    names, threads = arguments.names, arguments.threads
    sizes = arguments.sizes or (cases.SIZES[1:] if names else cases.SIZES[1:2])
    shapes = arguments.shapes or (cases.SHAPES if names else cases.SHAPES[:1])
    settings = [
        {"dtype": dtype, "layout": layout, "out": not arguments.new_memory}
        for dtype in arguments.dtypes
        for layout in arguments.layouts
    ]
    found = measure.cells_of_cases(names, sizes, shapes, settings, threads)
    if not names:
        found = [cell for cell in found if cell.kind in SHORT]
        if not arguments.sizes:
            large = measure.cells_of_cases(FEW, cases.SIZES[2:], (), settings, threads)
            found += [cell for cell in large if cell.kind == "forward"]
    if settings == [{"dtype": "float32", "layout": cases.CONTIGUOUS, "out": True}]:
        found += measure.cells_of_calls(names or FEW, threads)
        found += measure.cells_of_training(threads) if "training" in names else []
    return found


def libraries_for(arguments):
    from . import peers

    wanted = arguments.peers or [name for name in peers.LIBRARIES if name != peers.COMPILED]
    if unknown := set(wanted) - set(peers.LIBRARIES):
        arguments.parser.error(f"no {', '.join(sorted(unknown))} here; there are {', '.join(peers.LIBRARIES)}")
    return [name for name in peers.LIBRARIES if name in {results.OURS, *wanted}]


def run(arguments):
    from . import measure, peers, render

    libraries, cells = libraries_for(arguments), cells_for(arguments)
    if not cells:
        arguments.parser.error(f"nothing to measure: {' '.join(arguments.names)} in these types and layouts")
    peers.set_num_threads(arguments.threads)
    found = measure.measure_all(cells, lambda cell: libraries, **(THOROUGH if arguments.thorough else QUICK))
    about = measure.machine()
    print(render.page(about, found, render.as_text), end="")
    if arguments.json:
        results.save(arguments.json, about, found)
