"""Find, read and verify the superblock, primary or secondary.

Rules: `xfs_sb.c: xfs_validate_sb_common, xfs_validate_sb_read`, and that the sizes agree
with each other (`xfs_sb.c`, `xfs_mount.c: xfs_check_sizes`). What is valid but needs a
feature that wofs lacks is refused by the feature's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from wofs.device.base import Device
from wofs.device.crc import crc_of
from wofs.errors import (
    BadChecksum,
    BadField,
    ImageError,
    NotXfs,
    Truncated,
    Unsupported,
    Where,
)
from wofs.ondisk import features as feat
from wofs.ondisk.sb import NULL_FSINO, SB_MAGIC, Superblock
from wofs.record import check
from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import Geometry, as_geometry, valid_extent, valid_ino

MAX_AGCOUNT = 1 << 17
"""Most AGs that are mounted: each costs 1 KiB of the slab and three reads."""

SCAN_LIMIT_BYTES = 16 << 30
"""How far into a device a lost secondary superblock is searched."""

_SCAN_CHUNK = 4 << 20
HINT_SCAN_BYTES = 128 << 20
"""How far into a device a sound secondary superblock is searched for a hint."""

_MAX_AGBLOCKS_BYTES = 1 << 40
_MIN_V5_BLOCKSIZE = 1024
_MIN_V5_INODESIZE = 512


def read_super(device: Device, agno: int = 0) -> Superblock:
    """Return the verified superblock of AG `agno`.

    Raises NotXfs where there is none, Unsupported for features wofs lacks, and the other
    image errors for a damaged one; where AG 0's is damaged and another is sound, the
    message names the option that reads that one.
    """
    if agno:
        return _read_secondary(device, agno)
    try:
        return _read_at(device, 0, 0)
    except (NotXfs, Unsupported):
        raise
    except ImageError as error:
        spare = _sound_secondary(device)
        if spare is None:
            raise
        hint = f"the copy in AG {spare} is sound: try -o sb={spare}"
        error.problem = f"{error.problem}; {hint}" if error.problem else hint
        raise


def read_copy(device: Device, geo: Geometry, agno: int) -> Superblock:
    """Return the verified copy of the superblock that starts AG `agno` (not 0)."""
    return _read_at(device, agno * geo.agblocks << geo.blocklog, agno)


def _where(device: Device, agno: int, offset: int, length: int, field: str | None = None) -> Where:
    name = "superblock" if agno == 0 else f"superblock {agno}"
    return Where(device.name, name, offset // SECTOR_BYTES, length, field)


def _read_at(device: Device, offset: int, agno: int) -> Superblock:
    """Read and verify the superblock that starts at byte `offset`."""
    head = device.pread(offset, SECTOR_BYTES)
    where = _where(device, agno, offset, SECTOR_BYTES)
    if len(head) < SECTOR_BYTES:
        raise NotXfs(where, f"no XFS superblock: the source has {device.size} bytes only")
    if head[:4] != SB_MAGIC:
        raise _no_magic(device, where, head, agno)
    _refuse_version(where, int.from_bytes(head[100:102], "big"))
    sector = _whole_sector(device, offset, where, int.from_bytes(head[102:104], "big"))
    where = _where(device, agno, offset, len(sector))
    sb = Superblock.decode(sector)
    computed = crc_of(sector, 224)
    if sb.crc != computed:
        place = _where(device, agno, offset, len(sector), "crc")
        raise BadChecksum(place, "", f"{computed:#010x}", f"{sb.crc:#010x}")
    verify_super(sb, where, secondary=agno != 0)
    return sb


def _no_magic(device: Device, where: Where, head: bytes, agno: int) -> ImageError:
    """Say that no XFS starts here; name a sound secondary superblock where one is found."""
    problem = f"no XFS here (found 0x{head[:4].hex()} instead of the superblock's magic XFSB)"
    spare = None if agno else _sound_secondary(device)
    if spare is not None:
        problem += f"; the copy in AG {spare} is sound: try -o sb={spare}"
    return NotXfs(where, problem)


def _refuse_version(where: Where, versionnum: int) -> None:
    version = versionnum & feat.VERSION_NUMBITS
    if version == 5:
        return
    if version == 4:
        raise Unsupported(where, "version 4 of the format (no checksums) is not supported")
    raise Unsupported(where, f"version {version} of the format is not supported", expected=5)


def _whole_sector(device: Device, offset: int, where: Where, sectsize: int) -> bytes:
    """Return the superblock's whole sector, once its size is plausible."""
    if sectsize & (sectsize - 1) or not 512 <= sectsize <= 32768:
        place = Where(where.image, where.object, where.daddr, where.length, "sectsize")
        raise BadField(place, "", "a power of two from 512 to 32768", sectsize)
    sector = device.pread(offset, sectsize)
    if len(sector) < sectsize:
        raise Truncated(where, "the image ends first", f"{sectsize} bytes", len(sector))
    return sector


def verify_super(sb: Superblock, where: Where, secondary: bool = False) -> None:
    """Raise for the first rule that a superblock breaks; its checksum is right already.

    A secondary one may carry `inprogress` and a null root: mkfs leaves most of them so.
    """
    if secondary:
        sb.inprogress = 0
    _refuse_features(sb, where)
    check(sb, where)
    for field, good, expected in _size_rules(sb):
        if not good:
            place = Where(where.image, where.object, where.daddr, where.length, field)
            raise BadField(place, "", expected, getattr(sb, field))
    if sb.agcount > MAX_AGCOUNT:
        text = f"has {sb.agcount} allocation groups, more than {MAX_AGCOUNT} are not supported"
        raise Unsupported(where, text)
    geo = as_geometry(sb)
    if sb.logstart and not valid_extent(geo, sb.logstart, sb.logblocks):
        place = Where(where.image, where.object, where.daddr, where.length, "logstart")
        raise BadField(
            place,
            f"a log of {sb.logblocks} blocks does not fit there",
            "blocks inside one AG",
            sb.logstart,
        )
    if not (secondary and sb.rootino in (0, NULL_FSINO)) and not valid_ino(geo, sb.rootino):
        place = Where(where.image, where.object, where.daddr, where.length, "rootino")
        raise BadField(place, "", "an inode number inside the filesystem", sb.rootino)


def _refuse_features(sb: Superblock, where: Where) -> None:
    """Refuse by name what is valid but cannot be read."""
    unknown = sb.features_incompat & ~(feat.INCOMPAT_READ | feat.INCOMPAT_NEEDSREPAIR)
    if unknown:
        bit = unknown.bit_length() - 1
        name = f"feature {feat.INCOMPAT[bit]}" if bit in feat.INCOMPAT else "an unknown feature"
        raise Unsupported(where, f"needs {name} (incompat bit {bit}), not supported")
    if sb.features_incompat & feat.INCOMPAT_NEEDSREPAIR:
        raise Unsupported(
            where, "is marked as needing repair (incompat bit 4): run xfs_repair on a copy first"
        )
    if sb.versionnum & feat.VERSION_BORG:
        raise Unsupported(where, "has case-insensitive names (version=ci), not supported")


def _size_rules(sb: Superblock) -> Iterator[tuple[str, bool, str]]:
    """Yield (field, whether it holds, what was expected) of rules that join several fields."""
    yield "blocksize", sb.blocksize >= _MIN_V5_BLOCKSIZE, "at least 1024 (V5)"
    yield "inodesize", sb.inodesize >= _MIN_V5_INODESIZE, "at least 512 (V5)"
    yield "inodesize", sb.inodesize * 2 <= sb.blocksize, "at most half of blocksize"
    yield "inopblock", sb.inopblock * sb.inodesize == sb.blocksize, "blocksize / inodesize"
    yield "dirblklog", sb.blocklog + sb.dirblklog <= 16, "directory blocks of at most 64 KiB"
    yield "agblklog", sb.agblklog == (sb.agblocks - 1).bit_length(), "log2 of agblocks, rounded up"
    yield "agblocks", sb.agblocks << sb.blocklog <= _MAX_AGBLOCKS_BYTES, "AGs of at most 1 TiB"
    low = (sb.agcount - 1) * sb.agblocks
    yield (
        "dblocks",
        low < sb.dblocks <= sb.agcount * sb.agblocks,
        f"{low + 1} to {sb.agcount * sb.agblocks} (agcount {sb.agcount}, agblocks {sb.agblocks})",
    )
    yield "dblocks", sb.dblocks < 1 << 54, "less than 2^54"
    ag_bits = (sb.agcount - 1).bit_length() + sb.agblklog
    yield "agcount", ag_bits + sb.inopblog <= 63, "inode numbers of at most 63 bits"
    # xfs_sb.c: xfs_sb_validate_v5_features
    old, more = feat.V5_VERSION, feat.V5_VERSION2
    yield "versionnum", sb.versionnum & old == old, f"the bits {old:#x} (V5)"
    yield "features2", sb.features2 & more == more, f"the bits {more:#x} (V5)"
    # xfs_sb.c: xfs_validate_sb_common, xfs_validate_stripe_geometry
    striped = bool(sb.versionnum & feat.VERSION_DALIGN)
    yield "unit", bool(sb.unit) == striped, "a stripe unit with bit 0x100 of versionnum, else 0"
    whole = sb.width > 0 and sb.width % sb.unit == 0 if sb.unit else sb.width == 0
    yield "width", whole, "a multiple of unit, 0 without one"
    yield "logblocks", not sb.logstart or sb.logblocks > 0, "at least 1"


def _read_secondary(device: Device, agno: int) -> Superblock:
    """Return the superblock of AG `agno`, wherever it may be found."""
    for offset in _places(device, agno):
        if device.pread(offset, 4) == SB_MAGIC:
            sb = _read_at(device, offset, agno)
            if sb.agblocks * sb.blocksize * agno == offset and agno < sb.agcount:
                return sb
    raise NotXfs(
        Where(device.name, f"superblock {agno}"),
        f"no sound superblock of AG {agno} in the first {SCAN_LIMIT_BYTES >> 30} GiB",
    )


def _places(device: Device, agno: int) -> Iterator[int]:
    """Yield offsets where AG `agno` may start: by AG 0's fields, then by searching."""
    guess = ag_bytes_of(device)
    if guess:
        yield guess * agno
    for offset in _scan(device):
        ag_bytes = ag_bytes_of(device, offset)
        if ag_bytes and offset % ag_bytes == 0:
            yield ag_bytes * agno


def ag_bytes_of(device: Device, offset: int = 0) -> int:
    """Return the size of an AG by the (unverified) superblock at `offset`, 0 if implausible."""
    head = device.pread(offset, SECTOR_BYTES)
    if len(head) < SECTOR_BYTES:
        return 0
    blocksize, agblocks = (int.from_bytes(head[at : at + 4], "big") for at in (4, 84))
    if blocksize & (blocksize - 1) or not 512 <= blocksize <= 65536 or agblocks < 64:
        return 0
    return blocksize * agblocks


def _scan(device: Device, limit: int = SCAN_LIMIT_BYTES) -> Iterator[int]:
    """Yield the offsets of sectors that start with the superblock's magic, after the first."""
    for start in range(0, min(device.size, limit), _SCAN_CHUNK):
        chunk = device.pread(start, _SCAN_CHUNK)
        at = chunk.find(SB_MAGIC)
        while at >= 0:
            if at % SECTOR_BYTES == 0 and start + at:
                yield start + at
            at = chunk.find(SB_MAGIC, at + 1)


def _sound_secondary(device: Device) -> int | None:
    """Return an AG with a sound superblock, near the start of the device, or None."""
    ag_bytes = ag_bytes_of(device)
    guesses = (ag_bytes, 2 * ag_bytes) if ag_bytes else ()
    for offset in itertools.chain(guesses, _scan(device, HINT_SCAN_BYTES)):
        try:
            sb = _read_at(device, offset, 1)
        except ImageError:
            continue
        agno, rest = divmod(offset, sb.agblocks * sb.blocksize)
        if agno and not rest:
            return agno
    return None
