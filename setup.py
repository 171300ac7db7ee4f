"""Build the slab, the one C extension; everything else is in pyproject.toml.

A missing compiler or Python header ends the build with one line that names what to install.
WOFS_WERROR=1 makes warnings errors: for our own builds, not for a compiler we have never seen.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = [
    "-std=c11",
    "-O2",
    "-g",
    "-fvisibility=hidden",
    "-fno-omit-frame-pointer",  # the crash report walks the stack of the guilty write
    "-Wall",
    "-Wextra",
    "-Wconversion",
]
if os.environ.get("WOFS_WERROR") == "1":
    FLAGS.append("-Werror")


class BuildSlab(build_ext):
    """Look for what the compiler needs before it fails in a screenful of its own words."""

    def build_extensions(self) -> None:
        """Build, or exit with one line that says what is missing."""
        compiler = self.compiler.compiler_so[0]
        if shutil.which(compiler) is None:
            raise SystemExit(
                f"wofs: the C compiler {compiler!r} was not found and the slab is written in C; "
                "install one (Debian: apt-get install gcc libc6-dev python3-dev) or set CC"
            )
        paths = sysconfig.get_paths()
        places = {*self.include_dirs, paths["include"], paths["platinclude"]}
        if not any((Path(place) / "Python.h").is_file() for place in places):
            raise SystemExit(
                f"wofs: Python.h was not found in {paths['include']} and the slab needs it; "
                "install the headers of this Python (Debian: apt-get install python3-dev)"
            )
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "wofs.slab._slab",
            sources=sorted(glob("wofs/slab/*.c")),
            depends=sorted(glob("wofs/slab/*.h")),
            extra_compile_args=FLAGS,
        )
    ],
    cmdclass={"build_ext": BuildSlab},
)
