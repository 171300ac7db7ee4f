"""The slab as if pages were larger: its core in C under threads, then all of it; built here."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slablib import build

pytestmark = pytest.mark.skipif(shutil.which(build.compiler()) is None, reason="no C compiler")


@pytest.mark.parametrize("page_bytes", [mmap.PAGESIZE, 16 << 10, 64 << 10])
def test_lives_of_objects_in_pages_of_any_size(tmp_path: Path, page_bytes: int) -> None:
    if page_bytes % mmap.PAGESIZE:
        pytest.skip("this machine's pages are larger")
    program = build.driver(tmp_path, page_bytes=page_bytes)
    for seed, backend in enumerate(("memfd", "alias", "shared", "mprotect")):
        done = subprocess.run(
            [program, str(seed), "3", "5", backend],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"page {page_bytes}: 15 arenas, ")


LARGER = """
import mmap, sys
mmap.PAGESIZE = {page_bytes}
from slablib.fuzz import main
sys.exit(main())
"""


@pytest.mark.parametrize("page_bytes", [16 << 10, 64 << 10])
def test_random_calls_where_pages_are_larger(tmp_path: Path, page_bytes: int) -> None:
    """The extension and its Python face, both told of larger pages than the machine has."""
    if page_bytes % mmap.PAGESIZE:
        pytest.skip("this machine's pages are larger")
    build.extension(tmp_path, [f"-DSLAB_PAGE_SIZE_TEST={page_bytes}"])
    script = LARGER.format(page_bytes=page_bytes)
    path = os.pathsep.join((str(tmp_path), str(tmp_path / "tools")))
    for seed in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", script, "--seed", str(seed), "--steps", "800"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
