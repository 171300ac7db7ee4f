"""The btrees of an AG that serving files never needs: free space, free inodes, owners, shares.

Source: `xfs_alloc_btree.c`, `xfs_rmap_btree.c`, `xfs_refcount_btree.c`; rules of records:
`xfs_alloc_check_irec`, `xfs_rmap_check_irec`, `xfs_refcount_check_irec`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator

from wofs.check.owners import ATTR, BMBT, OFFSET_MASK, OWN_COW, Span, owner_name
from wofs.errors import BadField
from wofs.ondisk import btree as disk
from wofs.xfs.btree import Tree, leaves
from wofs.xfs.buffer import Block
from wofs.xfs.geometry import ag_length, agb_to_daddr
from wofs.xfs.volume import Volume

_COW_START = 1 << 31
_RMAP = struct.Struct(">IIQQ")
_REFCOUNT = struct.Struct(">III")


def _start(data: bytes, at: int) -> int:
    """Order by the first block."""
    return int.from_bytes(data[at : at + 4], "big")


def _length_start(data: bytes, at: int) -> int:
    """Order by length, then first block."""
    start, count = struct.unpack_from(">II", data, at)
    return int(count) << 32 | int(start)


def _owner_key(data: bytes, at: int) -> int:
    """Order by first block, owner, offset without the unwritten flag; `at` is a key's."""
    start, owner, offset = struct.unpack_from(">IQQ", data, at)
    return int(start) << 128 | int(owner) << 64 | int(offset) & (ATTR | BMBT | OFFSET_MASK)


def _owner_record(data: bytes, at: int) -> int:
    """Like `_owner_key`, of a record."""
    start, _, owner, offset = _RMAP.unpack_from(data, at)
    return int(start) << 128 | int(owner) << 64 | int(offset) & (ATTR | BMBT | OFFSET_MASK)


_KEY_MASK = ATTR | BMBT | OFFSET_MASK
_KEY_BYTES = 20


def _high_key(start: int, count: int, owner: int, offset: int) -> int:
    """Return the key of a record's last block (`xfs_rmapbt_init_high_key_from_rec`)."""
    last = count - 1
    if owner < OWN_COW and not offset & BMBT:
        offset = (offset & OFFSET_MASK) + last | offset & (ATTR | BMBT)
    return start + last << 128 | owner << 64 | offset & _KEY_MASK


def key_text(key: int) -> str:
    """Return a key of an owner tree in words."""
    owner, offset = key >> 64 & (1 << 64) - 1, key & (1 << 64) - 1
    return f"block {key >> 128} of {owner_name(owner, offset)} at {offset & OFFSET_MASK}"


BNOBT = Tree(disk.BNOBT, 56, 8, 4, 8, key_at=_start, record_at=_start)
CNTBT = Tree(disk.CNTBT, 56, 8, 4, 8, key_at=_length_start, record_at=_length_start)
FINOBT = Tree(disk.FINOBT, 56, 4, 4, 16)
RMAPBT = Tree(disk.RMAPBT, 56, 40, 4, 24, key_at=_owner_key, record_at=_owner_record)
REFCOUNTBT = Tree(disk.REFCOUNTBT, 56, 4, 4, 12)


class AgTree:
    """One btree of one AG; after a walk, `blocks` holds the agbnos of its blocks."""

    def __init__(self, vol: Volume, tree: Tree, agno: int, root: int, height: int) -> None:
        self.vol = vol
        self.tree = tree
        self.agno = agno
        self.name = f"ag {agno} / {tree.kind.name.removesuffix(' block')}"
        self.blocks: set[int] = set()
        self._root, self._height = root, height
        self._highs: dict[int, int] = {}
        self._first = vol.geo.ag_header_blocks
        self._end = ag_length(vol.geo, agno)

    def _leaves(self) -> Iterator[tuple[Block, int]]:
        """Walk the tree; raises what is wrong with it."""
        roots, level = [self._root], self._height - 1
        yield from leaves(
            self.vol.buffers, self.vol.geo, self.tree, roots, level, self.agno, self.name,
            visited=self.blocks,
        )  # fmt: skip

    def _bad(self, block: Block, number: int, expected: str, found: object) -> BadField:
        place = self.vol.where(block.obj, block.daddr, len(block.data), f"record {number}")
        return BadField(place, "", expected, found)

    def _check_place(self, block: Block, number: int, start: int, count: int) -> None:
        """Hold a record to lie in the AG, beyond its headers."""
        if not self._first <= start < start + count <= self._end:
            wanted = f"blocks from {self._first} to {self._end - 1}"
            raise self._bad(block, number, wanted, f"{count} from {start}")

    def extents(self) -> array[int]:
        """Return the free extents, each start << 32 | length, in the tree's order."""
        out = array("Q")
        by_size = self.tree is CNTBT
        last = end = 0
        for block, numrecs in self._leaves():
            words = array("I", block.data[56 : 56 + 8 * numrecs])
            if sys.byteorder == "little":
                words.byteswap()
            for number in range(numrecs):
                start, count = words[2 * number], words[2 * number + 1]
                self._check_place(block, number, start, count)
                order = count << 32 | start
                if by_size and order <= last:
                    raise self._bad(block, number, "length, then start, ascending", start)
                if not by_size and start < end + bool(end):
                    raise self._bad(block, number, f"a start beyond {end}", start)
                last, end = order, start + count
                out.append(start << 32 | count)
        return out

    def owners(self) -> Iterator[Span]:
        """Yield the records of an rmapbt. Raises BadField."""
        last = -1
        for block, numrecs in self._leaves():
            high = 0
            for number in range(numrecs):
                start, count, owner, offset = _RMAP.unpack_from(block.data, 56 + 24 * number)
                if not 0 < count <= self._end - start:
                    wanted = f"blocks from 0 to {self._end - 1}"
                    raise self._bad(block, number, wanted, f"{count} from {start}")
                key = _owner_record(block.data, 56 + 24 * number)
                if key <= last:
                    raise self._bad(block, number, "records in ascending order", start)
                if owner >= OWN_COW and offset:
                    raise self._bad(block, number, "offset 0 of what is no file", f"{offset:#x}")
                last = key
                high = max(high, _high_key(start, count, owner, offset))
                yield start, count, owner, offset
            self._highs[block.daddr] = high

    def wrong_high_keys(self) -> Iterator[tuple[Block, int, int, int]]:
        """Yield (block, number, high key, what it must be) after all `owners` were seen.

        A high key is the greatest among all that lies below (`xfs_btree.c:
        xfs_btree_get_node_keys`).
        """
        vol, tree = self.vol, self.tree
        most = tree.maxrecs(vol.geo.blocksize, 1)
        todo = [(self._root, self._height - 1, False)]
        while todo:
            agbno, level, below_done = todo.pop()
            if not level:
                continue
            daddr = agb_to_daddr(vol.geo, self.agno, agbno)
            block = vol.buffers.load(tree.kind, daddr, self.name, self.agno)
            count = disk.SHORT_LINK(block.data, 0)[1]
            children = struct.unpack_from(f">{count}I", block.data, 56 + 2 * _KEY_BYTES * most)
            if not below_done:
                todo.append((agbno, level, True))
                todo += [(child, level - 1, False) for child in children]
                continue
            highs = [self._highs[agb_to_daddr(vol.geo, self.agno, child)] for child in children]
            for number, high in enumerate(highs):
                at = 56 + _KEY_BYTES * (2 * number + 1)
                found = _owner_key(block.data, at)
                if found != high:
                    yield block, number, found, high
            self._highs[daddr] = max(highs)

    def shares(self) -> Iterator[tuple[int, int, int, bool]]:
        """Yield (start, blocks, count, copy-on-write reserve) of a refcountbt's records."""
        last = 0
        for block, numrecs in self._leaves():
            for number in range(numrecs):
                start, count, refs = _REFCOUNT.unpack_from(block.data, 56 + 12 * number)
                cow = bool(start & _COW_START)
                self._check_place(block, number, start & ~_COW_START, count)
                if start < last:
                    raise self._bad(block, number, f"a start of at least {last}", start)
                if refs != 1 if cow else refs < 2:
                    wanted = "1 for copy-on-write" if cow else "at least 2"
                    raise self._bad(block, number, f"refcount {wanted}", refs)
                last = start + count
                yield start & ~_COW_START, count, refs, cow
