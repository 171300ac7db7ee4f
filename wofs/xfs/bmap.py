"""Extent maps: a fork's extents, flattened, verified and found by bisection.

Source: `xfs_bmap_btree.c: xfs_bmbt_disk_get_all`, `xfs_bmap.c: xfs_bmap_validate_extent`,
`xfs_inode_fork.c: xfs_iformat_btree`.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, MutableSequence, Sequence
from typing import Literal

from wofs.errors import BadField, ImageError, Unsupported
from wofs.ondisk import inode as disk
from wofs.xfs.btree import BMBT, MAX_STARTOFF, leaves
from wofs.xfs.geometry import MAX_TREE_LEVEL
from wofs.xfs.inode import Inode
from wofs.xfs.kept import KIND_OF, Form
from wofs.xfs.volume import Volume

CACHED_BYTES = 24 << 20
"""Most that extent maps take up; the map in use is always kept."""

_RECORD = struct.Struct(">QQ")
MAX_EXTENTS = 1 << 23
"""Most extents of one fork that are read: a map of them takes up 200 MiB."""

_MAX_COMPARED = 1 << 17
"""Most extents of one fork that are sorted to find those that overlap."""

_COUNT_MASK = (1 << 21) - 1
_LOW_BLOCK_BITS = 43

Fork = Literal["data", "attr"]
Extent = tuple[int, int, int, bool]
"""(fileoff, fsblock, count, unwritten): where in the file, where on the device, how long."""


class ExtentMap:
    """The extents of one fork in columns, ordered by file offset.

    Columns are lists while there are few: most files have one extent, and lists are made and
    read faster; of a btree's millions an array holds each in a fifth of the bytes.
    """

    __slots__ = ("count", "fsblock", "startoff", "unwritten")

    def __init__(self, many: bool = False) -> None:
        self.startoff: MutableSequence[int] = array("Q") if many else []
        self.fsblock: MutableSequence[int] = array("Q") if many else []
        self.count: MutableSequence[int] = array("L") if many else []
        self.unwritten: MutableSequence[int] = bytearray() if many else []

    def __len__(self) -> int:
        return len(self.startoff)

    def __iter__(self) -> Iterator[Extent]:
        flags = map(bool, self.unwritten)
        return zip(self.startoff, self.fsblock, self.count, flags, strict=True)

    def find(self, fileoff: int) -> int:
        """Return the index of the last extent that starts at or before `fileoff`, or -1."""
        return bisect_right(self.startoff, fileoff) - 1

    def block_at(self, fileoff: int) -> int | None:
        """Return the fsblock that holds block `fileoff` of the file; None in a hole."""
        at = self.find(fileoff)
        if at < 0 or fileoff - self.startoff[at] >= self.count[at]:
            return None
        return self.fsblock[at] + fileoff - self.startoff[at]

    @property
    def end(self) -> int:
        """The first file block after the last extent; 0 if there is none."""
        return self.startoff[-1] + self.count[-1] if len(self) else 0


def _weight(extents: ExtentMap) -> int:
    """Return about how many bytes a map holds."""
    return 600 + (32 if isinstance(extents.startoff, array) else 150) * len(extents)


_LISTED_BYTES = 1 << 10
"""A map that takes no more than this is read into lists, which are faster than views."""


_ONE = struct.Struct("=4Q")
"""A map of one extent, which most files and directories have."""


def _encode(extents: ExtentMap) -> bytes:
    """Write a map down: one column after the other, in native 64-bit words."""
    columns = (extents.startoff, extents.fsblock, extents.count, extents.unwritten)
    if len(extents) == 1:
        return _ONE.pack(*[column[0] for column in columns])
    return b"".join([array("Q", iter(column)).tobytes() for column in columns])


def _decode(_key: tuple[int, Fork], written: memoryview) -> ExtentMap:
    """Return the map that was written down; a long one reads the bytes where they lie."""
    extents = ExtentMap.__new__(ExtentMap)
    if len(written) == _ONE.size:
        startoff, fsblock, count, unwritten = _ONE.unpack(written)
        extents.startoff, extents.fsblock = [startoff], [fsblock]
        extents.count, extents.unwritten = [count], [unwritten]
        return extents
    words: Sequence[int] = written.cast("Q")
    if len(written) <= _LISTED_BYTES:
        words = words.tolist()  # type: ignore[attr-defined]
    n = len(words) // 4
    extents.startoff, extents.fsblock = words[:n], words[n : 2 * n]  # type: ignore[assignment]
    extents.count, extents.unwritten = words[2 * n : 3 * n], words[3 * n :]  # type: ignore[assignment]
    return extents


_KINDS = {"data": KIND_OF["data extent map"], "attr": KIND_OF["attribute extent map"]}


def _identify(key: tuple[int, Fork]) -> tuple[int, int, int]:
    return _KINDS[key[1]], key[0], 0


_FORM = Form("extent map", _identify, _encode, _decode)


class Maps:
    """The extent maps of a mounted image, read when first needed."""

    def __init__(self, vol: Volume) -> None:
        self._vol = vol
        self._cache = vol.keeper.cache(CACHED_BYTES, _weight, _FORM)

    def extents(self, inode: Inode, fork: Fork = "data") -> ExtentMap:
        """Return the verified extents of a fork; an empty map for a local one.

        Raises the `ImageError` that says what is wrong, and Unsupported for data on the
        realtime device.
        """
        key = (inode.ino, fork)
        found = self._cache.get(key)
        if found is None:
            found = self._read(inode, fork)
            self._cache.put(key, found)
        return found

    def _read(self, inode: Inode, fork: Fork) -> ExtentMap:
        data = fork == "data"
        if data and inode.is_realtime:
            where = self._vol.where(f"inode {inode.ino}", field="flags")
            raise Unsupported(where, "its data lies on a realtime device, not supported")
        fmt = inode.format if data else inode.aformat
        raw = inode.dfork if data else inode.afork
        total = inode.nextents if data else inode.anextents
        if total > MAX_EXTENTS:
            where = self._vol.where(f"inode {inode.ino} {fork} fork")
            text = f"has {total} extents, more than {MAX_EXTENTS} are not supported"
            raise Unsupported(where, text)
        collector = _Collector(self._vol, inode, fork)
        if fmt == disk.FMT_EXTENTS:
            collector.add(raw, 0, total, "inode")
        elif fmt == disk.FMT_BTREE:
            self._read_tree(collector, raw, inode, total)
        collector.finish(total if fmt != disk.FMT_LOCAL else 0)
        return collector.map

    def _read_tree(self, collector: _Collector, raw: bytes, inode: Inode, total: int) -> None:
        """Collect the leaves of a btree whose root lies in the fork; at most `total` extents."""
        geo = self._vol.geo
        level, numrecs = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big")
        maxrecs = (len(raw) - 4) // 16
        if not 1 <= level <= MAX_TREE_LEVEL:
            raise collector.bad("bmdr level", f"1 to {MAX_TREE_LEVEL}", level)
        if not 1 <= numrecs <= maxrecs:
            raise collector.bad("bmdr numrecs", f"1 to {maxrecs}", numrecs)
        keys = struct.unpack_from(f">{numrecs}Q", raw, 4)
        roots = struct.unpack_from(f">{numrecs}Q", raw, 4 + 8 * maxrecs)
        walk = leaves(
            self._vol.buffers,
            geo,
            BMBT,
            roots,
            level - 1,
            inode.ino,
            f"inode {inode.ino} {collector.fork} fork",
            keys=keys,
            visited=collector.tree_blocks,
        )
        for block, count in walk:
            collector.add(block.data, BMBT.header, count, block.obj)
            if len(collector.map) > total:
                break


class _Collector:
    """Gathers records in order into a map, verifying each."""

    def __init__(self, vol: Volume, inode: Inode, fork: Fork) -> None:
        self.vol = vol
        self.inode = inode
        self.fork = fork
        wide = (inode.format if fork == "data" else inode.aformat) == disk.FMT_BTREE
        self.map = ExtentMap(wide)
        self.blocks = 0
        self.tree_blocks: set[int] = set()

    def add(self, buf: bytes, offset: int, count: int, place: str) -> None:
        """Add `count` records that lie at `offset` of `buf`, read from `place`."""
        geo = self.vol.geo
        agblklog, agcount = geo.agblklog, geo.agcount
        agblocks, ag_mask, first = geo.agblocks, geo.ag_mask, geo.ag_header_blocks
        last_ag, last_blocks = agcount - 1, geo.last_ag_blocks
        log_start, log_end = geo.logstart, geo.logstart + geo.logblocks
        may_be_unwritten = self.fork == "data" and self.inode.type == 8
        out, end, blocks = self.map, self.map.end, self.blocks
        for high, low in _RECORD.iter_unpack(buf[offset : offset + 16 * count]):
            startoff = high >> 9 & MAX_STARTOFF
            fsblock = (high & 0x1FF) << _LOW_BLOCK_BITS | low >> 21
            length = low & _COUNT_MASK
            agno, agbno = fsblock >> agblklog, fsblock & ag_mask
            room = agblocks if agno < last_ag else last_blocks
            if (
                startoff < end
                or not length
                or agno > last_ag
                or agbno < first
                or agbno + length > room
                or (fsblock < log_end and log_start < fsblock + length and log_start)
                or (high >> 63 and not may_be_unwritten)
                or startoff + length > MAX_STARTOFF
            ):
                raise self._why(place, startoff, fsblock, length, end, bool(high >> 63))
            end = startoff + length
            blocks += length
            out.startoff.append(startoff)
            out.fsblock.append(fsblock)
            out.count.append(length)
            out.unwritten.append(high >> 63)
        self.blocks = blocks

    def _why(
        self, place: str, startoff: int, fsblock: int, length: int, end: int, unwritten: bool
    ) -> ImageError:
        """Return the error that names the rule an extent broke."""
        name = f"extent {len(self.map)}"
        shown = f"{length} blocks at {fsblock:#x}"
        if not length:
            return self.bad(f"{name} blockcount", "at least 1", 0, place)
        if startoff < end:
            return self.bad(f"{name} startoff", f"at least {end}", startoff, place)
        if startoff + length > MAX_STARTOFF:
            return self.bad(f"{name} startoff", f"to end by {MAX_STARTOFF}", startoff, place)
        if unwritten and not (self.fork == "data" and self.inode.type == 8):
            return self.bad(f"{name} state", "written", "unwritten", place)
        wanted = "inside one AG, beyond its headers and off the log"
        return self.bad(f"{name} startblock", wanted, shown, place)

    def finish(self, total: int) -> None:
        """Hold the number of extents and blocks against what the inode says."""
        there = len(self.map)
        if there != total:
            name = "nextents" if self.fork == "data" else "anextents"
            expected = f"at least {there}" if there > total else f"the {there} that are there"
            raise self.bad(name, expected, total)
        self._check_blocks()
        self._check_overlap()

    def _check_blocks(self) -> None:
        """Hold the inode's block count against what its forks hold.

        Exact wherever both forks' blocks are known: a lost extent would read as zeros.
        """
        inode = self.inode
        found = self.blocks + len(self.tree_blocks)
        attr = _attr_blocks(inode) if self.fork == "data" else None
        if found > inode.nblocks or (attr is not None and found + attr != inode.nblocks):
            expected = f"at least {found}" if attr is None else found + attr
            raise self.bad("nblocks", f"{expected}, what is mapped", inode.nblocks)

    def _check_overlap(self) -> None:
        """Hold extents to be of different blocks; only a reflinked file may share with itself."""
        shared = self.fork == "data" and self.inode.flags2 & disk.DIFLAG2_REFLINK
        if shared or not 1 < len(self.map) <= _MAX_COMPARED:
            return
        end = 0
        for fsblock, length in sorted(zip(self.map.fsblock, self.map.count, strict=True)):
            if fsblock < end:
                wanted = "blocks that no other extent of the file has"
                raise self.bad("startblock", wanted, f"{length} blocks at {fsblock:#x}")
            end = fsblock + length

    def bad(self, field: str, expected: object, found: object, place: str = "") -> ImageError:
        """Return the error for a field of this fork."""
        obj = f"inode {self.inode.ino} {self.fork} fork"
        if place and place != "inode":
            obj = place
        return BadField(self.vol.where(obj, field=field), "", expected, found)


def _attr_blocks(inode: Inode) -> int | None:
    """Return the blocks that the attribute fork maps; None where only its btree knows."""
    if not inode.anextents:
        return 0
    if inode.aformat != disk.FMT_EXTENTS:
        return None
    fork = inode.afork[: 16 * inode.anextents]
    return sum(int(low) & _COUNT_MASK for _, low in struct.iter_unpack(">QQ", fork))
