"""Problems of what most images lack: quota, realtime space, parent pointers, attribute leaves.

The kernel that makes the images has neither quota nor realtime devices: files of an image are
made into such here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.subject import Subject
from wofs.check.run import check
from wofs.corrupt.parts import Part
from wofs.device.crc import crc_of
from wofs.errors import NoXattr
from wofs.ondisk import quota
from wofs.xfs.geometry import fsb_to_byte, ino_to_byte

Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def whole(image: Unpack) -> Iterator[Subject]:
    """An image with all forms."""
    found = Subject(image("default"))
    yield found
    found.device.really_close()


@pytest.fixture
def subject(whole: Subject) -> Iterator[Subject]:
    """The same, as it was."""
    whole.device.restore()
    yield whole
    whole.device.restore()


def codes(subject: Subject, jobs: int = 1) -> set[str]:
    return set(check(subject.device, jobs=jobs).counts)


def first_byte(subject: Subject, part: Part) -> int:
    """The byte at which the first extent of an inode lies."""
    high, low = subject.get(part, 176, "Q"), subject.get(part, 184, "Q")
    return fsb_to_byte(subject.geo, (high & 0x1FF) << 43 | low >> 21)


# ---- quota
def dquot(ident: int, uuid: bytes, **fields: int) -> bytes:
    """A record of the user quota with its checksum."""
    values = dict.fromkeys((f.name for f in quota.Dquot.spec.fields), 0)
    values |= {"magicnum": quota.DQUOT_MAGIC, "version": 1, "type": quota.USER, "id": ident}
    values |= fields
    raw = bytearray(quota.Dquot(**(values | {"uuid": uuid})).encode())
    raw[108:112] = crc_of(bytes(raw), 108).to_bytes(4, "little")
    return bytes(raw)


def make_quota(subject: Subject, damage: Callable[[list[bytes]], None]) -> None:
    """Make a file the user quota's; `damage` changes the records."""
    part, geo = subject.file(), subject.geo
    per = geo.blocksize // quota.DQUOT_BYTES
    records = [dquot(number, geo.meta_uuid) for number in range(per)]
    damage(records)
    blocks = subject.get(part, 184, "Q") & (1 << 21) - 1
    start = first_byte(subject, part)
    for block in range(blocks):
        if block:
            records = [dquot(block * per + number, geo.meta_uuid) for number in range(per)]
        subject.device.put(start + block * geo.blocksize, b"".join(records))
    subject.put(subject.part("sb"), 160, "Q", part.owner)
    subject.put(subject.part("sb"), 100, "H", subject.get(subject.part("sb"), 100, "H") | 0x40)
    subject.put(part, 56, "Q", 0)
    take_name(subject, part)


def take_name(subject: Subject, part: Part) -> None:
    """Take away the entry in the root, which is a shortform directory, that leads to an inode."""
    root = subject.inode("/")
    raw = subject.device.pread(root.start + 176, subject.get(root, 56, "Q"))
    at = 6
    while int.from_bytes(raw[at + raw[at] + 4 : at + raw[at] + 8], "big") != part.owner:
        at += raw[at] + 8
    taken = raw[at] + 8
    left = bytes([raw[0] - 1]) + raw[1:at] + raw[at + taken :] + bytes(taken)
    subject.device.change(root, 176, left)
    subject.add(root, 56, "Q", -taken)


def test_sound_quota(subject: Subject) -> None:
    make_quota(subject, lambda records: None)
    assert codes(subject) == set()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("magic", {"magicnum": 0x4452}),
        ("version", {"version": 2}),
        ("type", {"type": quota.GROUP}),
        ("type", {"type": 0x40 | quota.USER}),
        ("id", {"id": 4}),
        ("btimer", {"blk_softlimit": 10, "bcount": 11}),
        ("itimer", {"ino_softlimit": 10, "icount": 11}),
    ],
)
def test_damaged_quota(subject: Subject, field: str, change: dict[str, int]) -> None:
    uuid = subject.geo.meta_uuid

    def damage(records: list[bytes]) -> None:
        records[3] = dquot(**({"ident": 3, "uuid": uuid} | change))  # type: ignore[arg-type]

    make_quota(subject, damage)
    report = check(subject.device)
    assert set(report.counts) == {"WX0701"}
    (finding,) = report.findings
    assert (finding.object, finding.field) == ("user quota 3", field)
    assert finding.offset == first_byte(subject, subject.file()) + 3 * quota.DQUOT_BYTES


def test_no_name_leads_to_a_quota_file(subject: Subject) -> None:
    part = subject.file(1)
    subject.put(subject.part("sb"), 160, "Q", part.owner)
    subject.put(subject.part("sb"), 100, "H", subject.get(subject.part("sb"), 100, "H") | 0x40)
    report = check(subject.device)
    found = [(f.ino, f.found) for f in report.findings if f.problem.code == "WX0311"]
    assert found == [(part.owner, "1 names")]


def test_a_quota_file_has_no_size_and_the_superblock_knows(subject: Subject) -> None:
    make_quota(subject, lambda records: None)
    sb = subject.part("sb")
    subject.put(sb, 100, "H", subject.get(sb, 100, "H") & ~0x40)
    subject.put(subject.file(), 56, "Q", 512)
    found = [(f.object, f.field) for f in check(subject.device).findings]
    assert found == [("user quota", "size"), ("superblock", "versionnum")]


def test_quota_with_a_stale_checksum_or_uuid(subject: Subject) -> None:
    def damage(records: list[bytes]) -> None:
        records[1] = records[1][:40] + b"\x01" + records[1][41:]
        records[2] = dquot(2, bytes(16))

    make_quota(subject, damage)
    assert [f.field for f in check(subject.device).findings] == ["crc", "uuid"]


def test_quota_above_its_limit_with_a_timer_is_sound(subject: Subject) -> None:
    uuid = subject.geo.meta_uuid

    def change(records: list[bytes]) -> None:
        records[5] = dquot(5, uuid, blk_softlimit=10, bcount=11, btimer=1)
        records[0] = dquot(0, uuid, blk_softlimit=10, bcount=11)  # root has no timer

    make_quota(subject, change)
    assert codes(subject) == set()


# ---- realtime
EXTENTS = 1000


def make_realtime(
    subject: Subject, free: int = 900, bits: int = EXTENTS, runs: tuple[int, int] = (6, 9)
) -> None:
    """Give the image a realtime device of 1000 extents: 100 and 800 free, 100 in use between."""
    geo = subject.geo
    used = ((1 << 100) - 1) << 100
    bitmap = ((1 << bits) - 1 & ~used).to_bytes(geo.blocksize, "little")
    summary = bytearray(geo.blocksize)
    for level in runs:
        summary[4 * level] = 1
    small = [
        part for number in range(40)
        if subject.get(part := subject.file(number), 64, "Q") == 1
    ]  # fmt: skip
    for part, place, content in zip(small, (1, 2), (bitmap, summary), strict=False):
        ino = subject.rootino + place
        inode = Part("inode", ino, 0, ino_to_byte(geo, ino), subject.isize, 100)
        subject.device.put(first_byte(subject, part), bytes(content))
        subject.device.change(inode, 176, subject.device.pread(part.start + 176, 16))
        subject.put(inode, 56, "QQ", geo.blocksize, 1)
        subject.put(inode, 76, "I", 1)
        subject.put(part, 56, "QQ", 0, 0)
        subject.put(part, 76, "I", 0)
    rextsize = subject.get(subject.part("sb"), 80, "I")
    for agno in range(subject.agcount):
        copy = subject.part("sb", agno)
        subject.put(copy, 16, "QQ", EXTENTS * rextsize, EXTENTS)
        subject.put(copy, 92, "I", 1)
        subject.put(copy, 125, "B", 9)
    subject.put(subject.part("sb"), 152, "Q", free)


def test_sound_realtime_files(subject: Subject) -> None:
    make_realtime(subject)
    assert codes(subject) == set()


def test_wrong_realtime_counter(subject: Subject) -> None:
    make_realtime(subject, free=901)
    assert codes(subject) == {"WX0711"}


def test_wrong_realtime_summary(subject: Subject) -> None:
    make_realtime(subject, runs=(6, 8))
    assert codes(subject) == {"WX0712"}


def test_realtime_bits_beyond_the_end(subject: Subject) -> None:
    make_realtime(subject, bits=EXTENTS + 1)
    assert "WX0710" in codes(subject)


def test_wrong_realtime_sizes(subject: Subject) -> None:
    make_realtime(subject)
    ino = subject.rootino + 1
    inode = Part("inode", ino, 0, ino_to_byte(subject.geo, ino), subject.isize, 100)
    subject.put(inode, 56, "Q", 2 * subject.blocksize)
    assert codes(subject) == {"WX0710"}


def test_a_hole_in_the_realtime_bitmap(subject: Subject) -> None:
    make_realtime(subject)
    ino = subject.rootino + 1
    inode = Part("inode", ino, 0, ino_to_byte(subject.geo, ino), subject.isize, 100)
    subject.put(inode, 64, "Q", 0)
    subject.put(inode, 76, "I", 0)
    assert "WX0710" in codes(subject)


def test_no_more_is_read_than_there_is(subject: Subject) -> None:
    """A superblock that claims 2^50 realtime extents, and a bitmap that claims their bits."""
    make_realtime(subject)
    blocks = (1 << 50) // (8 * subject.blocksize)
    for agno in range(subject.agcount):
        copy = subject.part("sb", agno)
        subject.put(copy, 16, "QQ", 1 << 50, 1 << 50)
        subject.put(copy, 92, "I", blocks & 0xFFFFFFFF)
        subject.put(copy, 125, "B", 50)
    for place in (1, 2):
        ino = subject.rootino + place
        inode = Part("inode", ino, 0, ino_to_byte(subject.geo, ino), subject.isize, 100)
        subject.put(inode, 56, "Q", blocks * subject.blocksize)
    assert "WX0710" in codes(subject)


# ---- attribute leaves
def test_free_space_of_an_attribute_leaf(subject: Subject) -> None:
    leaf = next(
        p for p in subject.parts if p.kind == "attr" and subject.get(p, 8, "H") == 0x3BEE
    )
    assert codes(subject) == set()
    for offset, code, step in ((64, "H", 1), (66, "H", 4), (64, "H", -4)):
        subject.add(leaf, offset, code, step)
        assert codes(subject) == {"WX0504"}
        subject.device.restore()
    assert not subject.get(leaf, 62, "B")
    subject.add(leaf, 60, "H", -1)
    assert [f.field for f in check(subject.device).findings] == ["firstused"]
    subject.put(leaf, 62, "B", 1)  # with holes it may lie before the first name
    assert codes(subject) == set()
    subject.device.restore()


def test_an_empty_attribute_leaf_is_sound(subject: Subject) -> None:
    """As the kernel leaves it where it goes down between making and filling it."""
    leaf = next(
        p for p in subject.parts
        if p.kind == "attr" and subject.get(p, 8, "H") == 0x3BEE and not subject.get(p, 0, "Q")
    )  # fmt: skip
    subject.put(leaf, 56, "HHHB", 0, 0, leaf.size, 0)
    subject.put(leaf, 64, "HHHHHH", 80, leaf.size - 80, 0, 0, 0, 0)
    assert codes(subject) == set()
    with subject.device.opened() as fs:
        mount = fs.root.image.mount
        inode = mount.inodes.get(leaf.owner)
        assert list(mount.attrs.items(inode)) == []
        with pytest.raises(NoXattr):
            mount.attrs.get(inode, b"user.none")


# ---- parent pointers
@pytest.fixture(scope="module")
def related(image: Unpack) -> Iterator[Subject]:
    """An image with parent pointers."""
    found = Subject(image("parent"))
    yield found
    found.device.really_close()


def parent_pointer(subject: Subject) -> tuple[Part, int, int]:
    """An inode, the byte at which its first parent pointer begins in it, and its name's length."""
    for path in sorted(subject.inos):
        part = subject.inode(path)
        at = 176 + 8 * subject.get(part, 82, "B") + 4
        if at > 180 and subject.get(part, 83, "B") == 1 and subject.get(part, at + 2, "B") & 8:
            return part, at, subject.get(part, at, "B")
    raise AssertionError("no parent pointer in an inode")


@pytest.mark.parametrize("jobs", [1, 3])
def test_parent_pointers(related: Subject, jobs: int) -> None:
    related.device.restore()
    assert codes(related, jobs) == set()
    part, at, namelen = parent_pointer(related)
    related.add(part, at + 3 + namelen + 8, "I", 1)  # the generation
    assert codes(related, jobs) == {"WX0511"}
    related.device.restore()
    related.put(part, at + 3, "B", 0x7E)  # the name
    assert codes(related, jobs) == {"WX0511"}
    related.device.restore()
    related.put(part, at + 3 + namelen, "Q", part.owner)
    assert codes(related, jobs) == {"WX0510", "WX0511"}
    related.device.restore()


def test_a_parent_pointer_in_a_leaf_has_its_hash(related: Subject) -> None:
    related.device.restore()
    for leaf in (p for p in related.parts if p.kind == "attr"):
        if related.get(leaf, 8, "H") != 0x3BEE:
            continue
        flags = [related.get(leaf, 86 + 8 * n, "B") for n in range(related.get(leaf, 56, "H"))]
        if flags[-1] & 8 or flags[0] & 8:
            last = len(flags) - 1 if flags[-1] & 8 else 0
            related.add(leaf, 80 + 8 * last, "I", 1 if last else -1)
            assert "WX0510" in codes(related)
            break
    else:
        raise AssertionError("no leaf with a parent pointer at its end")
    related.device.restore()


def test_lost_names_are_not_held_against_parent_pointers(related: Subject) -> None:
    related.device.restore()
    related.spoil(related.part("dirdata"), 64)
    assert "WX0511" not in codes(related)
    related.device.restore()


