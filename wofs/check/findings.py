"""Findings: what broke which rule where; kept in bounded number, counted without bound."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from wofs.check.problems import CODES, ERROR, NOTE, PROBLEMS, Problem
from wofs.errors import ImageError
from wofs.units import SECTOR_BYTES

KEPT_PER_PROBLEM = 1000
"""Findings of one problem that are kept whole; of the rest only the number."""


@dataclass(slots=True)
class Finding:
    """One broken rule. `offset` is a byte of the image, `path` the inode's name where known."""

    problem: Problem
    object: str
    field: str | None = None
    expected: str | None = None
    found: str | None = None
    offset: int | None = None
    ino: int | None = None
    agno: int | None = None
    detail: str = ""
    path: bytes | None = None


Row = tuple[str, str, str | None, str | None, str | None, int | None, int | None, int | None, str]
"""A finding without its path; the problem by its name."""

Rows = tuple[list[Row], dict[str, int], bool]
"""A report to hand to another process: findings, counts by code, whether owners are hidden."""


class Report:
    """All findings of one check; `hidden` tells that damage hid owners of blocks."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self.hidden = False

    def add(
        self,
        name: str,
        obj: str,
        field: str | None = None,
        *,
        expected: object = None,
        found: object = None,
        offset: int | None = None,
        ino: int | None = None,
        agno: int | None = None,
        detail: str = "",
    ) -> None:
        """Note that `obj` breaks the rule called `name`."""
        problem = PROBLEMS[name]
        self.counts[problem.code] += 1
        if self.counts[problem.code] > KEPT_PER_PROBLEM:
            return
        said, seen = (None if v is None else str(v) for v in (expected, found))
        finding = Finding(problem, obj, field, said, seen, offset, ino, agno, detail)
        self.findings.append(finding)

    def count(self, name: str, more: int) -> None:
        """Note `more` findings of a problem of which nothing but the number is to be kept."""
        if more:
            self.counts[PROBLEMS[name].code] += more

    def error(
        self,
        name: str,
        error: ImageError,
        *,
        ino: int | None = None,
        agno: int | None = None,
        hides: bool = False,
    ) -> None:
        """Note what a reader refused, under the problem of its structure.

        `hides` says that blocks this structure owns are now unknown.
        """
        self.hidden |= hides
        where = error.where
        self.add(
            name,
            where.object,
            where.field,
            expected=error.expected,
            found=error.found,
            offset=None if where.daddr is None else where.daddr * SECTOR_BYTES,
            ino=ino,
            agno=agno,
            detail=error.problem,
        )

    def take(self) -> Rows:
        """Take everything out."""
        rows: list[Row] = [
            (f.problem.name, f.object, f.field, f.expected, f.found, f.offset, f.ino, f.agno,
             f.detail)
            for f in self.findings
        ]  # fmt: skip
        out = rows, dict(self.counts), self.hidden
        self.findings, self.counts, self.hidden = [], Counter(), False
        return out

    def extend(self, taken: Rows) -> None:
        """Add what was taken out elsewhere."""
        rows, counts, hidden = taken
        kept = Counter(finding.problem.code for finding in self.findings) if rows else Counter()
        for row in rows:
            problem = PROBLEMS[row[0]]
            kept[problem.code] += 1
            if kept[problem.code] <= KEPT_PER_PROBLEM:
                self.findings.append(Finding(problem, *row[1:]))
        self.counts.update(counts)
        self.hidden |= hidden

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return not any(f.problem.severity != NOTE for f in self.findings)

    @property
    def verdict(self) -> str:
        """How many findings there are, and how many of them are errors, in words."""
        if self.clean:
            return "nothing is wrong"
        total = sum(count for code, count in self.counts.items() if CODES[code].severity != NOTE)
        return f"{_counted(total, 'finding')}, {_counted(self.errors, 'error')}"

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        names = {p.code for p in PROBLEMS.values() if p.severity == ERROR}
        return sum(count for code, count in self.counts.items() if code in names)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
