"""Copies of functions for other packages: what they need, and no more, under any name."""

from __future__ import annotations

import ast
import keyword
import re
import runpy
from collections.abc import Iterable
from pathlib import Path

__all__ = ["names", "vendor"]

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "_kernels"
CONTROLS = ("backends", "threads")
"""Modules whose public functions every copy has."""
ABSENT = {"activation": "custom"}
"""What the package imports when it is asked for, and where from."""
TEST = "test_vendored.py"
# How files refer to others of this package, beside Python's own imports.
BY_SUBJECT = re.compile(r"(compiled|numba)_kernels\(\"(\w+)\"\)")
HEADERS = re.compile(r"\"(\w+\.h)\"")
CIMPORTS = re.compile(r"^\s*from \.(\w+) cimport|^cdef extern from \"(\w+\.h)\"|^#include \"(\w+\.h)\"", re.M)
COMPANIONS = {"rrelu": ("leaky_relu",)}
"""What functions make of others."""


def names() -> dict[str, str]:
    """The public names that can be copied, each with the module that has it."""
    from importlib import import_module

    found = dict(ABSENT)
    for node in ast.walk(ast.parse((HERE / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "_kernels":
            module = import_module(f".{node.module}", __package__)
            found |= dict.fromkeys(module.__all__ if node.names[0].name == "*" else [a.name for a in node.names], node.module)
    return found


def vendor(dest, only: Iterable[str] | None = None, *, cython: bool = True, numba: bool = True) -> list[Path]:
    """Copy functions, their kernels, the licence and a test into a folder, which becomes a package of its own.

    It imports nothing but NumPy and works wherever it lies; with compiled kernels, once ``_kernels/build.py`` has been run
    there, or the package around it builds what ``extensions()`` of that file returns.

    Parameters
    ----------
    dest : path
        A new or empty folder, whose name is the package's.
    only : names, optional
        The functions wanted. By default everything but the trainer and the figures.
    cython, numba : bool
        Which kernels; at least one of both.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ValueError
        If there is no function of a name, or no kernels are wanted, or dest cannot be the name of a package.
    FileExistsError
        If dest is there and not empty.
    """
    dest = Path(dest).resolve()
    there = names()
    if not (cython or numba):
        raise ValueError("a copy needs kernels: Cython's, Numba's or both")
    if not dest.name.isidentifier() or keyword.iskeyword(dest.name):
        raise ValueError(f"{dest.name!r} cannot be the name of a package")
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise FileExistsError(f"{dest} is there already; a copy needs a new or empty folder")
    wanted = list(dict.fromkeys(there if only is None else only))
    for name in wanted:
        if name not in there:
            raise ValueError(f"there is no function {name!r} to copy; there are {', '.join(sorted(there))}")
    if not numba:
        wanted = [name for name in wanted if name not in ABSENT]  # only Numba compiles them
    if not wanted:
        raise ValueError("nothing is to be copied")
    wanted = list(dict.fromkeys([*wanted, *(name for name, module in there.items() if module in CONTROLS)]))
    modules = {there[name] for name in wanted}
    files = _closure([HERE / f"{module}.py" for module in sorted(modules)], cython, numba)

    dest.mkdir(parents=True, exist_ok=True)
    texts = {file.relative_to(HERE): file.read_text() for file in files}
    if only is not None:
        rows = {*wanted, *(other for name in wanted for other in COMPANIONS.get(name, ()))}
        texts[Path("table.py")] = _rows_only(texts[Path("table.py")], rows)
    texts[Path("__init__.py")] = _init(dest.name, wanted, there, cython)
    texts[Path("LICENSE")] = _licence()
    texts[Path(TEST)] = texts.pop(Path("selftest.py"))
    for name, text in texts.items():
        (dest / name).parent.mkdir(exist_ok=True)
        (dest / name).write_text(text)
    return sorted(dest / name for name in texts)


def _closure(files, cython, numba):
    """The files and all that they refer to, as far as these kernels are wanted."""
    loops = runpy.run_path(str(KERNELS / "build.py"))["LOOPS"]
    found, waiting = [], [*files, HERE / "selftest.py", HERE / "table.py", KERNELS / "__init__.py"]
    if cython:
        waiting += [KERNELS / "build.py", *KERNELS.glob("cython_*.pyx")]
    while waiting:
        file = waiting.pop()
        if file in found or not file.exists():
            continue
        if not numba and file.name.startswith("numba_") or not cython and file.suffix in (".pyx", ".pxd"):
            continue
        found.append(file)
        text = file.read_text()
        if file.suffix == ".py":
            waiting += _imported(file, text)
            waiting += [KERNELS / name for name in HEADERS.findall(text)]
            waiting += [KERNELS / (f"numba_{s}.py" if kind == "numba" else f"{s}.pyx") for kind, s in BY_SUBJECT.findall(text)]
        else:
            waiting += [KERNELS / other for match in CIMPORTS.findall(text) for name in match if name
                        for other in ([name] if name.endswith(".h") else [f"{name}.pyx", f"{name}.pxd"])]  # fmt: skip
            if file.suffix == ".pyx":
                waiting += [KERNELS / f"{loop}.pxi.in" for loop, module in loops.items() if module == file.stem]
                waiting.append(file.with_suffix(".pxd"))
    return found


def _imported(file, text):
    """The files that a Python file's relative imports may mean."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for stem in [folder, *(folder / alias.name for alias in node.names)]:
                yield from (stem.with_suffix(suffix) for suffix in (".py", ".pyx"))


def _rows_only(table, names):
    """The text of table.py with no other rows than those of the names."""
    lines = table.splitlines(keepends=True)
    for node in ast.parse(table).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            for row in node.value.elts:
                if row.args[0].value not in names:
                    lines[row.lineno - 1 : row.end_lineno] = [""] * (row.end_lineno - row.lineno + 1)
    return "".join(lines)


def _init(package, wanted, there, cython):
    from . import __version__

    modules = sorted({there[name] for name in wanted})
    imports = "".join(f"from .{module} import {', '.join(sorted(n for n in wanted if there[n] == module))}\n" for module in modules)
    listed = "".join(f'    "{name}",\n' for name in sorted(wanted))
    building = f"\nCompile its kernels with ``python {package}/_kernels/build.py``, once this folder is where it is to stay.\n"
    return f'''"""Functions of fastact {__version__}, copied by ``python -m fastact vendor``. LICENSE has their terms.
{building if cython else ''}
``python -m pytest {package}/{TEST}`` says whether they work.
"""

__version__ = "{__version__}"

{imports}
__all__ = [
{listed}]
'''


def _licence():
    """In the package where it is installed, beside it in a clone."""
    for folder in (HERE, HERE.parent):
        if (folder / "LICENSE").exists():
            return (folder / "LICENSE").read_text()
    raise FileNotFoundError("the licence of fastact, which must go along, is not where it was installed")
