"""Lists the loops over elements that GCC left scalar: ``python -m bench.vectorised [--isa avx512] [--all]``.

GCC gives up without a word, for one where a formula compares a parameter with itself, and the result is right and several
times slower. The kernels are compiled as for the package, half a minute for each instruction set, and what the compiler says
about each loop is held against the loops of the C source. Ends with status 1 if one of an elementwise function or loss was not
vectorised.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from fastact.table import ACTIVATIONS, ELEMENTWISE_LOSSES, GATED

ROOT = Path(__file__).resolve().parents[1]
FUNCTION = re.compile(r"^static .*__pyx_f_\w+?_kernels_\d+cython_(?:baseline|avx2|avx512)_(\w+)\(.*\) \{$")
OTHER_FUNCTION = re.compile(r"^\w.*\) \{$")
BY_HAND = re.compile(r"= \w+_by_hand_\w+\(")
LOOP = re.compile(r"^\s*for \((__pyx_t_\d+) = .*; \1 [<>]=? .*; \1\s*(?:\+=|-=)")
# So that equal loops are not folded into one, and a copy stays a loop.
PLAIN = ["-fno-ipa-icf", "-fno-tree-loop-distribute-patterns"]
KINDS = r"forward|derivative|backward|backward_from_output|value|grad\w*"
VECTORISED = re.compile(r"^([^:]+):(\d+):\d+: optimized: loop vectorized using (\d+) byte vectors$", re.M)


def loops(source: str, by_hand: bool = False) -> dict[int, str]:
    """Line of each loop over a range in C that Cython made -> the kernel that it is in.

    ``by_hand``: this build has the kernels that are written by hand, whose loops are never entered.
    """
    found, kernel = {}, None
    for number, line in enumerate(source.splitlines(), 1):
        if match := FUNCTION.match(line):
            kernel = match[1]
        elif OTHER_FUNCTION.match(line):
            kernel = None
        elif by_hand and BY_HAND.search(line):
            kernel = None
        elif kernel and LOOP.match(line):
            found[number] = kernel
    return found


def vectorised(report: str, file: str) -> set[int]:
    """Lines of a file at which GCC says that it vectorised a loop."""
    return {int(line) for path, line, _ in VECTORISED.findall(report) if Path(path).name == file}


def scalar_loops(source: str, report: str, file: str, by_hand: bool = False) -> dict[str, list[int]]:
    """Kernel -> lines of its loops that were not vectorised."""
    fast, left = vectorised(report, file), {}
    for line, kernel in loops(source, by_hand).items():
        if line not in fast:
            left.setdefault(kernel, []).append(line)
    # Kernels of half types have a loop over tiles around the one that counts.
    usual = {kernel: 1 if kernel.endswith(("_half", "_bfloat")) else 0 for kernel in left}
    return {kernel: lines for kernel, lines in left.items() if len(lines) > usual[kernel]}


def over_elements() -> re.Pattern:
    """The names of the kernels of elementwise functions, gated ones and losses."""
    losses = [kernel for row in ELEMENTWISE_LOSSES for kernel in row.kernels]
    names = "|".join([row.name for row in ACTIVATIONS] + [row.name for row in GATED] + losses)
    return re.compile(rf"(?:{names})_(?:{KINDS})_(?:float|double|half|bfloat)")


def compile_report(extension) -> str:
    """What GCC says about vectorised loops of an extension."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc")[0]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" not in version:
        sys.exit(f"{compiler} is not GCC")
    folders = [*extension.include_dirs, sysconfig.get_path("include")]
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as report:
        subprocess.run(
            [compiler, "-c", "-fPIC", *extension.extra_compile_args, *PLAIN, f"-fopt-info-vec={report.name}",
             *(f"-I{folder}" for folder in folders), *(f"-D{name}={value}" for name, value in extension.define_macros),
             *extension.sources, "-o", os.devnull],
            check=True)  # fmt: skip
        return report.read()


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.vectorised", description=__doc__.splitlines()[0])
    parser.add_argument("--isa", nargs="+", metavar="NAME", help="only these instruction sets: baseline, avx2, avx512")
    parser.add_argument("--all", action="store_true", help="kernels of rows, layers and optimizers too")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    builds = runpy.run_path("fastact/_kernels/build.py")["extensions"]("build")
    missed = False
    for extension in builds:
        _, found, isa = extension.name.rpartition("cython_")
        if not found or (arguments.isa and isa not in arguments.isa):
            continue
        source = Path(extension.sources[0])
        text = source.read_text()
        scalar = scalar_loops(text, compile_report(extension), source.name, isa != "baseline")
        ours = {kernel: lines for kernel, lines in scalar.items() if arguments.all or over_elements().fullmatch(kernel)}
        count = sum(map(len, ours.values()))
        print(
            f"{isa}: {count} of {len(loops(text))} loops are scalar"
            if arguments.all
            else f"{isa}: {count} elementwise loops are scalar"
        )
        for kernel, lines in ours.items():
            print(f"    {kernel} ({source}:{', '.join(map(str, lines))})")
        missed |= any(over_elements().fullmatch(kernel) for kernel in scalar)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
