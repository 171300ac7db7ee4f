"""What the server does for find, tar and random reads, without FUSE: to be counted, not timed.

    python -m benchlib.slabcounted IMAGE PROTECT WORKLOAD TIMES

A time has the machine in it; the instructions of the same work on the same image are the same
each time. `tools/bench slab` runs this under valgrind, which counts them, for one repetition and
for more: the difference is the work's own, without start and mount. What memory itself costs (a
page's first touch, the TLB) is not in it; for that there is the clock.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pyfuse3 import EntryAttributes, FileHandleT, InodeT, RequestContext

from wofs.device import open_device
from wofs.fs.stat import DIR, REG
from wofs.fuse.listing import Listing
from wofs.fuse.ops import Operations
from wofs.xfs.inode import Inode
from wofs.xfs.mount import mount
from wofs.xfs.options import memory_of, mount_options

REQUEST_BYTES = 128 << 10
RANDOM_READS = 4000
_NOBODY = RequestContext()

T = TypeVar("T")
Files = list[tuple[int, int]]
"""(inode number, size) of regular files."""


def answer(request: Coroutine[Any, Any, T]) -> T:
    """Return what a handler answers; ours never wait for anything."""
    try:
        request.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise RuntimeError("a handler waits")


def find(server: Operations) -> Files:
    """List every directory with all attributes; return the regular files."""
    files: Files = []
    pending, out = [1], EntryAttributes()
    while pending:
        opened = answer(server.opendir(InodeT(pending.pop()), _NOBODY))
        directory, fill = server._inode(opened), server._filler()
        for entry, inode, _ in Listing(server._tree, server._xattrs, directory, 0).rows:
            if inode is None:  # '.' or '..'
                continue
            if not isinstance(inode, Inode):
                raise RuntimeError(f"{entry[3]!r}: {inode}")
            kind = inode.mode >> 12
            fill(server._listed(directory, inode) if kind == DIR else out, inode)
            if kind == DIR:
                pending.append(inode.ino)
            elif kind == REG:
                files.append((inode.ino, inode.size))
    return files


def _read(server: Operations, ino: int, offset: int, size: int) -> None:
    got = answer(server.read(FileHandleT(ino), offset, size))
    if len(got) != size:
        raise RuntimeError(f"inode {ino}: {len(got)} bytes at {offset}, expected {size}")


def tar(server: Operations, files: Files) -> None:
    """Open and read every file, in requests as large as the kernel's."""
    for ino, size in files:
        answer(server.open(InodeT(ino), os.O_RDONLY, _NOBODY))
        for offset in range(0, size, REQUEST_BYTES):
            _read(server, ino, offset, min(REQUEST_BYTES, size - offset))


def reads(server: Operations, files: Files) -> None:
    """Read pages of the largest file in an order that is always the same."""
    order = random.Random(1)
    ino, size = max(files, key=lambda file: file[1])
    answer(server.open(InodeT(ino), os.O_RDONLY, _NOBODY))
    for _ in range(RANDOM_READS):
        _read(server, ino, order.randrange(size // 4096) * 4096, 4096)


WORK: dict[str, Callable[[Operations, Files], object]] = {
    "find": lambda server, _files: find(server),
    "tar": tar,
    "random": reads,
}


def work(image: str, protect: str, name: str, times: int) -> None:
    """Do a workload some times over, after once listing everything."""
    slab, protect = memory_of("", protect)
    mounted = mount(open_device(image), mount_options(protect=protect), slab=slab)
    server = Operations(mounted)
    gc.collect()
    gc.disable()  # its turns come by what else the process has allocated
    files = find(server)
    for _ in range(times):
        WORK[name](server, files)
    mounted.close()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
