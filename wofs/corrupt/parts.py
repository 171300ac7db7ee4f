"""Where the metadata of a sound image lies: every structure with its bytes and its checksum."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from wofs.check import trees
from wofs.errors import ImageError
from wofs.fs.stat import DIR, LNK
from wofs.fs.tree import Tree as Names
from wofs.ondisk import attr, dir, inode, symlink
from wofs.ondisk import features as feat
from wofs.ondisk.inode import FMT_BTREE, FMT_LOCAL
from wofs.xfs.btree import BMBT, INOBT, Tree, leaves
from wofs.xfs.geometry import agb_to_daddr, fsb_to_byte, ino_to_byte
from wofs.xfs.inode import Inode
from wofs.xfs.mount import Mount

T = TypeVar("T")

HEADERS = (("sb", 224), ("agf", 216), ("agi", 312), ("agfl", 32))
"""The headers of an AG, a sector each, in their order: kind, place of the checksum."""

AG_TREES: dict[str, tuple[Tree, str, str, str]] = {
    "inobt": (INOBT, "agi", "root", "level"),
    "finobt": (trees.FINOBT, "agi", "free_root", "free_level"),
    "bnobt": (trees.BNOBT, "agf", "bno_root", "bno_level"),
    "cntbt": (trees.CNTBT, "agf", "cnt_root", "cnt_level"),
    "rmapbt": (trees.RMAPBT, "agf", "rmap_root", "rmap_level"),
    "refcountbt": (trees.REFCOUNTBT, "agf", "refcount_root", "refcount_level"),
}
"""The btrees of an AG: its type, the header that has its root, the fields of root and height."""

KINDS = (
    *(kind for kind, _ in HEADERS),
    *AG_TREES, "inode", "bmbt", "dirdata", "dirindex", "dirfree", "attr", "value", "target",
)  # fmt: skip


_NEEDS = {
    "finobt": feat.RO_COMPAT_FINOBT,
    "rmapbt": feat.RO_COMPAT_RMAPBT,
    "refcountbt": feat.RO_COMPAT_REFLINK,
}
"""The feature without which a tree is not there."""


@dataclass(frozen=True, slots=True)
class Part:
    """One structure of an image: its bytes, and where among them its checksum lies.

    `kind` is one of KINDS (or "log", "bytes"); `owner` its inode or AG; `number` counts the
    parts of that kind of that owner; `start` is the byte on the device, `size` in bytes;
    `crc` the offset of the checksum, 0 for none.
    """

    kind: str
    owner: int
    number: int
    start: int
    size: int
    crc: int

    def __str__(self) -> str:
        if self.kind in ("bytes", "log"):
            return f"{self.kind}[{self.owner}]"
        if self.kind in AG_TREES:
            return f"{self.kind}[{self.owner}].block[{self.number}]"
        if self.kind == "inode" or self.kind in dict(HEADERS):
            return f"{self.kind}[{self.owner}]"
        return f"inode[{self.owner}].{self.kind}[{self.number}]"


Broken = Callable[[ImageError], None]
"""Told of what is damaged and hence left out."""


def parts_of(mount: Mount, broken: Broken | None = None) -> Iterator[Part]:
    """Yield all structures of an image: headers first, then inode by inode.

    A structure that lies in several extents is left out. Raises the `ImageError` of what is
    damaged; with `broken` that is told of it and the rest follows.
    """
    for agno in range(mount.geo.agcount):
        yield from headers(mount, agno)
        for kind in AG_TREES:
            yield from _sound(ag_btree(mount, agno, kind), broken)
    tree = Names(mount)
    root = tree.root()
    seen, todo = {root.ino}, [root]
    while todo:
        found = todo.pop()
        yield from _sound(of_inode(mount, found), broken)
        if found.type == DIR:
            for below in _sound(_below(tree, found, broken), broken):
                if below.ino not in seen:
                    seen.add(below.ino)
                    todo.append(below)


def _sound(found: Iterator[T], broken: Broken | None) -> Iterator[T]:
    """Yield what comes before the first damage."""
    try:
        yield from found
    except ImageError as error:
        if broken is None:
            raise
        broken(error)


def _below(tree: Names, folder: Inode, broken: Broken | None) -> Iterator[Inode]:
    """Yield the inodes that a directory's entries lead to."""
    for batch in tree.listing(folder, broken):
        for found in batch.inodes():
            if not isinstance(found, ImageError):
                yield found
            elif broken is None:
                raise found
            else:
                broken(found)


def headers(mount: Mount, agno: int) -> Iterator[Part]:
    """Yield the superblock copy and the three headers of an AG."""
    geo = mount.geo
    first = agb_to_daddr(geo, agno, 0) << 9
    for number, (kind, crc) in enumerate(HEADERS):
        yield Part(kind, agno, 0, first + number * geo.sectsize, geo.sectsize, crc)


def ag_btree(mount: Mount, agno: int, kind: str) -> Iterator[Part]:
    """Yield the blocks of one of an AG's btrees, the root first; none where there is no such."""
    geo, (tree, header, root_field, level_field) = mount.geo, AG_TREES[kind]
    head = mount.agi[agno] if header == "agi" else mount.agf[agno]
    if head is None or (kind in _NEEDS and not geo.ro_compat & _NEEDS[kind]):
        return
    root, height = getattr(head, root_field), getattr(head, level_field)
    found: set[int] = set()
    blocks = leaves(mount.buffers, geo, tree, [root], height - 1, agno, kind, visited=found)
    for _ in blocks:
        pass
    for number, agbno in enumerate(sorted(found, key=lambda at: (at != root, at))):
        start = agb_to_daddr(geo, agno, agbno) << 9
        yield Part(kind, agno, number, start, geo.blocksize, tree.kind.crc)


def of_inode(mount: Mount, found: Inode) -> Iterator[Part]:
    """Yield an inode and all blocks of metadata that belong to it."""
    geo = mount.geo
    start = ino_to_byte(geo, found.ino)
    yield Part("inode", found.ino, 0, start, geo.inodesize, inode.CRC_OFFSET)
    yield from _numbered(_blocks(mount, found))


def _blocks(mount: Mount, found: Inode) -> Iterator[Part]:
    geo = mount.geo
    for raw, fmt in ((found.dfork, found.format), (found.afork, found.aformat)):
        if fmt == FMT_BTREE and raw:
            for fsblock in sorted(_tree_blocks(mount, found, raw)):
                start = fsb_to_byte(geo, fsblock)
                yield Part("bmbt", found.ino, 0, start, geo.blocksize, BMBT.kind.crc)
    if found.type == DIR and found.format != FMT_LOCAL:
        yield from _dir_blocks(mount, found)
    if found.type == LNK and found.format != FMT_LOCAL:
        for _, fsblock, count, _ in mount.maps.extents(found):
            size = count << geo.blocklog
            start = fsb_to_byte(geo, fsblock)
            yield Part("target", found.ino, 0, start, size, symlink.SYMLINK.crc)
    if found.forkoff and found.aformat != FMT_LOCAL:
        yield from _attr_blocks(mount, found)


def _tree_blocks(mount: Mount, found: Inode, raw: bytes) -> set[int]:
    """Return the blocks of a fork's btree."""
    level, count = struct.unpack_from(">HH", raw)
    roots = struct.unpack_from(f">{count}Q", raw, 4 + 8 * ((len(raw) - 4) // 16))
    seen: set[int] = set()
    for _ in leaves(
        mount.buffers, mount.geo, BMBT, roots, level - 1, found.ino, "fork", visited=seen
    ):
        pass
    return seen


def _numbered(parts: Iterator[Part]) -> Iterator[Part]:
    counts: dict[str, int] = {}
    for part in parts:
        number = counts.get(part.kind, 0)
        counts[part.kind] = number + 1
        yield Part(part.kind, part.owner, number, part.start, part.size, part.crc)


def _dir_blocks(mount: Mount, found: Inode) -> Iterator[Part]:
    geo, per = mount.geo, mount.geo.dirblk_fsbs
    for startoff, fsblock, count, _ in mount.maps.extents(found):
        for skip in range(-startoff % per, count - per + 1, per):
            dablk = startoff + skip
            if dablk >= geo.dir_free_dablk:
                kind, crc = "dirfree", dir.DIR_FREE.crc
            elif dablk >= geo.dir_leaf_dablk:
                kind, crc = "dirindex", dir.DIR_INDEX.crc
            else:
                kind, crc = "dirdata", dir.DIR_DATA.crc
            start = fsb_to_byte(geo, fsblock + skip)
            yield Part(kind, found.ino, 0, start, geo.dirblksize, crc)


def _attr_blocks(mount: Mount, found: Inode) -> Iterator[Part]:
    geo, remote = mount.geo, attr.REMOTE
    for _, fsblock, count, _ in mount.maps.extents(found, "attr"):
        for skip in range(count):
            start = fsb_to_byte(geo, fsblock + skip)
            is_value = mount.device.pread(start, 4) in remote.magics
            kind = "value" if is_value else "attr"
            crc = remote.crc if is_value else dir.ATTR_INDEX.crc
            yield Part(kind, found.ino, 0, start, geo.blocksize, crc)
