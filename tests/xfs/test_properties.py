"""Parsers against any bytes: a result or an ImageError, nothing else, and never wrong data.

The structures of a real image are changed one to three at a time, checksums made right again or
not; then what they belong to is read in every way. Parsers are given bytes of their own too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagelib.library import Fault, describe
from imagelib.manifest import Entry
from support.patched import Patched, parts_of
from wofs.corrupt.parts import Part
from wofs.device import BytesDevice
from wofs.device.crc import crc_of
from wofs.errors import ImageError, PathError, Where
from wofs.fs import Filesystem
from wofs.ondisk.attr import INCOMPLETE
from wofs.ondisk.btree import BmbtRecord
from wofs.ondisk.dir import ATTR_INDEX, DIR_DATA, DIR_INDEX
from wofs.ondisk.kind import Kind
from wofs.xfs import attr
from wofs.xfs.buffer import Block
from wofs.xfs.dir import index, parse
from wofs.xfs.geometry import Geometry, as_geometry, valid_extent
from wofs.xfs.super import read_super

Unpack = Callable[[str], Path]

KINDS = (
    "sb", "agf", "agi", "agfl", "inobt", "inode", "bmbt", "dirdata", "dirindex", "attr",
    "value", "target",
)  # fmt: skip

WHERE = Where("any.img", "any block", 8, 4096)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Subject:
    """An image, its structures by kind, and the path of each inode."""

    def __init__(self, path: Path) -> None:
        self.device = Patched(path)
        self.by_kind: dict[str, list[Part]] = {}
        for part in parts_of(path):
            self.by_kind.setdefault(part.kind, []).append(part)
        self.paths: dict[int, bytes] = {}
        self.geo: Geometry = as_geometry(read_super(self.device))
        with self.device.opened() as fs:
            self.paths[fs.root.ino] = b"/"
            for top, dirs, files in fs.root.walk():
                for name in [*dirs, *files]:
                    self.paths.setdefault((top / name).ino, bytes(top / name))


@pytest.fixture(scope="module")
def subject(image: Unpack) -> Iterator[Subject]:
    made = Subject(image("b1k"))
    yield made
    made.device.really_close()


def named(error: ImageError) -> None:
    """Hold that an error is a line that names an object."""
    assert error.where.object
    assert "\n" not in str(error)


def read_all(fs: Filesystem, path: bytes) -> tuple[Entry, list[Fault]]:
    """Read a path in every way; every failure is an error that names its object."""
    at = fs.path(path)
    entry, faults = describe(at)
    if entry.get("t") == "d":
        told: list[ImageError] = []
        names = []
        try:
            for batch in at.batches(told.append):
                names += [e[3] for e in batch.entries]
                batch.inodes()
        except ImageError as error:
            told.append(error)
        assert len(names) == len(set(names))
        assert not any(b"/" in name or b"\0" in name or name in (b".", b"..") for name in names)
        for damage in told:
            named(damage)
        for name in names[:3]:
            try:
                (at / name).lstat()
            except (ImageError, PathError):
                continue
    for fault in faults:
        assert fault["object"] or fault["class"] in ("NotFound", "NotDir", "NotLink"), fault
        assert "\n" not in str(fault["text"])
    return entry, faults


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 30),  # which structure of the kind
        st.integers(0, 1 << 30),  # where in it
        st.binary(min_size=1, max_size=8),
        st.booleans(),  # changed near its start, where the headers are
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_gives_a_result_or_a_named_error(subject: Subject, kind: str) -> None:
    @FEW
    @given(CHANGES, st.booleans())
    def holds(changes: list[tuple[int, int, bytes, bool]], mend: bool) -> None:
        device, parts = subject.device, subject.by_kind[kind]
        device.restore()
        owners = set()
        for which, where, value, near in changes:
            part = parts[which % len(parts)]
            device.change(part, where % (200 if near else part.size - 8), value, mend=mend)
            owners.add(part.owner)
        try:
            fs = device.opened()
        except ImageError as error:
            named(error)
            return
        with fs:
            for path in {subject.paths.get(owner, b"/files/one") for owner in owners}:
                read_all(fs, path)

    try:
        holds()
    finally:
        subject.device.restore()


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("sb", "agf", "agfl")])
def test_no_flipped_byte_shows_through_a_checksum(subject: Subject, kind: str) -> None:
    root = subject.geo.rootino  # without it nothing is mounted
    parts = [part for part in subject.by_kind[kind] if part.owner != root]
    sound: dict[bytes, Entry] = {}

    @FEW
    @given(st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.integers(1, 255))
    def holds(which: int, where: int, mask: int) -> None:
        part = parts[which % len(parts)]
        at = where % part.size
        path = subject.paths.get(part.owner, b"/files/one")
        subject.device.restore()
        if path not in sound:
            with subject.device.opened() as fs:
                sound[path] = read_all(fs, path)[0]
        byte = subject.device.pread(part.start + at, 1)[0]
        subject.device.change(part, at, bytes([byte ^ mask]), mend=False)
        with subject.device.opened() as fs:
            found, there = read_all(fs, path)[0], sound[path]
        for key in found.keys() - {"x"}:
            assert found[key] == there[key]
        shown, xattrs = found.get("x", {}), there.get("x", {})
        assert isinstance(shown, dict)
        assert isinstance(xattrs, dict)
        assert shown.items() <= xattrs.items()

    try:
        holds()
    finally:
        subject.device.restore()


# ---- parsers by themselves
def block(kind: Kind, magic: bytes, content: bytes) -> Block:
    """Return a block of 1 KiB with `content` after its header's first 48 bytes."""
    raw = bytearray(content.ljust(1024, b"\0")[:1024])
    raw[kind.magic : kind.magic + len(magic)] = magic
    return Block(bytes(raw), 8, kind, magic, "any block")


CONTENT = st.one_of(
    st.binary(max_size=1024),
    st.lists(
        st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\0\1\0\2\0\3\0\4", b"\xff\xff\0\x40", b"name"]),
        max_size=200,
    ).map(b"".join),
)


@FEW
@given(CONTENT, st.sampled_from(DIR_DATA.magics), st.sampled_from([0, 4096]))
def test_any_directory_block_is_parsed_or_refused(
    subject: Subject, content: bytes, magic: bytes, base: int
) -> None:
    try:
        entries = parse.data_entries(subject.geo, block(DIR_DATA, magic, content), base, WHERE)
    except ImageError:
        return
    cookies = [entry[0] for entry in entries]
    assert cookies == sorted(set(cookies))


@FEW
@given(CONTENT, st.sampled_from(DIR_INDEX.magics))
def test_any_index_block_is_parsed_or_refused(content: bytes, magic: bytes) -> None:
    try:
        found = index.parse(block(DIR_INDEX, magic, content), WHERE)
    except ImageError:
        return
    assert all(a <= b for a, b in itertools.pairwise(found.hashes))
    assert len(found.words) == len(found.hashes)


@FEW
@given(CONTENT, st.one_of(st.none(), st.integers(0, (1 << 32) - 1)))
def test_any_attribute_leaf_is_parsed_or_refused(content: bytes, hashval: int | None) -> None:
    try:
        leaf = attr.leaf(block(ATTR_INDEX, b"\x3b\xee", content), WHERE)
        found = list(attr.leaf_entries(leaf, hashval))
    except ImageError:
        return
    for flags, name, value in found:
        assert name
        if not isinstance(value, bytes):
            assert 0 < value[1] <= 65536 or flags & INCOMPLETE


@FEW
@given(st.binary(min_size=8, max_size=336))
@example(b"\0\4\0\0" + bytes(4))
def test_any_shortform_of_attributes_is_parsed_or_refused(fork: bytes) -> None:
    try:
        found = list(attr.shortform(fork, WHERE))
    except ImageError:
        return
    assert sum(len(name) + len(value) + 3 for _, name, value in found) <= len(fork)


@FEW
@given(st.binary(max_size=100))
def test_any_acl_is_translated_or_refused(stored: bytes) -> None:
    try:
        shown = attr.acl_to_xattr(stored, WHERE)
    except ImageError:
        return
    assert len(shown) == 4 + 8 * int.from_bytes(stored[:4], "big")


@FEW
@given(st.binary(max_size=600), st.booleans())
def test_any_sector_is_a_superblock_or_refused(content: bytes, mend: bool) -> None:
    raw = bytearray(content.ljust(512, b"\0"))
    raw[:4] = b"XFSB"
    if mend:
        raw[224:228] = crc_of(bytes(raw[:512]), 224).to_bytes(4, "little")
    with pytest.raises(ImageError):
        read_super(BytesDevice(bytes(raw)))


@st.composite
def extents(draw: st.DrawFn) -> list[tuple[int, int, int, bool]]:
    """Draw up to 21 extents in order, with places that may be anything."""
    found, end = [], 0
    for _ in range(draw(st.integers(1, 21))):
        start = end + draw(st.integers(0, 5))
        count = draw(st.integers(1, 9))
        found.append((start, draw(st.integers(0, 1 << 20)), count, draw(st.booleans())))
        end = start + count
    return found


@FEW
@given(extents())
def test_extents_are_unpacked_as_declared(
    subject: Subject, drawn: list[tuple[int, int, int, bool]]
) -> None:
    part = next(p for p in subject.by_kind["inode"] if subject.paths[p.owner] == b"/files/holes4")
    raw = b"".join(
        BmbtRecord(unwritten=bool(un), startoff=so, startblock=sb, blockcount=n).encode()
        for so, sb, n, un in drawn
    )
    device = subject.device
    device.restore()
    device.change(part, 176, raw)
    device.change(part, 76, len(drawn).to_bytes(4, "big"))
    device.change(part, 64, sum(n for _, _, n, _ in drawn).to_bytes(8, "big"))
    device.change(part, 56, ((drawn[-1][0] + drawn[-1][2]) << 10).to_bytes(8, "big"))
    spans = sorted((sb, sb + n) for _, sb, n, _ in drawn)
    lawful = all(valid_extent(subject.geo, sb, n) for _, sb, n, _ in drawn) and all(
        a[1] <= b[0] for a, b in itertools.pairwise(spans)
    )
    start, length = subject.geo.logstart, subject.geo.logblocks
    lawful = lawful and not any(a < start + length and start < b for a, b in spans)
    with device.opened() as fs:
        mount = fs.root.image.mount
        try:
            found = list(mount.maps.extents(mount.inodes.get(part.owner)))
        except ImageError:
            assert not lawful
        else:
            assert lawful
            assert found == drawn
    device.restore()
