"""The directories of a mounted image.

Listing reads data blocks only; lookup goes by hash. A damaged block costs what lies in it:
lists raise when they reach it, lookups elsewhere go on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from wofs.errors import BadField, NotDir, NotFound, Where
from wofs.ondisk import dir as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.ondisk.kind import Kind
from wofs.xfs.bmap import ExtentMap, Maps
from wofs.xfs.buffer import Block, Run
from wofs.xfs.dir import index
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.packed import ENTRIES, INDEX, Entries
from wofs.xfs.dir.parse import Entry, bad, data_entries, shortform
from wofs.xfs.geometry import DIR_LEAF_OFFSET, fsb_to_daddr
from wofs.xfs.inode import Inode
from wofs.xfs.volume import Volume

CACHED_BYTES = 24 << 20
"""Most that the parsed entries of all directories take up."""

CACHED_INDEX_BYTES = 4 << 20
"""Most that parsed blocks of their indexes take up."""


MOST_AT_ONCE = 48
"""Entries of a block in write-once memory that are read together: a reply holds about as many."""


def _weight(entries: Sequence[Entry]) -> int:
    """Return about how many bytes a list of entries holds: each a tuple, a name, two numbers."""
    return 200 + 220 * len(entries)


def _weight_of_index(found: IndexBlock) -> int:
    """Return about how many bytes a parsed block of the index holds."""
    return 500 + 8 * len(found.hashes) + len(found.data)


class Directories:
    """Lists directories and finds names in them."""

    def __init__(self, vol: Volume, maps: Maps) -> None:
        self._vol = vol
        self._maps = maps
        self._blocks = vol.keeper.cache(CACHED_BYTES, _weight, ENTRIES)
        self._index = vol.keeper.cache(CACHED_INDEX_BYTES, _weight_of_index, INDEX)

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
        size, extents = self._vol.geo.dirblksize, self._maps.extents(inode)
        start = self._next_block(inode, extents, (after << 3) // size * size)
        while start is not None:
            found = _behind(self._data_block(inode, start), after, start == 0)
            if found:
                return found
            start = self._next_block(inode, extents, start + size)
        return []

    def parent(self, inode: Inode) -> int:
        """Return the inode number that '..' names."""
        if inode.format == FMT_LOCAL:
            return self._shortform(inode)[1][1]
        if self._next_block(inode, self._maps.extents(inode), 0) != 0:
            raise bad(self._where(inode), "extent 0", "no first block", "a mapped first block")
        return self._data_block(inode, 0)[1][1]

    def lookup(self, inode: Inode, name: bytes) -> Entry:
        """Return the entry called `name`; NotFound if there is none.

        Raises NotDir, and the `ImageError` of a damaged block on the way.
        """
        if inode.type != 4:
            raise NotDir(f"inode {inode.ino} is no directory", name)
        if inode.format == FMT_LOCAL:
            candidates = _among(self._shortform(inode), name)
        elif self._is_block_form(inode):
            candidates = _among(self._data_block(inode, 0), name)
        else:
            candidates = self._by_hash(inode, name)
        for entry in candidates:
            if entry[3] == name:
                return entry
        raise NotFound(f"{name.decode('utf-8', 'backslashreplace')}: no such file", name)

    # ---- pieces
    def _where(self, inode: Inode, block: Block | None = None) -> Where:
        if block is None:
            return self._vol.where(f"inode {inode.ino}")
        return self._vol.where(block.obj, block.daddr, len(block.data))

    def _shortform(self, inode: Inode) -> Sequence[Entry]:
        """Return the verified entries of a directory that lies in its inode."""
        key = (inode.ino, 0)
        found = self._blocks.get(key)
        if found is None:
            found = shortform(self._vol.geo, inode, lambda: self._where(inode))
            self._blocks.put(key, found)
        return found

    def _is_block_form(self, inode: Inode) -> bool:
        return (
            inode.size == self._vol.geo.dirblksize
            and self._next_block(inode, self._maps.extents(inode), 0) == 0
            and self._load_data(inode, 0).magic == disk.MAGIC_BLOCK
        )

    def _next_block(self, inode: Inode, extents: ExtentMap, start: int) -> int | None:
        """Return where the first mapped data block at or behind byte `start` begins, or None.

        Never lists them all: a sparse image may claim 32 GiB of directory.
        """
        geo = self._vol.geo
        size, per = geo.dirblksize, geo.dirblk_fsbs
        if start >= self._end(inode, extents):
            return None
        dablk = start >> geo.blocklog
        at = extents.find(dablk + per - 1)
        if at < 0 or extents.startoff[at] + extents.count[at] <= dablk:
            return extents.startoff[at + 1] // per * size
        return start

    def end(self, inode: Inode) -> int:
        """Return the byte at which the data blocks end; the inode's size must be that."""
        return self._end(inode, self._maps.extents(inode))

    def _end(self, inode: Inode, extents: ExtentMap) -> int:
        geo = self._vol.geo
        size, per, limit = geo.dirblksize, geo.dirblk_fsbs, geo.dir_leaf_dablk
        if inode.size % size or inode.size > DIR_LEAF_OFFSET:
            raise bad(self._where(inode), "size", inode.size, f"a multiple of {size}")
        last = extents.find(limit - 1)
        mapped = min(extents.startoff[last] + extents.count[last], limit) if last >= 0 else 0
        end = -(-mapped // per) * size
        if end != inode.size:
            raise bad(self._where(inode), "size", inode.size, f"{end}, where its blocks end")
        return end

    def _data_block(self, inode: Inode, start: int) -> Sequence[Entry]:
        """Return the verified entries of the data block at byte `start`."""
        key = (inode.ino, start)
        found = self._blocks.get(key)
        if found is None:
            _, found = self.read(inode, start)
            self._blocks.put(key, found)
        return found

    def read(self, inode: Inode, start: int) -> tuple[Block, list[Entry]]:
        """Return the proved data block at byte `start` and all its entries, '.' and '..' too."""
        block = self._load_data(inode, start)
        found = data_entries(self._vol.geo, block, start, self._where(inode, block))
        if start == 0 and found[0][1] != inode.ino:
            raise bad(self._where(inode, block), "'.' inumber", found[0][1], inode.ino)
        return block, found

    def _load_data(self, inode: Inode, start: int) -> Block:
        """Load and prove the data block at byte `start`."""
        block = self.load(inode, start >> self._vol.geo.blocklog, disk.DIR_DATA)
        alone = inode.size == len(block.data)
        if block.magic == disk.MAGIC_BLOCK and not alone:
            where = self._where(inode, block)
            raise bad(where, "magic", "0x58444233 (single block)", "0x58444433 (data)")
        return block

    def load(self, inode: Inode, dablk: int, kind: Kind) -> Block:
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

    def index_loader(self, inode: Inode) -> index.Loader:
        """Return the loader of the directory's index blocks."""

        def load(dablk: int) -> IndexBlock:
            found = self._index.get((inode.ino, dablk))
            if found is None:
                block = self.load(inode, dablk, disk.DIR_INDEX)
                found = index.parse(block, self._where(inode, block))
                self._index.put((inode.ino, dablk), found)
            return found

        return load

    def _by_hash(self, inode: Inode, name: bytes) -> Iterator[Entry]:
        """Yield the entries whose hash is that of `name`."""
        hashval = da_hashname(name)
        load = self.index_loader(inode)
        for leaf in index.leaves_for(load, self._vol.geo.dir_leaf_dablk, hashval):
            first, end = bisect_left(leaf.hashes, hashval), bisect_right(leaf.hashes, hashval)
            for at in range(first, end):
                if leaf.words[at]:
                    entry = self._entry_at(inode, leaf.words[at], leaf)
                    if entry[3] != name and da_hashname(entry[3]) != hashval:
                        found = f"{hashval:#x} for {entry[3]!r}"
                        raise leaf.bad("hashval", found, f"{da_hashname(entry[3]):#x}")
                    yield entry

    def _entry_at(self, inode: Inode, dataptr: int, leaf: IndexBlock) -> Entry:
        """Return the entry that a leaf's address leads to."""
        size = self._vol.geo.dirblksize
        start = (dataptr << 3) // size * size
        if start >= inode.size:
            raise leaf.bad("address", dataptr, "inside the directory")
        entry = _at(self._data_block(inode, start), dataptr + 1)
        if entry is None:
            raise BadField(leaf.where, f"address {dataptr:#x} leads to no entry")
        return entry


def _at(entries: Sequence[Entry], cookie: int) -> Entry | None:
    """Return the entry of a block that has a cookie."""
    if isinstance(entries, Entries):
        return entries.at(cookie)
    at = bisect_left(entries, (cookie,))
    return entries[at] if at < len(entries) and entries[at][0] == cookie else None


def _among(entries: Sequence[Entry], name: bytes) -> Iterable[Entry]:
    """Return the entries of a block that may be called `name`; '.' and '..' are not."""
    if isinstance(entries, Entries):
        return () if name in (b".", b"..") else entries.named(name)
    return entries[2:]


def _behind(entries: Sequence[Entry], after: int, with_dots: bool) -> list[Entry]:
    """Return the entries of a block behind cookie `after`; '.' and '..' are never among them.

    Of a block that is read where it lies as many as answer a request, else all.
    """
    if isinstance(entries, Entries):
        first = max(entries.behind(after), 2 if with_dots else 0)
        return entries[first : first + MOST_AT_ONCE]
    assert isinstance(entries, list)
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
