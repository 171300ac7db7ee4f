"""Build the C extensions, the slab and the bulk decoder; everything else is in pyproject.toml.

A missing compiler or Python header ends the build with one line that names what to install.
WOFS_WERROR=1 makes warnings errors: for our own builds, not for a compiler we have never seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build import build
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


PROBE = b"#include <stdio.h>\n#include <Python.h>\n"
DEBIAN = "Debian: apt-get install gcc libc6-dev python3-dev"


class BuildFirst(build):
    """Compile before the Python files are copied: what is missing is said at once."""

    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildSlab(build_ext):
    """Look for what the compiler needs before it fails in a screenful of its own words."""

    def build_extensions(self) -> None:
        """Build, or exit with one line that says what is missing."""
        lacking = self._lacking()
        if lacking:
            raise SystemExit(f"wofs: {lacking}")
        super().build_extensions()

    def _lacking(self) -> str | None:
        """Return what building lacks and how to get it, None when nothing."""
        command = self.compiler.compiler_so
        if shutil.which(command[0]) is None:
            return (
                f"the C compiler {command[0]!r} was not found and the slab is written in C; "
                f"install one ({DEBIAN}) or set CC"
            )
        paths = sysconfig.get_paths()
        places = [*self.include_dirs, paths["include"], paths["platinclude"]]
        done = subprocess.run(
            [*command, *(f"-I{place}" for place in places), "-E", "-x", "c", "-"],
            input=PROBE,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            check=False,
        )
        if not done.returncode:
            return None
        said = done.stderr.decode(errors="replace").splitlines()
        errors = [line.partition("error: ")[2] for line in said if "error: " in line]
        problem = errors[0] if errors else f"exit status {done.returncode}"
        return (
            f"the C compiler {command[0]!r} cannot compile an extension of the Python in "
            f"{sys.prefix}: {problem}; install the headers of C and of this Python ({DEBIAN})"
        )


setup(
    ext_modules=[
        Extension(
            "wofs.slab._slab",
            sources=sorted(glob("wofs/slab/*.c")),
            depends=sorted(glob("wofs/slab/*.h")),
            extra_compile_args=FLAGS,
        ),
        Extension(
            "wofs.xfs._decode",
            sources=sorted(glob("wofs/xfs/*.c")),
            depends=sorted(glob("wofs/xfs/*.h")),
            extra_compile_args=FLAGS,
        ),
    ],
    cmdclass={"build": BuildFirst, "build_ext": BuildSlab},
)
