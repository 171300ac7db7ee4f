"""Every directory: entries, index, record of free space, and where each entry leads.

Source: `scrub/dir.c`, `scrub/nlinks.c`, `scrub/parent.c`, `xfs_dir2_data.c`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from wofs.check.state import DAMAGED, State
from wofs.errors import ImageError
from wofs.ondisk import dir as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.buffer import Block
from wofs.xfs.dir import index
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.parse import DOT_COOKIE, DOTDOT_COOKIE, Entry, data_end, entry_bytes
from wofs.xfs.inode import Inode

_NULL_BEST = 0xFFFF
_PAIR = struct.Struct(">HH")
_BESTS_AT = 48


def check_directories(state: State, agno: int, done: int, total: int) -> int:
    """Check all directories of an AG; return how many inodes are done in all."""
    inventory, log = state.inodes[agno], state.mount.geo.agino_log
    if inventory is None:
        return done
    last = 0
    for slot, agino in inventory.aginos():
        if inventory.type[slot] == 4:
            _Directory(state, state.mount.inodes.get(agno << log | agino)).check()
        if slot - last > 1000:
            state.tell(done + slot, total)
            last = slot
    return done + len(inventory.type)


class _Directory:
    """One directory being checked."""

    def __init__(self, state: State, inode: Inode) -> None:
        self.state = state
        self.inode = inode
        self.report = state.report
        self.obj = f"directory {inode.ino}"

    def check(self) -> None:
        """Check entries, then the index against them."""
        state, inode = self.state, self.inode
        state.follow(inode.ino)
        hashes: list[int] = []
        indexed = inode.format != FMT_LOCAL
        if indexed:
            hashes = [da_hashname(b".") << 32 | DOT_COOKIE - 1]
            hashes.append(da_hashname(b"..") << 32 | DOTDOT_COOKIE - 1)
        try:
            state.dotdot[inode.ino] = parent = state.mount.dirs.parent(inode)
            state.follow(parent)
            for entry in state.mount.dirs.entries(inode):
                self._entry(entry)
                if indexed:
                    hashes.append(da_hashname(entry[3]) << 32 | entry[0] - 1)
        except ImageError as error:
            state.names_hidden = True
            self.report.error("dir-damaged", error, ino=inode.ino)
            return
        if indexed:
            self._check_index(hashes)

    def _entry(self, entry: Entry) -> None:
        """Hold an entry against the inode it leads to."""
        _, ino, ftype, name = entry
        state = self.state
        kind = state.follow(ino)
        if kind == 0:
            self._bad("dir-entry-dangling", f"entry {name!r}", "an inode in use", ino)
        elif ftype and kind not in (None, DAMAGED) and disk.MODE_OF_FTYPE[ftype] != kind:
            self._bad("dir-entry-type", f"entry {name!r} ftype", f"that of a {kind:#x}", ftype)
        if kind == 4:
            if ino in state.parents or ino == state.mount.geo.rootino:
                other = state.parents.get(ino, ino)
                self._bad("dir-two-parents", f"entry {name!r}", f"only directory {other}", ino)
            state.parents.setdefault(ino, self.inode.ino)

    def _bad(
        self, problem: str, field: str, expected: object, found: object, block: Block | None = None
    ) -> None:
        self.report.add(
            problem, self.obj, field, expected=expected, found=found, ino=self.inode.ino,
            offset=None if block is None else block.daddr << 9,
        )  # fmt: skip

    # ---- index and free space
    def _check_index(self, hashes: list[int]) -> None:
        """Hold the index to lead to every name, and the free-space tables to be right."""
        try:
            blocks = list(self._data_blocks())
            if len(blocks) == 1 and blocks[0][1].magic == disk.MAGIC_BLOCK:
                found = _tail_entries(blocks[0][1])
                self._bests(blocks)
            else:
                found = self._leaf_entries()
                self._check_tables(self._bests(blocks))
        except ImageError as error:
            self.report.error("dir-index-damaged", error, ino=self.inode.ino)
            return
        if any(a >> 32 > b >> 32 for a, b in itertools.pairwise(found)):
            self._bad("dir-hash-order", "index", "hashes in ascending order", "out of order")
        odd = sorted(set(found) ^ set(hashes))
        if odd or len(found) != len(hashes):
            shown = f"{len(odd)} pairs on one side only"
            if odd:
                shown += f", the first {odd[0] >> 32:#x} at {(odd[0] & 0xFFFFFFFF) << 3}"
            self._bad("dir-hash-order", "index", f"{len(hashes)} (hash, place) pairs", shown)

    def _data_blocks(self) -> Iterator[tuple[int, Block]]:
        """Yield (number, block) of the mapped data blocks."""
        geo, dirs = self.state.mount.geo, self.state.mount.dirs
        extents = self.state.mount.maps.extents(self.inode)
        per, last = geo.dirblk_fsbs, -1
        for startoff, _, count, _ in extents:
            for number in range(startoff // per, -(-(startoff + count) // per)):
                if number > last and number * per < geo.dir_leaf_dablk:
                    last = number
                    yield number, dirs.load(self.inode, number * per, disk.DIR_DATA)

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
            wanted = sorted((length for _, length in free), reverse=True)[:3]
            wanted += [0] * (3 - len(wanted))
            table = [_PAIR.unpack_from(block.data, _BESTS_AT + 4 * i) for i in range(3)]
            lengths = [length for _, length in table]
            real = all(not length or (at, length) in free for at, length in table)
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
        for number in sorted({number // most for number in bests}):
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
        end = max(bests, default=-1) + 1
        if first + len(table) < end or (whole and len(table) != end):
            self._bad("dir-free-table", "bests", f"{end - first} entries", len(table), block)
        for number, best in enumerate(table, first):
            want = bests.get(number, _NULL_BEST)
            if best != want:
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
