"""Builds the kernels: one source, stamped from table.py, compiled once per instruction set.

setup.py reads this file before there is a package. In a copy that `fastact vendor` made, run it to build in place. The
build of the package around such a copy can take what `extensions` returns, and leave the rest to this file as well::

    build = runpy.run_path("host/fastact/_kernels/build.py")
    setup(ext_modules=build["extensions"]())

FASTACT_NO_THREADS=1 builds without threads, as happens by itself where there are no POSIX threads.
"""

import os
import platform
import runpy
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
LOOPS = {"elementwise": "dispatch", "rowwise": "rows", "elementwise_losses": "elementwise_losses", "row_losses": "row_losses",
         "layers": "training", "optimizers": "training"}  # fmt: skip
"""The templates whose loops a build holds if they are there, each after those that it uses, and the modules that run them."""

# -ffp-contract=off: the formulas say where to fuse, so that a vectorised body and its scalar rest round alike.
# No -ffast-math, and nothing of it that changes values: NaN, infinities and the rounding tricks matter.
# -fno-thread-jumps -fschedule-insns -funroll-loops: measured, sigmoid 9.8 -> 9.3 ns per 16 floats, exp 6.4 -> 5.4.
# Every formula must be inlined for its loop to vectorise, also where GCC thinks it too long.
ARITHMETIC = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp-simd", "-fno-tree-loop-distribute-patterns",
              "-fno-thread-jumps", "-funroll-loops", "-fschedule-insns",
              "-DCYTHON_INLINE=__inline__ __attribute__((always_inline))"]  # fmt: skip
# -fsched-pressure: 16 registers are few for two vectors in turn; tanhshrink 9.3 -> 6.1 ns per 8 floats, of the others few by more than 5 %.
INSTRUCTION_SETS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2", "-fsched-pressure"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mf16c", "-mbmi2", "-mprefer-vector-width=512"],
}


def on_x86():
    return platform.machine().lower() in ("x86_64", "amd64")


def package():
    """The name of the package that holds these kernels, and the folder in which the outermost package lies."""
    folder = KERNELS.parent
    names = [folder.name]
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
        names.insert(0, folder.name)
    return ".".join(names), folder.parent


def stamp_templates(target):
    """Expand the templates, outside the source tree, and gather the loops in kernels.pxi."""
    from Cython.Tempita import Template

    table = runpy.run_path(str(KERNELS.parent / "table.py"))
    names = dict(rows=table["ACTIVATIONS"], gated=table["GATED"], losses=table["ELEMENTWISE_LOSSES"])
    there = [name for name in LOOPS if (KERNELS / f"{name}.pxi.in").exists()]
    texts = {name: Template.from_filename(str(KERNELS / f"{name}.pxi.in"), encoding="utf-8").substitute(names) for name in there}
    includes = "".join(f'include "{name}.pxi"\n' for name in there)
    texts["kernels"] = includes + "kernels = {" + ", ".join(f"**{name}_kernels" for name in there) + "}\n"
    target.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        file = target / f"{name}.pxi"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def extensions(build=None):
    """What setuptools is to build, in C already; what is generated on the way goes to a folder, by default a temporary one."""
    import numpy
    from Cython.Build import cythonize
    from setuptools import Extension

    name, root = package()
    build = Path(build or tempfile.mkdtemp())
    kernels = Path(os.path.relpath(KERNELS))
    stamp_templates(build / "generated")
    threads = ["-pthread"] if os.name == "posix" and not os.environ.get("FASTACT_NO_THREADS") else ["-DFASTACT_SERIAL"]
    common = dict(include_dirs=[numpy.get_include(), str(kernels)],
                  define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
                  depends=[str(header) for header in kernels.glob("*.h")])  # fmt: skip
    builds = [Extension(f"{name}._kernels.cython_{kind}", [str(kernels / f"cython_{kind}.pyx")],
                        extra_compile_args=ARITHMETIC + INSTRUCTION_SETS[kind], **common)
              for kind in (INSTRUCTION_SETS if on_x86() else ["baseline"])]  # fmt: skip
    once = [Extension(f"{name}._kernels.{source.stem}", [str(source)], extra_compile_args=["-O2", *threads], extra_link_args=threads, **common)
            for source in sorted(kernels.glob("*.pyx")) if not source.name.startswith("cython_")]  # fmt: skip
    return cythonize(builds + once, build_dir=str(build), include_path=[str(root), str(build / "generated")], nthreads=0, quiet=True,
                     compiler_directives={"language_level": 3, "freethreading_compatible": True, "boundscheck": False,
                                          "wraparound": False, "cdivision": True})  # fmt: skip


def build_in_place():
    from setuptools import setup

    os.chdir(package()[1])
    with tempfile.TemporaryDirectory() as build:
        setup(name=package()[0], packages=[], ext_modules=extensions(build), script_args=["-q", "build_ext", "--inplace"],
              options={"build_ext": {"parallel": os.cpu_count(), "build_temp": build, "build_lib": build}})  # fmt: skip


if __name__ == "__main__":
    build_in_place()
