"""Every directory: entries, index, record of free space, and where each entry leads.

Source: `scrub/dir.c`, `scrub/nlinks.c`, `scrub/parent.c`, `xfs_dir2_data.c`.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Iterator
from operator import add
from typing import cast

from wofs.check.state import DAMAGED, TYPE_DIR, Common, State
from wofs.check.work import Piece, slots
from wofs.errors import ImageError
from wofs.ondisk import dir as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.buffer import Block
from wofs.xfs.dir import index
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.parse import Entry, bad, data_end, entry_bytes, shortform
from wofs.xfs.geometry import INODES_PER_CHUNK
from wofs.xfs.inode import Inode

_TOLD_SLOTS = 1024

_TYPE_OF = (-1, *(disk.MODE_OF_FTYPE[ftype] for ftype in range(1, disk.FT_WHT + 1)))
_NULL_BEST = 0xFFFF
_PAIR = struct.Struct(">HH")
_BESTS_AT = 48
_LEAF_ENTRY_BYTES = 8
_WIDEST_SHORT = 0xFFFFFFFF
"""The greatest inode number that four bytes hold."""

_FOUND = tuple[Common, tuple[bytes, bytes, bytes, bytes, bytes]]
_REST = list[tuple[bytes, bytes] | None]
_U64 = (1 << 64) - 1


class FolderPass:
    """All directories; a unit is a piece of an AG's chunks."""

    def __init__(self, state: State, units: list[Piece]) -> None:
        self.state = state
        self.units = units
        folders = state.folders
        self._columns = (
            folders.ino, folders.dotdot, folders.children, state.lost_names, state.no_folders,
        )  # fmt: skip

    def begin(self) -> None:
        """Forget what was found before."""
        self.state.take()
        for inventory in self.state.inodes:
            if inventory is not None:
                inventory.parents = array("Q", bytes(8 * len(inventory.parents)))

    def work(self, unit: Piece) -> None:
        """Check the directories of a piece."""
        state, (agno, _, _) = self.state, unit
        inventory = state.inodes[agno]
        assert inventory is not None
        high, (first, end) = agno << state.mount.geo.agino_log, slots(unit)
        last = first
        for slot, agino in inventory.of_type(TYPE_DIR, first, end):
            _Directory(state, state.mount.inodes.get(high | agino)).check()
            if slot - last > _TOLD_SLOTS:
                state.step(slot - last)
                last = slot
        state.step(end - last)

    def take(self, unit: Piece) -> _FOUND:
        """Take out findings and owners, and what was learnt of directories."""
        words = []
        for column in self._columns:
            words.append(column.tobytes())
            del column[:]
        return self.state.take(), cast("tuple[bytes, bytes, bytes, bytes, bytes]", tuple(words))

    def add(self, unit: Piece, found: object) -> None:
        """Add what another process found in a piece."""
        common, words = cast(_FOUND, found)
        self.state.add(common)
        for column, more in zip(self._columns, words, strict=True):
            column.frombytes(more)

    def take_rest(self) -> _REST:
        """Take out how many names of each inode were met, and the sums of parents."""
        return [
            None if i is None else (i.names.tobytes(), i.parents.tobytes())
            for i in self.state.inodes
        ]

    def add_rest(self, found: object) -> None:
        """Add the names that another process met."""
        for inventory, words in zip(self.state.inodes, cast(_REST, found), strict=True):
            if inventory is None or words is None:
                continue
            inventory.names = array("I", map(add, inventory.names, array("I", words[0])))
            sums = zip(inventory.parents, array("Q", words[1]), strict=True)
            inventory.parents = array("Q", (a + b & _U64 for a, b in sums))


class _Directory:
    """One directory being checked."""

    def __init__(self, state: State, inode: Inode) -> None:
        self.state = state
        self.inode = inode
        self.report = state.report
        self.obj = f"directory {inode.ino}"
        self.block: Block | None = None
        """The data block whose entries are being checked."""
        self.unread: set[int] = set()
        """Numbers of the data blocks that could not be read."""

    def check(self) -> None:
        """Check entries, then the index against them."""
        state, inode = self.state, self.inode
        folders = state.folders
        folders.ino.append(inode.ino)
        folders.dotdot.append(0)
        state.follow(inode.ino)
        if inode.format == FMT_LOCAL:
            place = state.mount.where(f"inode {inode.ino}")
            try:
                entries = shortform(state.mount.geo, inode, lambda: place)
            except ImageError as error:
                self._lost(error)
                return
            self._check_shortform(entries)
            self._entries(entries, True)
            return
        try:
            state.mount.maps.extents(inode)
        except ImageError as error:
            self._lost(error)
            return
        try:
            state.mount.dirs.end(inode)
        except ImageError as error:
            self._lost(error)
        self._check_index(*self._read_blocks())

    def _check_shortform(self, entries: list[Entry]) -> None:
        """Hold a shortform directory to what the kernel asks beyond its entries.

        Source: `xfs_dir2_sf.c: xfs_dir2_sf_verify`.
        """
        geo, wide = self.state.mount.geo, self.inode.dfork[1]
        has_ftype = bool(geo.has_ftype)
        needed, end = 0, disk.DATA_HEADER_BYTES
        for cookie, ino, _, name in entries:
            offset = cookie - 1 << 3
            if offset < end:
                self._bad("dir-refused", f"entry {name!r} offset", f"at least {end}", offset)
                return
            end = offset + entry_bytes(len(name), has_ftype)
            needed += ino > _WIDEST_SHORT
        needed -= self.inode.ino > _WIDEST_SHORT  # '.' is not stored
        if needed != wide:
            self._bad("dir-refused", "i8count", needed, wide)
        end += _LEAF_ENTRY_BYTES * len(entries) + disk.BLOCK_TAIL_BYTES
        if end > geo.dirblksize:
            self._bad("dir-refused", "size", f"entries of at most {geo.dirblksize} bytes", end)

    def _lost(self, error: ImageError) -> None:
        """Report what could not be read, and that it may hide names."""
        lost = self.state.lost_names
        if not lost or lost[-1] != self.inode.ino:
            lost.append(self.inode.ino)
        self.report.error("dir-damaged", error, ino=self.inode.ino)

    def _read_blocks(self) -> tuple[list[tuple[int, Block]], list[int]]:
        """Check the entries of all data blocks that can be read.

        Returns (number, block) of each, and hash << 32 | address of each entry.
        """
        size = self.state.mount.geo.dirblksize
        blocks: list[tuple[int, Block]] = []
        hashes: list[int] = []
        first = True
        for number in self._mapped():
            if first and number:
                where = self.state.mount.where(f"inode {self.inode.ino}")
                self._lost(bad(where, "extent 0", "no first block", "a mapped first block"))
            first = False
            try:
                block, entries = self.state.mount.dirs.read(self.inode, number * size)
            except ImageError as error:
                self._lost(error)
                self.unread.add(number)
                continue
            blocks.append((number, block))
            hashes += [da_hashname(name) << 32 | cookie - 1 for cookie, _, _, name in entries]
            self.block = block
            self._entries(entries, not number)
        return blocks, hashes

    def _mapped(self) -> Iterator[int]:
        """Yield the numbers of the mapped data blocks."""
        geo = self.state.mount.geo
        per, last = geo.dirblk_fsbs, -1
        for startoff, _, count, _ in self.state.mount.maps.extents(self.inode):
            for number in range(startoff // per, -(-(startoff + count) // per)):
                if number > last and number * per < geo.dir_leaf_dablk:
                    last = number
                    yield number

    def _entries(self, entries: list[Entry], with_dots: bool) -> None:
        """Count the names of a block; hold each against the inode it leads to."""
        state = self.state
        if with_dots:
            state.folders.dotdot[-1] = parent = entries[1][1]
            state.follow(parent)
            entries = entries[2:]
        log, mask, agno = state.mount.geo.agino_log, state.mount.geo.agino_mask, -1
        start = base = 0
        with_parents = state.with_parents
        names, types = array("I"), bytearray()
        for cookie, ino, ftype, name in entries:
            bit = (ino & mask) - start
            if ino >> log != agno or not 0 <= bit < INODES_PER_CHUNK:
                inventory, slot = state.find(ino)
                if inventory is None or slot < 0:
                    if slot:
                        self._dangling(ino, name, cookie)
                    continue
                agno, bit = ino >> log, slot % INODES_PER_CHUNK
                start = (ino & mask) - bit
                names, types, base = inventory.names, inventory.type, slot - bit
            names[base + bit] += 1
            if with_parents:
                state.count_parent(ino, self.inode.ino, self.inode.gen, name, 1)
            kind = types[base + bit]
            if kind == _TYPE_OF[ftype] and kind != TYPE_DIR:
                continue
            self._special(ino, ftype, name, kind, cookie)

    def _special(self, ino: int, ftype: int, name: bytes, kind: int, cookie: int) -> None:
        """Take note of an entry that is of no file as all are."""
        if kind == 0:
            self._dangling(ino, name, cookie)
        elif kind == DAMAGED:
            if ftype and ftype != disk.FT_DIR:
                self.state.no_folders.append(ino)
        elif self.state.mount.geo.has_ftype and disk.MODE_OF_FTYPE.get(ftype) != kind:
            wanted = f"{_TYPE_OF.index(kind)}, the inode's"
            self._bad_entry("dir-entry-type", f"entry {name!r} ftype", wanted, ftype, cookie)
        if kind == TYPE_DIR:
            self.state.folders.children.extend((ino, self.inode.ino))

    def _dangling(self, ino: int, name: bytes, cookie: int) -> None:
        self._bad_entry("dir-entry-dangling", f"entry {name!r}", "an inode in use", ino, cookie)

    def _bad_entry(
        self, problem: str, field: str, expected: object, found: object, cookie: int
    ) -> None:
        at = (cookie - 1 << 3) % self.state.mount.geo.dirblksize
        self.report.add(
            problem, self.obj, field, expected=expected, found=found, ino=self.inode.ino,
            offset=None if self.block is None else (self.block.daddr << 9) + at,
        )  # fmt: skip

    def _bad(
        self, problem: str, field: str, expected: object, found: object, block: Block | None = None
    ) -> None:
        self.report.add(
            problem, self.obj, field, expected=expected, found=found, ino=self.inode.ino,
            offset=None if block is None else block.daddr << 9,
        )  # fmt: skip

    # ---- index and free space
    def _check_index(self, blocks: list[tuple[int, Block]], hashes: list[int]) -> None:
        """Hold the index to lead to every name, and the free-space tables to be right.

        What concerns data blocks that could not be read is left out.
        """
        try:
            if len(blocks) == 1 and blocks[0][1].magic == disk.MAGIC_BLOCK:
                found = _tail_entries(blocks[0][1])
                self._bests(blocks)
            elif self.unread == {0} and not blocks:
                return  # perhaps with the index in the same block
            else:
                found = self._leaf_entries()
                self._check_tables(self._bests(blocks))
        except ImageError as error:
            self.report.error("dir-index-damaged", error, ino=self.inode.ino)
            return
        if self.unread:
            shift = (self.state.mount.geo.dirblksize >> 3).bit_length() - 1
            found = [pair for pair in found if (pair & 0xFFFFFFFF) >> shift not in self.unread]
        if any(a >> 32 > b >> 32 for a, b in itertools.pairwise(found)):
            self._bad("dir-hash-order", "index", "hashes in ascending order", "out of order")
        odd = sorted(set(found) ^ set(hashes))
        if odd or len(found) != len(hashes):
            shown = f"{len(odd)} pairs on one side only"
            if odd:
                shown += f", the first {odd[0] >> 32:#x} at {(odd[0] & 0xFFFFFFFF) << 3}"
            self._bad("dir-hash-order", "index", f"{len(hashes)} (hash, place) pairs", shown)

    def _leaf_entries(self) -> list[int]:
        """Return hash << 32 | address of all entries of the leaves that are in use."""
        mount = self.state.mount
        out: list[int] = []
        load = mount.dirs.index_loader(self.inode)
        for leaf in index.all_leaves(load, mount.geo.dir_leaf_dablk):
            pairs = zip(leaf.hashes, leaf.words, strict=True)
            out += [hashval << 32 | address for hashval, address in pairs if address]
        return out

    def _bests(self, blocks: list[tuple[int, Block]]) -> dict[int, int]:
        """Check bestfree of data blocks; return the longest free piece of each by number."""
        out: dict[int, int] = {}
        has_ftype = bool(self.state.mount.geo.has_ftype)
        for number, block in blocks:
            where = self.state.mount.where(block.obj, block.daddr, len(block.data))
            free = _free_pieces(block.data, data_end(block, where), has_ftype)
            starts = {at for at, _ in free}
            if any(at + length in starts for at, length in free):
                self._bad("dir-refused", f"block {number}", "free pieces apart", "two touch", block)
            wanted = sorted((length for _, length in free), reverse=True)[:3]
            wanted += [0] * (3 - len(wanted))
            table = [_PAIR.unpack_from(block.data, _BESTS_AT + 4 * i) for i in range(3)]
            lengths = [length for _, length in table]
            real = all((at, length) in free if length else not at for at, length in table)
            if lengths != wanted or not real:
                self._bad("dir-free-table", f"block {number} bestfree", wanted, table, block)
            out[number] = wanted[0]
        return out

    def _check_tables(self, bests: dict[int, int]) -> None:
        """Hold the leaf's or the free blocks' table against the data blocks."""
        mount = self.state.mount
        root = mount.dirs.load(self.inode, mount.geo.dir_leaf_dablk, disk.DIR_INDEX)
        if root.magic == disk.MAGIC_LEAF1:
            self._check_table(0, _leaf_bests(root), bests, root, whole=True)
            return
        most = (mount.geo.dirblksize - disk.FREE_HEADER_BYTES) // 2
        for number in sorted({number // most for number in (*bests, *self.unread)}):
            dablk = mount.geo.dir_free_dablk + number * mount.geo.dirblk_fsbs
            block = mount.dirs.load(self.inode, dablk, disk.DIR_FREE)
            first, valid, used = struct.unpack_from(">III", block.data, 48)
            if first != number * most or valid > most:
                wanted = f"firstdb {number * most}, at most {most} nvalid"
                self._bad("dir-free-table", f"free block {number}", wanted, (first, valid), block)
                continue
            table = struct.unpack_from(f">{valid}H", block.data, disk.FREE_HEADER_BYTES)
            really = sum(best != _NULL_BEST for best in table)
            if used != really:
                self._bad("dir-free-table", f"free block {number} nused", really, used, block)
            mine = {n: best for n, best in bests.items() if n // most == number}
            self._check_table(first, table, mine, block)

    def _check_table(
        self, first: int, table: tuple[int, ...], bests: dict[int, int], block: Block,
        whole: bool = False,
    ) -> None:  # fmt: skip
        """Hold entries of a table, the first of them block `first`'s, against the blocks."""
        end = max((*bests, *self.unread), default=-1) + 1
        if first + len(table) < end or (whole and len(table) != end):
            self._bad("dir-free-table", "bests", f"{end - first} entries", len(table), block)
        for number, best in enumerate(table, first):
            want = bests.get(number, _NULL_BEST)
            if best != want and number not in self.unread:
                self._bad("dir-free-table", f"bests[{number}]", want, best, block)


def _tail_entries(block: Block) -> list[int]:
    """Return hash << 32 | address of the entries in use at the end of a single block."""
    count: int = struct.unpack_from(">I", block.data, len(block.data) - 8)[0]
    words = struct.unpack_from(f">{2 * count}I", block.data, len(block.data) - 8 - 8 * count)
    return [words[i] << 32 | words[i + 1] for i in range(0, 2 * count, 2) if words[i + 1]]


def _leaf_bests(block: Block) -> tuple[int, ...]:
    """Return the table at the end of a directory's only leaf."""
    size = len(block.data)
    count: int = struct.unpack_from(">I", block.data, size - 4)[0]
    count = min(count, (size - disk.LEAF_HEADER_BYTES - 4) // 2)
    return struct.unpack_from(f">{count}H", block.data, size - 4 - 2 * count)


def _free_pieces(data: bytes, end: int, has_ftype: bool) -> set[tuple[int, int]]:
    """Return (offset, length) of the free pieces of a data block whose entries are sound."""
    out = set()
    at = disk.DATA_HEADER_BYTES
    while at < end:
        if data[at : at + 2] == b"\xff\xff":
            length = data[at + 2] << 8 | data[at + 3]
            out.add((at, length))
            at += length
        else:
            at += entry_bytes(data[at + 8], has_ftype)
    return out
