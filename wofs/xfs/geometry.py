"""Derived geometry and all address arithmetic of a mounted filesystem.

`Geometry` is computed once from a verified superblock and lives in the slab; the functions
take that handle (or any object with its fields) and are pure. Source: the kernel's
`xfs_format.h` address macros, `xfs_mount.c`, `xfs_da_btree.c: xfs_da_mount`.
"""

from __future__ import annotations

from typing import cast

from wofs.ondisk import features as feat
from wofs.ondisk.ag import AGFL_HEADER_BYTES
from wofs.ondisk.sb import Superblock
from wofs.record import HEX, NEXT, UUID, Record, raw, record, u8, u32, u64
from wofs.units import Agbno, Agno, Daddr, Fsblock, Ino

INODES_PER_CHUNK = 64
MAX_TREE_LEVEL = 9
"""No btree of a real filesystem is higher (`XFS_BTREE_MAXLEVELS`)."""

MAX_DIR_BYTES = 65536
DIR_LEAF_OFFSET = 32 << 30
DIR_FREE_OFFSET = 64 << 30


@record("geometry", derived=True, source="computed from the superblock at mount")
class Geometry(Record):
    """What reads need at every step, computed once: shifts, masks, limits, features."""

    dblocks = u64(NEXT, "blocks of the data device", unit="fsblocks")
    ag_mask = u64(NEXT, "mask of the agbno in an fsblock", show=HEX)
    agino_mask = u64(NEXT, "mask of the agino in an inode number", show=HEX)
    rootino = u64(NEXT, "root directory", unit="ino")
    max_data_bytes = u64(NEXT, "bytes of the data device in use", unit="bytes")
    logstart = u64(NEXT, "first block of the log; 0 if external", unit="fsblock")
    dir_leaf_dablk = u64(NEXT, "first leaf block of a directory", unit="dablk")
    dir_free_dablk = u64(NEXT, "first free-index block of a directory", unit="dablk")
    meta_uuid = raw(NEXT, 16, "uuid in metadata blocks", show=UUID)
    blocksize = u32(NEXT, "filesystem block size", unit="bytes")
    agblocks = u32(NEXT, "blocks of a full AG", unit="fsblocks")
    agcount = u32(NEXT, "number of AGs")
    last_ag_blocks = u32(NEXT, "blocks of the last AG", unit="fsblocks")
    ag_header_blocks = u32(NEXT, "blocks that hold an AG's four header sectors", unit="fsblocks")
    logblocks = u32(NEXT, "blocks of the log", unit="fsblocks")
    sectsize = u32(NEXT, "sector size", unit="bytes")
    inodesize = u32(NEXT, "inode size", unit="bytes")
    inopblock = u32(NEXT, "inodes in a block")
    chunk_blocks = u32(NEXT, "blocks of a chunk of 64 inodes (at least 1)", unit="fsblocks")
    dirblksize = u32(NEXT, "directory block size", unit="bytes")
    dirblk_fsbs = u32(NEXT, "filesystem blocks of a directory block", unit="fsblocks")
    daddr_per_block = u32(NEXT, "512-byte sectors of a block")
    agfl_size = u32(NEXT, "entries an AGFL sector holds")
    incompat = u32(NEXT, "incompatible features", show=HEX)
    ro_compat = u32(NEXT, "read-only compatible features", show=HEX)
    features2 = u32(NEXT, "V4's second feature word", show=HEX)
    blocklog = u8(NEXT, "log2 of blocksize")
    sectlog = u8(NEXT, "log2 of sectsize")
    inodelog = u8(NEXT, "log2 of inodesize")
    inopblog = u8(NEXT, "log2 of inopblock")
    agblklog = u8(NEXT, "bits of an agbno")
    agino_log = u8(NEXT, "bits of an agino")
    dirblklog = u8(NEXT, "log2 of dirblk_fsbs")
    has_ftype = u8(NEXT, "directory entries carry a file type")
    has_sparse = u8(NEXT, "inode chunks may be sparse")
    has_attr = u8(NEXT, "some inode has had an attribute")


def derive(sb: Superblock) -> dict[str, int | bytes]:
    """Return the fields of `Geometry` for a superblock that passed verification."""
    incompat = sb.features_incompat
    meta_uuid = sb.meta_uuid if incompat & feat.INCOMPAT_META_UUID else sb.uuid
    last = sb.dblocks - (sb.agcount - 1) * sb.agblocks
    return {
        "dblocks": sb.dblocks,
        "ag_mask": (1 << sb.agblklog) - 1,
        "agino_mask": (1 << sb.agblklog + sb.inopblog) - 1,
        "rootino": sb.rootino,
        "max_data_bytes": sb.dblocks << sb.blocklog,
        "logstart": sb.logstart,
        "dir_leaf_dablk": DIR_LEAF_OFFSET >> sb.blocklog,
        "dir_free_dablk": DIR_FREE_OFFSET >> sb.blocklog,
        "meta_uuid": meta_uuid,
        "blocksize": sb.blocksize,
        "agblocks": sb.agblocks,
        "agcount": sb.agcount,
        "last_ag_blocks": last,
        "ag_header_blocks": -(-4 * sb.sectsize // sb.blocksize),
        "logblocks": sb.logblocks,
        "sectsize": sb.sectsize,
        "inodesize": sb.inodesize,
        "inopblock": sb.inopblock,
        "chunk_blocks": max(1, INODES_PER_CHUNK * sb.inodesize // sb.blocksize),
        "dirblksize": sb.blocksize << sb.dirblklog,
        "dirblk_fsbs": 1 << sb.dirblklog,
        "daddr_per_block": sb.blocksize >> 9,
        "agfl_size": (sb.sectsize - AGFL_HEADER_BYTES) // 4,
        "incompat": incompat,
        "ro_compat": sb.features_ro_compat,
        "features2": sb.features2,
        "blocklog": sb.blocklog,
        "sectlog": sb.sectlog,
        "inodelog": sb.inodelog,
        "inopblog": sb.inopblog,
        "agblklog": sb.agblklog,
        "agino_log": sb.agblklog + sb.inopblog,
        "dirblklog": sb.dirblklog,
        "has_ftype": int(bool(incompat & feat.INCOMPAT_FTYPE)),
        "has_sparse": int(bool(incompat & feat.INCOMPAT_SPINODES)),
        "has_attr": int(bool(sb.versionnum & feat.VERSION_ATTR)),
    }


def ag_length(geo: Geometry, agno: int) -> int:
    """Return the blocks of AG `agno`; the last one may be short."""
    return geo.last_ag_blocks if agno == geo.agcount - 1 else geo.agblocks


def agno_of(geo: Geometry, fsblock: int) -> Agno:
    """Return the AG of a packed block number."""
    return Agno(fsblock >> geo.agblklog)


def agbno_of(geo: Geometry, fsblock: int) -> Agbno:
    """Return the block within its AG of a packed block number."""
    return Agbno(fsblock & geo.ag_mask)


def fsblock_at(geo: Geometry, agno: int, agbno: int) -> Fsblock:
    """Pack an AG number and a block within it."""
    return Fsblock(agno << geo.agblklog | agbno)


def agb_to_daddr(geo: Geometry, agno: int, agbno: int) -> Daddr:
    """Return the 512-byte sector at which block `agbno` of AG `agno` starts."""
    return Daddr((agno * geo.agblocks + agbno) * geo.daddr_per_block)


def fsb_to_daddr(geo: Geometry, fsblock: int) -> Daddr:
    """Return the 512-byte sector at which a packed block number starts."""
    agno = fsblock >> geo.agblklog
    return Daddr((agno * geo.agblocks + (fsblock & geo.ag_mask)) * geo.daddr_per_block)


def fsb_to_byte(geo: Geometry, fsblock: int) -> int:
    """Return the byte offset on the device of a packed block number."""
    agno = fsblock >> geo.agblklog
    return (agno * geo.agblocks + (fsblock & geo.ag_mask)) << geo.blocklog


def ino_to_byte(geo: Geometry, ino: int) -> int:
    """Return the byte offset on the device of an inode."""
    agno, agino = ino >> geo.agino_log, ino & geo.agino_mask
    block = agno * geo.agblocks + (agino >> geo.inopblog)
    return (block << geo.blocklog) + ((agino & geo.inopblock - 1) << geo.inodelog)


def ino_bounds(geo: Geometry) -> tuple[int, int, int, int, int]:
    """Return what tells inode numbers of the filesystem, for those who look at many.

    (bits of an agino, last AG, first agino of each, end of a full AG's, end of the last AG's)
    """
    log = geo.inopblog
    return (
        geo.agino_log,
        geo.agcount - 1,
        geo.ag_header_blocks << log,
        geo.agblocks << log,
        geo.last_ag_blocks << log,
    )


def make_ino(geo: Geometry, agno: int, agino: int) -> Ino:
    """Pack an AG number and an inode number within it."""
    return Ino(agno << geo.agino_log | agino)


def valid_extent(geo: Geometry, fsblock: int, count: int) -> bool:
    """Whether `count` blocks from `fsblock` lie in one AG, beyond its headers.

    Source: `xfs_types.c: xfs_verify_fsbext`.
    """
    agno, agbno = fsblock >> geo.agblklog, fsblock & geo.ag_mask
    if agno >= geo.agcount or agbno < geo.ag_header_blocks:
        return False
    return count > 0 and agbno + count <= ag_length(geo, agno)


def in_log(geo: Geometry, fsblock: int, count: int) -> bool:
    """Whether `count` blocks from `fsblock` touch the internal log."""
    start = geo.logstart
    return bool(start) and fsblock < start + geo.logblocks and start < fsblock + count


def valid_ino(geo: Geometry, ino: int) -> bool:
    """Whether `ino` could be an inode: its AG exists and its block lies within it.

    Source: `xfs_types.c: xfs_verify_ino`.
    """
    agno, agino = ino >> geo.agino_log, ino & geo.agino_mask
    if agno >= geo.agcount:
        return False
    agbno = agino >> geo.inopblog
    return geo.ag_header_blocks <= agbno < ag_length(geo, agno)


def as_geometry(sb: Superblock) -> Geometry:
    """Return an unprotected Geometry, for use before the slab exists and in tests."""
    return Geometry(**cast(dict[str, int], derive(sb)))
