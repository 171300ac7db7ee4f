"""A server that decodes nothing: what pyfuse3 and the kernel alone cost.

    python -m benchlib.ceiling IMAGE DIR     says "ready" once it serves

It answers the same requests for the same tree as wofs, by the same loop, but every reply was
made before the first request: attributes, listings, link targets, and where data lies.
"""

from __future__ import annotations

import bisect
import errno
import gc
import os
import sys
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FUSEError,
    InodeT,
    ReaddirToken,
    RequestContext,
)

import wofs
from wofs.errors import ImageError
from wofs.fs.stat import DIR, LNK, REG, stat_of
from wofs.fuse import loop
from wofs.fuse.session import READ_AHEAD_KB
from wofs.xfs.inode import Inode

ROOT = 1
FOREVER_S = 1e6


class Replies:
    """Every reply there can be, by inode number; the root has the number 1."""

    def __init__(self, image: str) -> None:
        self.attributes: dict[int, EntryAttributes] = {}
        self.listings: dict[int, list[tuple[bytes, EntryAttributes]]] = {}
        self.links: dict[int, bytes] = {}
        self.places: dict[int, tuple[list[int], list[int | None]]] = {}
        with wofs.open(image) as fs:
            self._image = fs.root.image
            root = self._image.tree.root()
            self.attributes[ROOT] = self._attributes(root)
            pending = [(ROOT, root)]
            while pending:
                number, directory = pending.pop()
                pending += self._list(number, directory)

    def _list(self, number: int, directory: Inode) -> list[tuple[int, Inode]]:
        """Make the listing of a directory; return its subdirectories."""
        rows: list[tuple[bytes, EntryAttributes]] = []
        below = []
        for batch in self._image.tree.listing(directory):
            for entry, inode in zip(batch.entries, batch.inodes(), strict=True):
                if isinstance(inode, ImageError):
                    raise inode
                ino, kind = inode.ino, inode.mode >> 12
                out = self.attributes.setdefault(ino, self._attributes(inode))
                rows.append((entry[3], out))
                if kind == DIR:
                    below.append((ino, inode))
                elif kind == LNK:
                    self.links[ino] = self._image.mount.links.target(inode)
                elif kind == REG and ino not in self.places:
                    pieces = list(self._image.mount.data.pieces(inode, 0, inode.size))
                    self.places[ino] = [p[0] for p in pieces], [p[1] for p in pieces]
        self.listings[number] = rows
        return below

    def _attributes(self, inode: Inode) -> EntryAttributes:
        out, stat = EntryAttributes(), stat_of(self._image.mount.geo, inode)
        out.entry_timeout = out.attr_timeout = FOREVER_S
        out.st_ino, out.generation, out.st_mode = stat.st_ino, stat.st_gen, stat.st_mode
        out.st_nlink, out.st_uid, out.st_gid = stat.st_nlink, stat.st_uid, stat.st_gid
        out.st_rdev, out.st_size, out.st_blocks = stat.st_rdev, stat.st_size, stat.st_blocks
        out.st_blksize = stat.st_blksize
        out.st_atime_ns, out.st_mtime_ns = stat.st_atime_ns, stat.st_mtime_ns
        out.st_ctime_ns = stat.st_ctime_ns
        return out


class Ceiling(pyfuse3.Operations):
    """Hands out what `Replies` has."""

    enable_writeback_cache = False

    def __init__(self, replies: Replies, fd: int) -> None:
        super().__init__()
        self._replies = replies
        self._fd = fd
        self._file = FileInfo(keep_cache=True)

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        return self._replies.attributes[inode]

    async def lookup(
        self, parent_inode: InodeT, name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Find a name; only the first of a cold path is asked for."""
        for found, attributes in self._replies.listings[parent_inode]:
            if found == name:
                return attributes
        raise FUSEError(errno.ENOENT)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> InodeT:
        """Return the inode number as handle."""
        return inode

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Fill a reply; a cookie is the number of entries before it."""
        rows, reply = self._replies.listings[fh], pyfuse3.readdir_reply
        for at in range(start_id, len(rows)):
            name, attributes = rows[at]
            if not reply(token, name, attributes, at + 1):
                return

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        """Return the target of a link."""
        return self._replies.links[inode]

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        """There are none, and the kernel need not ask again."""
        raise FUSEError(errno.ENOSYS)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """Return the inode number as handle."""
        self._file.fh = inode
        return self._file

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Read from the image where the file is known to lie."""
        length = self._replies.attributes[fh].st_size
        starts, sources = self._replies.places[fh]
        parts, end = [], min(off + size, length)
        while off < end:
            at = bisect.bisect_right(starts, off) - 1
            stop = min(end, starts[at + 1] if at + 1 < len(starts) else end)
            source = sources[at]
            if source is None:
                parts.append(bytes(stop - off))
            else:
                parts.append(os.pread(self._fd, stop - off, source + off - starts[at]))
            off = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing to forget."""

    async def release(self, fh: FileHandleT) -> None:
        """Nothing to close."""

    async def releasedir(self, fh: FileHandleT) -> None:
        """Nothing to close."""


def main() -> None:
    """Serve until unmounted."""
    image, top = sys.argv[1:3]
    replies = Replies(image)
    fd = os.open(image, os.O_RDONLY)
    pyfuse3.init(Ceiling(replies, fd), top, {"ro", "default_permissions", "fsname=ceiling"})
    gc.freeze()

    def settled() -> None:
        number = os.stat(top).st_dev
        knob = f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb"
        with open(knob, "w", encoding="ascii") as file:
            file.write(str(READ_AHEAD_KB))
        print("ready", flush=True)

    try:
        loop.run(settled)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
