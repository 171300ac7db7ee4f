"""Extended attributes in all forms, under the names the kernel shows.

Source: `xfs_attr_leaf.c: xfs_attr3_leaf_verify, xfs_attr_shortform_verify`,
`xfs_attr_remote.c: xfs_attr3_rmt_hdr_ok`, `xfs_xattr.c`, `xfs_acl.c`.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from wofs.errors import BadField, NoXattr, Where
from wofs.ondisk import attr as disk
from wofs.ondisk.dir import ATTR_INDEX, DA_HEADER, MAGIC_NODE
from wofs.ondisk.inode import FMT_BTREE, FMT_EXTENTS, FMT_LOCAL
from wofs.xfs.bmap import ExtentMap, Maps
from wofs.xfs.buffer import Block
from wofs.xfs.dir import index
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.parse import bad
from wofs.xfs.geometry import fsb_to_daddr
from wofs.xfs.inode import Inode
from wofs.xfs.volume import Volume

ACL_NAMES = {
    b"SGI_ACL_FILE": b"system.posix_acl_access",
    b"SGI_ACL_DEFAULT": b"system.posix_acl_default",
}
_PREFIX = {0: b"user.", disk.ROOT: b"trusted.", disk.SECURE: b"security."}
_NAMESPACE = {prefix: flags for flags, prefix in _PREFIX.items()}
_ACL_VERSION = 2
_ACL_USER, _ACL_GROUP = 0x02, 0x08
_ACL_TAGS = frozenset({0x01, _ACL_USER, 0x04, _ACL_GROUP, 0x10, 0x20})
_NO_ID = 0xFFFFFFFF
_REMOTE_EXTRA_BYTES = 8
"""What a remote entry takes up beyond a local one without value
(`xfs_attr_leaf_entsize_remote`: its structure is padded to 12 bytes)."""

_EMPTY = b"\0\x04\0"
"""A shortform of its header alone: a total of four bytes, no attribute."""

Value = bytes | tuple[int, int]
"""A value, or where a remote one lies: (first attribute block, length)."""

Attr = tuple[int, bytes, Value]
"""(flags, name, value)."""


class Attributes:
    """Lists and reads extended attributes."""

    def __init__(self, vol: Volume, maps: Maps) -> None:
        self._vol = vol
        self._maps = maps

    def has_any(self, inode: Inode) -> bool:
        """Whether the inode has an attribute fork that is not empty; reads nothing."""
        if not inode.forkoff:
            return False
        if inode.aformat == FMT_LOCAL:
            return inode.afork[:3] != _EMPTY
        return inode.anextents > 0

    def names(self, inode: Inode) -> list[bytes]:
        """Return the full names of all attributes that are shown, ACLs by both their names.

        Raises the `ImageError` of a damaged attribute fork.
        """
        return [name for name, _, _ in self._shown(inode)]

    def items(self, inode: Inode) -> Iterator[tuple[bytes, bytes]]:
        """Yield the full names of all attributes that are shown, and their values.

        The fork is gone through once, where `get` searches it for each name: names whose hash is
        the same, which anybody can make by the thousand, cost no more than others. Raises as
        `names` does before anything is yielded, and the `ImageError` of a damaged value.
        """
        shown = self._shown(inode)
        first: dict[bytes, tuple[bytes, Value]] = {}  # what `get` finds, should a name come twice
        for name, stored, value in shown:
            first.setdefault(name, (stored, value))
        for name, _, _ in shown:
            stored, value = first[name]
            content = self._content(inode, value)
            if name == ACL_NAMES.get(stored):
                content = acl_to_xattr(content, self._where(inode))
            yield name, content

    def _shown(self, inode: Inode) -> list[tuple[bytes, bytes, Value]]:
        """Return (full name, stored name, value) of all attributes that are shown."""
        out = []
        for flags, name, value in self.stored(inode):
            prefix = _PREFIX.get(flags & disk.NAMESPACES)
            if prefix is None or flags & disk.INCOMPLETE:
                continue
            if flags & disk.ROOT and name in ACL_NAMES:
                out.append((ACL_NAMES[name], name, value))
            out.append((prefix + name, name, value))
        return out

    def get(self, inode: Inode, name: bytes) -> bytes:
        """Return the value of the attribute with that full name.

        Raises NoXattr, and the `ImageError` of a damaged attribute fork.
        """
        for stored, shown in ACL_NAMES.items():
            if name == shown:
                return acl_to_xattr(self._value(inode, disk.ROOT, stored, name), self._where(inode))
        prefix, _, rest = name.partition(b".")
        namespace = _NAMESPACE.get(prefix + b".")
        if namespace is None or not rest:
            raise NoXattr(f"no attribute {name!r}", name)
        return self._value(inode, namespace, rest, name)

    def _value(self, inode: Inode, namespace: int, stored: bytes, name: bytes) -> bytes:
        for flags, found, value in self._candidates(inode, stored):
            if found == stored and flags & (disk.NAMESPACES | disk.INCOMPLETE) == namespace:
                return self._content(inode, value)
        raise NoXattr(f"no attribute {name!r}", name)

    def _content(self, inode: Inode, value: Value) -> bytes:
        return value if isinstance(value, bytes) else self._remote(inode, *value)

    # ---- the forms
    def _where(self, inode: Inode, block: Block | None = None) -> Where:
        if block is None:
            return self._vol.where(f"inode {inode.ino} attr fork")
        return self._vol.where(block.obj, block.daddr, len(block.data))

    def stored(self, inode: Inode) -> Iterator[Attr]:
        """Yield every attribute of the fork, hidden ones too, under the name on disk."""
        if not self.has_any(inode):
            return
        if inode.aformat == FMT_LOCAL:
            yield from shortform(inode.afork, self._where(inode))
            return
        for leaf in self.leaves(inode):
            yield from leaf_entries(leaf)

    def leaves(self, inode: Inode) -> Iterator[IndexBlock]:
        """Yield the leaves of an attribute fork that has blocks."""
        return index.all_leaves(self._loader(inode), 0)

    def _candidates(self, inode: Inode, name: bytes) -> Iterator[Attr]:
        """Yield the attributes whose hash is that of `name` (all of a shortform)."""
        if not self.has_any(inode) or inode.aformat == FMT_LOCAL:
            yield from self.stored(inode)
            return
        hashval = da_hashname(name)
        for leaf in index.leaves_for(self._loader(inode), 0, hashval):
            yield from leaf_entries(leaf, hashval)

    def _extents(self, inode: Inode) -> ExtentMap:
        if inode.aformat not in (FMT_EXTENTS, FMT_BTREE):
            raise BadField(self._where(inode), "has no blocks")
        return self._maps.extents(inode, "attr")

    def _loader(self, inode: Inode) -> index.Loader:
        """Return the loader of the fork's index blocks."""
        extents = self._extents(inode)

        def load(dablk: int) -> IndexBlock:
            fsblock = extents.block_at(dablk)
            if fsblock is None:
                raise bad(self._where(inode), "dablk", f"{dablk:#x}", "a mapped block")
            daddr = fsb_to_daddr(self._vol.geo, fsblock)
            obj = f"inode {inode.ino} attr block {dablk:#x}"
            block = self._vol.buffers.load(ATTR_INDEX, daddr, obj, inode.ino)
            where = self._where(inode, block)
            return index.parse(block, where) if block.magic == MAGIC_NODE else leaf(block, where)

        return load

    def _remote(self, inode: Inode, blkno: int, length: int) -> bytes:
        """Collect a value that lies in blocks of its own, each with a header."""
        extents, geo = self._extents(inode), self._vol.geo
        out = b""
        while len(out) < length:
            fsblock = extents.block_at(blkno)
            if fsblock is None:
                raise bad(self._where(inode), "valueblk", f"{blkno:#x}", "a mapped block")
            obj = f"inode {inode.ino} attr value block {blkno:#x}"
            daddr = fsb_to_daddr(geo, fsblock)
            block = self._vol.buffers.load(disk.REMOTE, daddr, obj, inode.ino)
            offset, size = disk.PART(block.data, 0)
            if offset != len(out):
                raise bad(self._where(inode, block), "offset", offset, len(out))
            room = min(len(block.data) - disk.REMOTE_HEADER_BYTES, length - len(out))
            if size != room:
                raise bad(self._where(inode, block), "bytes", size, room)
            out += block.data[disk.REMOTE_HEADER_BYTES : disk.REMOTE_HEADER_BYTES + size]
            blkno += 1
        return out


def shortform(fork: bytes, where: Where) -> Iterator[Attr]:
    """Yield the attributes that lie in the inode. Raises BadField."""
    totsize, count = struct.unpack_from(">HB", fork, 0)
    if not 4 <= totsize <= len(fork):
        raise bad(where, "totsize", totsize, f"4 to {len(fork)}")
    at, out = 4, []
    for number in range(count):
        if at + 3 > totsize:
            raise bad(where, "count", count, f"{number}, which fill the fork")
        namelen, valuelen, flags = fork[at], fork[at + 1], fork[at + 2]
        name_end = at + 3 + namelen
        if not namelen or name_end + valuelen > totsize:
            raise bad(where, f"attribute {number} namelen", namelen, f"inside {totsize} bytes")
        _check_flags(flags & ~disk.LOCAL, number, where)
        name = fork[at + 3 : name_end]
        _check_name(name, number, where)
        out.append((flags, name, fork[name_end : name_end + valuelen]))
        at = name_end + valuelen
    if at != totsize:
        raise bad(where, "totsize", totsize, f"{at}, where the attributes end")
    yield from out


def _check_flags(flags: int, number: int, where: Where) -> None:
    """Allow one namespace at most and no unknown bit."""
    namespace = flags & disk.NAMESPACES
    known = disk.NAMESPACES | disk.LOCAL | disk.INCOMPLETE
    if flags & ~known or namespace & (namespace - 1):
        raise bad(where, f"attribute {number} flags", f"{flags:#x}", "one namespace, known bits")


def _check_name(name: bytes, number: int, where: Where) -> None:
    """Allow no NUL, as `xfs_attr_namecheck`."""
    if b"\0" in name:
        raise bad(where, f"attribute {number} name", repr(name), "no NUL")


def leaf(block: Block, where: Where) -> IndexBlock:
    """Parse an attribute leaf's header and hashes. Raises BadField.

    It may be empty: the kernel makes the leaf before it sets what did not fit the inode.
    """
    forw, back, _, _ = DA_HEADER(block.data, 0)
    count, usedbytes, firstused = disk.LEAF_HEADER(block.data, 0)
    size = len(block.data)
    firstused = firstused or 65536
    table_end = disk.LEAF_HEADER_BYTES + 8 * count
    if table_end > size:
        raise bad(where, "count", count, f"at most {(size - disk.LEAF_HEADER_BYTES) // 8}")
    if not table_end <= firstused <= size:
        raise bad(where, "firstused", firstused, f"{table_end} to {size}")
    if usedbytes > size - firstused:
        raise bad(where, "usedbytes", usedbytes, f"at most {size - firstused}")
    entries = disk.AttrEntry.iter(block.data, disk.LEAF_HEADER_BYTES, count)
    hashes = [hashval for hashval, _, _, _ in entries]
    index.check_order(hashes, where)
    return IndexBlock(block.data, where, 0, forw, back, hashes, ())


def leaf_entries(leaf: IndexBlock, hashval: int | None = None) -> Iterator[Attr]:
    """Yield a leaf's attributes, or only those with a given hash. Raises BadField.

    The names and values of all must be as many bytes as the leaf says: none is left out.
    """
    data, where = leaf.data, leaf.where
    low, high = 0, len(leaf.hashes)
    if hashval is not None:
        low, high = bisect_left(leaf.hashes, hashval), bisect_right(leaf.hashes, hashval)
    _, usedbytes, firstused = disk.LEAF_HEADER(data, 0)
    firstused, used = firstused or 65536, 0
    picked = disk.AttrEntry.iter(data, disk.LEAF_HEADER_BYTES + 8 * low, high - low)
    for number, (entry_hash, nameidx, flags, _) in enumerate(picked, low):
        _check_flags(flags, number, where)
        if not firstused <= nameidx < len(data) - 3:
            expected = f"{firstused} to {len(data) - 4}"
            raise bad(where, f"attribute {number} nameidx", nameidx, expected)
        name, value = _name_value(data, nameidx, flags, number, where)
        rest = len(value) if isinstance(value, bytes) else _REMOTE_EXTRA_BYTES
        used += 3 + len(name) + rest + 3 & ~3
        _check_name(name, number, where)
        if not flags & disk.PARENT and da_hashname(name) != entry_hash:
            raise bad(
                where, f"attribute {number} hashval", f"{entry_hash:#x}", f"{da_hashname(name):#x}"
            )
        yield flags, name, value
    if hashval is None and used != usedbytes:
        raise bad(where, "usedbytes", usedbytes, f"{used}, which names and values take up")


def _name_value(data: bytes, at: int, flags: int, number: int, where: Where) -> tuple[bytes, Value]:
    """Return the (name, value or its place) of the leaf entry whose name lies at `at`."""
    if flags & disk.LOCAL:
        valuelen, namelen = struct.unpack_from(">HB", data, at)
        start = at + 3
        end = start + namelen + valuelen
    else:
        if at + 9 > len(data):
            raise bad(where, f"attribute {number} nameidx", at, f"at most {len(data) - 10}")
        valueblk, valuelen, namelen = struct.unpack_from(">IIB", data, at)
        start = at + 9
        end = start + namelen
    if not namelen or end > len(data):
        raise bad(where, f"attribute {number} namelen", namelen, "a name inside the block")
    name = data[start : start + namelen]
    if flags & disk.LOCAL:
        return name, data[start + namelen : end]
    if flags & disk.INCOMPLETE:
        return name, (0, 0)
    if not valueblk:
        raise bad(where, f"attribute {number} valueblk", 0, "a block beyond the first")
    if not 0 < valuelen <= disk.MAX_VALUE_BYTES:
        expected = f"1 to {disk.MAX_VALUE_BYTES}"
        raise bad(where, f"attribute {number} valuelen", valuelen, expected)
    return name, (valueblk, valuelen)


def acl_to_xattr(stored: bytes, where: Where) -> bytes:
    """Return an ACL in the form of the system.posix_acl_* attributes.

    Source: `xfs_acl.c: xfs_acl_from_disk`, `linux/posix_acl_xattr.h`.
    """
    count = int.from_bytes(stored[:4], "big")
    if len(stored) < 4 or len(stored) - 4 < count * 12:
        raise bad(where, "acl count", count, f"at most {max(0, len(stored) - 4) // 12}")
    out = [struct.pack("<I", _ACL_VERSION)]
    for tag, ident, perm, _ in struct.iter_unpack(">IIHH", stored[4 : 4 + 12 * count]):
        if tag not in _ACL_TAGS:
            raise bad(where, "acl tag", f"{tag:#x}", "one of 1, 2, 4, 8, 16, 32")
        shown = ident if tag in (_ACL_USER, _ACL_GROUP) else _NO_ID
        out.append(struct.pack("<HHI", tag, perm, shown))
    return b"".join(out)
