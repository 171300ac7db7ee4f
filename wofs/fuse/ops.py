"""The FUSE operations: they translate between pyfuse3 and a mounted image, nothing more.

A node id is the inode number (1 stands for the root), a file handle too: no table is kept,
`forget` has nothing to do, and any process could answer any request.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, ReaddirToken

from wofs.errors import BadField, ImageError, IsDir, NotDir, NotLink
from wofs.fuse.errmap import ENOATTR_UNSUPPORTED, NOT_IMPLEMENTED, answering
from wofs.ondisk.dir import MODE_OF_FTYPE
from wofs.xfs.dir import Entry
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

FOREVER_SECONDS = 1e6
"""The image does not change: the kernel may keep what it was told."""

_SELINUX = b"security.selinux"
_DIRECTORY, _REGULAR = 4, 8
_BATCH = 256
"""Entries whose inodes are read at once; a request of 32 KiB takes about 200."""


class Operations(pyfuse3.Operations):
    """Answers the kernel's requests from a mounted image."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(self, mounted: Mount) -> None:
        super().__init__()
        self._m = mounted
        self.enable_acl = bool(mounted.geo.has_attr)
        self._labelled = False

    def report(self, error: ImageError) -> None:
        """Log a damaged object once."""
        self._m.report(error)

    # ---- numbers
    def _ino(self, node: int) -> int:
        return self._m.geo.rootino if node == pyfuse3.ROOT_INODE else node

    def _inode(self, node: int) -> Inode:
        return self._m.inodes.get(self._ino(node))

    def _attributes(self, inode: Inode) -> EntryAttributes:
        """Fill the kernel's view of an inode; owners as the mount's options say."""
        m = self._m
        entry = EntryAttributes()
        root = inode.ino == m.geo.rootino
        entry.st_ino = InodeT(pyfuse3.ROOT_INODE if root else inode.ino)
        entry.generation = inode.gen
        entry.entry_timeout = FOREVER_SECONDS
        entry.attr_timeout = FOREVER_SECONDS
        entry.st_mode = pyfuse3.ModeT(inode.mode)
        entry.st_nlink = inode.nlink
        uid, gid = m.options.uid, m.options.gid
        entry.st_uid = inode.uid if uid < 0 else uid
        entry.st_gid = inode.gid if gid < 0 else gid
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size
        entry.st_blksize = m.geo.blocksize
        entry.st_blocks = inode.nblocks << (m.geo.blocklog - 9)
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry

    def _named(self, parent: Inode, entry: Entry, inode: Inode) -> Inode:
        """Hold an inode against the entry that led to it."""
        _, ino, ftype, name = entry
        expected = MODE_OF_FTYPE.get(ftype)
        where = self._m.where(f"directory {parent.ino} entry {name!r}")
        if expected is not None and inode.type != expected:
            raise BadField(where, f"says file type {ftype}", expected, f"inode type {inode.type}")
        if inode.nlink == 0:
            raise BadField(where, f"leads to inode {ino}, which has no links")
        if inode.type == _DIRECTORY:
            self._refuse_loop(parent, inode, name)
        return inode

    def _refuse_loop(self, parent: Inode, inode: Inode, name: bytes) -> None:
        """Refuse a directory that lies somewhere else too: its '..' tells."""
        up = self._m.dirs.parent(inode)
        if up != parent.ino or inode.ino in (parent.ino, self._m.geo.rootino):
            where = self._m.where(f"directory {inode.ino}", field="'..'")
            raise BadField(where, f"reached as {name!r}", expected=parent.ino, found=up)

    # ---- names and attributes
    @answering
    async def lookup(
        self, parent_inode: InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        """Find a name; an absent one is cached by the kernel as absent."""
        parent = self._inode(parent_inode)
        if name == b".":
            return self._attributes(parent)
        if name == b"..":
            return self._attributes(self._m.inodes.get(self._m.dirs.parent(parent)))
        try:
            entry = self._m.dirs.lookup(parent, name)
        except FileNotFoundError:
            absent = EntryAttributes()
            absent.st_ino = InodeT(0)
            absent.entry_timeout = FOREVER_SECONDS
            return absent
        inode = self._m.inodes.get(entry[1])
        return self._attributes(self._named(parent, entry, inode))

    @answering
    async def getattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        """Return attributes; the root shows the number the kernel shows."""
        found = self._inode(inode)
        entry = self._attributes(found)
        entry.st_ino = InodeT(found.ino)
        return entry

    @answering
    async def readlink(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        return self._m.links.target(self._inode(inode))

    @answering
    async def getxattr(self, inode: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an attribute's value.

        Where no inode can have any, the kernel is told once. As long as neither the root nor
        an inode met so far is labelled, `security.selinux` is answered as unsupported: `ls`
        then asks once for the mount, not once for each file.
        """
        if not self._m.geo.has_attr:
            raise FUSEError(NOT_IMPLEMENTED)
        found = self._inode(inode)
        if name == _SELINUX and not self._labelled and not self._m.attrs.has_any(found):
            raise FUSEError(ENOATTR_UNSUPPORTED)
        value = self._m.attrs.get(found, name)
        self._labelled = self._labelled or name == _SELINUX
        return value

    @answering
    async def listxattr(
        self, inode: InodeT, ctx: pyfuse3.RequestContext
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """Return the names of an inode's attributes; trusted ones to root only."""
        names = self._m.attrs.names(self._inode(inode))
        if ctx.uid != 0:
            names = [name for name in names if not name.startswith(b"trusted.")]
        return [pyfuse3.XAttrNameT(name) for name in names]

    @answering
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Count blocks and inodes as the superblock has them."""
        sb, geo = self._m.sb, self._m.geo
        stat = pyfuse3.StatvfsData()
        stat.f_bsize = stat.f_frsize = geo.blocksize
        stat.f_blocks = sb.dblocks - (sb.logblocks if sb.logstart else 0)
        stat.f_bfree = stat.f_bavail = min(sb.fdblocks, stat.f_blocks)
        stat.f_ffree = stat.f_favail = (stat.f_bfree << geo.inopblog) + sb.ifree
        stat.f_files = (stat.f_bfree << geo.inopblog) + sb.icount
        stat.f_namemax = 255
        return stat

    @answering
    async def access(self, inode: InodeT, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Never asked: the kernel checks by the modes (default_permissions)."""
        return True

    # ---- directories
    @answering
    async def opendir(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileHandleT:
        """Return the inode number as the handle."""
        found = self._inode(inode)
        if found.type != _DIRECTORY:
            raise NotDir(f"inode {found.ino} is no directory")
        return FileHandleT(inode)

    @answering
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Fill one reply with entries and their attributes, behind cookie `start_id`."""
        directory = self._inode(fh)
        while batch := self._m.dirs.batch(directory, start_id)[:_BATCH]:
            inodes = self._m.inodes.get_many([entry[1] for entry in batch])
            for entry, inode in zip(batch, inodes, strict=True):
                shown = self._shown(directory, entry, inode)
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(entry[3]), shown, entry[0]):
                    return
            start_id = batch[-1][0]

    def _shown(self, directory: Inode, entry: Entry, inode: Inode | ImageError) -> EntryAttributes:
        """Return what a listing shows of an entry; a damaged one shows its name alone.

        Its attributes are then not to be kept, so that using it fails with its error.
        """
        try:
            if isinstance(inode, ImageError):
                raise inode
            return self._attributes(self._named(directory, entry, inode))
        except ImageError as error:
            self.report(error)
            damaged = EntryAttributes()
            damaged.st_ino = InodeT(entry[1])
            damaged.st_mode = pyfuse3.ModeT(MODE_OF_FTYPE.get(entry[2], _REGULAR) << 12)
            damaged.entry_timeout = damaged.attr_timeout = 0
            return damaged

    # ---- data
    @answering
    async def open(self, inode: InodeT, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        """Open a regular file; what the kernel has cached of it stays good."""
        found = self._inode(inode)
        if found.type == _DIRECTORY:
            raise IsDir(f"inode {found.ino} is a directory")
        if found.type != _REGULAR:
            raise NotLink(f"inode {found.ino} has no data")
        self._m.maps.extents(found)
        return FileInfo(fh=FileHandleT(inode), keep_cache=True)

    @answering
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Return data of a file."""
        return self._m.data.read(self._inode(fh), off, size)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing is kept for a node, so nothing is forgotten."""
