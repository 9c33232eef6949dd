"""fastact/_kernels/build.py says what is built, and how.

FASTACT_NO_EXTENSIONS=1 builds nothing and needs no compiler: Numba then compiles the functions when they are first used.
"""

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithLicence(build_py):
    """The licence goes along with copies of the package (fastact/vendor.py)."""

    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file("LICENSE", str(Path(self.build_lib, "fastact", "LICENSE")))


def compiled_modules():
    return runpy.run_path(str(Path(__file__).parent / "fastact" / "_kernels" / "build.py"))["extensions"]("build")


setup(
    ext_modules=[] if os.environ.get("FASTACT_NO_EXTENSIONS") else compiled_modules(),
    cmdclass={"build_py": WithLicence},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
