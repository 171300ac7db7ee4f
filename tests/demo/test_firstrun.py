"""The demo works from start to end, and leaves nothing mounted and no file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import fuse
from support.images import IMAGES

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

OWN_FOLDERS = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
"""The environment's variables for where a program may leave something."""


def test_first_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wofs.demo.firstrun", str(IMAGES["default"].packed)],
        env={**os.environ, **dict.fromkeys(OWN_FOLDERS, str(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mount_struct agf[1].freeblks" in done.stdout
    assert "ended by SIGSEGV" in done.stdout
    assert "still serves" in done.stdout
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
