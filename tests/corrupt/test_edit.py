"""Edits of images: fields by name, whole structures, checksums mended or left stale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs as library
from wofs.corrupt.edit import Editor
from wofs.corrupt.inside import inside
from wofs.corrupt.parts import KINDS, Part, parts_of
from wofs.corrupt.target import RECORDS, BadTarget, Locator, fields_of, parse
from wofs.device import BytesDevice
from wofs.errors import Corrupt, ImageError
from wofs.fs import Filesystem
from wofs.xfs.log import area_of
from wofs.xfs.log.entry import LogEntry

Unpack = Callable[[str], Path]


def damaged(path: Path, *edits: str, fix: bool = True) -> Filesystem:
    """Return the image with fields set, opened as it is then."""
    data = path.read_bytes()
    editor = Editor(BytesDevice(data, "bad.img"), fix)
    with library.open(path) as sound:
        for edit in edits:
            name, _, value = edit.rpartition("=")
            editor.set(Locator(sound).spot(name), value)
    return library.open(editor.image)


def test_every_declared_field_can_be_set(image: Unpack) -> None:
    """Each field of each kind of structure: set to another value, and read back as that."""
    met: set[str] = set()
    for name in ("default", "new-defaults"):
        with library.open(image(name)) as fs:
            data = image(name).read_bytes()
            for part in parts_of(fs.mount):
                if part.kind not in met:
                    met.add(part.kind)
                    set_each_field(data, part)
    assert met == set(KINDS)


def set_each_field(data: bytes, part: Part) -> None:
    """Set each declared field of a structure, alone, and read it back."""
    for spot in fields_of(part):
        editor = Editor(BytesDevice(data, "bad.img"), fix=True)
        editor.set(spot, "5a" * spot.size if spot.plain else "1")
        raw = editor.image.pread(part.start, part.size)
        for record in RECORDS[part.kind]:
            if spot.name not in {f.name for f in record.spec.fields}:
                continue
            value = getattr(record.decode(raw), spot.name)
            if isinstance(value, tuple):
                assert value[-1] == 1
            else:
                assert value == (b"\x5a" * spot.size if spot.plain else 1)


def test_what_structures_hold_can_be_set_by_its_name(image: Unpack) -> None:
    """Records, entries, names, forks: each found by its name, where the enumeration has it."""
    met = set()
    for name in ("default", "new-defaults", "tall"):
        with library.open(image(name)) as fs:
            locator = Locator(fs)
            for part in parts_of(fs.mount):
                raw = fs.mount.device.pread(part.start, part.size)
                for spot in inside(part, raw, fs.mount.geo):
                    generic = part.kind, re.sub(r"\d+", "N", spot.name)
                    if generic in met:
                        continue
                    met.add(generic)
                    found = locator.spot(f"{part}.{spot.name}")
                    assert (found.part.start + found.offset, found.size, found.bits) == (
                        part.start + spot.offset, spot.size, spot.bits,
                    )  # fmt: skip
    assert {kind for kind, _ in met} == set(KINDS) - {"sb", "agf", "agi", "value", "target"}
    assert len(met) > 100


def test_an_edit_of_an_inode_costs_that_inode(image: Unpack) -> None:
    with damaged(image("default"), 'inode["/files/one"].di_size=9223372036854775808') as fs:
        with pytest.raises(Corrupt, match="size is 0x8000000000000000"):
            fs.path("/files/one").stat()
        assert fs.path("/files/several").stat().st_size


def test_an_entry_leads_elsewhere(image: Unpack) -> None:
    with library.open(image("default")) as fs:
        other = fs.path("/files/several").ino
    with damaged(image("default"), f'inode["/files"].entry["one"].ino={other}') as fs:
        assert fs.path("/files/one").ino == other


def test_a_stale_checksum_is_left_stale(image: Unpack) -> None:
    edit = 'inode["/files/one"].di_size=1'
    with (
        damaged(image("default"), edit.replace("=1", "=2"), fix=False) as fs,
        pytest.raises(ImageError, match="crc is"),
    ):
        fs.path("/files/one").stat()


def test_a_checksum_can_be_set(image: Unpack) -> None:
    """Setting the checksum itself is not undone by fixing it."""
    with (
        damaged(image("default"), 'inode["/files/one"].crc=1') as fs,
        pytest.raises(ImageError, match="crc is 0x00000001"),
    ):
        fs.path("/files/one").stat()


def test_a_log_record_is_mended(image: Unpack) -> None:
    with library.open(image("default")) as sound:
        spot = Locator(sound).spot("log[0].cycle")
        editor = Editor(BytesDevice(image("default").read_bytes(), "bad.img"), fix=True)
        editor.log_by(sound.mount.sb)
        editor.set(spot, "5")
        entry = LogEntry(area_of(editor.image, sound.mount.sb), 0)
        assert (entry.head.cycle, entry.head.crc) == (5, entry.checksum())


def test_whole_structures(image: Unpack) -> None:
    path = image("default")
    data = path.read_bytes()
    with library.open(path) as sound:
        find = Locator(sound)
        one, other = find.spot("agf[0]").part, find.spot("agf[1]").part
        editor = Editor(BytesDevice(data, "bad.img"), fix=False)
        editor.swap(one, other)
        assert (
            editor.image.pread(one.start, one.size) == data[other.start : other.start + other.size]
        )
        assert editor.image.pread(other.start, other.size) == data[one.start : one.start + one.size]
        editor.duplicate(one, other)
        assert editor.image.pread(other.start, 8) == editor.image.pread(one.start, 8)
        editor.shift(one, 4)
        assert editor.image.pread(one.start, 8) == bytes(4) + b"XAGF"
        editor.shift(one, -4)
        assert editor.image.pread(one.start, 4) == b"XAGF"
        editor.zero(one)
        assert not any(editor.image.pread(one.start, one.size))
        block = find.spot('inode["/dirs/leaf"].dirdata[0]').part
        editor.tear(block, 1)
        torn = editor.image.pread(block.start, block.size)
        assert torn == data[block.start : block.start + 512] + bytes(block.size - 512)
        editor.truncate(1 << 20)
        assert (editor.image.size, editor.image.pread(1 << 20, 5)) == (1 << 20, b"")


@pytest.mark.parametrize("text", ["agf[2].freeblks", 'inode["/a.b/\\"c\\""].x', "bytes[0x10:4]"])
def test_names(text: str) -> None:
    steps = parse(text)
    assert steps[0].word in ("agf", "inode", "bytes")
    if steps[0].word == "inode":
        assert steps[0].key == '/a.b/"c"'


@pytest.mark.parametrize("text", ["", ".", "a.", "a[", "a[x]", 'a["b]', "a b"])
def test_no_names(text: str) -> None:
    with pytest.raises(BadTarget, match="is not a name"):
        parse(text)
