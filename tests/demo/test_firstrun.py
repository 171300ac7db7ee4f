"""The demo works from start to end, and leaves nothing mounted and no file."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse
from support.images import IMAGES

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

OWN_FOLDERS = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
"""The environment's variables for where a program may leave something."""


def first_run(image: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo on an image; nothing may be left in `folder`, its home and everything."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "wofs.demo.firstrun", str(image)],
        env={**os.environ, **dict.fromkeys(OWN_FOLDERS, str(folder))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not list(folder.iterdir())
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    return done


def compressed(image: Path, folder: Path, form: str) -> Path:
    """Return a copy of an image in one of the forms that are unpacked."""
    packed = folder / f"image.{form}"
    if form == "gz":
        packed.write_bytes(gzip.compress(image.read_bytes(), 1))
    else:
        zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
        packed.write_bytes(zstandard.compress(image.read_bytes(), 1))
    return packed


@pytest.mark.parametrize(
    ("name", "form", "struck"),
    [("default", "xz", "agf[1]"), ("empty", "gz", "agf[1]"), ("sparse-inodes", "zst", "agf[0]")],
    ids=["xz, four AGs", "gz, no file in it", "zst, one AG"],
)
def test_first_run(
    name: str, form: str, struck: str, image: Callable[[str], Path], tmp_path: Path
) -> None:
    source = IMAGES[name].packed if form == "xz" else compressed(image(name), tmp_path, form)
    done = first_run(source, tmp_path / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"mount_struct {struck}.freeblks" in done.stdout
    assert "ended by SIGSEGV" in done.stdout
    assert "still serves" in done.stdout
    assert ("the same straight from the image" in done.stdout) == (name != "empty")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("dirty", "dirty.img: log: is dirty"),
        ("v4", "v4.img: superblock"),
        ("", "test_firstrun.py: superblock"),
    ],
)
def test_what_cannot_be_mounted_is_told_in_a_line(
    name: str, line: str, image: Callable[[str], Path], tmp_path: Path
) -> None:
    done = first_run(image(name) if name else Path(__file__), tmp_path / "home")
    assert done.returncode == 1
    told = [text for text in done.stdout.splitlines() if text.startswith("demo: ")]
    assert len(told) == 1
    assert line in told[0]
    assert "Traceback" not in done.stdout + done.stderr
