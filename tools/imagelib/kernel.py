"""mkfs.xfs, loop devices and kernel mounts, each undone on every way out.

The kernel mounts only images that mkfs and the kernel itself made; never a damaged one.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

UUID = "5d0f5000-c0de-4000-8000-{:012x}"
"""Every image has a fixed UUID, numbered, so that rebuilding changes as little as possible."""

_GEOMETRY_V1 = 0x80705864  # XFS_IOC_FSGEOMETRY_V1


class ToolError(Exception):
    """A tool failed; the message is its command and the start of what it said."""


def run(*command: str | Path, ok: Sequence[int] = (0,)) -> str:
    """Run a tool and return what it said; raises ToolError for an exit status not in `ok`."""
    done = subprocess.run(
        [str(c) for c in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode not in ok:
        said = done.stdout.strip()[:400]  # mkfs.xfs says why, then how it is used
        raise ToolError(f"{' '.join(map(str, command))}: exit {done.returncode}: {said}")
    return done.stdout


def make_filesystem(image: Path, size_mib: int, options: Sequence[str]) -> None:
    """Make an empty filesystem in a new sparse file; `--unsupported` allows small ones."""
    image.unlink(missing_ok=True)
    with image.open("wb") as f:
        f.truncate(size_mib << 20)
    run("mkfs.xfs", "--unsupported", "-q", "-f", *options, image)


def add_features(image: Path, incompat: int) -> None:
    """Set incompatible features in every superblock; those of xfsprogs may not know them."""
    shown = run("xfs_db", "-r", "-c", "sb 0", "-c", "print agcount features_incompat", image)
    agcount, features = (int(line.split()[-1], 0) for line in shown.splitlines())
    for agno in range(agcount):
        change = f"write -d features_incompat {features | incompat:#x}"
        run("xfs_db", "-x", "-c", f"sb {agno}", "-c", change, image)


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """Attach `image` to a loop device for the time of the block."""
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def mounted(image: Path, options: Sequence[str] = (), log: Path | None = None) -> Iterator[Path]:
    """Mount `image` by the kernel for the time of the block."""
    with ExitStack() as stack:
        device = stack.enter_context(loop_device(image))
        chosen = list(options)
        if log is not None:
            chosen.append("logdev=" + stack.enter_context(loop_device(log)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wofs-image-")))
        run("mount", "-t", "xfs", *(["-o", ",".join(chosen)] if chosen else []), device, folder)
        stack.callback(unmount, folder)
        yield folder


def unmount(folder: Path) -> None:
    """Unmount; somebody looking through all mounts may keep it busy for a moment."""
    for attempt in range(20):
        try:
            run("umount", folder)
        except ToolError:
            if attempt == 19:
                raise
            time.sleep(0.2)
        else:
            return


def dig_holes(image: Path) -> None:
    """Make the file as sparse as its content allows."""
    copy = image.with_suffix(".sparse")
    run("cp", "--sparse=always", "--reflink=never", image, copy)
    copy.replace(image)


@dataclass(frozen=True)
class Geometry:
    """Sizes in bytes that decide which on-disk form a file takes."""

    block: int
    dir_block: int
    inode: int

    @property
    def fork(self) -> int:
        """Return the room for forks in an inode (V5 core: 176 bytes)."""
        return self.inode - 176

    @property
    def fork_extents(self) -> int:
        """Return how many extents fit an inode without attributes."""
        return self.fork // 16


def geometry(mountpoint: Path) -> Geometry:
    """Ask the kernel for the geometry of a mounted filesystem."""
    fd = os.open(mountpoint, os.O_RDONLY)
    try:
        answer = fcntl.ioctl(fd, _GEOMETRY_V1, bytes(112))
    finally:
        os.close(fd)
    words = struct.unpack_from("=8I", answer)
    return Geometry(words[0], struct.unpack_from("=I", answer, 104)[0], words[6])
