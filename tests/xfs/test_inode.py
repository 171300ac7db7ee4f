"""The short way through an inode's rules waves nothing through that breaks one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wofs
from wofs.device.crc import crc_of
from wofs.errors import BadField
from wofs.fs import Filesystem
from wofs.ondisk import inode as disk
from wofs.xfs.geometry import ino_to_byte
from wofs.xfs.inode import Inode, _Decoder

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
    """Return a raw inode with fields changed and its checksum blanked."""
    out = bytearray(raw)
    for name, value in edits.items():
        field = disk.InodeCore.spec.field(name)
        out[field.offset : field.offset + field.size] = value.to_bytes(field.size, "big")
    out[disk.CRC_OFFSET : disk.CRC_OFFSET + 4] = bytes(4)
    return bytes(out)


EDITS = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in FIELDS.items()})


@settings(max_examples=1500, deadline=None)
@given(name=st.sampled_from(["default", "nrext64", "noreflink", "old-v5"]), edits=EDITS)
def test_what_is_waved_through_breaks_no_rule(
    opened: dict[str, Filesystem], name: str, edits: dict[str, int]
) -> None:
    mount = opened[name].root.image.mount
    ino = mount.geo.rootino
    byte = ino_to_byte(mount.geo, ino)
    raw = edited(mount.device.pread(byte, mount.geo.inodesize), edits)
    crc = crc_of(raw, disk.CRC_OFFSET).to_bytes(4, "little")
    decoder = _Decoder(mount, mount.geo, mount.inodes.inobt)
    try:
        inode = decoder.decode(ino, byte, raw, crc)
    except BadField:
        return
    assert isinstance(inode, Inode)
    assert decoder._problem(inode, inode.mode >> 12) is None
