"""The directories of a mounted image.

Listing reads data blocks only; lookup goes by hash. A damaged block costs what lies in it:
lists raise when they reach it, lookups elsewhere go on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from wofs.errors import BadField, NotDir, NotFound, Where
from wofs.ondisk import dir as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.ondisk.kind import Kind
from wofs.xfs.bmap import ExtentMap, Maps
from wofs.xfs.buffer import Block, Run
from wofs.xfs.cache import Cache
from wofs.xfs.dir import index
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.parse import Entry, bad, data_entries, shortform
from wofs.xfs.geometry import DIR_LEAF_OFFSET, fsb_to_daddr
from wofs.xfs.inode import Inode
from wofs.xfs.volume import Volume

CACHED_BYTES = 24 << 20
"""Most that the parsed entries of all directories take up."""

CACHED_STARTS_BYTES = 4 << 20
"""Most that the places of their blocks take up."""


def _weight(entries: list[Entry]) -> int:
    """Return about how many bytes a list of entries holds: each a tuple, a name, two numbers."""
    return 200 + 220 * len(entries)


def _weight_of_starts(starts: list[int]) -> int:
    """Return about how many bytes a list of offsets holds."""
    return 200 + 40 * len(starts)


class Directories:
    """Lists directories and finds names in them."""

    def __init__(self, vol: Volume, maps: Maps) -> None:
        self._vol = vol
        self._maps = maps
        self._blocks: Cache[tuple[int, int], list[Entry]] = Cache(CACHED_BYTES, _weight)
        self._starts: Cache[int, list[int]] = Cache(CACHED_STARTS_BYTES, _weight_of_starts)

    def entries(self, inode: Inode, after: int = 0) -> Iterator[Entry]:
        """Yield (cookie, ino, ftype, name) in the directory's order, '.' and '..' left out.

        `after` is the cookie to go on behind. Raises NotDir, and the `ImageError` of a
        damaged block when the walk reaches it.
        """
        while batch := self.batch(inode, after):
            yield from batch
            after = batch[-1][0]

    def batch(self, inode: Inode, after: int) -> list[Entry]:
        """Return the entries behind cookie `after` that lie in one block; [] at the end."""
        if inode.type != 4:
            raise NotDir(f"inode {inode.ino} is no directory")
        if inode.format == FMT_LOCAL:
            return _behind(self._shortform(inode), after, True)
        starts = self._data_blocks(inode)
        size = self._vol.geo.dirblksize
        at = max(0, bisect_right(starts, after << 3) - 1)
        for start in starts[at:]:
            if start + size <= after << 3:
                continue
            found = _behind(self._data_block(inode, start), after, start == 0)
            if found:
                return found
        return []

    def parent(self, inode: Inode) -> int:
        """Return the inode number that '..' names."""
        if inode.format == FMT_LOCAL:
            return self._shortform(inode)[1][1]
        if self._data_blocks(inode)[:1] != [0]:
            raise bad(self._where(inode), "extent 0", "no first block", "a mapped first block")
        return self._data_block(inode, 0)[1][1]

    def lookup(self, inode: Inode, name: bytes) -> Entry:
        """Return the entry called `name`; NotFound if there is none.

        Raises NotDir, and the `ImageError` of a damaged block on the way.
        """
        if inode.type != 4:
            raise NotDir(f"inode {inode.ino} is no directory", name)
        if inode.format == FMT_LOCAL:
            candidates = self._shortform(inode)[2:]
        elif self._is_block_form(inode):
            candidates = self._data_block(inode, 0)[2:]
        else:
            candidates = list(self._by_hash(inode, name))
        for entry in candidates:
            if entry[3] == name:
                return entry
        raise NotFound(f"{name.decode('utf-8', 'backslashreplace')}: no such file", name)

    # ---- pieces
    def _where(self, inode: Inode, block: Block | None = None) -> Where:
        if block is None:
            return self._vol.where(f"inode {inode.ino}")
        return self._vol.where(block.obj, block.daddr, len(block.data))

    def _shortform(self, inode: Inode) -> list[Entry]:
        """Return the verified entries of a directory that lies in its inode."""
        key = (inode.ino, 0)
        found = self._blocks.get(key)
        if found is None:
            found = shortform(self._vol.geo, inode, self._where(inode))
            self._blocks.put(key, found)
        return found

    def _is_block_form(self, inode: Inode) -> bool:
        return inode.size == self._vol.geo.dirblksize and self._data_blocks(inode) == [0] and (
            self._load_data(inode, 0).magic == disk.MAGIC_BLOCK
        )

    def _data_blocks(self, inode: Inode) -> list[int]:
        """Return the byte offsets, in the data space, of the blocks that are mapped."""
        starts = self._starts.get(inode.ino)
        if starts is not None:
            return starts
        geo = self._vol.geo
        size = geo.dirblksize
        if inode.size % size or inode.size > DIR_LEAF_OFFSET:
            raise bad(self._where(inode), "size", inode.size, f"a multiple of {size}")
        found: set[int] = set()
        limit, per = geo.dir_leaf_dablk, geo.dirblk_fsbs
        for startoff, _, count, _ in self._maps.extents(inode):
            last = min(startoff + count, limit)
            found.update(range(startoff // per, -(-last // per) if startoff < limit else 0))
        starts = sorted(number * size for number in found)
        end = starts[-1] + size if starts else 0
        if end != inode.size:
            raise bad(self._where(inode), "size", inode.size, f"{end}, where its blocks end")
        self._starts.put(inode.ino, starts)
        return starts

    def _data_block(self, inode: Inode, start: int) -> list[Entry]:
        """Return the verified entries of the data block at byte `start`."""
        key = (inode.ino, start)
        found = self._blocks.get(key)
        if found is None:
            block = self._load_data(inode, start)
            found = data_entries(self._vol.geo, block, start, self._where(inode, block))
            if start == 0 and found[0][1] != inode.ino:
                where = self._where(inode, block)
                raise bad(where, "'.' inumber", found[0][1], inode.ino)
            self._blocks.put(key, found)
        return found

    def _load_data(self, inode: Inode, start: int) -> Block:
        """Load and prove the data block at byte `start`."""
        block = self._load(inode, start >> self._vol.geo.blocklog, disk.DIR_DATA)
        alone = inode.size == len(block.data)
        if block.magic == disk.MAGIC_BLOCK and not alone:
            where = self._where(inode, block)
            raise bad(where, "magic", "0x58444233 (single block)", "0x58444433 (data)")
        return block

    def _load(self, inode: Inode, dablk: int, kind: Kind) -> Block:
        """Load and prove the directory block that starts at file block `dablk`."""
        geo = self._vol.geo
        runs = _runs(self._maps.extents(inode), dablk, geo.dirblk_fsbs)
        obj = f"directory {inode.ino} block {dablk:#x}"
        if runs is None:
            where = self._vol.where(f"directory {inode.ino}")
            raise bad(where, "dablk", f"{dablk:#x}", "a mapped block")
        places: list[Run] = [
            (fsb_to_daddr(geo, fsblock), count << geo.blocklog) for fsblock, count in runs
        ]
        return self._vol.buffers.load_runs(kind, places, obj, inode.ino)

    def _by_hash(self, inode: Inode, name: bytes) -> Iterator[Entry]:
        """Yield the entries whose hash is that of `name`."""
        hashval = da_hashname(name)

        def load(dablk: int) -> Block:
            return self._load(inode, dablk, disk.DIR_INDEX)

        def where(block: Block) -> Where:
            return self._where(inode, block)

        first = index.descend(load, self._vol.geo.dir_leaf_dablk, hashval, where)
        if first is None:
            return
        for block in index.leaf_chain(load, first, where):
            hashes, addresses = index.pairs(block, where(block))
            for at in range(bisect_left(hashes, hashval), bisect_right(hashes, hashval)):
                if addresses[at]:
                    yield self._entry_at(inode, addresses[at], block)
            if len(hashes) and hashes[-1] > hashval:
                return

    def _entry_at(self, inode: Inode, dataptr: int, leaf: Block) -> Entry:
        """Return the entry that a leaf's address leads to."""
        size = self._vol.geo.dirblksize
        start = (dataptr << 3) // size * size
        if start >= inode.size:
            raise bad(self._where(inode, leaf), "address", dataptr, "inside the directory")
        found = self._data_block(inode, start)
        at = bisect_left(found, (dataptr + 1,))
        if at == len(found) or found[at][0] != dataptr + 1:
            where = self._where(inode, leaf)
            raise BadField(where, f"address {dataptr:#x} leads to no entry")
        return found[at]


def _behind(entries: list[Entry], after: int, with_dots: bool) -> list[Entry]:
    """Return the entries of a block behind cookie `after`; '.' and '..' are never among them."""
    skip = bisect_right(entries, (after, 1 << 64)) if after else 0
    if with_dots:
        skip = max(skip, 2)
    return entries[skip:] if skip else entries


def _runs(extents: ExtentMap, fileoff: int, count: int) -> list[tuple[int, int]] | None:
    """Return (fsblock, blocks) pieces of `count` file blocks; None where one is unmapped."""
    out: list[tuple[int, int]] = []
    while count:
        at = extents.find(fileoff)
        if at < 0 or fileoff - extents.startoff[at] >= extents.count[at]:
            return None
        skip = fileoff - extents.startoff[at]
        here = min(count, extents.count[at] - skip)
        out.append((extents.fsblock[at] + skip, here))
        fileoff += here
        count -= here
    return out
