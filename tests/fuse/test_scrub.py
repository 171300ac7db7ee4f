"""What protection cannot stop is found by comparing, and ends the server as loudly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fuse

pytestmark = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

SERVER = """
import gc, os, sys, threading, time
from wofs.cli.main import main
from wofs.slab import address_of
from wofs.xfs.mount import Mount

def strike():
    while not os.path.ismount({mountpoint!r}):
        time.sleep(0.02)
    os.listdir({mountpoint!r})
    gc.unfreeze()
    (mounted,) = [thing for thing in gc.get_objects() if isinstance(thing, Mount)]
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(address_of(mounted.agf[2], "freeblks"))
        memory.write(b"\\xff")
    print("written", mounted.agf[2].freeblks, flush=True)
    {then}

threading.Thread(target=strike, daemon=True).start()
sys.exit(main(["mount", "-f", "-o", {options!r}, {image!r}, {mountpoint!r}]))
"""
UNMOUNT = "import subprocess; subprocess.run(['umount', {mountpoint!r}], check=True)"


def serve(
    image: Path, mountpoint: Path, options: str, then: str
) -> subprocess.CompletedProcess[str]:
    """Serve until the server ends by itself; memory is written behind its protection meanwhile."""
    mountpoint.mkdir()
    script = SERVER.format(
        image=str(image),
        mountpoint=str(mountpoint),
        options=options,
        then=then.format(mountpoint=str(mountpoint)),
    )
    try:
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        fuse.unmount(mountpoint)


@pytest.mark.parametrize(
    ("options", "then"),
    [("slab=mprotect,scrub=1", "time.sleep(30)"), ("slab=mprotect", UNMOUNT)],
    ids=["every-second", "at-unmount"],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="unmounts as root")
def test_a_write_by_the_kernel_is_noticed(
    image: Callable[[str], Path], tmp_path: Path, options: str, then: str
) -> None:
    done = serve(image("default"), tmp_path / "mnt", options, then)
    assert re.match(r"written \d+\n", done.stdout), done.stderr
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert "write-once memory is not what was published" in done.stderr
    assert re.search(r"changed +mount_struct agf\[2\], cache agf, page \d+, slot 2\n", done.stderr)
    assert "backend   mprotect" in done.stderr


def test_a_sound_mount_is_scrubbed_in_silence(image: Callable[[str], Path], tmp_path: Path) -> None:
    with fuse.mounted(image("default"), tmp_path / "mnt", ["-o", "scrub=1,require=memfd"]):
        time.sleep(2.5)
        assert os.listdir(tmp_path / "mnt")
