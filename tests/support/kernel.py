"""The kernel's own view of a sound image, for comparisons; nothing is ever written to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagelib.kernel import unmount
from support.rights import may_mount


def lacking() -> str | None:
    """Return why images cannot be mounted by the kernel here, None when they can."""
    if os.geteuid() != 0:
        return "needs root to mount by the kernel"
    if not may_mount():
        return "root without the right to mount (CAP_SYS_ADMIN)"
    for tool in ("mkfs.xfs", "losetup", "mount"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    if "\txfs\n" not in Path("/proc/filesystems").read_text():
        return "needs the kernel's xfs"
    return None


@contextmanager
def seen_by_kernel(image: Path, folder: Path) -> Iterator[Path]:
    """Mount a sound image read-only, its log left alone, for the time of the block."""
    folder.mkdir(exist_ok=True)
    options = "loop,ro,norecovery,nouuid"
    subprocess.run(["mount", "-t", "xfs", "-o", options, image, folder], check=True)
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """Attach an image to a read-only loop device for the time of the block."""
    command = ["losetup", "--read-only", "--find", "--show", str(image)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
