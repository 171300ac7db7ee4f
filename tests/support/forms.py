"""Which forms an image holds: of directories, files, symlinks, attributes, inodes, chunks."""

from __future__ import annotations

from collections.abc import Iterator

from wofs.fs import Filesystem
from wofs.ondisk import inode as disk
from wofs.ondisk.dir import MAGIC_ATTR_LEAF, MAGIC_BLOCK, MAGIC_LEAF1, MAGIC_LEAFN
from wofs.xfs.bmap import Fork
from wofs.xfs.geometry import fsb_to_byte
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

_LOCAL, _BTREE = 1, 3
_DIR, _REG, _LNK = 4, 8, 10
_INDEX = {MAGIC_LEAF1: "leaf", MAGIC_LEAFN: "leafn", MAGIC_ATTR_LEAF: "leaf"}
_LEVEL_OFFSET = 58  # of an index node


def forms(filesystem: Filesystem) -> set[str]:
    """Return the forms of all that can be reached, and of the inode chunks."""
    mount = filesystem.mount
    found = set(_of_chunks(mount))
    seen: set[int] = set()
    todo = [filesystem.root]
    while todo:
        path = todo.pop()
        st = path.lstat()
        if st.st_ino in seen:
            continue
        seen.add(st.st_ino)
        inode = mount.inodes.get(st.st_ino)
        found |= {*_of_inode(mount, inode), *_of_attributes(mount, inode)}
        values = path.xattrs(follow_symlinks=False).values()
        if any(len(value) > mount.geo.blocksize for value in values):
            found.add("attributes: remote value")
        if inode.type == _DIR:
            found.add("directory: " + _directory(mount, inode))
            todo += path.iterdir()
    return found


def _of_chunks(mount: Mount) -> Iterator[str]:
    for agno, agi in enumerate(mount.agi):
        assert agi is not None
        table = mount.inodes.inobt.table(agno)
        assert table is not None
        if any(table.holemask):
            yield "sparse chunk"
        yield f"inode btree: {agi.level} levels"


def _of_inode(mount: Mount, inode: Inode) -> Iterator[str]:
    yield "times: wide" if inode.flags2 & disk.DIFLAG2_BIGTIME else "times: old"
    yield "counters: wide" if inode.flags2 & disk.DIFLAG2_NREXT64 else "counters: old"
    if inode.type == _LNK:
        yield "symlink: local" if inode.format == _LOCAL else "symlink: remote"
    if inode.type != _REG:
        return
    extents = mount.maps.extents(inode)
    if inode.format == _BTREE:
        yield f"file: btree of {int.from_bytes(inode.dfork[:2], 'big')} levels"
    else:
        yield "file: extents" if len(extents) else "file: empty"
    if any(extents.unwritten):
        yield "unwritten extent"
    if inode.flags2 & disk.DIFLAG2_REFLINK:
        yield "shared extents"
        if any(extents.unwritten):
            yield "shared and unwritten extents"


def _of_attributes(mount: Mount, inode: Inode) -> Iterator[str]:
    if not inode.forkoff:
        return
    if inode.aformat == _LOCAL:
        yield "attributes: shortform"
    elif inode.anextents:
        yield "attributes: " + _index(mount, inode, "attr", 0)
        if inode.aformat == _BTREE:
            yield "attributes: btree fork"


def _directory(mount: Mount, inode: Inode) -> str:
    if inode.format == _LOCAL:
        return "shortform"
    fork = ", btree fork" if inode.format == _BTREE else ""
    if _start(mount, inode, "data", 0)[:4] == MAGIC_BLOCK:
        return "block" + fork
    free_at, extents = mount.geo.dir_free_dablk, mount.maps.extents(inode)
    free = sum(count for start, _, count, _ in extents if start >= free_at)
    several = ", several free blocks" if free > mount.geo.dirblk_fsbs else ""
    return _index(mount, inode, "data", mount.geo.dir_leaf_dablk) + fork + several


def _index(mount: Mount, inode: Inode, fork: Fork, dablk: int) -> str:
    """Return the form of the index whose root is block `dablk` of the fork."""
    head = _start(mount, inode, fork, dablk)
    name = _INDEX.get(head[8:10])
    if name is not None:
        return name
    level = int.from_bytes(head[_LEVEL_OFFSET : _LEVEL_OFFSET + 2], "big")
    return f"node of {level} levels"


def _start(mount: Mount, inode: Inode, fork: Fork, dablk: int) -> bytes:
    fsblock = mount.maps.extents(inode, fork).block_at(dablk)
    assert fsblock is not None
    return mount.device.pread(fsb_to_byte(mount.geo, fsblock), 64)
