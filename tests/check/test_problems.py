"""For each problem of the table one fault that shows it; without the fault nothing is found."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wofs
from support.patched import Patched, parts_of
from support.subject import Subject
from wofs.check.problems import CODES
from wofs.check.run import check
from wofs.corrupt.parts import Part

Unpack = Callable[[str], Path]

def _dangling(s: Subject) -> None:
    _, folder = s.small_folder()
    s.put(folder, s.first_entry(folder)[1], "I", next(i for i, _ in s.free if i))


def _two_parents(s: Subject) -> None:
    _, folder = s.small_folder()
    other = next(i for p, i in sorted(s.inos.items()) if p.count("/") == 1 and p != "/")
    s.put(folder, s.first_entry(folder)[1], "I", other)
    folder_of = next(p for p, i in s.inos.items() if i == other)
    kind = s.get(s.inode(folder_of), 2, "H") >> 12
    if kind != 4:
        other = next(
            s.inos[p] for p in sorted(s.inos)
            if p != "/" and s.get(s.inode(p), 2, "H") >> 12 == 4
        )  # fmt: skip
        s.put(folder, s.first_entry(folder)[1], "I", other)


def _emptied(s: Subject) -> Part:
    """Empty a directory; return the inode that loses its name."""
    _, folder = s.small_folder()
    ino = s.get(folder, s.first_entry(folder)[1], "I")
    s.put(folder, 176, "BB", 0, 0)
    s.put(folder, 56, "Q", 6)
    return next(p for p in s.parts if p.kind == "inode" and p.owner == ino)


def _unlinked(s: Subject) -> Part:
    """Put an inode into a list of unlinked ones; return it."""
    lost = _emptied(s)
    s.put(lost, 16, "I", 0)
    agino = lost.owner & s.agino_mask
    agno = next(n for n in range(s.agcount) if s.starts[n] <= lost.start < _end(s, n))
    s.put(s.part("agi", agno), 40 + 4 * (agino % 64), "I", agino)
    return lost


def _end(s: Subject, agno: int) -> int:
    return s.starts[agno + 1] if agno + 1 < s.agcount else s.device.size


def _free_mode(s: Subject) -> None:
    ino, start = next(pair for pair in s.free if pair[0])
    s.put(Part("inode", ino, 0, start, s.isize, 100), 2, "H", 0o100644)


def _free_crc(s: Subject) -> None:
    ino, start = next(pair for pair in s.free if pair[0])
    s.spoil(Part("inode", ino, 0, start, s.isize, 100), 92)


def _free_record(s: Subject) -> None:
    agno = next(n for n in range(s.agcount) if s.free[n][0])
    root = s.root("finobt", agno)
    s.put(root, 6, "H", s.get(root, 6, "H") - 1)


def _shifted(s: Subject) -> None:
    """Make one free extent of the cntbt start later."""
    root = s.root("cntbt", 0)
    last = 56 + 8 * (s.get(root, 6, "H") - 1)
    s.add(root, last, "I", 1)
    s.add(root, last + 4, "I", -1)


def _far(s: Subject) -> None:
    """Give the last entry of a shortform directory a place beyond any block."""
    folder, at = s.small_folder()[1], 182
    for _ in range(s.get(folder, 176, "B") - 1):
        at += 3 + s.get(folder, at, "B") + 1 + 4
    s.put(folder, at + 1, "H", 0xFFF0)


def _share(s: Subject) -> None:
    for agno in range(s.agcount):
        root = s.root("refcountbt", agno)
        if s.get(root, 6, "H"):
            s.add(root, 64, "I", 1)
            return
    raise AssertionError("nothing is shared")


def _owner(s: Subject) -> None:
    block = s.root("rmapbt", 0)
    while s.get(block, 4, "H"):
        most = (s.blocksize - 56) // 44
        agbno = s.get(block, 56 + 40 * most, "I")
        block = Part("rmapbt", 0, 0, s.starts[0] + agbno * s.blocksize, s.blocksize, 52)
    last = s.get(block, 6, "H") - 1
    s.add(block, 56 + 24 * last + 8, "Q", -1)


def _dropped(s: Subject) -> None:
    file = s.file()
    s.put(file, 56, "QQ", 0, 0)
    s.put(file, 76, "I", 0)


def _twice(s: Subject) -> None:
    one, two = s.file(0), s.file(1)
    s.device.change(two, 184, s.device.pread(one.start + 184, 8))
    s.put(two, 64, "Q", s.get(one, 64, "Q"))
    s.put(one, 120, "Q", s.get(one, 120, "Q") & ~2)
    taken = s.root("bnobt", 0)
    low = (s.get(two, 184, "Q") & (1 << 21) - 1) | (taken.start - s.starts[0]) // s.blocksize << 21
    s.put(two, 184, "Q", low)


def _short(s: Subject) -> None:
    s.device.cut(s.device.size - s.blocksize)


def _flag(s: Subject, bits: int) -> None:
    """Set flags of the first attribute that lies in an inode."""
    for path in sorted(s.inos):
        part = s.inode(path)
        if s.get(part, 82, "B") and s.get(part, 83, "B") == 1:
            at = 176 + 8 * s.get(part, 82, "B") + 6
            s.put(part, at, "B", s.get(part, at, "B") | bits)
            return
    raise AssertionError("no shortform attributes")


FAULTS: dict[str, Callable[[Subject], None]] = {
    "WX0101": lambda s: s.spoil(s.part("sb"), 108),
    "WX0102": lambda s: s.spoil(s.part("sb", 1), 108),
    "WX0103": lambda s: s.add(s.part("sb", 1), 125, "B", 1),
    "WX0104": lambda s: s.add(s.part("sb"), 128, "Q", 64),
    "WX0105": lambda s: s.add(s.part("sb"), 136, "Q", 1),
    "WX0106": lambda s: s.add(s.part("sb"), 144, "Q", -1),
    "WX0107": _short,
    "WX0108": lambda s: s.add(s.part("sb"), 212, "I", 1 << 20),
    "WX0109": lambda s: s.put(s.part("sb"), 176, "H", 0x10),
    "WX0114": lambda s: s.put(s.part("sb"), 178, "B", 1),
    "WX0115": lambda s: s.put(s.part("sb"), 100, "H", s.get(s.part("sb"), 100, "H") & ~0x10),
    "WX0116": lambda s: s.put(s.part("sb", 1), 220, "I", 1),
    "WX0113": lambda s: s.put(s.part("dirdata"), 16, "Q", 1 << 60),
    "WX0201": lambda s: s.put(s.part("agf"), 8, "I", 77),
    "WX0202": lambda s: s.put(s.part("agi"), 8, "I", 77),
    "WX0203": lambda s: s.put(s.part("agfl"), 4, "I", 77),
    "WX0204": lambda s: s.put(
        s.part("agfl"), 36 + 4 * s.get(s.part("agf"), 40, "I"), "I", 0
    ),
    "WX0205": lambda s: s.add(s.part("agf"), 48, "I", -1),
    "WX0206": lambda s: s.add(s.part("agf"), 52, "I", 1),
    "WX0207": lambda s: s.add(s.part("agf"), 56, "I", -1),
    "WX0208": lambda s: s.add(s.part("agf"), 60, "I", 1),
    "WX0210": lambda s: s.add(s.part("agi"), 16, "I", 64),
    "WX0211": lambda s: s.add(s.part("agi"), 28, "I", 1),
    "WX0213": lambda s: s.put(s.part("agi"), 40, "I", 1),
    "WX0214": lambda s: (_unlinked(s), None)[1],
    "WX0215": lambda s: s.put(s.file(), 96, "I", s.file().owner),
    "WX0220": lambda s: s.put(s.root("bnobt", 0), 4, "H", 7),
    "WX0221": lambda s: s.put(s.root("cntbt", 0), 48, "I", 77),
    "WX0222": _shifted,
    "WX0223": lambda s: s.spoil(s.root("inobt", 0), 60),
    "WX0224": lambda s: s.spoil(s.root("finobt", 0), 60),
    "WX0225": _free_record,
    "WX0226": lambda s: s.put(s.root("rmapbt", 0), 0, "I", 0),
    "WX0227": _owner,
    "WX0228": lambda s: s.put(s.root("refcountbt", 0), 12, "I", 5),
    "WX0229": _share,
    "WX0230": lambda s: s.add(s.root("rmapbt", 0), 76, "I", 1),
    "WX0301": lambda s: s.spoil(s.part("dirdata"), 64),
    "WX0302": lambda s: s.spoil(s.part("dirindex"), 64),
    "WX0303": _dangling,
    "WX0304": lambda s: s.put(
        s.small_folder()[1], s.first_entry(s.small_folder()[1])[0], "B", 2
    ),
    "WX0305": _two_parents,
    "WX0306": lambda s: s.put(s.small_folder()[1], 178, "I", s.inos[s.small_folder()[0]]),
    "WX0307": lambda s: (_emptied(s), None)[1],
    "WX0308": lambda s: s.put(s.part("sb"), 56, "Q", s.file().owner),
    "WX0309": lambda s: s.spoil(s.part("dirdata"), 64),
    "WX0310": lambda s: s.add(s.part("dirdata"), 50, "H", 8),
    "WX0311": _far,
    "WX0312": lambda s: s.add(s.part("dirindex"), 64, "I", -1),
    "WX0401": lambda s: s.put(s.file(), 0, "H", 0),
    "WX0402": _free_mode,
    "WX0403": _free_crc,
    "WX0404": lambda s: s.add(s.file(), 16, "I", 1),
    "WX0405": lambda s: s.put(_emptied(s), 16, "I", 0),
    "WX0406": lambda s: s.put(s.file(), 8, "I", 0xFFFFFFFF),
    "WX0410": lambda s: s.put(s.file(), 176, "QQ", 0x1FF, (1 << 64) - (1 << 21) | 1),
    "WX0411": lambda s: s.put(s.file(), 90, "H", 1),
    "WX0501": lambda s: _flag(s, 6),
    "WX0502": lambda s: s.spoil(s.part("target"), 60),
    "WX0503": lambda s: _flag(s, 0x80),
    "WX0601": _twice,
    "WX0602": _dropped,
    "WX0603": lambda s: s.put(s.part("agf"), 8, "I", 77),
}
"""What shows each problem on an image with owner and share trees."""

ELSEWHERE = {
    "WX0110": "log", "WX0111": "dirty", "WX0112": "external-log", "WX0212": "iblocks",
    "WX0504": "attributes", "WX0510": "parents", "WX0511": "parents", "WX0701": "quota",
    "WX0710": "realtime", "WX0711": "realtime", "WX0712": "realtime",
}  # fmt: skip
"""Problems that another image shows, here or in test_records.py."""


@pytest.fixture(scope="module")
def subject(image: Unpack) -> Iterator[Subject]:
    """The image that has all btrees."""
    found = Subject(image("b1k-rmap"))
    yield found
    found.device.really_close()


def _codes(device: Patched) -> set[str]:
    return set(check(device).counts)


def test_the_table_is_covered() -> None:
    assert FAULTS.keys() | ELSEWHERE.keys() == CODES.keys()
    assert not FAULTS.keys() & ELSEWHERE.keys()
    assert len({p.name for p in CODES.values()}) == len(CODES)


@pytest.mark.parametrize("code", FAULTS)
def test_fault(subject: Subject, code: str) -> None:
    subject.device.restore()
    FAULTS[code](subject)
    try:
        found = _codes(subject.device)
    finally:
        subject.device.restore()
    assert code in found


def test_without_a_fault(subject: Subject) -> None:
    subject.device.restore()
    assert not _codes(subject.device)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_attribute_bit_is_missed_for_the_first_inode(subject: Subject, jobs: int) -> None:
    subject.device.restore()
    FAULTS["WX0115"](subject)
    report = check(subject.device, jobs=jobs)
    with subject.device.opened() as fs:
        paths = [top / n for top, names, files in fs.root.walk() for n in (*names, *files)]
        inos = [path.ino for path in paths if path.xattrs(follow_symlinks=False)]
    subject.device.restore()
    (finding,) = report.findings
    assert finding.expected == f"bit 0x10: inode {min(inos)} has attributes"


@pytest.mark.parametrize("agno", [0, 2])
@pytest.mark.parametrize("at", [248, 300, 511])
def test_bytes_beyond_the_superblock(subject: Subject, agno: int, at: int) -> None:
    subject.device.restore()
    subject.put(subject.part("sb", agno), at, "B", 1)
    report = check(subject.device)
    subject.device.restore()
    found = {(f.problem.code, f.field) for f in report.findings}
    assert found >= {("WX0114", f"byte {at}")}
    assert {code for code, _ in found} <= {"WX0114", "WX0103"}


REFUSED = [
    (200, "I", 0x398A, "features2"), (180, "I", 3, "inoalignmt"), (193, "B", 9, "logsectlog"),
    (194, "H", 512, "logsectsize"), (196, "I", 1025, "logsunit"), (196, "I", 1 << 19, "logsunit"),
    (80, "I", 1 << 21, "rextsize"), (80, "I", 0, "rextsize"), (24, "Q", 1, "rextents"),
    (152, "Q", 1, "frextents"), (128, "Q", 1 << 40, "icount"), (144, "Q", 1 << 40, "fdblocks"),
    (176, "H", 0x20, "qflags"),
]  # fmt: skip
"""(byte of the superblock, its form, what the kernel refuses there, the field's name)."""


@pytest.mark.parametrize(("at", "code", "value", "field"), REFUSED)
def test_superblocks_the_kernel_refuses(
    subject: Subject, at: int, code: str, value: int, field: str
) -> None:
    subject.device.restore()
    subject.put(subject.part("sb"), at, code, value)
    report = check(subject.device)
    subject.device.restore()
    assert ("WX0109", field) in {(f.problem.code, f.field) for f in report.findings}


FREE = [
    (4, "B", 2, "version"), (56, "Q", 1 << 63, "di_size"), (72, "I", 1 << 30, "extsize"),
    (128, "I", 1 << 30, "cowextsize"), (83, "B", 1, "aformat"), (80, "H", 1, "anextents"),
]  # fmt: skip
"""(byte of a free inode, its form, what the kernel refuses there, the field's name)."""


@pytest.mark.parametrize(("at", "code", "value", "field"), FREE)
def test_what_is_left_in_a_free_inode(
    subject: Subject, at: int, code: str, value: int, field: str
) -> None:
    subject.device.restore()
    ino, start = next(pair for pair in subject.free if pair[0])
    subject.put(Part("inode", ino, 0, start, subject.isize, 100), at, code, value)
    report = check(subject.device)
    subject.device.restore()
    assert {(f.problem.code, f.field) for f in report.findings} == {("WX0403", field)}


def test_hints_left_in_a_free_inode_are_no_fault(subject: Subject) -> None:
    subject.device.restore()
    ino, start = next(pair for pair in subject.free if pair[0])
    subject.put(Part("inode", ino, 0, start, subject.isize, 100), 72, "I", 1)
    found = _codes(subject.device)
    subject.device.restore()
    assert not found


@pytest.mark.parametrize(("following", "said"), [(1 << 31, "none"), (7, "none")])
def test_a_free_inode_waits_in_no_list(subject: Subject, following: int, said: str) -> None:
    subject.device.restore()
    ino, start = next(pair for pair in subject.free if pair[0])
    subject.put(Part("inode", ino, 0, start, subject.isize, 100), 96, "I", following)
    (finding,) = check(subject.device).findings
    subject.device.restore()
    assert (finding.problem.code, finding.expected) == ("WX0215", said)
    assert (finding.ino, finding.found) == (ino, str(following))


def test_the_last_of_an_unlinked_list_names_an_inode_that_can_be(subject: Subject) -> None:
    subject.device.restore()
    lost = _unlinked(subject)
    subject.put(lost, 96, "I", 1 << 31)
    report = check(subject.device)
    subject.device.restore()
    named = [f for f in report.findings if f.problem.code == "WX0215"]
    assert [(f.ino, f.expected) for f in named] == [(lost.owner, "an inode of its AG")]


def test_two_free_pieces_that_touch(subject: Subject) -> None:
    subject.device.restore()
    block = next(p for p in subject.parts if p.kind == "dirdata" and subject.get(p, 50, "H") >= 16)
    at, length = subject.get(block, 48, "H"), subject.get(block, 50, "H")
    subject.put(block, at + 2, "H", 8)
    subject.put(block, at + 6, "H", at)
    subject.put(block, at + 8, "HH", 0xFFFF, length - 8)
    subject.put(block, at + length - 2, "H", at + 8)
    found = _codes(subject.device)
    subject.device.restore()
    assert found == {"WX0310", "WX0311"}


def test_findings_name_their_place(subject: Subject) -> None:
    subject.device.restore()
    part = subject.file()
    subject.add(part, 16, "I", 1)
    report = check(subject.device)
    subject.device.restore()
    (finding,) = report.findings
    assert finding.offset == part.start
    assert finding.ino == part.owner
    assert finding.path is not None
    assert subject.inos[finding.path.decode()] == part.owner
    assert (finding.expected, finding.found) == ("1", "2")


def test_a_lost_block_hides_only_what_it_may_hold(subject: Subject) -> None:
    """Too many names, a wrong '..' and free space are judged although names are missing."""
    subject.device.restore()
    path, folder = subject.small_folder()
    subject.spoil(subject.part("dirdata"), 64)
    subject.put(subject.inode("/"), 16, "I", 1)
    subject.put(folder, 178, "I", subject.inos[path])
    report = check(subject.device)
    subject.device.restore()
    assert set(report.counts) == {"WX0301", "WX0306", "WX0309", "WX0404"}
    assert {f.ino for f in report.findings if f.problem.code in ("WX0306", "WX0404")} >= {
        subject.inos["/"], subject.inos[path],
    }  # fmt: skip


@pytest.mark.parametrize("jobs", [1, 3])
def test_writes_later_than_the_log(subject: Subject, jobs: int) -> None:
    subject.device.restore()
    block, agi = subject.part("dirdata"), subject.part("agi", 1)
    subject.put(block, 16, "Q", 1 << 40)
    subject.put(agi, 320, "Q", 1 << 40)
    subject.put(subject.part("agf", 1), 208, "Q", (1 << 64) - 1)  # not written since mkfs
    report = check(subject.device, jobs=jobs)
    subject.device.restore()
    assert set(report.counts) == {"WX0113"}
    assert [f.offset for f in report.findings] == sorted([block.start + 16, agi.start + 320])
    assert {f.found for f in report.findings} == {"256:0"}


def test_an_entry_is_found_at_its_byte(subject: Subject) -> None:
    subject.device.restore()
    block = subject.part("dirdata")
    assert subject.get(block, 96, "H") != 0xFFFF  # the entry behind '.' and '..'
    subject.put(block, 96 + 9 + subject.get(block, 104, "B"), "B", 5)
    report = check(subject.device)
    subject.device.restore()
    (finding,) = (f for f in report.findings if f.problem.name == "dir-entry-type")
    assert finding.offset == block.start + 96


def test_what_has_no_place_of_its_own_lies_where_its_inode_does(subject: Subject) -> None:
    subject.device.restore()
    part = subject.file()
    subject.put(part, 176, "QQ", 0x1FF, (1 << 64) - (1 << 21) | 1)
    report = check(subject.device)
    subject.device.restore()
    assert [f.offset for f in report.findings if f.problem.name == "fork-damaged"] == [part.start]


def test_counters_of_inode_trees(image: Unpack) -> None:
    device = Patched(image("new-defaults"))
    assert not _codes(device)
    agi = next(p for p in parts_of(image("new-defaults")) if p.kind == "agi")
    count = int.from_bytes(device.pread(agi.start + 336, 4), "big")
    device.change(agi, 336, struct.pack(">I", count + 1))
    assert _codes(device) == {"WX0212"}
    device.really_close()


def test_damaged_log(image: Unpack) -> None:
    with wofs.open(image("default")) as fs:
        start = fs.root.image.mount.log.daddr << 9
    device = Patched(image("default"))
    device.cut(start + 4096)  # the image ends inside the log
    assert {"WX0107", "WX0110"} <= _codes(device)
    device.really_close()


def test_external_log(image: Unpack) -> None:
    device = Patched(image("external-log"))
    assert _codes(device) == {"WX0112"}
    device.really_close()
