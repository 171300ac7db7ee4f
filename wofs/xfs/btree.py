"""One walker for all btrees: 32-bit pointers within an AG, 64-bit ones of a fork.

Every walk is bounded: the level falls by one at each step, no block is visited twice, counts
are held against what a block can contain, keys against children, siblings against each other.
Source: `xfs_btree.c: xfs_btree_check_block, xfs_btree_sblock_verify, xfs_btree_lblock_verify`,
`scrub/btree.c: xchk_btree_block_check_keys, xchk_btree_block_check_siblings`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wofs.errors import BadField, ImageError
from wofs.ondisk import btree as disk
from wofs.ondisk.kind import Kind
from wofs.xfs.buffer import Block, Buffers
from wofs.xfs.geometry import Geometry, fsb_to_daddr, fsblock_at, valid_extent


@dataclass(frozen=True, slots=True)
class Tree:
    """One btree type: kind of its blocks, sizes in bytes of header, key, pointer, record.

    `key_at` and `record_at` give a number to order by of the key or record at an offset, where
    that is not the first word.
    """

    kind: Kind
    header: int
    key: int
    pointer: int
    record: int
    key_at: Callable[[bytes, int], int] | None = None
    record_at: Callable[[bytes, int], int] | None = None

    def maxrecs(self, blocksize: int, level: int) -> int:
        """Return how many records (level 0) or key-pointer pairs a block holds."""
        return (blocksize - self.header) // (self.key + self.pointer if level else self.record)


INOBT = Tree(disk.INOBT, header=56, key=4, pointer=4, record=16)
BMBT = Tree(disk.BMBT, header=72, key=8, pointer=8, record=16)

MAX_STARTOFF = (1 << 54) - 1
"""Largest file offset, in blocks, of an extent or key."""

Leaf = tuple[Block, int]
"""A leaf block and the number of its records."""


def leaves(
    buffers: Buffers,
    geo: Geometry,
    tree: Tree,
    roots: Sequence[int],
    level: int,
    owner: int,
    obj: str,
    *,
    keys: Sequence[int] = (),
    visited: set[int] | None = None,
) -> Iterator[Leaf]:
    """Yield the leaves below `roots` from left to right, each proved and counted.

    `roots` are pointers to blocks of height `level`: agbnos of AG `owner` for a short tree,
    fsblocks of inode `owner`'s fork for a long one; `keys` go with them where a block above
    has them. `obj` names the tree in errors; `visited` collects the pointers of all blocks.
    Raises BadField and whatever reading and proving a block raises.
    """
    walk = _Walk(buffers, geo, tree, owner, obj, set() if visited is None else visited)
    firsts: Sequence[int | None] = walk.ordered(keys, None) if keys else [None] * len(roots)
    pending = [(*root, level) for root in zip(reversed(roots), reversed(firsts), strict=True)]
    while pending:
        pointer, first, height = pending.pop()
        block, numrecs = walk.visit(pointer, height, first)
        if height == 0:
            yield block, numrecs
        else:
            below = walk.children(block, numrecs)
            pending += [(*child, height - 1) for child in reversed(below)]
    walk.finish()


class _Walk:
    """The state of one walk: what was visited, and the last block of each level."""

    def __init__(
        self,
        buffers: Buffers,
        geo: Geometry,
        tree: Tree,
        owner: int,
        obj: str,
        visited: set[int],
    ) -> None:
        self.buffers = buffers
        self.geo = geo
        self.tree = tree
        self.owner = owner
        self.obj = obj
        self.short = tree.pointer == 4
        self.null = disk.NULL32 if self.short else disk.NULL64
        self.visited = visited
        self.last: dict[int, tuple[int, int, Block]] = {}

    def visit(self, pointer: int, level: int, first: int | None) -> tuple[Block, int]:
        """Load and check the block `pointer` leads to; return it and its record count.

        `first` is the key that the block above has for it, None where there is none.
        """
        fsblock = fsblock_at(self.geo, self.owner, pointer) if self.short else pointer
        in_ag = not self.short or pointer < self.geo.agblocks
        if not in_ag or not valid_extent(self.geo, fsblock, 1):
            raise self.bad(None, "pointer", "a block of the filesystem", pointer)
        if pointer in self.visited:
            raise self.bad(None, "pointer", "a block not seen before (the tree loops)", pointer)
        self.visited.add(pointer)
        name = f"{self.obj} block {pointer:#x}"
        daddr = fsb_to_daddr(self.geo, fsblock)
        block = self.buffers.load(self.tree.kind, daddr, name, self.owner)
        link = disk.SHORT_LINK if self.short else disk.LONG_LINK
        height, numrecs, left, right = link(block.data, 0)
        if height != level:
            raise self.bad(block, "level", level, height)
        self._check_counts(block, level, numrecs)
        if first is not None and self._first_key(block, level) != first:
            found = self._first_key(block, level)
            raise self.bad(block, "first key", f"{first}, as the block above says", found)
        self._check_siblings(block, level, pointer, left, right)
        return block, numrecs

    def _first_key(self, block: Block, level: int) -> int:
        """Return the key of the first record, or the first key of an interior block."""
        tree = self.tree
        own = tree.key_at if level else tree.record_at
        if own is not None:
            return own(block.data, tree.header)
        word = int.from_bytes(block.data[tree.header : tree.header + tree.key], "big")
        return word if level or self.short else word >> 9 & MAX_STARTOFF

    def _check_counts(self, block: Block, level: int, numrecs: int) -> None:
        most = self.tree.maxrecs(len(block.data), level)
        if numrecs > most:
            raise self.bad(block, "numrecs", f"at most {most}", numrecs)
        alone = len(self.visited) == 1 and level == 0
        if numrecs == 0 and not (alone and self.short):
            raise self.bad(block, "numrecs", "at least 1", 0)

    def _check_siblings(
        self, block: Block, level: int, pointer: int, left: int, right: int
    ) -> None:
        before = self.last.get(level)
        expected = before[0] if before else self.null
        if left != expected:
            raise self.bad(block, "leftsib", f"{expected:#x}", f"{left:#x}")
        if before and before[1] != pointer:
            raise self.bad(before[2], "rightsib", f"{pointer:#x}", f"{before[1]:#x}")
        self.last[level] = pointer, right, block

    def finish(self) -> None:
        """Hold the rightmost block of each level to have no right sibling."""
        for _, right, block in self.last.values():
            if right != self.null:
                raise self.bad(block, "rightsib", f"{self.null:#x}", f"{right:#x}")

    def children(self, block: Block, numrecs: int) -> list[tuple[int, int]]:
        """Return (pointer, first key) of the children of an interior block."""
        tree = self.tree
        at = tree.header + tree.maxrecs(len(block.data), 1) * tree.key
        code = "I" if self.short else "Q"
        keys: Sequence[int]
        if tree.key_at is None:
            keys = struct.unpack_from(f">{numrecs}{code}", block.data, tree.header)
        else:
            end = tree.header + numrecs * tree.key
            keys = [tree.key_at(block.data, k) for k in range(tree.header, end, tree.key)]
        pointers = struct.unpack_from(f">{numrecs}{code}", block.data, at)
        return list(zip(pointers, self.ordered(keys, block), strict=True))

    def ordered(self, keys: Sequence[int], block: Block | None) -> Sequence[int]:
        """Return keys that ascend; raise BadField for others."""
        if any(a >= b for a, b in itertools.pairwise(keys)):
            raise self.bad(block, "keys", "keys in ascending order", "out of order")
        return keys

    def bad(self, block: Block | None, field: str, expected: object, found: object) -> ImageError:
        """Return the error for a field of a block (or of the tree itself)."""
        if block is None:
            shown = f"{found:#x}" if isinstance(found, int) else found
            return BadField(self.buffers.where(self.obj, field=field), "", expected, shown)
        place = self.buffers.where(block.obj, block.daddr, len(block.data), field)
        return BadField(place, "", expected, found)
