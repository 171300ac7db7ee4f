"""The slab's core in C, under threads, as if pages were larger: built here, off the tree."""

from __future__ import annotations

import mmap
import shutil
import subprocess
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
