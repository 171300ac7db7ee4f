"""The bulk decoder in C gives what the Python beside it gives, or declines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wofs
from wofs.device.crc import crc32c, crc_of
from wofs.errors import BadField, ImageError
from wofs.fs import Filesystem
from wofs.ondisk import inode as disk
from wofs.xfs import _decode
from wofs.xfs.geometry import ino_bounds, ino_to_byte, valid_ino
from wofs.xfs.inode import Inode, _Decoder
from wofs.xfs.mount import Mount

FIELDS = {
    "mode": (0, 0o10644, 0o20644, 0o40755, 0o100644, 0o120777, 0o140755, 0o30000, 0o170000),
    "format": (0, 1, 2, 3, 4, 9),
    "big_nextents": (0, 1, 3, 21, 22, 1 << 40),
    "di_size": (0, 1, 6, 335, 336, 337, 1 << 40, 1 << 63),
    "nblocks": (0, 1, 2, 22, 1 << 40, 1 << 55),
    "nextents": (0, 1, 2, 21, 22, 1 << 31),
    "anextents": (0, 1, 2, 1 << 15),
    "forkoff": (0, 1, 35, 41, 42, 43, 255),
    "aformat": (0, 1, 2, 3, 4),
    "flags2": (0, 2, 8, 16, 24, 26, 63, 1 << 40),
}
"""Values on both sides of the rules, for an inode of 512 bytes (336 for its forks)."""


@pytest.fixture(scope="module")
def opened(image: Callable[[str], Path]) -> Iterator[dict[str, Filesystem]]:
    """Open images with and without the features that flags stand for."""
    names = ("default", "nrext64", "noreflink", "old-v5")
    found = {name: wofs.open(image(name)) for name in names}
    yield found
    for fs in found.values():
        fs.close()


def edited(raw: bytes, edits: dict[str, int]) -> bytes:
    """Return a raw inode with fields changed, its checksum right."""
    out = bytearray(raw)
    for name, value in edits.items():
        field = disk.InodeCore.spec.field(name)
        out[field.offset : field.offset + field.size] = value.to_bytes(field.size, "big")
    crc = crc_of(bytes(out), disk.CRC_OFFSET)
    out[disk.CRC_OFFSET : disk.CRC_OFFSET + 4] = crc.to_bytes(4, "little")
    return bytes(out)


FIELD_NAMES = [name for name in dir(_decode.Core) if not name.startswith("_")]


def both(mount: Mount, ino: int, stored: bytes) -> tuple[Inode | None, Inode | None]:
    """Return the inode by C and by Python; None where declined and where refused."""
    decoder = _Decoder(mount, mount.geo, mount.inodes.inobt)
    quick: list[tuple[int, Inode]] = []
    declined = _decode.inodes(
        Inode, [(4096, ino)], stored, decoder.isize, mount.geo.meta_uuid,
        decoder._bad_flags2, crc32c, mount.inodes.inobt.chunk, quick,
    )  # fmt: skip
    assert len(quick) + len(declined) == 1
    try:
        slow: Inode | None = decoder.decode(ino, 4096, stored)
    except ImageError:
        slow = None
    return (quick[0][1] if quick else None), slow


def same(one: Inode, other: Inode) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in FIELD_NAMES)


EDITS = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in FIELDS.items()})


@settings(max_examples=1500, deadline=None)
@given(name=st.sampled_from(["default", "nrext64", "noreflink", "old-v5"]), edits=EDITS)
def test_what_c_decodes_python_decodes_alike(
    opened: dict[str, Filesystem], name: str, edits: dict[str, int]
) -> None:
    mount = opened[name].root.image.mount
    ino = mount.geo.rootino
    raw = mount.device.pread(ino_to_byte(mount.geo, ino), mount.geo.inodesize)
    quick, slow = both(mount, ino, edited(raw, edits))
    if quick is not None:
        assert slow is not None, "C waved through what breaks a rule"
        assert same(quick, slow)


STAMPS = st.integers(0, (1 << 64) - 1)


@given(name=st.sampled_from(["default", "old-v5"]), stamps=st.tuples(STAMPS, STAMPS, STAMPS))
def test_times_are_the_same_over_their_whole_range(
    opened: dict[str, Filesystem], name: str, stamps: tuple[int, int, int]
) -> None:
    mount = opened[name].root.image.mount
    ino = mount.geo.rootino
    raw = mount.device.pread(ino_to_byte(mount.geo, ino), mount.geo.inodesize)
    edits = dict(zip(("atime", "mtime", "crtime"), stamps, strict=True))
    quick, slow = both(mount, ino, edited(raw, edits))
    assert quick is not None
    assert slow is not None
    assert same(quick, slow)


@pytest.mark.parametrize("at", [0, 4, disk.CRC_OFFSET, 152, 160, 200])
def test_c_declines_a_flipped_bit(opened: dict[str, Filesystem], at: int) -> None:
    mount = opened["default"].root.image.mount
    ino = mount.geo.rootino
    raw = bytearray(mount.device.pread(ino_to_byte(mount.geo, ino), mount.geo.inodesize))
    assert both(mount, ino, bytes(raw))[0] is not None
    raw[at] ^= 1
    assert both(mount, ino, bytes(raw)) == (None, None)


def test_c_declines_what_ends_early_and_what_is_not_in_use(
    opened: dict[str, Filesystem],
) -> None:
    mount = opened["default"].root.image.mount
    ino = mount.geo.rootino
    raw = mount.device.pread(ino_to_byte(mount.geo, ino), mount.geo.inodesize)
    assert both(mount, ino, raw[:-1]) == (None, None)
    sound: list[tuple[int, Inode]] = []
    args = Inode, [(0, ino)], raw, len(raw), mount.geo.meta_uuid, 0, crc32c
    assert _decode.inodes(*args, lambda ino: (ino, 1), sound) == [(0, ino)]
    assert not _decode.inodes(*args, lambda ino: (ino, 0), sound)
    assert [number for number, _ in sound] == [ino]
    with pytest.raises(ZeroDivisionError):
        _decode.inodes(*args, lambda ino: (1 // 0, 0), sound)


def test_places_are_those_of_each_number(opened: dict[str, Filesystem]) -> None:
    geo = opened["default"].mount.geo
    agino_log, last_ag, first, full, last = bounds = ino_bounds(geo)
    around = [n + d for n in (0, first, full, last, 1 << agino_log) for d in (-1, 0, 1, 64)]
    inos = [(ag << agino_log) + n for ag in (0, last_ag, last_ag + 1) for n in around]
    inos = [*reversed(inos), 1 << 63, 1 << 64, -1]
    runs, outside = _decode.places(
        inos, bounds, geo.inodelog, geo.agblocks << geo.blocklog, 4096, 1 << 18
    )
    inside = [ino for ino in inos if ino >= 0 and valid_ino(geo, ino)]
    assert inside
    assert [pair for run in runs for pair in run] == sorted(
        (ino_to_byte(geo, ino), ino) for ino in inside
    )
    assert outside == [ino for ino in inos if ino not in inside]


@given(
    inos=st.lists(st.integers(96, 40_000)), gap=st.integers(0, 9000), most=st.integers(0, 90_000)
)
@settings(max_examples=200, deadline=None)
def test_a_run_is_worth_one_read(
    opened: dict[str, Filesystem], inos: list[int], gap: int, most: int
) -> None:
    geo = opened["default"].mount.geo
    runs, _ = _decode.places(
        inos, ino_bounds(geo), geo.inodelog, geo.agblocks << geo.blocklog, gap, most
    )
    before = None
    for run in runs:
        bytes_ = [byte for byte, _ in run]
        assert bytes_[-1] - bytes_[0] <= most
        assert all(b - a <= gap for a, b in pairwise(bytes_))
        if before is not None:  # or they would have been one run
            assert bytes_[0] - before[-1] > gap or bytes_[0] - before[0] > most
        before = bytes_


def test_a_plain_entry_is_not_looked_at(opened: dict[str, Filesystem]) -> None:
    mount = opened["default"].mount
    modes = bytes([0, 8, 4])
    found: list[object] = []
    for kind, links in ((8, 1), (8, 0), (4, 2), (10, 1)):
        inode = Inode()
        inode.mode, inode.nlink = kind << 12, links
        found.append(inode)
    found += [None, BadField(mount.where("inode 1"), "is damaged")]
    for ftype, looked_at in (
        (1, [1, 2, 3]),
        (2, [0, 1, 2, 3]),
        (0, [0, 1, 2, 3]),
        (9, [0, 1, 2, 3]),
    ):
        entries = [(1, 131, ftype, b"name")] * len(found)
        assert _decode.remarkable(entries, found, modes) == looked_at
    with pytest.raises(ValueError, match="an inode for each entry"):
        _decode.remarkable(entries, found[:1], modes)
