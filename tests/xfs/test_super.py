"""The superblock: what is accepted, refused by name, or found in a spare copy."""

from dataclasses import dataclass

import pytest

from wofs.device import BytesDevice
from wofs.device.crc import crc_of
from wofs.errors import BadChecksum, BadField, ImageError, NotXfs, Unsupported
from wofs.ondisk.sb import NULL_FSINO, Superblock
from wofs.xfs import geometry
from wofs.xfs.super import read_super

BLOCKS_PER_AG = 4096
BLOCKSIZE = 4096


def superblock(**changes: object) -> Superblock:
    """Return a superblock of four AGs of 16 MiB that keeps every rule, with changes."""
    values: dict[str, object] = {
        "magicnum": 0x58465342,
        "blocksize": BLOCKSIZE,
        "dblocks": 4 * BLOCKS_PER_AG - 100,
        "uuid": bytes(range(16)),
        "logstart": 2 << 12 | 10,
        "rootino": 128,
        "agblocks": BLOCKS_PER_AG,
        "agcount": 4,
        "logblocks": 1000,
        "versionnum": 0xB4B5,
        "sectsize": 512,
        "inodesize": 512,
        "inopblock": 8,
        "blocklog": 12,
        "sectlog": 9,
        "inodelog": 9,
        "inopblog": 3,
        "agblklog": 12,
        "imax_pct": 25,
        "features2": 0x18A,
        "features_incompat": 0b1011,
    }
    return Superblock(**{**values, **changes})  # type: ignore[arg-type]


def sector(sb: Superblock) -> bytes:
    """Encode a superblock into its sector, checksum right."""
    data = bytearray(sb.encode().ljust(512, b"\0"))
    data[224:228] = crc_of(bytes(data), 224).to_bytes(4, "little")
    return bytes(data)


@dataclass
class SparseDevice:
    """A device of zeros with some sectors in it."""

    sectors: dict[int, bytes]
    size: int = (4 * BLOCKS_PER_AG - 100) * BLOCKSIZE
    name: str = "disk.img"

    def pread(self, offset: int, length: int) -> bytes:
        """Return bytes of the sectors or zeros."""
        length = max(0, min(length, self.size - offset))
        out = bytearray(length)
        for at, data in self.sectors.items():
            if offset <= at < offset + length:
                piece = data[: offset + length - at]
                out[at - offset : at - offset + len(piece)] = piece
        return bytes(out)

    def expect(self, offset: int, length: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def device(primary: bytes, **changes: object) -> SparseDevice:
    """Return a device with `primary` in AG 0 and a sound copy in the others, as mkfs leaves it."""
    spare = sector(superblock(inprogress=1, rootino=NULL_FSINO, **changes))
    ag_bytes = BLOCKS_PER_AG * BLOCKSIZE
    return SparseDevice({0: primary} | {i * ag_bytes: spare for i in (1, 2, 3)})


def test_a_sound_superblock_is_read() -> None:
    sb = read_super(device(sector(superblock())))
    assert (sb.agcount, sb.rootino, sb.uuid) == (4, 128, bytes(range(16)))


BROKEN = [
    ("blocksize", 3000, "a power of two"),
    ("blocksize", 1 << 30, "512 to 65536"),
    ("blocklog", 13, "log2 of blocksize (4096)"),
    ("inodesize", 100, "a power of two"),
    ("inopblock", 7, "log2 of inopblock (7)"),
    ("agblocks", 0, "at least 64"),
    ("agblklog", 31, "log2 of agblocks, rounded up"),
    ("agcount", 0, "at least 1"),
    ("agcount", 60_000_000, "agcount 60000000"),
    ("dblocks", 1 << 52, "12289 to 16384"),
    ("rootino", 0, "an inode number inside the filesystem"),
    ("rootino", 1 << 50, "an inode number inside the filesystem"),
    ("inprogress", 1, "0"),
    ("dirblklog", 20, "directory blocks of at most 64 KiB"),
    ("logstart", 1 << 40, "blocks inside one AG"),
    ("logblocks", 0xFFFFFFF0, "blocks inside one AG"),
    ("imax_pct", 200, "at most 100"),
    ("shared_vn", 1, "0"),
    ("versionnum", 0xB095, "the bits 0xb4a0"),
    ("features2", 0x108, "the bits 0x18a"),
    ("unit", 2, "a stripe unit with bit 0x100"),
    ("width", 4, "a multiple of unit"),
]


@pytest.mark.parametrize(("field", "value", "expected"), BROKEN)
def test_a_broken_field_is_named_with_what_was_expected(
    field: str, value: int, expected: str
) -> None:
    with pytest.raises(BadField) as caught:
        read_super(BytesDevice(sector(superblock(**{field: value}))))
    assert expected in str(caught.value.expected)
    assert str(caught.value).startswith("bytes: superblock (daddr 0x0, 512 B): ")
    assert "\n" not in str(caught.value)


def test_a_stale_checksum_is_refused_and_the_spare_named() -> None:
    primary = bytearray(sector(superblock()))
    primary[40] ^= 1
    with pytest.raises(BadChecksum, match="the copy in AG 1 is sound: try -o sb=1"):
        read_super(device(bytes(primary)))


@pytest.mark.parametrize("agno", [1, 2, 3])
def test_a_spare_superblock_is_read_where_the_first_is_lost(agno: int) -> None:
    sb = read_super(device(bytes(512)), agno)
    assert sb.agcount == 4
    assert sb.rootino == NULL_FSINO


def test_an_ag_that_does_not_exist_has_no_superblock() -> None:
    with pytest.raises(NotXfs, match="no sound superblock of AG 9"):
        read_super(device(sector(superblock())), 9)


UNSUPPORTED = [
    ({"features_incompat": 0b1011 | 1 << 8}, r"feature metadir \(incompat bit 8\), not supported"),
    ({"features_incompat": 1 << 30}, r"an unknown feature \(incompat bit 30\), not supported"),
    ({"features_incompat": 1 << 4}, "marked as needing repair"),
    ({"versionnum": 0xB4B4}, "version 4 of the format"),
    ({"versionnum": 0xB4B6}, "version 6 of the format"),
    ({"versionnum": 0xF4B5}, "case-insensitive names"),
    ({"agcount": 1 << 18, "dblocks": 1 << 30}, "has 262144 allocation groups, more than 131072"),
]


@pytest.mark.parametrize(("changes", "text"), UNSUPPORTED)
def test_what_cannot_be_read_is_refused_by_name(changes: dict[str, int], text: str) -> None:
    with pytest.raises(Unsupported, match=text):
        read_super(BytesDevice(sector(superblock(**changes))))


def test_unknown_read_only_features_do_not_matter() -> None:
    sb = superblock(features_ro_compat=1 << 30, features_compat=1 << 29)
    assert read_super(BytesDevice(sector(sb))).features_ro_compat == 1 << 30


@pytest.mark.parametrize("size", [0, 300, 511])
def test_a_source_too_small_is_no_xfs(size: int) -> None:
    with pytest.raises(NotXfs, match=f"the source has {size} bytes only"):
        read_super(BytesDevice(sector(superblock())[:size]))


def test_any_flipped_byte_gives_an_image_error() -> None:
    sound = sector(superblock())
    for at in range(304):
        flipped = bytearray(sound)
        flipped[at] ^= 0x40
        with pytest.raises(ImageError):
            read_super(BytesDevice(bytes(flipped)))


def test_addresses_are_packed_not_linear() -> None:
    geo = geometry.as_geometry(superblock(agblocks=4095, dblocks=4 * 4095 - 50))
    fsblock = geometry.fsblock_at(geo, 2, 7)
    assert fsblock == 2 << 12 | 7
    assert geometry.fsb_to_byte(geo, fsblock) == (2 * 4095 + 7) * 4096
    assert geometry.fsb_to_daddr(geo, fsblock) == (2 * 4095 + 7) * 8
    assert (geometry.agno_of(geo, fsblock), geometry.agbno_of(geo, fsblock)) == (2, 7)
    ino = geometry.make_ino(geo, 2, 7 << 3 | 5)
    assert geometry.ino_to_byte(geo, ino) == (2 * 4095 + 7) * 4096 + 5 * 512
    assert geometry.ag_length(geo, 3) == 4095 - 50


def test_extents_stay_inside_one_ag_and_off_its_headers() -> None:
    geo = geometry.as_geometry(superblock())
    assert geometry.valid_extent(geo, 1, 10)
    assert not geometry.valid_extent(geo, 0, 1)
    assert not geometry.valid_extent(geo, 4095, 2)
    assert not geometry.valid_extent(geo, 4 << 12 | 5, 1)
    assert not geometry.valid_extent(geo, 3 << 12 | 3990, 10)
    assert not geometry.valid_extent(geo, 10, 0)
    assert geometry.in_log(geo, 2 << 12 | 5, 10)
    assert not geometry.in_log(geo, 2 << 12 | 5, 5)
