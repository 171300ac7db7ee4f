"""Every block owned exactly once, and the trees of owners and shares in agreement with that.

Source: `scrub/rmap.c`, `scrub/refcount.c`, `repair/rmap.c`, `repair/scan.c`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from wofs.check.findings import Rows
from wofs.check.owners import (
    OWN_FREE,
    OWN_LOG,
    Spans,
    may_share,
    owner_name,
    runs_of,
    sharing,
)
from wofs.check.state import State
from wofs.ondisk import features as feat
from wofs.xfs.geometry import ag_length, agb_to_daddr

Share = tuple[int, int, int]
"""(first block, end, how many extents have it)."""


def own_log(state: State) -> None:
    """Note the blocks of an internal log."""
    geo = state.mount.geo
    if geo.logstart:
        state.own(geo.logstart, geo.logblocks, OWN_LOG)


class AccountPass:
    """Account for every block; where damage hides owners, only for what is owned twice.

    A unit is an AG.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.units = range(state.agcount)
        self.hidden = state.report.hidden
        if self.hidden:
            state.report.add("accounting-skipped", "image")

    def begin(self) -> None:
        """Forget what was found before."""
        self.state.report.take()

    def work(self, unit: int) -> None:
        """Check an AG."""
        _Account(self.state, unit, not self.hidden).check()

    def take(self, unit: int) -> Rows:
        """Take out the findings."""
        return self.state.report.take()

    def add(self, unit: int, found: object) -> None:
        """Add what another process found."""
        self.state.report.extend(cast(Rows, found))

    def take_rest(self) -> None:
        """There is nothing more."""

    def add_rest(self, found: object) -> None:
        """There is nothing more."""


class _Account:
    """The blocks of one AG."""

    def __init__(self, state: State, agno: int, whole: bool) -> None:
        self.state = state
        self.agno = agno
        self.whole = whole
        self.reflink = bool(state.mount.geo.ro_compat & feat.RO_COMPAT_REFLINK)
        self.shared: list[Share] = []

    def check(self) -> None:
        """Sweep over the AG's owners, then compare the trees with them."""
        spans = self.state.spans[self.agno]
        self._sweep(spans)
        if not self.whole:
            return
        if self.agno in self.state.shares:
            self._compare_shares(self.state.shares[self.agno])
        if self.agno in self.state.rmaps:
            self._compare_owners(spans)

    def _sweep(self, spans: Spans) -> None:
        """Find gaps, overlaps, and what is shared."""
        reached, holder = 0, (OWN_FREE, 0)
        cluster: list[tuple[int, int]] = []
        reflink, whole = self.reflink, self.whole
        for start, count, owner, offset in spans:
            end = start + count
            if start >= reached:
                if start > reached and whole:
                    self._unowned(reached, start)
                if reflink:
                    self._note_shares(cluster)
                    cluster = []
            elif not (reflink and may_share(owner, offset) and may_share(*holder)):
                self._twice(start, min(reached, end), holder, (owner, offset))
            if reflink and may_share(owner, offset):
                cluster.append((start, end))
            if end > reached:
                reached, holder = end, (owner, offset)
        self._note_shares(cluster)
        last = ag_length(self.state.mount.geo, self.agno)
        if reached < last and whole:
            self._unowned(reached, last)

    def _note_shares(self, cluster: list[tuple[int, int]]) -> None:
        if len(cluster) > 1:
            self.shared += sharing(cluster)

    def _place(self, agbno: int) -> int:
        return agb_to_daddr(self.state.mount.geo, self.agno, agbno) << 9

    def _unowned(self, start: int, end: int) -> None:
        self.state.report.add(
            "block-unowned", f"ag {self.agno} / blocks {start} to {end - 1}", agno=self.agno,
            expected="an owner, or to be free", found="neither", offset=self._place(start),
        )  # fmt: skip

    def _twice(self, start: int, end: int, one: tuple[int, int], two: tuple[int, int]) -> None:
        inos = [owner for owner, offset in (two, one) if not owner >> 63]
        self.state.report.add(
            "block-owned-twice", f"ag {self.agno} / blocks {start} to {end - 1}",
            expected=f"only {owner_name(*one)}", found=f"{owner_name(*two)} too",
            offset=self._place(start), ino=inos[0] if inos else None, agno=self.agno,
        )  # fmt: skip

    def _compare_shares(self, records: list[Share]) -> None:
        """Hold the refcountbt to what the extents share."""
        there, found = _joined(records), _joined(self.shared)
        if there == found:
            return
        odd = sorted(set(there) ^ set(found))
        start, end, refs = odd[0]
        what = f"blocks {start} to {end - 1} {refs} times"
        in_tree = odd[0] in set(there)
        self.state.report.add(
            "refcountbt-differs", f"ag {self.agno} / refcountbt", agno=self.agno,
            expected="what extents share" if in_tree else what,
            found=what if in_tree else f"{len(odd)} differences", offset=self._place(start),
        )  # fmt: skip

    def _compare_owners(self, spans: Spans) -> None:
        """Hold the rmapbt to the owners that were found."""
        found = runs_of(span for span in spans if span[2] != OWN_FREE)
        there = runs_of(self.state.rmap_tree(self.agno).owners())
        if there == found:
            return
        odd = sorted(set(there) ^ set(found), key=lambda run: run[2])
        owner, key, start, end = odd[0]
        what = f"blocks {start} to {end - 1} of {owner_name(owner, key)}"
        in_tree = odd[0] in set(there)
        self.state.report.add(
            "rmapbt-differs", f"ag {self.agno} / rmapbt", agno=self.agno,
            expected="the owner that was found" if in_tree else what,
            found=what if in_tree else f"{len(odd)} differences",
            offset=self._place(start), ino=None if owner >> 63 else owner,
        )  # fmt: skip


def _joined(shares: list[Share]) -> list[Share]:
    """Return shares with those that continue each other joined."""
    return list(_join(sorted(shares)))


def _join(shares: list[Share]) -> Iterator[Share]:
    last: Share | None = None
    for start, end, refs in shares:
        if last is not None and last[1] == start and last[2] == refs:
            last = (last[0], end, refs)
            continue
        if last is not None:
            yield last
        last = (start, end, refs)
    if last is not None:
        yield last
