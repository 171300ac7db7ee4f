"""What a campaign found, added up: by structure and field, by outcome, by reason.

Numbers in brackets are left out of the names of fields: `bno[3]` and `bno[7]` are one field.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wofs.campaign.fault import Fault
from wofs.campaign.laws import OUTCOMES, Result
from wofs.campaign.memory import CLASS
from wofs.campaign.results import BadResults, Image, Results, Run, Stored, Verdict
from wofs.campaign.target import ENDED, STATUSES
from wofs.corrupt.parts import Part
from wofs.corrupt.target import RECORDS, fields_of

BAD = ("broken", "silent", "missed")
"""Outcomes that are defects; a stray write into ordinary memory may be missed, though."""

TOLD = ("refused", "contained", "caught")
"""Outcomes of faults that wofs tells of."""

CONTROL = "none"
"""The memory that protects nothing: what is missed there was to be missed."""

_INDEX = re.compile(r"\[[^\]]*\]")


def plain(name: str) -> str:
    """Return the name of a field without the numbers in brackets."""
    return _INDEX.sub("", name)


def counted(number: int, word: str) -> str:
    """Return a number of things, which are called `word`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def listed(fields: Counter[str]) -> str:
    """Return the names of fields with their numbers of faults."""
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(fields.items()))


def reproducing(fault: Fault) -> str:
    """Return the one command that does the same to a copy of the image, or to a mount of it."""
    if fault.klass == CLASS:
        return f"wofs demo {_shell(fault.edits)} --image {_shell([fault.image])}"
    return f"wofs corrupt {_shell([fault.image])} bad.img {_shell(fault.edits)}"


def _shell(words: Iterable[str]) -> str:
    """Return words for a shell, and for eyes: odd bytes as bash's $'...' has them."""
    return " ".join(shlex.quote(word) if word.isprintable() else _odd(word) for word in words)


def _odd(word: str) -> str:
    raw = word.encode("utf-8", "surrogateescape")
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in raw
    )
    return f"$'{shown}'"


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """What a line of the table is about: a structure, in the memory `backend` or on disk ("")."""

    backend: str
    structure: str

    def __str__(self) -> str:
        return f"{self.structure} in {self.backend}" if self.backend else self.structure


@dataclass(slots=True)
class Coverage:
    """The fields of one structure: how many there are, which were struck, which never.

    `by_outcome` counts the fields that had an outcome at least once.
    """

    fields: int
    struck: int
    never: tuple[str, ...]
    by_outcome: Counter[str]


@dataclass
class Reader:
    """What another reader says.

    `counts` are faults by the outcome in wofs and the reader's status; `ended` the faults that
    it did not survive (crashed, hung), `accepted` those that it accepts and wofs tells of,
    `refused` those that it alone tells of.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: list[tuple[Fault, Verdict]] = field(default_factory=list)
    accepted: list[tuple[Fault, Verdict]] = field(default_factory=list)
    refused: list[tuple[Fault, Verdict]] = field(default_factory=list)

    @property
    def lists(self) -> dict[str, list[tuple[Fault, Verdict]]]:
        """What there is to see one by one, by what it says."""
        return {
            "it did not survive": self.ended,
            "it alone tells of": self.refused,
            "it accepts, and wofs tells of": self.accepted,
        }


@dataclass
class Summary:
    """A campaign, added up. All counters count faults.

    `fields` has those of each structure by field and outcome, `laws` those that broke each,
    `bad` the defects, `invisible` by reason those of each field, `missed` of each kind of
    memory the fields where a stray write landed by what came of it, `readers` what other
    readers say.
    """

    path: str
    runs: list[Run]
    images: list[Image]
    fields: dict[Row, dict[str, Counter[str]]] = field(default_factory=dict)
    laws: Counter[str] = field(default_factory=Counter)
    bad: list[Stored] = field(default_factory=list)
    invisible: dict[str, Counter[str]] = field(default_factory=dict)
    missed: dict[str, Counter[str]] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)

    @property
    def structures(self) -> dict[Row, Counter[str]]:
        """How many faults of each structure had each outcome."""
        return {row: _sum(fields.values()) for row, fields in self.fields.items()}

    @property
    def total(self) -> Counter[str]:
        """How many faults had each outcome."""
        return _sum(self.structures.values())

    @property
    def outcomes(self) -> list[str]:
        """The outcomes that occurred, the good ones first."""
        return [name for name in OUTCOMES if self.total[name]]

    @property
    def sound(self) -> bool:
        """Whether no law was broken and no answer silently wrong."""
        return not self.bad

    def coverage(self) -> dict[str, Coverage]:
        """Return what was struck of each structure on disk."""
        found = {}
        for row, fields in self.fields.items():
            if row.backend:
                continue
            by_field: dict[str, set[str]] = {}
            for name, counts in fields.items():
                for one in filter(None, name.split("+")):  # a pair strikes both
                    by_field.setdefault(one, set()).update(o for o, n in counts.items() if n)
            never = sorted({plain(name) for name in _declared(row.structure)} - by_field.keys())
            if not by_field and not never:
                continue  # it has no fields: data, the end of the image
            by_outcome = Counter(name for names in by_field.values() for name in names)
            number, total = len(by_field), len(by_field) + len(never)
            found[row.structure] = Coverage(total, number, tuple(never), by_outcome)
        return found


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counters:
        total.update(one)
    return total


def _declared(structure: str) -> Iterator[str]:
    """Yield the fields that a kind of structure has by its declaration."""
    if structure in RECORDS:
        for spot in fields_of(Part(structure, 0, 0, 0, 0, 0)):
            yield spot.name


def is_bad(result: Result) -> bool:
    """Whether a result is a defect."""
    missed_rightly = result.outcome == "missed" and result.fault.crc == CONTROL
    return result.outcome in BAD and not missed_rightly


def summary(results: Results) -> Summary:
    """Add up a file of results."""
    found = Summary(results.path, results.runs(), results.images())
    counts = results.counts().items()
    for (klass, structure, crc, name, outcome), count in sorted(counts):
        if outcome not in OUTCOMES:
            raise BadResults(f"{results.path}: {outcome!r} is no outcome of a fault")
        row = Row(crc if klass == CLASS else "", structure)
        fields = found.fields.setdefault(row, {})
        fields.setdefault(plain(name), Counter())[outcome] += count
    found.bad = [stored for stored in results.results(*BAD) if is_bad(stored.result)]
    found.bad.sort(key=lambda stored: BAD.index(stored.result.outcome))
    for stored in found.bad:
        found.laws.update(stored.result.laws)
    for stored in results.results("invisible"):
        fault = stored.result.fault
        name = f"{fault.structure}.{plain(fault.field)}" if fault.field else fault.structure
        named = found.invisible.setdefault(stored.result.reason, Counter())
        named[name] += stored.result.count
    for stored in results.results("missed"):
        fault = stored.result.fault
        if fault.field:
            found.missed.setdefault(fault.crc, Counter())[stored.result.reason] += 1
    for target, outcome, status, count in results.verdicts():
        found.readers.setdefault(target, Reader()).counts[outcome, status] = count
    for stored in results.said(*STATUSES):
        told = stored.result.outcome in TOLD
        for verdict in stored.verdicts:
            reader, pair = found.readers[verdict.target], (stored.result.fault, verdict)
            if verdict.status in ENDED:
                reader.ended.append(pair)
            elif verdict.status == "accepted" and told:
                reader.accepted.append(pair)
            elif verdict.status == "refused" and not told:
                reader.refused.append(pair)
    return found
