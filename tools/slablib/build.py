"""Build the C outside the tree: instrumented by a sanitizer, or the slab's core as a program.

Nothing is written into the tree: a copy of what is imported and tested is laid out in a folder,
and the extension is compiled into that copy. Flags are those of setup.py, warnings are errors.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SLAB = ROOT / "wofs" / "slab"
DRIVER = Path(__file__).resolve().with_name("stress.c")
FINDING = 77
"""Exit status of a process in which a sanitizer found something."""


@dataclass(frozen=True)
class Sanitizer:
    """One way to instrument: the compiler's flags, the runtimes to preload, their options."""

    flags: tuple[str, ...]
    runtimes: tuple[str, ...]
    options: dict[str, str]


_UBSAN = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
# Stray accesses must reach the slab's own handler. Python frees little at its end: leaks are
# looked for in the C driver, which does.
_ASAN_OPTIONS = (
    "handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0:"
    f"detect_leaks=0:detect_stack_use_after_return=1:exitcode={FINDING}"
)
_UBSAN_OPTIONS = f"print_stacktrace=1:handle_segv=0:exitcode={FINDING}"
_TSAN_OPTIONS = (
    f"handle_segv=0:handle_sigbus=0:die_after_fork=0:report_signal_unsafe=0:exitcode={FINDING}"
)

SANITIZERS = {
    "asan": Sanitizer(("-fsanitize=address",), ("libasan.so",), {"ASAN_OPTIONS": _ASAN_OPTIONS}),
    "ubsan": Sanitizer(_UBSAN, ("libubsan.so",), {"UBSAN_OPTIONS": _UBSAN_OPTIONS}),
    "both": Sanitizer(
        ("-fsanitize=address", *_UBSAN),
        ("libasan.so", "libubsan.so"),
        {"ASAN_OPTIONS": _ASAN_OPTIONS, "UBSAN_OPTIONS": _UBSAN_OPTIONS},
    ),
    "tsan": Sanitizer(("-fsanitize=thread",), ("libtsan.so",), {"TSAN_OPTIONS": _TSAN_OPTIONS}),
}


class BuildFailed(Exception):
    """The compiler said no; the message is its own."""


def compiler() -> str:
    """Return the C compiler."""
    return os.environ.get("CC", "gcc")


def flags() -> list[str]:
    """Return the flags of setup.py, optimised less, warnings as errors."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS":
            found: list[str] = ast.literal_eval(node.value)
            return [*(flag for flag in found if flag != "-O2"), "-O1", "-Werror"]
    raise BuildFailed("setup.py has no FLAGS")


def compile_c(output: Path, sources: Sequence[Path], extra: Sequence[str]) -> None:
    """Compile and link; BuildFailed with what the compiler said."""
    command = [compiler(), *flags(), f"-I{SLAB}", *extra, *map(str, sources), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(done.stderr.strip())


def core_sources() -> list[Path]:
    """Return the C files that need neither Python nor the crash report."""
    outside = ('"python.h"', "<Python.h>", '"report.h"')
    return [
        path
        for path in sorted(SLAB.glob("*.c"))
        if not any(f"#include {name}" in path.read_text() for name in outside)
    ]


def driver(folder: Path, sanitizer: Sequence[str] = (), page_bytes: int = 0) -> Path:
    """Build the C driver around the slab's core; `page_bytes` overrides the machine's pages."""
    program = folder / "stress"
    extra = [*sanitizer, "-pthread"]
    if page_bytes:
        extra.append(f"-DSLAB_PAGE_SIZE_TEST={page_bytes}")
    compile_c(program, [DRIVER, *core_sources()], extra)
    return program


def lay_out(folder: Path) -> None:
    """Copy what is imported and tested, without what was built, into a folder."""
    built = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("wofs", "tests", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=built, symlinks=True)
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, folder)
    (folder / "images").symlink_to(ROOT / "images")


def extension(folder: Path, sanitizer: Sequence[str] = ()) -> None:
    """Lay out a copy and compile the extensions into it: each of all C files of its folder."""
    lay_out(folder)
    paths = sysconfig.get_paths()
    headers = {f"-I{paths[name]}" for name in ("include", "platinclude")}
    extra = [*sanitizer, *sorted(headers), "-shared", "-fPIC"]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for home in sorted({source.parent for source in (ROOT / "wofs").rglob("*.c")}):
        sources = sorted(home.glob("*.c"))
        (name,) = re.findall(r"PyInit_(\w+)", "".join(path.read_text() for path in sources))
        place = folder / home.relative_to(ROOT)
        compile_c(place / f"{name}{suffix}", sources, [*extra, f"-I{home}"])


def environment(sanitizer: Sanitizer, folder: Path) -> dict[str, str]:
    """Return the environment in which Python loads the copy in `folder`, instrumented.

    What a sanitizer finds goes to files `folder/finding.PID`, also from children whose death a
    test expects.
    """
    runtimes = []
    for name in sanitizer.runtimes:
        asked = [compiler(), f"-print-file-name={name}"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        if not os.path.isabs(found):
            raise BuildFailed(f"{compiler()} has no {name}")
        runtimes.append(os.path.realpath(found))
    log = f":log_path={folder / 'finding'}"
    return {
        **os.environ,
        **{name: value + log for name, value in sanitizer.options.items()},
        "LD_PRELOAD": " ".join(runtimes),
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def findings(folder: Path) -> list[str]:
    """Return what the sanitizers wrote."""
    return [path.read_text(errors="replace") for path in sorted(folder.glob("finding.*"))]
