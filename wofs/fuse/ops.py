"""The FUSE operations: they translate between pyfuse3 and a mounted image, nothing more.

A node id is the inode number, 1 standing for the root (inode 1 would lie in the superblock's
block); a file handle is the inode number too. So no table is kept, `forget` has nothing to do
and any process could answer any request. Requests that would write do not arrive: the mount
is read-only for the kernel, which answers EROFS itself. Root can remount it writable; then
EROFS is our answer (`wofs.fuse.readonly`). `access` is left unserved: with default_permissions the
kernel decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain

from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FUSEError,
    InodeT,
    ReaddirToken,
    RequestContext,
    StatvfsData,
    XAttrNameT,
    readdir_reply,
)

from wofs.errors import ImageError, IsDir, NotDir, NotFound
from wofs.fs.info import MAX_NAME_BYTES, statfs
from wofs.fs.stat import BLK, CHR, DIR, PAGE_BYTES, REG
from wofs.fs.tree import Tree
from wofs.fuse.errmap import NAME_TOO_LONG, READ_ONLY, STALE
from wofs.fuse.handler import answering, log_once
from wofs.fuse.listing import Listings
from wofs.fuse.readonly import ReadOnly
from wofs.fuse.xattrs import XattrPolicy
from wofs.ondisk.dir import MODE_OF_FTYPE
from wofs.xfs.dir import Entry
from wofs.xfs.geometry import valid_ino
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

FOREVER_S = 1e6
"""The image does not change: the kernel may keep what it was told."""

ROOT = 1
_DEVICES = frozenset({CHR, BLK})
NOBODYS = 1 << 63
"""Added to an inode number gives a node that no inode of an image has."""

_CLAIMS_KEPT = 100_000


class Operations(ReadOnly):
    """Answers the kernel's requests from a mounted image."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, mounted: Mount) -> None:
        super().__init__()
        self._mounted = mounted
        self._tree = Tree(mounted)
        self._xattrs = XattrPolicy(mounted)
        self._listings = Listings(self._tree, self._xattrs)
        self._claims: dict[int, int] = {}
        # pyfuse3 copies a reply before the next request: one object of each kind will do.
        self._entry = EntryAttributes()
        self._entry.entry_timeout = self._entry.attr_timeout = FOREVER_S
        self._passing = EntryAttributes()
        self._passing.entry_timeout = self._passing.attr_timeout = 0
        self._absent = EntryAttributes()
        self._absent.st_ino = 0
        self._absent.entry_timeout = FOREVER_S
        self._file = FileInfo(keep_cache=True)

    def report(self, error: ImageError) -> None:
        """Log a damaged object once."""
        self._mounted.report(error)

    def place(self, node: int | None) -> str:
        """Return what a log line calls the inode of a node id; the image, if it is None."""
        m = self._mounted
        if node is None:
            return m.device.name
        return str(m.where(f"inode {m.geo.rootino if node == ROOT else node}"))

    # ---- nodes
    def _inode(self, node: int) -> Inode:
        """Return the inode of a node id or handle."""
        m = self._mounted
        return m.inodes.get(m.geo.rootino if node == ROOT else node)

    def _handled(self, node: int) -> Inode:
        """Return the inode that a file handle names, kept by somebody for who knows how long.

        That there is none (any more) is no damage (`xfs_export.c: xfs_nfs_get_inode`).
        """
        m = self._mounted
        if node != ROOT and (not valid_ino(m.geo, node) or m.inodes.inobt.problem(node)):
            raise FUSEError(STALE)
        return self._inode(node)

    def _directory(self, node: int) -> Inode:
        """Return a directory about to be entered, proved to belong where it was listed."""
        inode = self._inode(node)
        if inode.mode >> 12 != DIR:
            raise NotDir(f"inode {inode.ino} is no directory")
        parent = self._claims.get(inode.ino)
        if parent is not None:
            self._tree.enter(parent, inode)
            del self._claims[inode.ino]
        return inode

    def _filler(self) -> Callable[[EntryAttributes, Inode], EntryAttributes]:
        """Return what fills in the kernel's view of an inode (`fs.stat.stat_of` says the same).

        It has read geometry and options, once for all entries of a request, and serves that
        request alone.
        """
        geo, options = self._mounted.geo, self._mounted.options
        all_uid, all_gid, sectors_log = options.uid, options.gid, geo.blocklog - 9
        blksize = max(PAGE_BYTES, geo.blocksize)

        def fill(out: EntryAttributes, inode: Inode) -> EntryAttributes:
            mode = inode.mode
            out.st_ino = inode.ino
            out.generation = inode.gen
            out.st_mode = mode
            out.st_nlink = inode.nlink
            out.st_uid = inode.uid if all_uid < 0 else all_uid
            out.st_gid = inode.gid if all_gid < 0 else all_gid
            out.st_rdev = inode.rdev
            out.st_size = inode.size
            out.st_blksize = PAGE_BYTES if mode >> 12 in _DEVICES else blksize
            out.st_blocks = inode.nblocks << sectors_log
            out.st_atime_ns = inode.atime_ns
            out.st_mtime_ns = inode.mtime_ns
            out.st_ctime_ns = inode.ctime_ns
            return out

        return fill

    def _fill(self, out: EntryAttributes, inode: Inode) -> EntryAttributes:
        """Fill in the kernel's view of one inode."""
        return self._filler()(out, inode)

    def _node(self, inode: Inode) -> EntryAttributes:
        """Return the reply to a lookup that led to `inode`.

        The root as somebody's '..' (NFS asks for it) must be node 1 of generation 0; its
        number is wrong there, so it is not to be kept.
        """
        if inode.ino != self._mounted.geo.rootino:
            return self._fill(self._entry, inode)
        root = self._fill(self._passing, inode)
        root.st_ino = ROOT
        root.generation = 0
        return root

    # ---- names and attributes
    @answering
    def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find a name; that one is absent is kept by the kernel as well."""
        if name == b".":
            return self._node(self._handled(parent_inode))
        if len(name) > MAX_NAME_BYTES:
            raise FUSEError(NAME_TOO_LONG)
        directory = self._directory(parent_inode)
        if name == b"..":
            return self._node(self._inode(self._mounted.dirs.parent(directory)))
        try:
            inode = self._tree.child(directory, name)
        except NotFound:
            return self._absent
        self._claims.pop(inode.ino, None)  # the child was proved to lie here
        return self._node(inode)

    @answering
    def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return attributes; the root has the number it has in the image."""
        return self._fill(self._entry, self._inode(inode))

    @answering
    def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        return self._mounted.links.target(self._inode(inode))

    @answering
    def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        """Return an attribute's value; ENODATA if there is none of that name."""
        return self._xattrs.get(self._inode(inode), name)

    @answering
    def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """Return the names of all attributes the caller may see."""
        return self._xattrs.names(self._inode(inode), ctx.uid)

    @answering
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return the counts the kernel's own mount shows."""
        counts, out = statfs(self._mounted), StatvfsData()
        out.f_bsize, out.f_frsize = counts.f_bsize, counts.f_frsize
        out.f_blocks, out.f_bfree, out.f_bavail = counts.f_blocks, counts.f_bfree, counts.f_bavail
        out.f_files, out.f_ffree, out.f_favail = counts.f_files, counts.f_ffree, counts.f_favail
        out.f_namemax = counts.f_namemax
        return out

    # ---- directories
    @answering
    def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Prove the directory's place; its inode number is the handle."""
        return self._directory(inode).ino

    @answering
    def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Fill a reply with the entries from cookie `start_id` on, with their attributes.

        After damage, all that is sound is listed; then the error is the answer.
        """
        directory = self._inode(fh)
        listing = self._listings.take(directory, start_id)
        rows = listing.rows if listing.back is None else chain((listing.back,), listing.rows)
        listing.back = None
        fill, reply, out = self._filler(), readdir_reply, self._entry
        start = start_id
        try:
            for entry, inode, following in rows:
                if not isinstance(inode, Inode):
                    full = not reply(token, entry[3], self._unread(entry, inode), following)
                elif inode.mode >> 12 == DIR:
                    place = self._listed(directory, inode)
                    full = not reply(token, entry[3], fill(place, inode), following)
                else:
                    full = not reply(token, entry[3], fill(out, inode), following)
                if full:
                    listing.back = entry, inode, following
                    break
                start = following
        except OSError:
            if start == start_id:
                raise
            return  # the reply holds what was read; who asks on meets the error
        self._listings.note(directory, listing)
        if start != start_id or listing.back:
            # Kept at its end too: the kernel asks once more to hear that nothing follows.
            self._listings.keep(directory, start, listing)
        else:
            self._listings.end(directory)

    def _unread(self, entry: Entry, problem: Exception | None) -> EntryAttributes:
        """Return what a listing shows where no inode was read: a name, its number and type.

        The kernel may not keep it: the first use asks again and meets the problem. Its node is
        nobody's: the inode itself may be sound in another place, where the kernel would take
        this for another life of it and refuse it from then on (`fuse_stale_inode`). Of '.' and
        '..' (which have no problem) it uses number and type alone.
        """
        if isinstance(problem, ImageError):
            self.report(problem)
        elif problem is not None:
            log_once(self.place(entry[1]), "readdir", problem)
        out = self._passing
        out.st_ino = entry[1] if problem is None else entry[1] | NOBODYS
        out.st_mode = MODE_OF_FTYPE.get(entry[2], REG) << 12
        out.generation = out.st_size = out.st_blocks = 0
        out.st_nlink = 1
        return out

    def _listed(self, parent: Inode, inode: Inode) -> EntryAttributes:
        """Return what a listing of `parent` uses for a directory in it, to be filled.

        Its '..' lies in its first block, which is not read for a listing's sake: the place is
        noted, and proved when the directory is entered. Where two places claim it, and for the
        root, the kernel is made to look the name up first, which proves it too.
        """
        claims, ino = self._claims, inode.ino
        if self._mounted.protects_all:
            return self._proved(parent, inode)
        claimed = claims.get(ino)
        if claimed is None and len(claims) < _CLAIMS_KEPT and ino != self._mounted.geo.rootino:
            claims[ino] = claimed = parent.ino
        return self._entry if claimed == parent.ino else self._passing

    def _proved(self, parent: Inode, inode: Inode) -> EntryAttributes:
        """Return what is used for a directory in a listing, its place proved at once.

        A note of what is still to be proved would steer an answer from ordinary memory.
        """
        if inode.ino == self._mounted.geo.rootino:
            return self._passing
        try:
            self._tree.enter(parent.ino, inode)
        except (ImageError, OSError):
            return self._passing  # its lookup meets the error, which is the one to answer with
        return self._entry

    # ---- data
    @answering
    def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file whose extent map is sound; what is cached of its data stays good."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise FUSEError(READ_ONLY)
        found = self._inode(inode)
        if found.mode >> 12 == DIR:
            raise IsDir(f"inode {found.ino} is a directory")
        self._mounted.maps.extents(found)
        self._file.fh = found.ino
        return self._file

    @answering
    def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Return data, fewer bytes only at the end of the file."""
        return self._mounted.data.read(self._inode(fh), off, size)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing is kept for a node, so nothing is forgotten."""

    async def release(self, fh: FileHandleT) -> None:
        """Nothing is kept for an open file."""

    async def releasedir(self, fh: FileHandleT) -> None:
        """Nothing is kept for an open directory."""
