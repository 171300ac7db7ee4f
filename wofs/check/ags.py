"""The headers and btrees of each AG: proved, and held against each other.

What they own is noted in the state. Source: `scrub/agheader.c`, `scrub/alloc.c`,
`scrub/ialloc.c`.
"""

from __future__ import annotations

from array import array
from typing import cast

from wofs.check.owners import OWN_AG, OWN_COW, OWN_FREE, OWN_FS, OWN_INOBT, OWN_INODES, OWN_REFC
from wofs.check.state import Common, Inventory, State
from wofs.check.trees import BNOBT, CNTBT, FINOBT, REFCOUNTBT, AgTree, key_text
from wofs.errors import ImageError
from wofs.ondisk import features as feat
from wofs.ondisk.ag import AGFL_HEADER_BYTES, NULLAGINO, Agf, Agfl, Agi
from wofs.xfs.agheaders import AGF, AGFL, AGI, Header, ags_present, header_rows
from wofs.xfs.btree import INOBT, Tree
from wofs.xfs.geometry import INODES_PER_CHUNK, ag_length
from wofs.xfs.inobt import ChunkTable, present, read_chunks


def check_headers(state: State) -> None:
    """Report every damaged AGF, AGI and AGFL."""
    mount, report = state.mount, state.report
    present = ags_present(mount.geo, mount.device.size)
    kinds: tuple[tuple[Header, str], ...] = (
        (AGF, "agf-damaged"), (AGI, "agi-damaged"), (AGFL, "agfl-damaged"),
    )  # fmt: skip
    for header, name in kinds:

        def note(error: ImageError, name: str = name) -> None:
            agno = int(error.where.object.split()[1])
            report.error(name, error, agno=agno, hides=True)

        for _ in header_rows(mount.buffers, mount.geo, header, present, note):
            pass
    if present < state.agcount:
        report.hidden = True


_TABLE = tuple[bytes, bytes, bytes]
_FOUND = tuple[Common, _TABLE | None, list[tuple[int, int, int]] | None, bool]


class AgPass:
    """The btrees of all AGs; a unit is an AG."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.units = range(state.agcount)

    def begin(self) -> None:
        """Forget what was found before."""
        self.state.take()

    def work(self, unit: int) -> None:
        """Check an AG."""
        _check_ag(self.state, unit)

    def take(self, unit: int) -> _FOUND:
        """Take out findings and owners, the inode chunks, the shares, whether owners are known."""
        state, inventory = self.state, self.state.inodes[unit]
        table = None
        if inventory is not None:
            t = inventory.table
            table = bytes(t.startino), bytes(t.holemask), bytes(t.free)
        return state.take(), table, state.shares.get(unit), unit in state.rmaps

    def add(self, unit: int, found: object) -> None:
        """Add what another process found of an AG."""
        common, columns, shares, owners = cast(_FOUND, found)
        self.state.add(common)
        if columns is not None:
            table = ChunkTable()
            table.startino, table.holemask, table.free = array("I"), array("H"), array("Q")
            for column, words in zip(
                (table.startino, table.holemask, table.free), columns, strict=True
            ):
                column.frombytes(words)
            self.state.inodes[unit] = Inventory(table, self.state.with_parents)
        if shares is not None:
            self.state.shares[unit] = shares
        if owners:
            self.state.rmaps.add(unit)

    def take_rest(self) -> None:
        """There is nothing more."""

    def add_rest(self, found: object) -> None:
        """There is nothing more."""


def _check_ag(state: State, agno: int) -> None:
    """Check the btrees of one AG and the counters of its headers."""
    geo, spans = state.mount.geo, state.spans[agno]
    agf, agi, agfl = state.mount.agf[agno], state.mount.agi[agno], state.mount.agfl[agno]
    spans.add(0, geo.ag_header_blocks, OWN_FS)
    if agf is not None:
        _Space(state, agno, agf).check(agfl)
    if agi is not None:
        _Chunks(state, agno, agi).check()


class _Ag:
    """What the checks of one AG's structures share."""

    def __init__(self, state: State, agno: int) -> None:
        self.state = state
        self.agno = agno
        self.geo = state.mount.geo
        self.features = self.geo.ro_compat

    def differs(
        self, problem: str, header: str, field: str, expected: int, found: int, sector: int
    ) -> None:
        """Report a counter of a header that is not what was counted."""
        if expected != found:
            self.state.report.add(
                problem, f"ag {self.agno} / {header}", field, expected=expected, found=found,
                offset=self.state.sector_offset(self.agno, sector), agno=self.agno,
            )  # fmt: skip

    def broken(self, problem: str, error: ImageError) -> None:
        """Report a damaged tree."""
        self.state.report.error(problem, error, agno=self.agno, hides=True)

    def own_blocks(self, tree: AgTree, owner: int) -> int:
        """Note who owns a tree's blocks; return how many they are."""
        for agbno in tree.blocks:
            self.state.spans[self.agno].add(agbno, 1, owner)
        return len(tree.blocks)


class _Space(_Ag):
    """AGF, AGFL, and the trees of free space and of shares."""

    def __init__(self, state: State, agno: int, agf: Agf) -> None:
        super().__init__(state, agno)
        self.agf = agf

    def check(self, agfl: Agfl | None) -> None:
        """Check all of them."""
        agf = self.agf
        starts, bno_blocks = self._free(BNOBT, "bnobt-damaged", agf.bno_root, agf.bno_level)
        sizes, cnt_blocks = self._free(CNTBT, "cntbt-damaged", agf.cnt_root, agf.cnt_level)
        if starts is not None:
            self._count_free(starts)
        if starts is not None and sizes is not None:
            self._compare(starts, sizes)
        rmap_blocks = self._rmap_blocks()
        if starts is not None and sizes is not None and rmap_blocks is not None:
            blocks = bno_blocks + cnt_blocks - 2 + max(0, rmap_blocks - 1)
            self.differs("agf-btreeblks", "agf", "btreeblks", blocks, agf.btreeblks, 1)
        if self.features & feat.RO_COMPAT_REFLINK:
            self._shares()
        if agfl is not None:
            self._reserve()

    def _free(
        self, tree: Tree, problem: str, root: int, height: int
    ) -> tuple[array[int] | None, int]:
        walk = AgTree(self.state.mount, tree, self.agno, root, height)
        try:
            found = walk.extents()
        except ImageError as error:
            self.broken(problem, error)
            return None, 0
        return found, self.own_blocks(walk, OWN_AG)

    def _count_free(self, extents: array[int]) -> None:
        total = longest = 0
        spans = self.state.spans[self.agno]
        for extent in extents:
            count = extent & 0xFFFFFFFF
            total += count
            longest = max(longest, count)
            spans.add(extent >> 32, count, OWN_FREE)
        self.differs("agf-freeblks", "agf", "freeblks", total, self.agf.freeblks, 1)
        self.differs("agf-longest", "agf", "longest", longest, self.agf.longest, 1)

    def _compare(self, starts: array[int], sizes: array[int]) -> None:
        other = array("Q", sorted(sizes))
        if starts == other:
            return
        one, two = set(starts), set(other)
        odd = min(one ^ two)
        self.state.report.add(
            "free-trees-differ", f"ag {self.agno} / {'cntbt' if odd in one else 'bnobt'}",
            expected=f"{odd & 0xFFFFFFFF} blocks from {odd >> 32}, as the other tree has",
            found=f"{len(one ^ two)} extents in one of the trees only", agno=self.agno,
        )  # fmt: skip

    def _rmap_blocks(self) -> int | None:
        """Return the blocks of the rmapbt, 0 without one, None where it is damaged."""
        if not self.features & feat.RO_COMPAT_RMAPBT:
            return 0
        walk = self.state.rmap_tree(self.agno)
        try:
            for _ in walk.owners():
                pass
        except ImageError as error:
            self.broken("rmapbt-damaged", error)
            return None
        self.state.rmaps.add(self.agno)
        for block, number, found, wanted in walk.wrong_high_keys():
            self.state.report.add(
                "rmapbt-high-key", f"{walk.name} block", f"high key {number}", agno=self.agno,
                expected=key_text(wanted), found=key_text(found), offset=block.daddr << 9,
            )  # fmt: skip
        blocks = self.own_blocks(walk, OWN_AG)
        self.differs("agf-btreeblks", "agf", "rmap_blocks", blocks, self.agf.rmap_blocks, 1)
        return blocks

    def _shares(self) -> None:
        agf = self.agf
        walk = AgTree(
            self.state.mount, REFCOUNTBT, self.agno, agf.refcount_root, agf.refcount_level
        )
        try:
            records = list(walk.shares())
        except ImageError as error:
            self.broken("refcountbt-damaged", error)
            return
        for start, count, _, cow in records:
            if cow:
                self.state.spans[self.agno].add(start, count, OWN_COW)
        shared = [(start, start + count, refs) for start, count, refs, cow in records if not cow]
        self.state.shares[self.agno] = shared
        blocks = self.own_blocks(walk, OWN_REFC)
        self.differs("agf-btreeblks", "agf", "refcount_blocks", blocks, agf.refcount_blocks, 1)

    def _reserve(self) -> None:
        """Check the AGFL's entries in use."""
        agf, size = self.agf, self.geo.agfl_size
        between = (agf.fllast - agf.flfirst) % size + 1
        if agf.flcount and agf.flcount != between:
            self.differs("agf-flcount", "agf", "flcount", between, agf.flcount, 1)
        offset = self.state.sector_offset(self.agno, 3)
        data = self.state.mount.device.pread(offset, self.geo.sectsize)
        first, last = self.geo.ag_header_blocks, ag_length(self.geo, self.agno) - 1
        seen: set[int] = set()
        for number in range(agf.flcount):
            at = AGFL_HEADER_BYTES + 4 * ((agf.flfirst + number) % size)
            agbno = int.from_bytes(data[at : at + 4], "big")
            if not first <= agbno <= last or agbno in seen:
                self.state.report.hidden = True
                self.state.report.add(
                    "agfl-entry", f"ag {self.agno} / agfl", f"entry {number}", found=agbno,
                    expected=f"a block from {first} to {last}, not seen before",
                    offset=offset + at, agno=self.agno,
                )  # fmt: skip
                continue
            seen.add(agbno)
            self.state.spans[self.agno].add(agbno, 1, OWN_AG)


class _Chunks(_Ag):
    """AGI, inobt, finobt and the unlinked lists' heads."""

    def __init__(self, state: State, agno: int, agi: Agi) -> None:
        super().__init__(state, agno)
        self.agi = agi

    def check(self) -> None:
        """Check all of them; the AG's inventory exists afterwards if the inobt is sound."""
        agi = self.agi
        self._pointers()
        walk = AgTree(self.state.mount, INOBT, self.agno, agi.root, agi.level)
        try:
            table = read_chunks(
                self.state.mount.buffers, self.geo, self.agno, agi, visited=walk.blocks
            )
        except ImageError as error:
            self.broken("inobt-damaged", error)
            return
        self.state.inodes[self.agno] = Inventory(table, self.state.with_parents)
        blocks = self.own_blocks(walk, OWN_INOBT)
        if self.features & feat.RO_COMPAT_INOBTCOUNT:
            self.differs("agi-iblocks", "agi", "iblocks", blocks, agi.iblocks, 2)
        count = free_count = 0
        for start, hole, free in table:
            there = present(hole)
            count += there.bit_count()
            free_count += (free & there).bit_count()
            self._own_chunk(start, hole)
        self.differs("agi-count", "agi", "count", count, agi.count, 2)
        self.differs("agi-freecount", "agi", "freecount", free_count, agi.freecount, 2)
        if self.features & feat.RO_COMPAT_FINOBT:
            self._free_inodes(table)

    def _pointers(self) -> None:
        """Hold the inodes that the AGI names to lie in its AG (`xchk_agi`)."""
        log = self.geo.inopblog
        first, end = self.geo.ag_header_blocks << log, ag_length(self.geo, self.agno) << log
        for name in ("newino", "dirino"):
            agino = getattr(self.agi, name)
            if agino != NULLAGINO and not first <= agino < end:
                self.state.report.add(
                    "agi-damaged", f"ag {self.agno} / agi", name, found=agino, agno=self.agno,
                    expected=f"none, or {first} to {end - 1}",
                    offset=self.state.sector_offset(self.agno, 2),
                )  # fmt: skip

    def _own_chunk(self, start: int, hole: int) -> None:
        """Note the blocks of a chunk, its holes left out."""
        spans, log = self.state.spans[self.agno], self.geo.inopblog
        if not hole:
            if start & self.geo.inopblock - 1 == 0:
                spans.add(start >> log, self.geo.chunk_blocks, OWN_INODES)
            return
        there, last = present(hole), -1
        for bit in range(INODES_PER_CHUNK):
            agbno = start + bit >> log
            if there >> bit & 1 and agbno != last:
                spans.add(agbno, 1, OWN_INODES)
                last = agbno

    def _free_inodes(self, table: ChunkTable) -> None:
        """Hold the finobt to have the inobt's records with free inodes."""
        agi = self.agi
        walk = AgTree(self.state.mount, FINOBT, self.agno, agi.free_root, agi.free_level)
        try:
            free_table = read_chunks(
                self.state.mount.buffers, self.geo, self.agno, agi, FINOBT, walk.blocks
            )
        except ImageError as error:
            self.broken("finobt-damaged", error)
            return
        blocks = self.own_blocks(walk, OWN_INOBT)
        if self.features & feat.RO_COMPAT_INOBTCOUNT:
            self.differs("agi-iblocks", "agi", "fblocks", blocks, agi.fblocks, 2)
        wanted = {chunk for chunk in table if chunk[2] & present(chunk[1])}
        odd = wanted ^ set(free_table)
        if odd:
            chunk = min(odd)
            self.state.report.add(
                "finobt-differs", f"ag {self.agno} / finobt", f"chunk {chunk[0]}",
                expected="the inobt's record" if chunk in wanted else "no such record",
                found=f"{len(odd)} records in one of the trees only", agno=self.agno,
            )  # fmt: skip
